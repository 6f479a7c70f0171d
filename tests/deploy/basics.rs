//! Deploying, deploying again, and going back.

use crate::deploy::fleet::Fleet;

#[test]
fn the_second_deploy_sends_only_what_changed() {
    let fleet = Fleet::of(&["web1", "web2", "web3"]);
    let large = "0123456789abcdef".repeat(64 * 1024);
    fleet.commit("v1", &[("index.html", "one"), ("assets/large.bin", &large)]);
    let first = fleet.ship(&["deploy", "--output", "json"]).exits(0);
    fleet.serves("v1");
    let first_release = fleet.release();

    fleet.commit("v2", &[("index.html", "two")]);
    let second = fleet.ship(&["deploy", "--output", "json"]).exits(0);
    fleet.serves("v2");
    assert_ne!(fleet.release(), first_release);
    for host in ["web1", "web2", "web3"] {
        assert!(first.uploaded(host) > 1024 * 1024, "{first}");
        assert!(second.uploaded(host) < 16 * 1024, "{second}");
    }
}
