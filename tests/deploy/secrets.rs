//! Secrets reach the step and the file that need them, and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::deploy::fleet::Fleet;
use crate::deploy::recipe::{SWAP, UPLOAD};

const SECRET: &str = "tr0ub4dor&3 'quoted' \"$HOME\" `id`";

const INVENTORY: &str = "[secrets]\ntoken = { env = \"SITE_TOKEN\" }\n";

const SETTINGS: &str =
    "[[prepare]]\nsettings = { template = \"settings.j2\", to = \"conf/settings.txt\", mode = \"0600\" }\n";

/// A step that tells everything it can see, on its output and in a file of the host.
fn tattler(phase: &str) -> String {
    format!(
        "[[{phase}]]\nrun = '''env; printf '%s\\n' \"$TOKEN\" | tee received; ps -ef; \
         cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\000' '\\n' >>../../seen; exit ${{FAIL:-0}}'''\n\
         env = {{ TOKEN = \"{{{{ secrets.token }}}}\", FAIL = \"{{{{ fail }}}}\" }}\n"
    )
}

fn fleet(names: &[&str]) -> Fleet {
    let recipe = ["[vars]\nfail = \"0\"\n", UPLOAD, SETTINGS, &tattler("prepare"), SWAP, &tattler("publish")].concat();
    let fleet = Fleet::of(names).inventory(INVENTORY).recipe(&recipe).env("SITE_TOKEN", SECRET);
    fleet.write("recipes/site/settings.j2", "token = {{ secrets.token }}\n");
    fleet.commit("v1", &[]);
    fleet
}

/// No line of the secret stands anywhere in what ship wrote here or keeps on hosts.
fn kept_to_itself(fleet: &Fleet) {
    for part in SECRET.lines() {
        assert_eq!(Fleet::holding(&fleet.project().join(".ship"), part), [""; 0], "transcripts and build folders");
        for host in fleet.hosts() {
            assert_eq!(Fleet::holding(&host.root.join(".ship"), part), [""; 0], "records on {}", host.name);
            let seen = fs::read(host.root.join("seen")).unwrap();
            assert!(!seen.windows(part.len()).any(|window| window == part.as_bytes()), "argv on {}", host.name);
        }
    }
}

#[test]
fn a_secret_is_never_shown_in_any_form_of_output() {
    let fleet = fleet(&["web1"]);
    fleet.ship(&["plan", "-v"]).exits(0).never_says("tr0ub4dor").says("[secret]");
    for output in ["plain", "json", "github"] {
        let ran = fleet.ship(&["deploy", "--output", output, "-v"]).exits(0);
        ran.never_says("tr0ub4dor").says("[secret]");
    }
    kept_to_itself(&fleet);
}

#[test]
fn a_secret_is_never_shown_by_a_failure() {
    let fleet = fleet(&["web1"]);
    let ran = fleet.ship(&["deploy", "--set", "fail=6"]).exits(1);
    ran.never_says("tr0ub4dor").says("exit status 6").says("[secret]");
    kept_to_itself(&fleet);
}

#[test]
fn a_settings_file_holds_the_secret_and_only_its_owner_reads_it() {
    let fleet = fleet(&["web1", "web2"]);
    for _ in 0..2 {
        // The second time, where nothing changed.
        fleet.ship(&["deploy"]).exits(0);
        for host in fleet.hosts() {
            let file = host.root.join("current/conf/settings.txt");
            assert_eq!(fs::read_to_string(&file).unwrap(), format!("token = {SECRET}\n"));
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
            assert_eq!(fs::read_to_string(host.root.join("current/received")).unwrap(), format!("{SECRET}\n"));
            assert_eq!(fs::metadata(host.root.join(".ship")).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}

#[test]
fn a_secret_that_changed_is_a_new_release_and_a_rollback_brings_the_old_one_back() {
    let fleet = fleet(&["web1"]);
    fleet.ship(&["deploy"]).exits(0);
    let fleet = fleet.env("SITE_TOKEN", "another-token");
    fleet.ship(&["deploy"]).exits(0);
    let settings =
        |fleet: &Fleet| fs::read_to_string(fleet.host("web1").root.join("current/conf/settings.txt")).unwrap();
    assert_eq!(settings(&fleet), "token = another-token\n");
    fleet.ship(&["rollback"]).exits(0).never_says("another-token");
    assert_eq!(settings(&fleet), format!("token = {SECRET}\n"));
}

#[test]
fn a_secret_of_several_lines_is_masked_line_by_line() {
    let key = "-----BEGIN KEY-----\nAAAAB3NzaC1yc2E\nQyNTUxOQ\n-----END KEY-----";
    let fleet = fleet(&["web1"]).env("SITE_TOKEN", key);
    fleet.ship(&["deploy", "-v"]).exits(0).never_says("AAAAB3NzaC1yc2E").never_says("QyNTUxOQ");
    let settings = fs::read_to_string(fleet.host("web1").root.join("current/conf/settings.txt")).unwrap();
    assert_eq!(settings, format!("token = {key}\n"));
}

#[test]
fn a_secret_that_is_missing_is_told_before_any_connection() {
    let fleet = fleet(&["web1"]).env("SITE_TOKEN", "");
    let mut command = fleet.ship_command(&["deploy"]);
    command.env_remove("SITE_TOKEN");
    crate::deploy::ran::Running::start(command).ends().exits(2).says("SITE_TOKEN").says("inventory.toml:");
    assert!(fleet.host("web1").releases().is_empty());
}
