//! A host that lets people in by password only.

use crate::hosts::{Lab, Project};

const INVENTORY: &str = r#"
recipe    = "static"
app       = "site"
deploy_to = "/home/doodle/site"

[hosts.pw1]
password = { secret = "login" }

[environments.prod]
hosts = ["pw1"]

[secrets]
login = { env = "LOGIN" }
"#;

#[test]
fn a_password_from_a_secret_lets_ship_in_and_is_never_shown() {
    let lab = Lab::new();
    let host = lab.host("pw1");
    lab.root(&host, "rm -rf /home/doodle/site");
    let password = std::fs::read_to_string(host.password_file.as_ref().expect("a password")).expect("a password");
    let project = Project::new(&lab).env("LOGIN", password.trim());
    project.write("inventory.toml", INVENTORY);
    project.write("index.html", "hello");
    project.commit("a page");
    let run = project.ship(&["deploy"]).exits(0);
    assert!(!run.text.contains(password.trim()), "the password was shown");
    assert_eq!(lab.root(&host, "cat /home/doodle/site/current/public/index.html"), "hello");
    for file in std::fs::read_dir(project.path().join(".ship/log")).expect("transcripts") {
        let text = std::fs::read_to_string(file.expect("a file").path()).unwrap_or_default();
        assert!(!text.contains(password.trim()), "the transcript has the password");
    }

    let wrong = Project::new(&lab).env("LOGIN", "not-the-password");
    wrong.write("inventory.toml", INVENTORY);
    wrong.write("index.html", "hello");
    wrong.commit("a page");
    wrong.ship(&["deploy"]).exits(3).says("pw1");
}
