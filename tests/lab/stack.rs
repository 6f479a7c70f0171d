//! The services of a Compose release: logs, restart, a command in a container, and the end of the project. Once as a
//! member of the group `docker`, once with a login and a sudo by password.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Instant;

use crate::hosts::{Host, Lab, Project};

const COMPOSE: &str = r#"
services:
  front:
    image: base:lab
    command: ["sh", "-c", "echo built"]
  web:
    image: base:lab
    environment: { COLOR: red }
    command: ["sh", "-c", "printf 'begins \\033[2J\\n'; n=0; while :; do n=$$((n + 1)); echo tick $$n; sleep 0.2; done"]
    depends_on: { front: { condition: service_completed_successfully } }
    volumes: ["data:/data"]
volumes:
  data: {}
"#;

fn prepared(lab: &Lab, host: &Host, user: &str, login: &str, vars: &str) -> Project {
    lab.root(
        host,
        &format!(
            "docker ps -aq --filter label=com.docker.compose.project=ship-stack | xargs -r docker rm -f; \
             docker volume rm -f ship-stack_data; rm -rf /home/{user}/ship-stack"
        ),
    );
    let mut project = Project::new(lab);
    if let Some(file) = &host.password_file {
        let password = std::fs::read_to_string(file).expect("a password");
        project = project.env("LOGIN", password.trim());
    }
    project.write(
        "inventory.toml",
        &format!(
            "recipe = \"compose\"\napp = \"ship-stack\"\ndeploy_to = \"/home/{user}/ship-stack\"\n\
             [vars]\nenv_file = \"\"\nimages = \"pull\"\n{vars}\n[hosts.{}]\n{login}\n[secrets]\nlogin = {{ env = \"LOGIN\" }}\n",
            host.name
        ),
    );
    project.write("compose.yaml", COMPOSE);
    project.commit("a stack");
    project.ship(&["deploy"]).exits(0);
    project
}

/// Everything that works alike, however Docker is called.
fn works(lab: &Lab, host: &Host, project: &Project) {
    let name = &host.name;
    project.ship(&["service", "status"]).exits(0).says("Exited (0)").says("Up ");
    let run = project.ship(&["logs", "-n", "50"]).exits(0).says("begins \\x1b[2J").says("built");
    assert!(run.text.contains(&format!("{name} web-1 | ")) && run.text.contains(" tick 1\n"), "{}", run.text);
    assert!(!project.ship(&["logs", "front"]).exits(0).text.contains("tick"));
    project.ship(&["logs", "nothing"]).exits(2).says("there is front, web");

    // Followed, and left without a trace.
    let mut child = project.command(&["logs", "-f", "-n", "2", "web"]);
    let mut child = child.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("ship");
    let mut numbers: Vec<u32> = Vec::new();
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    while numbers.len() < 15 {
        let line = lines.next().expect("it goes on").expect("a line");
        numbers
            .push(line.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line}")));
    }
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "each line once: {numbers:?}");
    let ended = Instant::now();
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
    assert_eq!(child.wait().expect("a status").code(), Some(0));
    println!("{name}: ended {:.1} s after Ctrl-C", ended.elapsed().as_secs_f32());
    lab.root(
        host,
        "for i in 1 2 3 4 5 6 7 8 9 10; do pgrep -f 'compose.*ship-stac[k].*logs' || exit 0; sleep 0.3; done; exit 1",
    );

    let started = || lab.root(host, "docker inspect --format '{{.State.StartedAt}}' ship-stack-web-1");
    let before = started();
    project.ship(&["service", "restart"]).exits(0).says("Up ");
    assert_ne!(started(), before);
    project.ship(&["service", "stop", "web"]).exits(0).says("Exited (");
    project.ship(&["service", "status"]).exits(1);
    project.ship(&["service", "start"]).exits(0).says("Up ");

    let command = ["run", "--service", "web", "--", "sh", "-c", "echo got-$COLOR >>/data/said; cat /data/said"];
    project.ship(&command).exits(0).says("got-red");
    project.ship(&["run", "--exec", "--service", "web", "--", "cat /data/said; exit 3"]).exits(1).says("got-red");

    // The project goes, what it has stored stays unless that is said twice.
    project.ship(&["service", "down"]).exits(0).says("no container");
    project.ship(&["service", "start"]).exits(0).says("Up ");
    project.ship(&["run", "--exec", "--service", "web", "--", "cat", "/data/said"]).exits(0).says("got-red");
    project.ship(&["service", "down", "--volumes"]).exits(2).says("add --yes");
    project.ship(&["service", "down", "--volumes", "--yes"]).exits(0);
    assert_eq!(lab.root(host, "docker volume ls -q --filter name=ship-stack_data"), "");
}

#[test]
fn a_member_of_the_group_docker_runs_the_services() {
    let lab = Lab::new();
    let host = lab.host("dock1");
    let project = prepared(&lab, &host, "deployer", "", "");
    // On a terminal a person answers; the volumes are confirmed by the app's name.
    let words = ["run", "--service", "web", "--", "sh", "-c", "'printf Password:; read -r a; echo got-$a-$COLOR'"];
    let (code, screen) = project.ship_typing(&words, "answer");
    assert!(code == 0 && screen.contains("got-answer-red"), "{code} {screen}");
    works(&lab, &host, &project);
}

#[test]
fn a_login_and_a_sudo_by_password_run_the_services() {
    let lab = Lab::new();
    let host = lab.host("dock2");
    let login = "password = { secret = \"login\" }\nsudo_password = { secret = \"login\" }";
    let project = prepared(&lab, &host, "doodle", login, "docker_sudo = true");
    works(&lab, &host, &project);
}
