//! Large files of which a part changed: only that part is sent, and what arrives is right.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::deploy::fleet::Fleet;

/// A mebibyte.
pub const MIB: usize = 1 << 20;

/// Bytes that nothing makes smaller (xorshift).
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn save(folder: &Path, name: &str, bytes: &[u8]) {
    fs::write(folder.join(name), bytes).unwrap();
}

#[test]
fn only_the_changed_parts_of_a_large_file_are_sent() {
    let fleet = Fleet::of(&["web1", "web2"]);
    let folder = fleet.project();
    let mut bytes = noise(1, 24 * MIB);
    save(&folder, "it's large", &bytes);
    save(&folder, "other", &noise(2, 5 * MIB));
    fs::set_permissions(folder.join("it's large"), fs::Permissions::from_mode(0o755)).unwrap();
    fleet.commit("v1", &[]);
    let first = fleet.ship(&["deploy", "--output", "json"]).exits(0);
    assert!(first.uploaded("web1") > 29 * MIB as u64, "{first}");

    // In the middle, at the beginning and at the end; what follows moves.
    bytes.splice(12 * MIB..12 * MIB + 3, *b"another length than before");
    bytes.splice(0..0, *b"at the beginning");
    bytes.extend_from_slice(b"at the end");
    save(&folder, "it's large", &bytes);
    fleet.commit("v2", &[]);
    fleet.ship(&["plan"]).exits(0).says("it's large (").says("Put changed large files together");
    let second = fleet.ship(&["deploy", "--output", "json"]).exits(0);
    for host in ["web1", "web2"] {
        let sent = second.uploaded(host);
        assert!((1..6 * MIB as u64).contains(&sent), "{sent} bytes: {second}");
    }
    fleet.serves_exactly("v2");

    // The parts of the release before are known to this one too.
    bytes.truncate(20 * MIB);
    save(&folder, "it's large", &bytes);
    fleet.commit("v3", &[]);
    let third = fleet.ship(&["deploy", "--output", "json"]).exits(0);
    assert!(third.uploaded("web1") < 4 * MIB as u64, "{third}");
    fleet.serves_exactly("v3");
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves_exactly("v2");
}

#[test]
fn a_large_file_that_was_changed_on_the_host_is_sent_whole() {
    let fleet = Fleet::of(&["web1"]);
    let folder = fleet.project();
    let mut bytes = noise(3, 8 * MIB);
    save(&folder, "large", &bytes);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    let live = fleet.host("web1").root.join("current/large");
    let mut changed = bytes.clone();
    changed[100] ^= 1;
    fs::write(&live, &changed).unwrap();
    bytes[5 * MIB] ^= 1;
    save(&folder, "large", &bytes);
    fleet.commit("v2", &[]);
    let ran = fleet.ship(&["deploy", "--output", "json"]).exits(0);
    assert!(ran.uploaded("web1") > 8 * MIB as u64, "{ran}");
    fleet.serves_exactly("v2");
}

#[test]
fn what_is_known_of_the_parts_is_a_hint_and_no_more() {
    let fleet = Fleet::of(&["web1"]);
    let folder = fleet.project();
    let mut bytes = noise(4, 8 * MIB);
    save(&folder, "large", &bytes);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    // Two chunks change places in the record: the file put together from them is not the one that was meant.
    let host = fleet.host("web1");
    let record = host.root.join(".ship/releases").join(&host.releases()[0]).join("chunks");
    let text = fs::read_to_string(&record).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.swap(2, 3);
    fs::write(&record, lines.join("\n") + "\n").unwrap();
    bytes[7 * MIB] ^= 1;
    save(&folder, "large", &bytes);
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy"]).exits(1).says("not what was sent");
    fleet.serves("v1");
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves_exactly("v2");
}
