//! Uploads over links that are far, slow or cut: what is sent, in how many channels, and what is not sent again.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::deploy::fleet::Fleet;
use crate::deploy::host::{Entry, tree};
use crate::deploy::large_files::{MIB, noise};
use crate::deploy::link::{Kind, Link};
use crate::deploy::recipe::{SWAP, UPLOAD, run_on};
use crate::session::sshd::Options;

const FAR: Kind = Kind { delay: Duration::from_millis(12), rate: 0, cut: 0 };

/// `fleet` with its one host behind a link.
fn behind(fleet: &Fleet, kind: Kind) -> Link {
    let host = &fleet.hosts()[0];
    let link = Link::to(host.server.port, kind);
    fleet.write_ssh_config(&format!("Host {}\n Port {}\n", host.name, link.port));
    let mut known = fs::File::options().append(true).open(fleet.at("known_hosts")).unwrap();
    writeln!(known, "[127.0.0.1]:{} {}", link.port, host.server.host_key).unwrap();
    link
}

/// Text that compresses well, and is not the same all the way.
fn text(length: usize) -> Vec<u8> {
    let mut text = Vec::new();
    let mut number = 0_u32;
    while text.len() < length {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(format!("line {number:x} of a log that says the same again and again\n").as_bytes());
    }
    text.truncate(length);
    text
}

#[test]
fn a_large_file_that_was_cut_off_goes_on_where_it_stopped() {
    let fleet = Fleet::of(&["web1"]);
    fleet.write("large", noise(11, 48 * MIB));
    fleet.commit("v1", &[]);
    let link = behind(&fleet, Kind { cut: 30 * MIB as u64, ..Kind::default() });
    fleet.ship(&["deploy"]).exits(1).says("connection lost");
    assert!(link.sent() < 31 * MIB as u64);
    // What the server had not yet handed on when it lost the connection is lost: the windows of its channels at most.
    let incoming = fleet.host("web1").root.join(".ship/incoming");
    let arrived: u64 = fs::read_dir(&incoming).unwrap().map(|piece| piece.unwrap().metadata().unwrap().len()).sum();
    assert!(arrived > 16 * MIB as u64, "{arrived} bytes arrived");
    let second = fleet.ship(&["deploy", "--lock-wait", "20s", "--output", "json"]).exits(0);
    let sent = second.uploaded("web1");
    assert!(sent < 49 * MIB as u64 - arrived, "{sent} bytes: {second}");
    fleet.serves_exactly("v1");
    assert_eq!(fs::read_dir(incoming).unwrap().count(), 0);
}

#[test]
fn pieces_of_a_file_that_is_no_longer_wanted_are_removed() {
    let fleet = Fleet::of(&["web1"]);
    fleet.write("large", noise(12, 40 * MIB));
    fleet.commit("v1", &[]);
    behind(&fleet, Kind { cut: 8 * MIB as u64, ..Kind::default() });
    fleet.ship(&["deploy"]).exits(1);
    let incoming = fleet.host("web1").root.join(".ship/incoming");
    assert!(fs::read_dir(&incoming).unwrap().count() > 0);
    fleet.write("large", "small now");
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy", "--lock-wait", "20s"]).exits(0);
    assert_eq!(fs::read_dir(incoming).unwrap().count(), 0);
}

#[test]
fn pieces_that_were_damaged_on_the_host_do_not_go_live() {
    let fleet = Fleet::of(&["web1"]);
    fleet.write("large", noise(13, 40 * MIB));
    fleet.commit("v1", &[]);
    behind(&fleet, Kind { cut: 20 * MIB as u64, ..Kind::default() });
    fleet.ship(&["deploy"]).exits(1);
    let incoming = fleet.host("web1").root.join(".ship/incoming");
    let piece = fs::read_dir(incoming).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&piece).unwrap();
    bytes[1000] ^= 1;
    fs::write(&piece, bytes).unwrap();
    fleet.ship(&["deploy", "--lock-wait", "20s"]).exits(1).says("not what was sent");
    assert_eq!(fleet.host("web1").current(), None);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves_exactly("v1");
}

#[test]
fn a_far_host_is_sent_much_in_several_channels_and_little_in_one() {
    let fleet = Fleet::of(&["web1"]);
    fleet.write("large", noise(14, 64 * MIB));
    for number in 0..40 {
        fleet.write(&format!("d{}/{number}", number % 7), noise(number, MIB / 2));
    }
    fleet.commit("v1", &[]);
    behind(&fleet, FAR);
    let much = fleet.ship(&["deploy", "--timing", "--output", "json"]).exits(0);
    fleet.serves_exactly("v1");
    let (channels, _) = much.cost("web1");
    fleet.write("d1/1", "changed");
    fleet.commit("v2", &[]);
    let little = fleet.ship(&["deploy", "--timing", "--output", "json"]).exits(0);
    fleet.serves_exactly("v2");
    let (fewer, _) = little.cost("web1");
    // Six pieces of the large file, and the rest in several in place of one.
    assert!((fewer + 8..=fewer + 12).contains(&channels), "{fewer} and {channels}: {much}");
    assert!(fewer <= 6, "{little}");
}

#[test]
fn a_server_that_opens_few_channels_is_sent_everything_all_the_same() {
    let config = vec!["MaxSessions 4".to_owned()];
    let fleet = Fleet::with(&["web1"], |_| Options { config: config.clone(), ..Options::default() });
    fleet.write("large", noise(15, 64 * MIB));
    fleet.commit("v1", &[]);
    behind(&fleet, FAR);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves_exactly("v1");
    assert!(fleet.host("web1").server.log().contains("no more sessions"), "nothing was refused");
}

#[test]
fn only_what_waits_for_a_slow_link_is_compressed() {
    let sent = |kind: Kind, bytes: &[u8]| {
        let fleet = Fleet::of(&["web1"]);
        fleet.write("file", bytes);
        fleet.commit("v1", &[]);
        let link = behind(&fleet, kind);
        fleet.ship(&["deploy"]).exits(0);
        fleet.serves_exactly("v1");
        link.sent()
    };
    let slow = Kind { rate: 8 * MIB as u64, ..Kind::default() };
    let (whole, random) = (text(16 * MIB), noise(16, 16 * MIB));
    let all = whole.len() as u64;
    // The first megabytes tell how slow it is.
    let compressed = sent(slow, &whole);
    assert!(compressed < all / 2 + 4 * MIB as u64, "{compressed} bytes");
    let stored = sent(slow, &random);
    assert!((all..all + MIB as u64).contains(&stored), "{stored} bytes");
    let far = sent(FAR, &whole);
    assert!(far < all / 2, "{far} bytes");
}

/// Bytes of each of the many files.
const EACH: usize = 32 * 1024;

/// Files in several folders, 16 MiB in all.
fn many_files(fleet: &Fleet, seed: u64) {
    for number in 0..512 {
        fleet.write(&format!("d{}/it's {number}", number % 7), noise(seed * 1000 + number, EACH));
    }
}

/// A fleet whose first host lost its connection after 9 MiB of an archive of many files.
fn cut_off(names: &[&str], seed: u64) -> Fleet {
    let fleet = Fleet::of(names);
    many_files(&fleet, seed);
    fleet.commit("v1", &[]);
    behind(&fleet, Kind { cut: 9 * MIB as u64, ..Kind::default() });
    fleet.ship(&["deploy"]).exits(1).says("connection lost").says("sends the rest");
    assert_eq!(fleet.hosts()[0].releases().len(), 1);
    fleet
}

/// The bytes of files that came whole to the first host.
fn arrived(fleet: &Fleet) -> u64 {
    let all = tree(&fleet.hosts()[0].root.join("releases"));
    let whole = all.values().filter(|entry| matches!(entry, Entry::File(_, bytes) if bytes.len() == EACH)).count();
    assert!(whole > 32, "{whole} files arrived");
    (whole * EACH) as u64
}

/// Nothing is on the host but what it serves.
fn nothing_is_left(fleet: &Fleet) {
    for host in fleet.hosts() {
        assert_eq!(host.releases(), [fleet.release()]);
        assert_eq!(fs::read_dir(host.root.join(".ship/releases")).unwrap().count(), 1);
    }
}

#[test]
fn an_archive_of_many_files_that_was_cut_off_goes_on_where_it_stopped() {
    let fleet = cut_off(&["web1"], 21);
    let arrived = arrived(&fleet);
    let second = fleet.ship(&["deploy", "--lock-wait", "20s", "--output", "json"]).exits(0);
    let sent = second.uploaded("web1");
    assert!(sent < 17 * MIB as u64 - arrived, "{sent} bytes, and {arrived} were there: {second}");
    fleet.serves_exactly("v1");
    nothing_is_left(&fleet);
    // What was taken over is as good as what was sent.
    fleet.commit("v2", &[]);
    let third = fleet.ship(&["deploy", "--output", "json"]).exits(0);
    assert!(third.uploaded("web1") < MIB as u64, "{third}");
    fleet.serves_exactly("v2");
}

#[test]
fn another_release_takes_from_an_upload_that_was_cut_off_what_it_has_too() {
    let fleet = cut_off(&["web1"], 22);
    fleet.git(&["rm", "-q", "d1/it's 1"]);
    fs::set_permissions(fleet.project().join("d2/it's 2"), fs::Permissions::from_mode(0o755)).unwrap();
    fleet.commit("v2", &[("d3/it's 3", "changed")]);
    let arrived = arrived(&fleet);
    let second = fleet.ship(&["deploy", "--lock-wait", "20s", "--output", "json"]).exits(0);
    assert!(second.uploaded("web1") < 17 * MIB as u64 - arrived, "{second}");
    fleet.serves_exactly("v2");
    nothing_is_left(&fleet);
}

#[test]
fn an_upload_that_is_cut_off_again_and_again_comes_to_an_end() {
    let fleet = cut_off(&["web1"], 23);
    behind(&fleet, Kind { cut: 5 * MIB as u64, ..Kind::default() });
    let before = arrived(&fleet);
    fleet.ship(&["deploy", "--lock-wait", "20s"]).exits(1).says("connection lost");
    let arrived = arrived(&fleet);
    assert!(arrived > before, "{arrived} bytes");
    let third = fleet.ship(&["deploy", "--lock-wait", "20s", "--output", "json"]).exits(0);
    assert!(third.uploaded("web1") < 17 * MIB as u64 - arrived, "{third}");
    fleet.serves_exactly("v1");
    nothing_is_left(&fleet);
}

#[test]
fn a_file_of_an_upload_that_was_cut_off_is_sent_again_where_it_was_damaged() {
    let fleet = cut_off(&["web1"], 24);
    let host = fleet.host("web1");
    let folder = host.root.join("releases").join(&host.releases()[0]);
    let whole: Vec<_> = tree(&folder)
        .into_iter()
        .filter(|(_, entry)| matches!(entry, Entry::File(_, bytes) if bytes.len() == EACH))
        .map(|(path, _)| folder.join(OsString::from_vec(path)))
        .collect();
    let arrived = arrived(&fleet);
    // One is another, and one was cut.
    let mut bytes = fs::read(&whole[10]).unwrap();
    bytes[1000] ^= 1;
    fs::write(&whole[10], bytes).unwrap();
    fs::File::options().write(true).open(&whole[20]).unwrap().set_len(1000).unwrap();
    let second = fleet.ship(&["deploy", "--lock-wait", "20s", "--output", "json"]).exits(0);
    assert!(second.uploaded("web1") < 17 * MIB as u64 - arrived, "{second}");
    fleet.serves_exactly("v1");
    nothing_is_left(&fleet);
}

#[test]
fn what_a_host_says_of_an_upload_that_was_cut_off_is_a_hint_and_no_more() {
    // A file is damaged after the host has looked at it.
    let fleet = Fleet::own(&["web1"]);
    many_files(&fleet, 25);
    fleet.commit("v1", &[]);
    behind(&fleet, Kind { cut: 9 * MIB as u64, ..Kind::default() });
    fleet.ship(&["deploy"]).exits(1).says("connection lost");
    let once = fleet.at("once").display().to_string();
    let damage = format!("[ -e '{once}' ] || {{ for f; do :; done; printf damaged >\"$f\"; : >'{once}'; }}");
    for program in ["sha256sum", "openssl"] {
        let text = format!("#!/bin/sh\n/usr/bin/{program} \"$@\" || exit\n{damage}\n");
        fleet.host("web1").server.program(program, &text);
    }
    fleet
        .ship(&["deploy", "--lock-wait", "20s"])
        .exits(1)
        .says("not what was sent")
        .says("the next deploy sends every file");
    assert_eq!(fleet.host("web1").current(), None);
    let third = fleet.ship(&["deploy", "--output", "json"]).exits(0);
    assert!(third.uploaded("web1") > 16 * MIB as u64, "{third}");
    fleet.serves_exactly("v1");
    nothing_is_left(&fleet);
}

#[test]
fn hosts_whose_upload_was_whole_are_not_sent_it_again() {
    let fleet = Fleet::of(&["web1", "web2"]);
    let gate = fleet.gate();
    let fleet = fleet.recipe(&[UPLOAD, &run_on("prepare", "web2", &gate.wait()), SWAP].concat());
    many_files(&fleet, 26);
    fleet.commit("v1", &[]);
    let link = behind(&fleet, Kind { rate: MIB as u64, ..Kind::default() });
    let run = fleet.start(&["deploy"]);
    link.reaches(3 * MIB as u64);
    gate.arrived();
    // The other host has everything, and is behind its upload.
    link.breaks();
    gate.open();
    run.ends().exits(1).says("web1").says("connection lost").says("sends the rest");
    let fleet = fleet.recipe(&[UPLOAD, SWAP].concat());
    let second = fleet.ship(&["deploy", "--lock-wait", "20s", "--output", "json"]).exits(0);
    let sent = ["web1", "web2"].map(|host| second.uploaded(host));
    assert!(sent[0] < 16 * MIB as u64 && sent[1] < MIB as u64, "{sent:?} bytes: {second}");
    fleet.serves_exactly("v1");
    nothing_is_left(&fleet);
}

#[test]
fn an_upload_that_a_person_interrupts_ends_at_once_and_goes_on_later() {
    // In one lot, and in several.
    for (rate, files) in [(4, 200), (16, 512)] {
        let fleet = Fleet::of(&["web1"]);
        for number in 0..files {
            fleet.write(&format!("d/{number}"), noise(27_000 + number, EACH));
        }
        fleet.commit("v1", &[]);
        let whole = files * EACH as u64;
        let link = behind(&fleet, Kind { rate: rate * MIB as u64, ..Kind::default() });
        let run = fleet.start(&["deploy"]);
        link.reaches(whole / 2);
        run.signal("INT");
        run.ends().exits(130).says("unchanged").says("sends the rest").never_says("connection lost");
        assert!(link.sent() < whole, "{} bytes", link.sent());
        assert_eq!(fleet.host("web1").history().last().unwrap()["outcome"], "interrupted");
        let second = fleet.ship(&["deploy", "--output", "json"]).exits(0);
        let sent = second.uploaded("web1");
        assert!(sent < whole - MIB as u64, "{sent} of {whole} bytes: {second}");
        fleet.serves_exactly("v1");
        nothing_is_left(&fleet);
    }
}
