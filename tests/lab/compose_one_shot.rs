//! A FastAPI back end behind Caddy, with a site and a playground that one-shot containers put into volumes, on a
//! host that wants a password to log in and for sudo.

use crate::hosts::{Host, Lab, Project};
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

/// Removes what a former run left, volumes too.
fn clear(lab: &Lab, host: &Host) {
    lab.root(
        host,
        &format!(
            "docker ps -aq --filter label=com.docker.compose.project={APP} | xargs -r docker rm -f >/dev/null
             docker volume ls -q --filter label=com.docker.compose.project={APP} | xargs -r docker volume rm >/dev/null
             docker network ls -q --filter label=com.docker.compose.project={APP} | xargs -r docker network rm >/dev/null
             docker images -q 'ship/{APP}-*' | sort -u | xargs -r docker rmi -f >/dev/null
             rm -rf /srv/{APP}"
        ),
    );
}

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

#[test]
fn one_shot_containers_and_a_proxy_with_passwords_for_all() {
    let lab = Lab::new();
    let host = lab.host("dock2");
    let port = host.https_port.expect("a port of the host that is published here");
    clear(&lab, &host);
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
    let images = lab.root(&host, &format!("docker images --format '{{{{.Tag}}}}' 'ship/{APP}-*' | sort -u"));
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
    clear(&lab, &host);
}
