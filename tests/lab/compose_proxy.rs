//! An app with one worker behind nginx, in containers: a certificate from a real ACME server, settings with a private key
//! in them, deploys as a job of GitHub Actions does them.

use std::time::{Duration, Instant};

use crate::hosts::{Host, Lab, Project};

const INVENTORY: &str = r#"
recipe    = "compose"
app       = "rocket"
deploy_to = "/srv/rocket"

[vars]
single        = "app"                  # its scheduler must never run twice
health_url    = "http://127.0.0.1/health"
domain        = "rocket.lab"
acme_server   = "https://acme.lab:14000/acme/local/directory"
acme_ca       = "/srv/acme/root.crt"
proxy_config  = "nginx.conf.j2"
proxy_service = "nginx"

[hosts.dock1]
address  = "127.0.0.1"
port     = PORT
user     = "deployer"
host_key = "KEY"

[environments.prod]
hosts = ["dock1"]
"#;

/// Who sets the host up. The deploy user is a member of the group `docker` and may use no sudo.
const ADMIN: &str = "rocket_admin";

/// Caddy as a certificate authority that speaks ACME, on loopback.
const ACME: &str = "{
  skip_install_trust
  admin off
  auto_https disable_redirects
  storage file_system /srv/acme/data
}
https://acme.lab:14000 {
  bind 127.0.0.1
  tls internal
  acme_server
}
";

/// Asks for the site fifty times a second, through nginx and TLS, and writes down when it answered.
const VISITOR: &str = r#"
import socket, ssl, sys, time
context = ssl.create_default_context(cafile="/srv/acme/root.crt")
while True:
    began, answer = time.time(), "-"
    try:
        with context.wrap_socket(socket.create_connection(("127.0.0.1", 443), 5), server_hostname="rocket.lab") as s:
            s.settimeout(5)
            s.sendall(b"GET / HTTP/1.0\r\nHost: rocket.lab\r\n\r\n")
            text = b""
            while chunk := s.recv(4096):
                text += chunk
        if b" 200 OK" in text.split(b"\r\n")[0]:
            answer = text.rsplit(b"\r\n", 1)[-1].decode()
    except OSError:
        pass
    print(began, answer, flush=True)
    time.sleep(0.02)
"#;

const CLEAN: &str = "
systemctl stop rocket-acme rocket-visitor rocket-renew.timer 2>/dev/null
docker ps --all --quiet --filter label=com.docker.compose.project=rocket | xargs -r docker rm --force >/dev/null
docker volume rm --force rocket_lock >/dev/null
docker network rm rocket_default >/dev/null 2>&1
docker image ls --format '{{.Repository}}:{{.Tag}}' | grep -E '^(ship/rocket/|rocket-)' | xargs -r docker image rm --force >/dev/null
systemctl disable rocket-renew.timer 2>/dev/null
rm -rf /srv/rocket /srv/acme /etc/rocket /var/www/certbot /etc/systemd/system/rocket-renew.*
rm -rf /etc/letsencrypt/live/rocket.lab /etc/letsencrypt/archive/rocket.lab /etc/letsencrypt/renewal/rocket.lab.conf /etc/letsencrypt/accounts/acme.lab*
systemctl daemon-reload; systemctl reset-failed 'rocket-*' 2>/dev/null
userdel --remove rocket_admin 2>/dev/null; rm -f /etc/sudoers.d/rocket_admin
sed '/rocket.lab/d' /etc/hosts >/tmp/hosts && cat /tmp/hosts >/etc/hosts
true";

/// A host with nothing of the app on it, an administrator, and a certificate authority beside it.
fn bare(lab: &Lab) -> Host {
    let host = lab.host("dock1");
    lab.root(&host, CLEAN);
    lab.root(
        &host,
        &format!(
            "useradd -m -s /bin/bash {ADMIN} && cp -a /home/deployer/.ssh /home/{ADMIN}/ && chown -R {ADMIN}: /home/{ADMIN}/.ssh\n\
             printf '{ADMIN} ALL=(ALL:ALL) NOPASSWD: ALL\\n' >/etc/sudoers.d/{ADMIN}; chmod 0440 /etc/sudoers.d/{ADMIN}\n\
             echo '127.0.0.1 acme.lab rocket.lab' >>/etc/hosts; mkdir -p /srv/acme"
        ),
    );
    lab.root_fed(&host, "cat >/srv/acme/Caddyfile", ACME);
    lab.root_fed(&host, "cat >/srv/acme/visitor.py", VISITOR);
    lab.root(
        &host,
        "systemd-run --quiet --unit=rocket-acme --setenv=HOME=/srv/acme caddy run --config /srv/acme/Caddyfile --adapter caddyfile\n\
         until [ -s /srv/acme/data/pki/authorities/local/root.crt ]; do sleep 0.1; done\n\
         cp /srv/acme/data/pki/authorities/local/root.crt /srv/acme/root.crt\n\
         curl --silent --fail --retry 50 --retry-delay 1 --retry-connrefused --cacert /srv/acme/root.crt https://acme.lab:14000/acme/local/directory >/dev/null",
    );
    host
}

/// The project, with everything in the environment that a job of GitHub Actions has there.
fn project(lab: &Lab, host: &Host) -> Project {
    let key = std::fs::read_to_string(lab.identity_file("dock1")).expect("the lab's key");
    let host_key = lab.root(host, "cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub");
    let project = Project::new(lab)
        .without_ssh_config()
        .env("CI", "true")
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_ACTOR", "ann")
        .env("SHIP_SSH_KEY", &key);
    let summary = project.path().join(".summary.md").display().to_string();
    let project = project.env("GITHUB_STEP_SUMMARY", &summary);
    project.copy_fixture("compose-proxy");
    project.write(
        "inventory.toml",
        &INVENTORY.replace("PORT", &lab.port("dock1").to_string()).replace("KEY", host_key.trim()),
    );
    project.write(".gitignore", ".summary.md\n.env\n.home\n");
    project.commit("Release one");
    project
}

fn ask(lab: &Lab, host: &Host, path: &str) -> String {
    lab.root(
        host,
        &format!("curl --silent --show-error --fail --max-time 5 --cacert /srv/acme/root.crt https://rocket.lab{path}"),
    )
}

/// The longest time without an answer that the visitor has seen so far, and what it was answered, each once.
fn seen(lab: &Lab, host: &Host) -> (f64, Vec<String>) {
    let text = lab.root(host, "cat /srv/acme/visits");
    let (mut last, mut longest, mut answers) = (None, 0.0_f64, Vec::new());
    for line in text.lines() {
        let Some((time, answer)) = line.split_once(' ') else { continue };
        let Ok(time) = time.parse::<f64>() else { continue };
        if answer == "-" {
            continue;
        }
        if let Some(last) = last {
            longest = longest.max(time - last);
        }
        last = Some(time);
        if answers.last().map(String::as_str) != Some(answer) {
            answers.push(answer.to_owned());
        }
    }
    (longest, answers)
}

/// Does something while the visitor watches.
fn watched(lab: &Lab, host: &Host, what: &str, work: impl FnOnce()) -> Vec<String> {
    lab.root(
        host,
        "systemd-run --quiet --unit=rocket-visitor --property=StandardOutput=truncate:/srv/acme/visits python3 /srv/acme/visitor.py; \
         until [ -s /srv/acme/visits ]; do sleep 0.1; done",
    );
    let began = Instant::now();
    work();
    let took = began.elapsed();
    std::thread::sleep(Duration::from_millis(300));
    lab.root(host, "systemctl stop rocket-visitor");
    let (longest, answers) = seen(lab, host);
    println!("{what}: {:.1} s; longest time without an answer {longest:.1} s; answers {answers:?}", took.as_secs_f32());
    answers
}

#[test]
fn one_worker_behind_nginx_with_a_certificate_a_private_key_and_deploys_from_a_job() {
    let lab = Lab::new();
    let host = bare(&lab);
    let project = project(&lab, &host);

    // From nothing: certificate, configuration of the proxy, renewal.
    project.ship(&["setup", "--user", ADMIN, "--dry-run"]).exits(0).says("certbot certonly");
    lab.root(&host, "systemd-run --quiet --unit=rocket-taken python3 -m http.server 80; until ss -ltn | grep -q ':80 '; do sleep 0.1; done");
    project.ship(&["setup", "--user", ADMIN, "--yes"]).exits(3).says("something listens on 80");
    lab.root(&host, "systemctl stop rocket-taken");
    project.ship(&["setup", "--user", ADMIN, "--yes"]).exits(0);
    project.ship(&["setup", "--user", ADMIN, "--yes"]).exits(0).says("Nothing to do");
    let issuer = lab.root(&host, "openssl x509 -noout -issuer -in /etc/letsencrypt/live/rocket.lab/cert.pem");
    assert!(issuer.contains("Caddy Local Authority"), "{issuer}");
    assert_eq!(lab.root(&host, "systemctl is-enabled rocket-renew.timer").trim(), "enabled");

    // Settings, with a key of several lines.
    let key = lab.root(&host, "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 2>/dev/null");
    project.write("key.pem", &key);
    project.write(".env", "# How the robot is set up\nAWS_LOCAL=False\nSLACK_TOKEN='xoxb-1 $2'\n");
    project.ship(&["env", "push", ".env"]).exits(0);
    let set = project.ship(&["env", "set", "GITHUB_KEY", "--from-file", "key.pem"]).exits(0);
    assert!(!set.text.contains("PRIVATE KEY"), "the key was shown");
    std::fs::remove_file(project.path().join("key.pem")).expect("the key");

    // The first deploy, and the key as the app sees it.
    let deploy = ["deploy", "prod", "--yes", "--output", "github"];
    project.ship(&deploy).exits(0);
    assert_eq!(ask(&lab, &host, "/"), "one");
    let digest = lab.root_fed(&host, "sha256sum | cut -d ' ' -f 1", &key);
    assert_eq!(ask(&lab, &host, "/key"), digest.trim(), "the key arrives byte for byte");
    let summary = std::fs::read_to_string(project.path().join(".summary.md")).expect("the summary of the job");
    assert!(summary.contains("dock1") && !summary.contains("PRIVATE KEY"), "{summary}");

    // The renewal goes through the proxy that is running, and the proxy takes the new certificate up.
    let serial = "openssl s_client -connect 127.0.0.1:443 -servername rocket.lab </dev/null 2>/dev/null | openssl x509 -noout -serial";
    let before = lab.root(&host, serial);
    lab.root(&host, "systemctl start rocket-renew.service");
    let renewed = lab.root(&host, "openssl x509 -noout -serial -in /etc/letsencrypt/live/rocket.lab/cert.pem");
    assert_ne!(renewed, before, "a new certificate");
    let taken = format!(
        "for i in $(seq 50); do [ \"$({serial})\" = {renewed:?} ] && exit 0; sleep 0.1; done; exit 1",
        renewed = renewed.trim()
    );
    lab.root(&host, &taken);

    // The second deploy: the worker is recreated, and never runs twice.
    project.write("version", "two\n");
    project.commit("Release two");
    let answers = watched(&lab, &host, "second deploy", || {
        project.ship(&deploy).exits(0);
    });
    assert_eq!(answers, ["one", "two"]);

    // One that does not start is put back.
    project.write("version", "broken\n");
    project.commit("Release that does not start");
    let answers = watched(&lab, &host, "broken deploy, put back", || {
        project.ship(&deploy).exits(1).says("this version does not start");
    });
    assert_eq!(answers, ["two"]);
    assert_eq!(ask(&lab, &host, "/"), "two");

    // A rollback needs neither build nor registry.
    let answers = watched(&lab, &host, "rollback", || {
        project.ship(&["rollback", "prod", "--yes", "--output", "github"]).exits(0);
    });
    assert_eq!(answers, ["two", "one"]);
    assert_eq!(ask(&lab, &host, "/key"), digest.trim());

    let lock = "docker run --rm --volume rocket_lock:/lock base:lab";
    assert_eq!(
        lab.root(&host, &format!("{lock} sh -c 'cat /lock/twice 2>/dev/null || true'")),
        "",
        "it ran twice at once"
    );
    println!(
        "starts of the worker: {:?}",
        lab.root(&host, &format!("{lock} cat /lock/starts")).lines().collect::<Vec<_>>()
    );

    project.ship(&["logs", "prod", "app", "-n", "100000"]).exits(0).says("The scheduler of one is running");
    println!(
        "rights used: the group docker ({}), no sudo: {}",
        lab.root(&host, "id --name --groups deployer").trim(),
        lab.root(&host, "sudo --list --other-user deployer 2>&1 | tail -n 1").trim()
    );
    lab.root(&host, CLEAN);
}
