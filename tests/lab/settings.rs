//! Settings that real readers read back: Docker Compose and systemd, from the file that ship wrote.

use std::process::Output;

use serde_json::Value;

use crate::hosts::{Lab, Project};

const INVENTORY: &str = r#"
recipe    = "settings"
app       = "settings"
deploy_to = "/home/deployer/settings"

[hosts.dock1]

[environments.prod]
hosts = ["dock1"]
"#;

const PEM: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA04up8hoqzS1+APIB0RhjXyObwHQnOzhAk5Bd7mhkSbPkyhP1\n-----END RSA PRIVATE KEY-----\n";

/// Values that have broken some reader of settings files.
const NASTY: &[&str] = &[
    "",
    " ",
    "two behind  ",
    "it's",
    "\"quoted\"",
    "a'b\"c$d",
    "$HOME",
    "${HOME:-x}",
    "$$",
    "it's $5",
    "`id` $(id)",
    "\\",
    "a\\\\",
    "\\'",
    "\\\\'",
    "\\$x",
    "\\n",
    "'$x\\",
    "C:\\new\\table",
    "a # no comment",
    "a\n\n# b\nC=d\n",
    "a\r\nb",
    "tab\there",
    "k: 'v'",
    "öß€ 漢字 🚀",
    "\u{a0}nbsp\u{a0}",
    "{\"json\": [1, \"$two\", \"th\\\"ree\"]}",
    PEM,
];

fn output(project: &Project, words: &[&str]) -> Output {
    project.command(words).output().expect("ship")
}

#[test]
fn compose_and_systemd_read_back_what_ship_wrote() {
    let lab = Lab::new();
    let host = lab.host("dock1");
    lab.root(&host, "rm -rf /home/deployer/settings");
    let project = Project::new(&lab);
    project.write("inventory.toml", INVENTORY);
    project.write("recipes/settings.toml", "[[publish]]\nswap = {}\n");
    project.commit("settings");
    let pairs: Vec<String> = NASTY.iter().enumerate().map(|(number, value)| format!("K{number}={value}")).collect();
    let words: Vec<&str> = ["env", "set"].into_iter().chain(pairs.iter().map(String::as_str)).collect();
    project.ship(&words).exits(0);
    project.write("key.pem", PEM);
    project.ship(&["env", "set", "GITHUB_KEY", "--from-file", "key.pem"]).exits(0);
    let got = output(&project, &["env", "get", "GITHUB_KEY"]);
    assert_eq!(String::from_utf8_lossy(&got.stdout), PEM);
    let file = "/home/deployer/settings/shared/.env";
    assert_eq!(lab.root(&host, &format!("stat -c '%U %a' {file}")), "deployer 600\n");

    let names: String = (0..NASTY.len()).map(|number| format!("      K{number}: ${{K{number}}}\n")).collect();
    let compose = format!(
        "services:\n  one:\n    image: x\n    env_file: {file}\n  two:\n    image: x\n    environment:\n{names}"
    );
    let read = lab.root_fed(
        &host,
        &format!("cd /home/deployer/settings && cat >compose.yml && docker compose --env-file {file} -f compose.yml config --format json"),
        &compose,
    );
    let read: Value = serde_json::from_str(&read).expect("JSON");
    for service in ["one", "two"] {
        for (number, value) in NASTY.iter().enumerate() {
            // `config` prints a Compose file, in which `$` is written `$$`.
            let seen = read["services"][service]["environment"][format!("K{number}")].as_str();
            assert_eq!(seen.map(|seen| seen.replace("$$", "$")).as_deref(), Some(*value), "{service} K{number}");
        }
    }
    assert_eq!(read["services"]["one"]["environment"]["GITHUB_KEY"], PEM);

    // What ship says that systemd reads is what it reads.
    let seen = lab.root(
        &host,
        &format!("systemd-run --quiet --wait --pipe -p EnvironmentFile={file} env -0 | tr '\\000' '\\001'"),
    );
    for (number, value) in NASTY.iter().enumerate() {
        let wanted = format!("K{number}={value}");
        let same = seen.split('\u{1}').any(|variable| variable == wanted);
        let said = !ship::dotenv::misread_by("K", value).contains(&"systemd (EnvironmentFile)");
        assert!(same || !said, "systemd does not read K{number} {value:?}");
    }
    lab.root(&host, "rm -rf /home/deployer/settings");
}
