//! Uploads over links that are far, slow or cut: what is sent, in how many channels, and what is not sent again.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use crate::deploy::fleet::Fleet;
use crate::deploy::large_files::{MIB, noise};
use crate::deploy::link::{Kind, Link};
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
    // What the server had not yet handed on when it lost the connection is lost: its window at most.
    let second = fleet.ship(&["deploy", "--lock-wait", "20s", "--output", "json"]).exits(0);
    let sent = second.uploaded("web1");
    assert!(sent < 24 * MIB as u64, "{sent} bytes: {second}");
    fleet.serves_exactly("v1");
    let incoming = fleet.host("web1").root.join(".ship/incoming");
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
    assert_eq!(fs::read_dir(&incoming).unwrap().count(), 1);
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
