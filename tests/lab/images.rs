//! Images without a registry: only the layers that a host lacks travel, whatever their size.

use std::process::Stdio;

use crate::hosts::{Host, Lab, Project, Run};

const INVENTORY: &str = r#"
recipe    = "pushed"
app       = "pushed"
deploy_to = "/home/USER/pushed"

[hosts.HOST]
LOGIN

[environments.prod]
hosts = ["HOST"]

[secrets]
password = { env = "PASSWORD" }
"#;

const RECIPE: &str = r#"
description = "An image that is built here"

[[build]]
local = "docker build --quiet --tag pushed:latest ."

[[prepare]]
images = { push = [{ from = "pushed", to = "pushed:{{ release | lower }}" }], sudo = SUDO }

[[publish]]
swap = {}
"#;

/// Forty MiB that no compression makes smaller, and a page above them.
const DOCKERFILE: &str = "\
RUN head -c 41943040 /dev/urandom >/large
COPY page /page
CMD [\"sleep\", \"infinity\"]
";

const LARGE: u64 = 40 * 1024 * 1024;

/// A project whose `docker` is the lab's own engine, in the part of the developer's machine.
fn project(lab: &Lab, host: &Host, user: &str, login: &str, sudo: bool) -> Project {
    let project = Project::new(lab);
    let path = std::env::var("PATH").expect("PATH");
    let bin = project.path().join(".bin");
    let mut project = project.env("PATH", &format!("{}:{path}", bin.display())).env("DOCKER_BUILDKIT", "0");
    if let Some(file) = &host.password_file {
        let password = std::fs::read_to_string(file).expect("a password");
        project = project.env("PASSWORD", password.trim());
    }
    let docker = lab.docker_words().join(" ");
    project.write(".bin/docker", &format!("#!/bin/sh\nPATH='{path}'\nexec {docker} \"$@\"\n"));
    std::fs::set_permissions(bin.join("docker"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let inventory = INVENTORY.replace("USER", user).replace("HOST", &host.name).replace("LOGIN", login);
    project.write("inventory.toml", &inventory);
    project.write("recipes/pushed.toml", &RECIPE.replace("SUDO", &sudo.to_string()));
    let inner = lab.root(host, "docker image ls ship-lab-inner --format '{{.Repository}}:{{.Tag}}'");
    project.write("Dockerfile", &format!("FROM {}\n{DOCKERFILE}", inner.trim()));
    project.write("page", "one");
    project.commit("one");
    project
}

/// What `ship --timing` says was sent.
fn sent(run: &Run) -> u64 {
    let line = run.text.lines().find(|line| line.contains("bytes sent")).expect("the timing");
    let before = line.split(" bytes sent").next().expect("a number");
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// How many bytes `docker save` makes of an image of this machine.
fn saved(lab: &Lab, image: &str) -> u64 {
    let mut child = lab.docker().args(["save", image]).stdout(Stdio::piped()).spawn().expect("docker");
    let mut output = child.stdout.take().expect("output");
    let bytes = std::io::copy(&mut output, &mut std::io::sink()).expect("the archive");
    assert!(child.wait().expect("docker").success());
    bytes
}

fn pushes(lab: &Lab, host: &Host, project: &Project) {
    let removed = "docker image ls --quiet pushed | sort -u | xargs -r docker image rm --force >/dev/null";
    lab.root(host, &format!("rm -rf /home/*/pushed; {removed}"));

    let first = project.ship(&["deploy", "--timing"]).exits(0);
    let all = sent(&first);
    assert!(all > LARGE && all < LARGE + 500_000, "{all} bytes were sent");

    project.write("page", "two");
    project.commit("two");
    if host.name == "dock1" {
        project.ship(&["plan"]).exits(0).says("1 of 5 layers to send");
    }
    let second = project.ship(&["deploy", "--timing"]).exits(0);
    let changed = sent(&second);
    let whole = saved(lab, "pushed");
    println!(
        "{}: ship sent {all} bytes, then {changed} after a small change; `docker save` writes {whole} bytes each time",
        host.name
    );
    assert!(changed < 100_000, "{changed} bytes were sent");
    assert!(whole > LARGE + changed);

    let name = "$(docker image ls pushed --format '{{.Repository}}:{{.Tag}}' | head -n 1)";
    assert_eq!(lab.root(host, &format!("docker run --rm {name} cat /page")), "two");
    let large = lab.root(host, &format!("docker run --rm {name} sha256sum /large"));
    let id = lab.root(host, &format!("docker image inspect --format '{{{{.Id}}}}' {name}"));
    let here =
        |words: &[&str]| String::from_utf8(lab.docker().args(words).output().expect("docker").stdout).expect("text");
    assert_eq!(here(&["run", "--rm", "pushed", "sha256sum", "/large"]), large);
    assert_eq!(here(&["image", "inspect", "--format", "{{.Id}}", "pushed"]), id);
    assert_eq!(lab.root(host, "docker image ls --quiet pushed | wc -l").trim(), "2", "both releases have their image");

    // The same image again: there is nothing to send.
    let again = project.ship(&["deploy", "--timing"]).exits(0);
    assert!(!again.text.contains("image load"), "{}", again.text);
    let user = if host.name == "dock1" { "deployer" } else { "doodle" };
    assert_eq!(lab.root(host, &format!("find /home/{user}/pushed -name '*.tar'")), "", "nothing is left behind");
    lab.root(host, removed);
}

#[test]
fn only_the_layers_that_a_host_lacks_are_sent_and_one_of_forty_mebibytes_passes() {
    let lab = Lab::new();
    let host = lab.host("dock1");
    let project = project(&lab, &host, "deployer", "", false);
    pushes(&lab, &host, &project);
}

#[test]
fn a_user_outside_the_group_sends_images_through_sudo_with_its_password() {
    let lab = Lab::new();
    let host = lab.host("dock2");
    let login = "password = { secret = \"password\" }\nsudo_password = { secret = \"password\" }";
    let project = project(&lab, &host, "doodle", login, true);
    pushes(&lab, &host, &project);
}
