//! Runs that end at every moment there is: after each event that ship tells, in turn.

use crate::deploy::fleet::Fleet;
use crate::deploy::ran::Running;
use crate::deploy::recipe::{SWAP, UPLOAD, run};

/// Every so many events; 1 is thorough, and takes a minute.
const STRIDE: usize = 8;

fn fleet() -> Fleet {
    let recipe =
        [UPLOAD, &run("prepare", "cat version >made"), SWAP, &run("publish", "test -e made"), &run("finish", "true")];
    let fleet = Fleet::of(&["web1", "web2"]).recipe(&recipe.concat());
    fleet.commit("start", &[("a", "start"), ("b", "start")]);
    fleet.ship(&["deploy"]).exits(0);
    fleet
}

/// A deploy of a commit `name`, which has told `events` of what happens; none where it told less.
fn after(fleet: &Fleet, name: &str, events: usize) -> Option<Running> {
    fleet.commit(name, &[("a", name)]);
    let mut run = fleet.start(&["deploy", "--batch", "1", "--output", "json"]);
    run.tells(events).then_some(run)
}

#[test]
fn a_run_that_is_killed_after_any_event_leaves_a_whole_site_and_no_work() {
    let fleet = fleet();
    for events in (1..).step_by(STRIDE) {
        let Some(run) = after(&fleet, &format!("killed{events}"), events) else { break };
        run.crash();
        for host in fleet.hosts() {
            fleet.host_serves(&host.name, &host.version().unwrap());
        }
    }
    fleet.commit("last", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("last");
    for host in fleet.hosts() {
        assert!(host.releases().iter().all(|release| host.state(release) != "preparing"), "{:?}", host.releases());
    }
}

#[test]
fn a_run_that_is_interrupted_after_any_event_leaves_every_host_the_same() {
    let fleet = fleet();
    let mut live = "start".to_owned();
    for events in (2..).step_by(STRIDE) {
        let name = format!("interrupted{events}");
        let Some(run) = after(&fleet, &name, events) else { break };
        run.signal("INT");
        let ran = run.ends();
        if ran.succeeded() {
            // Too late to undo.
            live = name;
        } else {
            let ran = ran.exits(130);
            assert!(!ran.stdout.contains("\"state\":\"unknown\""), "{ran}");
        }
        fleet.serves(&live);
        for host in fleet.hosts() {
            let releases = host.releases();
            assert!(releases.iter().all(|release| host.state(release) != "preparing"), "{events}: {releases:?}");
        }
    }
    fleet.commit("last", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("last");
}
