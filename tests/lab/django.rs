//! A real Django application on three hosts: PostgreSQL, Redis, nginx, gunicorn and Celery under systemd.

use std::path::Path;

use crate::hosts::{Host, Lab, Project};
use crate::visitor::{Visitor, get};

const HOSTS: [&str; 3] = ["web1", "web2", "web3"];

const INVENTORY: &str = r#"
recipe    = "django"
app       = "demo"
deploy_to = "/var/www/demo"

[vars]
db_name       = "demo"
db_user       = "deployer"
db_host       = "web1"
redis_url     = "redis://127.0.0.1:6379/0"
allowed_hosts = ["localhost", "127.0.0.1"]
cache         = "/home/deployer/.cache"

[hosts.web1]
roles = ["web", "worker"]
[hosts.web2]
roles = ["web", "worker"]
[hosts.web3]
roles = ["web", "worker"]

[environments.prod]
hosts  = ["web*"]
branch = "main"

[secrets]
django_secret_key = { env = "DJANGO_SECRET_KEY" }
db_password       = { env = "DB_PASSWORD" }
"#;

/// Letters and digits, new for each run.
fn password() -> String {
    let mut bytes = [0u8; 12];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").expect("urandom"), &mut bytes).expect("bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What an administrator does once. What a former run of this test left is removed first.
fn provision(lab: &Lab, hosts: &[Host], password: &str) {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/django-host");
    for (index, host) in hosts.iter().enumerate() {
        lab.root(
            host,
            "systemctl stop 'demo_*' 2>/dev/null; rm -rf /var/www/demo; \
             systemctl reset-failed 'demo_*' 2>/dev/null; true",
        );
        lab.copy(host, &files, "/root/django-host");
        let parts = if index == 0 { "web database" } else { "web" };
        lab.root_fed(host, &format!("sh /root/django-host/provision.sh {parts}"), &format!("{password}\n"));
    }
}

/// The site's own answer on every host: message and release.
fn served(hosts: &[Host]) -> Vec<(String, String)> {
    hosts
        .iter()
        .map(|host| {
            let answer = get(host.http_port, "/api/").unwrap_or_else(|error| panic!("{}: {error}", host.name));
            assert_eq!(answer.status, 200, "{}: {}", host.name, answer.body);
            let json: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
            let text = |key: &str| json[key].as_str().unwrap_or_else(|| panic!("{key} in {json}")).to_owned();
            (text("message"), text("release"))
        })
        .collect()
}

/// Every host serves `message`, and all of them the same release.
fn all_serve(hosts: &[Host], message: &str) -> String {
    let served = served(hosts);
    assert!(served.iter().all(|(said, _)| said == message), "{served:?}");
    assert!(served.windows(2).all(|pair| pair[0].1 == pair[1].1), "{served:?}");
    served[0].1.clone()
}

fn releases(lab: &Lab, host: &Host) -> String {
    lab.root(host, "ls /var/www/demo/releases")
}

#[test]
fn a_real_django_site_on_three_hosts() {
    let lab = Lab::new();
    let hosts: Vec<Host> = HOSTS.iter().map(|name| lab.host(name)).collect();
    let password = password();
    provision(&lab, &hosts, &password);

    let project = Project::new(&lab).env("DB_PASSWORD", &password).env("DJANGO_SECRET_KEY", &"k3y-".repeat(16));
    project.copy_fixture("django");
    project.write("inventory.toml", INVENTORY);
    project.set("backend/version.py", "MESSAGE", "one");
    project.ship(&["check", "prod"]).exits(0).says("6 sudo commands allowed without a password");

    // The first deploy: front end built here, one migration for all, everything restarted and watched.
    let first = project.ship(&["deploy", "prod", "--branch", "main"]).exits(0);
    assert!(!first.text.contains(&password), "the database password was shown");
    let migrated = first.text.matches("Migrate the database: done").count();
    assert_eq!(migrated, 1, "{}", first.text);
    let one = all_serve(&hosts, "one");
    for host in &hosts {
        let celery = get(host.http_port, "/api/celery/").expect("an answer");
        assert_eq!(celery.status, 200, "{}: {}", host.name, celery.body);
        let page = get(host.http_port, "/").expect("the front end");
        assert_eq!(page.status, 200);
        let mode = lab.root(host, "stat -c %a /var/www/demo/current/backend/site_project/settings_local.py");
        assert_eq!(mode.trim(), "600");
    }

    // The sudo rules are no wider than the commands, and ship prints exactly them.
    let fragment = project.ship(&["sudoers", "prod"]).exits(0).text;
    let installed = lab.root(&hosts[0], "cat /etc/sudoers.d/demo");
    for command in fragment.lines().filter_map(|line| line.split_once("NOPASSWD: ")).map(|(_, command)| command) {
        assert!(installed.contains(command), "{command} is not in {installed}");
    }
    for refused in [
        "systemctl restart nginx",
        "systemctl restart demo_gunicorn demo_celery",
        "sh -c id",
        "systemctl stop demo_gunicorn",
    ] {
        assert_ne!(lab.status_as(&hosts[0], "deployer", &format!("sudo -n {refused}")), 0, "sudo {refused}");
    }

    // From here on somebody asks fifty times a second, one host after the other.
    let visitor = Visitor::begin(hosts.iter().map(|host| host.http_port).collect(), "/api/");

    project.set("backend/version.py", "MESSAGE", "two");
    project.ship(&["deploy", "prod"]).exits(0);
    let two = all_serve(&hosts, "two");
    assert!(one < two);

    // A release that is not healthy: every host is put back.
    project.set("backend/version.py", "HEALTH_FAILS_ON", "*");
    project.ship(&["deploy", "prod"]).exits(1).says("put back");
    assert_eq!(all_serve(&hosts, "two"), two);
    project.set("backend/version.py", "HEALTH_FAILS_ON", "");

    // A release that one host of three cannot prepare: nothing is switched, nothing is left.
    let before: Vec<String> = hosts.iter().map(|host| releases(&lab, host)).collect();
    project.set("backend/version.py", "CHECK_FAILS_ON", "web2");
    project.ship(&["deploy", "prod"]).exits(1).says("Check the site: exit status 1");
    assert_eq!(all_serve(&hosts, "two"), two);
    assert_eq!(hosts.iter().map(|host| releases(&lab, host)).collect::<Vec<_>>(), before);

    project.ship(&["rollback", "prod"]).exits(0);
    assert_eq!(all_serve(&hosts, "one"), one);
    project.ship(&["status", "prod"]).exits(0).says("demo_gunicorn active");

    let seen = visitor.end();
    println!("{} requests, {} failed, slowest {:?}", seen.requests, seen.failures.len(), seen.slowest);
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
    assert!(seen.requests > 500, "{seen:?}");
}
