//! What a host for containers gets after its start: a way to resolve names, and `base:lab`, which its images start from.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::lab::engine::Engine;
use crate::lab::provision::{self, CERTIFICATE_VARIABLES, CERTIFICATES, PIP_SETTINGS};

/// The name under which containers find their beginning.
const BASE: &str = "base:lab";

/// Where the files that make it lie on the host.
const FOLDER: &str = "/var/lib/ship-lab-base";

/// npm's settings for the whole machine, where it has some.
const NPM_SETTINGS: &str = "/etc/npmrc";

/// How long an engine may take to answer after a start of the host.
const START: Duration = Duration::from_secs(60);

/// Gives a host's engine what it must have. Doing it again changes nothing.
pub fn provision(engine: &Engine, container: &str, inner: &str) -> Result<()> {
    let names = name_servers(&read("/etc/resolv.conf"));
    engine.docker(["exec", "--interactive", container, "sh", "-eu"]).input(settings(&names)).read()?;
    wait_for_engine(engine, container)?;
    let inside = |words: &[&str]| engine.docker(["exec", "--interactive", container, "docker"]).args(words.to_vec());
    if !inside(&["image", "inspect", inner]).succeeds() {
        println!("Copying {inner} into {container}.");
        engine.docker(["save", inner]).pipe_into(&inside(&["load", "--quiet"]))?;
    }
    // Quick when nothing has changed: the engine remembers what it built.
    engine.docker(["exec", "--interactive", container, "sh", "-eu"]).input(base(inner)).read().map(drop)
}

/// The engine of a host hands the container's own resolver to nobody, because that listens on loopback. So its containers
/// ask whom this machine asks.
fn settings(names: &[String]) -> String {
    let path = "/etc/docker/daemon.json";
    let list: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let settings = format!("{{ \"dns\": [{}] }}\n", list.join(", "));
    format!(
        "mkdir -p /etc/docker\n{}if ! cmp -s {path}.new {path}; then mv {path}.new {path}; systemctl restart docker; fi\n",
        provision::file(&format!("{path}.new"), &settings)
    )
}

/// The name servers of a `resolv.conf` that containers can reach, too.
fn name_servers(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .map(|address| address.trim().to_owned())
        .filter(|address| !address.starts_with("127.") && address != "::1")
        .collect()
}

/// Makes `base:lab` out of the image and this machine's own way to the package registries.
fn base(inner: &str) -> String {
    let mut dockerfile = format!("FROM {inner}\n");
    let mut script = format!("mkdir -p {FOLDER}\ncd {FOLDER}\n");
    for path in [CERTIFICATES, PIP_SETTINGS, NPM_SETTINGS] {
        if Path::new(path).is_file() {
            let name = path.rsplit('/').next().unwrap_or(path);
            script.push_str(&provision::file(&format!("{FOLDER}/{name}"), &read(path)));
            dockerfile.push_str(&format!("COPY {name} {path}\n"));
        }
    }
    for (name, value) in provision::environment() {
        dockerfile.push_str(&format!("ENV {name}=\"{value}\"\n"));
    }
    for name in CERTIFICATE_VARIABLES {
        dockerfile.push_str(&format!("ENV {name}={CERTIFICATES}\n"));
    }
    script.push_str(&provision::file(&format!("{FOLDER}/Dockerfile"), &dockerfile));
    script.push_str(&format!("DOCKER_BUILDKIT=0 docker build --quiet --tag {BASE} .\n"));
    script
}

fn wait_for_engine(engine: &Engine, container: &str) -> Result<()> {
    let started = Instant::now();
    while !engine.docker(["exec", container, "docker", "version"]).succeeds() {
        if started.elapsed() > START {
            return Err(Failure::new(format!(
                "The Docker engine in {container} does not answer after {} s. Look with: docker exec {container} journalctl -u docker",
                START.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}

/// The text of a file, or nothing where there is none.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{base, name_servers, settings};

    #[test]
    fn a_resolver_on_loopback_is_of_no_use_to_a_container() {
        let text = "# made by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch example.org\n";
        assert_eq!(name_servers(text), ["10.0.0.1"]);
        assert!(settings(&name_servers(text)).contains(r#"{ "dns": ["10.0.0.1"] }"#));
        assert!(settings(&[]).contains(r#"{ "dns": [] }"#));
    }

    #[test]
    fn the_base_starts_from_the_image() {
        assert!(base("inner:1").contains("FROM inner:1\n"));
    }
}
