//! A FastAPI back end behind Caddy, with a site and a playground that one-shot containers put into volumes, on a
//! host that wants a password to log in and for sudo.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Stdio};

use crate::hosts::{Host, Lab, Project};
use crate::spy::Spy;
use crate::visitor::{Visitor, get};

const APP: &str = "lab-robot";

const INVENTORY: &str = r#"
recipe    = "compose"
app       = "lab-robot"
deploy_to = "/srv/lab-robot"
keep_releases = 2

[vars]
compose_files = "docker/compose.yml"
one_shot      = "frontend playground"
wait          = "20s"
ready_service = "backend"
ready_log     = "Mounted frontend at /$"
docker_sudo   = true
env_file      = ""

[hosts.dock2]
password      = { secret = "login" }
sudo_password = { secret = "login" }

[environments.prod]
hosts = ["dock2"]

[secrets]
login = { env = "LOGIN" }
"#;

fn containers(lab: &Lab, host: &Host) -> String {
    let format = "{{.Label \"com.docker.compose.service\"}} {{.ID}} {{.State}}";
    let filter = format!("label=com.docker.compose.project={APP}");
    lab.root(host, &format!("docker ps --all --filter {filter} --format '{format}' | sort"))
}

/// The line of one service: its id tells whether it was replaced.
fn container(lab: &Lab, host: &Host, service: &str) -> String {
    let all = containers(lab, host);
    all.lines().find(|line| line.starts_with(&format!("{service} "))).unwrap_or_else(|| panic!("{all}")).to_owned()
}

fn edit(project: &Project, path: &str, from: &str, to: &str) {
    let file = project.path().join(path);
    let text = std::fs::read_to_string(&file).expect("a file");
    assert!(text.contains(from), "{from} in {path}");
    std::fs::write(file, text.replace(from, to)).expect("a file");
}

/// What the proxy answers: the site's heading and the back end's version.
fn served(port: u16) -> (String, String) {
    let page = get(port, "/").expect("the site");
    let api = get(port, "/api/version").expect("the back end");
    assert_eq!((page.status, api.status, get(port, "/playground/").expect("files").status), (200, 200, 200));
    let heading = page.body.split("<h1>").nth(1).and_then(|rest| rest.split('<').next()).expect("a heading");
    let json: serde_json::Value = serde_json::from_str(&api.body).expect("JSON");
    (heading.to_owned(), json["version"].as_str().expect("a version").to_owned())
}

fn serves(port: u16, number: &str) {
    assert_eq!(served(port), (format!("site {number}"), number.to_owned()));
}

/// A step of a build that takes as long as the test wants: it waits until something answers on the host.
struct Gate<'a> {
    lab: &'a Lab,
    host: &'a Host,
    unit: String,
}

/// The host, as containers see it.
const OUTSIDE: &str = "172.17.0.1:9797";

impl<'a> Gate<'a> {
    fn closed(lab: &'a Lab, host: &'a Host, project: &Project) -> Self {
        let number = lab.root(host, "date +%s%N").trim().to_owned();
        let path = "docker/backend.Dockerfile";
        let text = std::fs::read_to_string(project.path().join(path)).expect("a file");
        let wait = format!("until curl --silent --max-time 1 http://{OUTSIDE} >/dev/null; do sleep 0.2; done");
        project.write(path, &format!("{text}RUN echo begun {number} && {wait} && echo ended {number}\n"));
        project.commit("A slow step");
        Self { lab, host, unit: format!("lab-robot-gate-{number}") }
    }

    fn open(&self) {
        let (address, port) = OUTSIDE.split_once(':').expect("a port");
        let server = format!("python3 -m http.server {port} --bind {address} --directory /var/empty");
        self.lab.root(self.host, &format!("mkdir -p /var/empty; systemd-run --quiet --unit={} {server}", self.unit));
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        self.lab.root(self.host, &format!("systemctl stop {} 2>/dev/null || true", self.unit));
    }
}

/// A deploy that goes on beside the test.
struct Going {
    child: Child,
    lines: BufReader<ChildStdout>,
    seen: String,
}

impl Going {
    fn begin(project: &Project) -> Self {
        let mut command = project.command(&["deploy", "prod", "--output", "plain"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("ship");
        let lines = BufReader::new(child.stdout.take().expect("stdout"));
        Self { child, lines, seen: String::new() }
    }

    fn until(&mut self, words: &str) {
        while !self.seen.contains(words) {
            assert!(self.lines.read_line(&mut self.seen).expect("a line") > 0, "{words}: {}", self.seen);
        }
    }

    fn succeeds(mut self) {
        self.lines.read_to_string(&mut self.seen).expect("the rest");
        assert!(self.child.wait().expect("a status").success(), "{}", self.seen);
    }
}

/// A build survives a dropped connection, and a laptop that is closed: the next deploy finds it.
fn builds_go_on(lab: &Lab, host: &Host, project: &Project, port: u16) {
    let gate = Gate::closed(lab, host, project);
    let mut one = Going::begin(project);
    one.until("| #");
    lab.root(host, "pkill -KILL -u doodle sshd");
    one.until("is found again");
    gate.open();
    one.until(" ended ");
    one.succeeds();
    serves(port, "two");
    drop(gate);

    let gate = Gate::closed(lab, host, project);
    let mut left = Going::begin(project);
    left.until("| #");
    left.child.kill().expect("gone at once, as with a closed laptop");
    left.child.wait().expect("a status");
    let mut found = Going::begin(project);
    found.until("runs already, and is followed from its beginning");
    gate.open();
    found.succeeds();
    serves(port, "two");
}

#[test]
fn one_shot_containers_and_a_proxy_with_passwords_for_all() {
    let lab = Lab::new();
    let host = lab.host("dock2");
    let port = host.https_port.expect("a port of the host that is published here");
    lab.remove_project(&host, APP);
    let file = host.password_file.as_ref().expect("a password");
    let password = std::fs::read_to_string(file).expect("a password").trim().to_owned();
    let project = Project::new(&lab).env("LOGIN", &password);
    project.copy_fixture("compose-one-shot");
    project.write("inventory.toml", INVENTORY);
    edit(&project, "backend/main.py", "BROKEN = False", "BROKEN = True");
    project.commit("broken");

    project.ship(&["setup", "prod", "--yes"]).exits(0);
    project.ship(&["setup", "prod", "--yes"]).exits(0).says("Nothing to do");
    println!("{}", project.ship(&["sudoers", "prod"]).exits(0).text);

    // A first release that cannot start leaves no container, and volumes as they are.
    let first = project.ship(&["deploy", "prod", "--output", "plain"]).exits(1);
    first.says("this release cannot start").says("put back");
    assert_eq!(containers(&lab, &host), "");

    edit(&project, "backend/main.py", "BROKEN = True", "BROKEN = False");
    project.commit("one");
    let one = project.ship(&["deploy", "prod", "--output", "plain"]).exits(0);
    one.says("published /site").says("Wait until it is ready: done");
    serves(port, "one");

    let mut seen = Vec::new();
    let mut visited = |name: &'static str, path: &'static str, work: &dyn Fn()| {
        let visitor = Visitor::begin(vec![port], path);
        work();
        let found = visitor.end();
        println!(
            "{name}: {} requests of {path}, {} failed, slowest {:?}",
            found.requests,
            found.failures.len(),
            found.slowest
        );
        seen.push((name, found));
    };

    let caddy = container(&lab, &host, "caddy");
    edit(&project, "frontend/index.html", "site one", "site two");
    edit(&project, "backend/main.py", "VERSION = \"one\"", "VERSION = \"two\"");
    project.commit("two");
    visited("second deploy", "/", &|| {
        let run = project.ship(&["deploy", "prod", "--output", "plain"]).exits(0);
        let run = run.says("Start backend beside what is live").says("Run frontend to its end");
        // The playground did not change, nor did the proxy.
        assert!(!run.text.contains("> Run playground") && !run.text.contains("> Recreate"), "{}", run.text);
        assert!(!run.text.contains(&password), "the password was shown");
    });
    serves(port, "two");
    assert_eq!(container(&lab, &host, "caddy"), caddy);

    let backend = container(&lab, &host, "backend");
    edit(&project, "backend/main.py", "BROKEN = False", "BROKEN = True");
    project.commit("three");
    visited("broken deploy", "/", &|| {
        project
            .ship(&["deploy", "prod", "--output", "plain"])
            .exits(1)
            .says("this release cannot start")
            .says("put back");
    });
    serves(port, "two");
    assert_eq!(container(&lab, &host, "backend"), backend, "the old one was never stopped");

    visited("rollback", "/", &|| {
        let run = project.ship(&["rollback", "prod", "--output", "plain"]).exits(0);
        assert!(!run.text.contains("Build ") && !run.text.contains("Pull "), "{}", run.text);
    });
    serves(port, "one");
    assert_eq!(container(&lab, &host, "caddy"), caddy);

    // What publishes a port is recreated: this is how long nobody answers.
    edit(&project, "backend/main.py", "BROKEN = True", "BROKEN = False");
    edit(&project, "docker/Caddyfile", "admin off", "admin off\n\tgrace_period 1s");
    project.commit("four");
    visited("a new Caddyfile", "/", &|| {
        project.ship(&["deploy", "prod", "--output", "plain"]).exits(0).says("Recreate caddy (it publishes port 443)");
    });
    serves(port, "two");
    assert_ne!(container(&lab, &host, "caddy"), caddy);
    let spy = Spy::start(&lab, &host, &password);
    builds_go_on(&lab, &host, &project, port);
    let (looks, shown) = spy.stop();
    assert!(looks > 100 && shown.is_empty(), "the password was shown by a process: {shown:?}");
    println!("{looks} looks at all processes of the host, none had the password");

    project.ship(&["logs", "prod", "backend", "-n", "50"]).exits(0).says("Mounted frontend at /");
    project.ship(&["service", "stop", "prod"]).exits(0);
    assert!(get(port, "/").is_err(), "it was stopped");
    project.ship(&["service", "start", "prod"]).exits(0);
    serves(port, "two");

    let images = lab.root(&host, &format!("docker images --format '{{{{.Tag}}}}' 'ship/{APP}/*' | sort -u"));
    let records = lab.root(&host, &format!("ls /srv/{APP}/releases"));
    assert_eq!(images.lines().count(), records.lines().count(), "images of {records} alone:\n{images}");
    let modes = lab.root(&host, &format!("stat -c %a /srv/{APP}/.ship/releases/*/compose.json | sort -u"));
    assert_eq!(modes.trim(), "600");

    let (recreated, replaced) = seen.split_last().expect("visits");
    for (name, found) in replaced {
        assert!(found.failures.is_empty() && found.requests > 100, "{name}: {:?}", found.failures);
    }
    println!(
        "recreating the proxy: {} of {} requests failed, 20 ms apart",
        recreated.1.failures.len(),
        recreated.1.requests
    );
    lab.remove_project(&host, APP);
}
