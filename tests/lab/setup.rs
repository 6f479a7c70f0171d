//! `ship setup` on a host with systemd, nginx and sudo: from nothing to a deploy, and what it never does.

use crate::hosts::{Host, Lab, Project};

/// Who sets the host up. The deploy user may use sudo for nothing but what setup allows it.
const ADMIN: &str = "house_admin";

const INVENTORY: &str = r#"
recipe    = "house"
app       = "house"
deploy_to = "/var/www/house"

[hosts.web3]
user = "deployer"

[secrets]
token = { env = "HOUSE_TOKEN" }
"#;

const RECIPE: &str = r#"
[[setup]]
packages = ["nginx", "logrotate"]

[[setup]]
directory = { path = "/var/log/house", owner = "{{ deploy_user }}", group = "adm", mode = "2750" }

[[setup]]
file = { template = "house.service.j2", to = "/etc/systemd/system/house.service", restart = "house" }

[[setup]]
file = { template = "env.j2", to = "{{ shared_path }}/.env" }

[[setup]]
file = { content = "/var/log/house/*.log {\n    weekly\n    missingok\n}\n", to = "/etc/logrotate.d/house", check = "logrotate --debug /etc/logrotate.d/house" }

[[setup]]
systemd = { enable = ["house"], start = ["house"] }

[[setup]]
nginx = { site = "house", template = "house.nginx.j2" }

[[setup]]
sudoers = {}

[[setup]]
sudo    = "touch /etc/house.made"
creates = "/etc/house.made"

[[prepare]]
upload = [{ from = "public", to = "public" }]

[[publish]]
swap = {}

[[publish]]
systemd = { restart = ["house"] }

[[publish]]
wait = { http = "http://127.0.0.1:8098/" }
"#;

const SERVICE: &str = "[Unit]\nDescription=House\n\n[Service]\nUser={{ deploy_user }}\nEnvironmentFile={{ shared_path }}/.env\nExecStart=/bin/sleep infinity\n\n[Install]\nWantedBy=multi-user.target\n";

const SITE: &str = "server {\n    listen 8098;\n    root {{ current_path }}/public;\n}\n";

const TOKEN: &str = "a-token-that-nobody-sees";

/// A host on which nothing of the house is, and on which an administrator may log in.
fn bare(lab: &Lab) -> Host {
    let host = lab.host("web3");
    clean(lab, &host);
    lab.root(
        &host,
        &format!(
            "useradd -m -s /bin/bash {ADMIN} && cp -a /home/deployer/.ssh /home/{ADMIN}/ && chown -R {ADMIN}: /home/{ADMIN}/.ssh\n\
             printf '{ADMIN} ALL=(ALL:ALL) NOPASSWD: ALL\\n' >/etc/sudoers.d/{ADMIN}; chmod 0440 /etc/sudoers.d/{ADMIN}"
        ),
    );
    host
}

fn clean(lab: &Lab, host: &Host) {
    lab.root(
        host,
        &format!(
            "systemctl disable --now house 2>/dev/null; rm -rf /var/www/house /var/log/house /etc/house.made \
             /etc/systemd/system/house.service /etc/logrotate.d/house /etc/nginx/sites-*/house /etc/sudoers.d/ship-house \
             /etc/sudoers.d/{ADMIN}; systemctl daemon-reload; nginx -t 2>/dev/null && systemctl reload-or-restart nginx\n\
             userdel -r {ADMIN} 2>/dev/null; :"
        ),
    );
}

/// Everything that setup may touch, with what would show the slightest change: times, owners, modes, contents.
fn everything(lab: &Lab, host: &Host) -> String {
    lab.root(
        host,
        "for f in /etc /var/www/house /var/log/house /home; do find $f -xdev ! -name '*.jsonl' ! -name holder \
         -printf '%p %C@ %u:%g %m %l\\n' 2>/dev/null; done | grep -v '/etc/mtab\\|/\\.ship/lock' | sort",
    )
}

/// Checks that nothing was changed since `before`.
#[track_caller]
fn unchanged(lab: &Lab, host: &Host, before: &str) {
    let after = everything(lab, host);
    let changed: Vec<&str> = after.lines().filter(|line| !before.lines().any(|known| known == *line)).collect();
    assert!(changed.is_empty() && after.lines().count() == before.lines().count(), "{}", changed.join("\n"));
}

fn project(lab: &Lab) -> Project {
    let project = Project::new(lab).env("HOUSE_TOKEN", TOKEN);
    project.write("inventory.toml", INVENTORY);
    project.write("recipes/house.toml", RECIPE);
    project.write("house.service.j2", SERVICE);
    project.write("env.j2", "TOKEN={{ secrets.token }}\nMODE=prod\n");
    project.write("house.nginx.j2", SITE);
    project.write("public/index.html", "at home\n");
    project.commit("a house");
    project
}

#[test]
fn a_bare_host_is_set_up_once_and_deployed_to_with_the_rules_of_its_setup() {
    let lab = Lab::new();
    let host = bare(&lab);
    let project = project(&lab);
    let setup = ["setup", "--user", ADMIN];

    // A look changes nothing, whoever looks; the deploy user may not do any of it.
    let before = everything(&lab, &host);
    project.ship(&["setup", "--user", ADMIN, "--dry-run"]).exits(0).says("+User=deployer").says("# sudo ");
    project.ship(&["setup"]).exits(3).says("sudo does not let deployer run").says("--user NAME");
    unchanged(&lab, &host, &before);

    let run = project.ship(&setup).exits(0).says("Set up 1 host for house").says("TOKEN=[secret]");
    assert!(!run.text.contains(TOKEN));
    let owners = lab.root(
        &host,
        "stat -c '%n %U:%G %a' /var/www/house /var/www/house/.ship /var/www/house/shared/.env /var/log/house \
         /etc/systemd/system/house.service /etc/nginx/sites-available/house /etc/sudoers.d/ship-house",
    );
    assert_eq!(
        owners,
        "/var/www/house deployer:deployer 755\n/var/www/house/.ship deployer:deployer 700\n\
         /var/www/house/shared/.env deployer:deployer 600\n/var/log/house deployer:adm 2750\n\
         /etc/systemd/system/house.service root:root 644\n/etc/nginx/sites-available/house root:root 644\n\
         /etc/sudoers.d/ship-house root:root 440\n"
    );
    assert_eq!(lab.root(&host, "cat /var/www/house/shared/.env"), format!("TOKEN={TOKEN}\nMODE=prod\n"));
    assert_eq!(lab.root(&host, "systemctl is-active house; systemctl is-enabled house"), "active\nenabled\n");
    assert_eq!(lab.root(&host, "visudo -c >/dev/null && ls -A /home/*/ | grep -c ship-setup || :"), "0\n");
    for file in std::fs::read_dir(project.path().join(".ship/log")).expect("transcripts") {
        let text = std::fs::read_to_string(file.expect("a file").path()).unwrap_or_default();
        assert!(!text.contains(TOKEN), "the transcript has the token");
    }

    // The second run finds nothing to do, and does nothing.
    let before = everything(&lab, &host);
    project.ship(&setup).exits(0).says("Nothing to do: 1 host is as the recipe wants it");
    unchanged(&lab, &host, &before);

    // Exactly what `ship sudoers` prints is what the deploy user may do, and a deploy needs no more.
    let printed = project.ship(&["sudoers"]).exits(0).text;
    assert_eq!(lab.root(&host, "cat /etc/sudoers.d/ship-house"), printed);
    project.ship(&["deploy"]).exits(0);
    assert_eq!(lab.root(&host, "curl -sf http://127.0.0.1:8098/"), "at home\n");
    // What the deploy user's own runs need was not taken by those of the administrator.
    project.ship(&setup).exits(0).says("Nothing to do");
    project.ship(&["deploy"]).exits(0);
    clean(&lab, &host);
}

#[test]
fn a_file_of_somebody_else_is_shown_and_left_alone_and_a_broken_site_is_put_back() {
    let lab = Lab::new();
    let host = bare(&lab);
    let project = project(&lab);
    let setup = ["setup", "--user", ADMIN];

    // Somebody's file, where nobody can be asked: nothing at all is changed.
    lab.root(&host, "printf 'by hand\\n' >/etc/logrotate.d/house");
    let before = everything(&lab, &host);
    let run = project.ship(&setup).exits(3).says("ship did not write /etc/logrotate.d/house").says("-by hand");
    assert!(run.text.contains("--overwrite /etc/logrotate.d/house"), "{}", run.text);
    unchanged(&lab, &host, &before);
    project.ship(&["setup", "--user", ADMIN, "--overwrite", "/etc/logrotate.d/house"]).exits(0);
    assert!(lab.root(&host, "cat /etc/logrotate.d/house").starts_with("/var/log/house"));
    project.ship(&["deploy"]).exits(0);

    // What ship wrote and nobody touched may change without a question.
    project.write("house.service.j2", &SERVICE.replace("House", "Mansion"));
    project.ship(&setup).exits(0).says("-Description=House").says("+Description=Mansion").says("1 file");
    assert_eq!(lab.root(&host, "systemctl show --value -p Description house"), "Mansion\n");
    assert_eq!(lab.root(&host, "systemctl show --value -p NeedDaemonReload house"), "no\n");

    // nginx refuses the new site: the old one is back, byte for byte, and goes on serving.
    let before = lab.root(&host, "cat /etc/nginx/sites-available/house; ls -A /etc/nginx/sites-available");
    project.write("house.nginx.j2", "server {\n    listen 8098;\n    this is no directive;\n}\n");
    project
        .ship(&setup)
        .exits(1)
        .says("unknown directive")
        .says("/etc/nginx/sites-available/house is as it was before");
    assert_eq!(lab.root(&host, "cat /etc/nginx/sites-available/house; ls -A /etc/nginx/sites-available"), before);
    lab.root(&host, "nginx -t 2>/dev/null && systemctl reload nginx");
    assert_eq!(lab.root(&host, "curl -sf http://127.0.0.1:8098/"), "at home\n");

    // A site that was never there is gone again, with its link.
    lab.root(&host, "rm /etc/nginx/sites-*/house");
    project.ship(&setup).exits(1);
    assert_eq!(lab.root(&host, "ls /etc/nginx/sites-*/house 2>/dev/null | wc -l"), "0\n");
    lab.root(&host, "nginx -t 2>/dev/null");

    // What was broken before is not ship's doing, and ship says so before it touches anything.
    project.write("house.nginx.j2", SITE);
    lab.root(&host, "echo rubbish >/etc/nginx/conf.d/house_rubbish.conf");
    project.ship(&setup).exits(1).says("broken already");
    lab.root(&host, "rm /etc/nginx/conf.d/house_rubbish.conf");
    project.ship(&setup).exits(0);
    assert_eq!(lab.root(&host, "curl -sf http://127.0.0.1:8098/"), "at home\n");
    project.ship(&setup).exits(0).says("Nothing to do");
    clean(&lab, &host);
}
