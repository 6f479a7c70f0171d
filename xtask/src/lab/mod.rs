//! `cargo xtask lab`: real servers with systemd, sshd and sudo in containers on this machine.

mod access;
mod dock;
mod engine;
mod image;
mod machine;
mod provision;
mod record;
mod seed;
mod sources;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::failure::{During as _, Failure, Result};
use crate::packages::{self, Tool};
use crate::workspace;
use image::Images;
use machine::{Found, HOSTS};
use provision::Credentials;
use sources::Distribution;

pub use access::Files;
pub use engine::Engine;
pub use machine::{Design, Kind, Login};
pub use record::Host;

/// What `lab` needs on the machine, apart from debootstrap, which only the first build of the image needs.
const TOOLS: [Tool; 4] = [
    Tool { program: "docker", package: "docker.io" },
    Tool { program: "ssh", package: "openssh-client" },
    Tool { program: "ssh-keygen", package: "openssh-client" },
    Tool { program: "setsid", package: "util-linux" },
];

/// Servers that are up, and how they are reached.
#[derive(Debug)]
pub struct Fleet {
    /// The engine that they run on.
    pub engine: Engine,
    /// Keys and settings for logins.
    pub files: Files,
    /// The servers, in the order of their designs.
    pub hosts: Vec<Host>,
}

/// Brings the lab up, or finds it up, and returns the path of its `lab.json`.
pub fn up() -> Result<PathBuf> {
    let started = Instant::now();
    let lab = workspace::lab()?;
    let fleet = fleet(&lab, &HOSTS)?;
    record::write(&lab, &fleet.files, &fleet.engine.words(), &fleet.hosts)?;
    for host in &fleet.hosts {
        let https = host.https_port.map_or_else(String::new, |port| format!("  https://127.0.0.1:{port}"));
        println!(
            "{:5} {}@127.0.0.1:{}  http://127.0.0.1:{}{https}  container {}",
            host.name, host.user, host.port, host.http_port, host.container
        );
    }
    let record = lab.join("lab.json");
    println!("The lab is up after {:.1} s: {}", started.elapsed().as_secs_f64(), record.display());
    Ok(record)
}

/// Brings servers of these designs up, or finds them up. The folder holds their keys, and tells them from those of others.
pub fn fleet(folder: &Path, designs: &[Design]) -> Result<Fleet> {
    let lab = workspace::lab()?;
    let _turn = take_turn(&lab)?;
    packages::ensure(&TOOLS)?;
    let engine = Engine::find_or_start(&lab)?;
    let images = image::ensure(&engine, &lab)?;
    let files = Files::of(folder);
    let credentials = files.ensure_credentials()?;
    let distribution = sources::read_machine()?;
    start_machines(&engine, folder, &images, designs)?;
    let mut machines: Vec<(Design, Found)> = Vec::new();
    for found in machine::found(&engine, folder)? {
        let design = designs.iter().find(|design| design.name == found.host);
        machines.push((*design.ok_or_else(|| Failure::new(format!("There is no design of {}.", found.host)))?, found));
    }
    machines.sort_by_key(|(design, _)| designs.iter().position(|other| other.name == design.name));
    let prepared = in_parallel(&machines, |(design, found)| {
        prepare(&engine, *design, found, &images, &credentials, &distribution)
    })?;
    let (hosts, host_keys): (Vec<Host>, Vec<String>) = prepared.into_iter().unzip();
    files.write(&hosts, &host_keys.concat())?;
    Ok(Fleet { engine, files, hosts })
}

/// Removes the servers that belong to this folder, and returns how many there were.
pub fn remove_fleet(engine: &Engine, folder: &Path) -> Result<usize> {
    let count = machine::remove_all(engine, folder)?;
    Files::of(folder).remove();
    Ok(count)
}

/// Removes the hosts; with `all`, also stops the engine if the lab started it.
pub fn down(all: bool) -> Result<()> {
    let lab = workspace::lab()?;
    let _turn = take_turn(&lab)?;
    let Some(engine) = Engine::find() else {
        println!("No Docker engine answers, so there is no host to remove.");
        return Ok(());
    };
    let count = remove_fleet(&engine, &lab)?;
    // It may never have been written.
    let _ = std::fs::remove_file(lab.join("lab.json"));
    println!("Removed {count} hosts. The images stay, so that the next start is quick.");
    if !all {
        return Ok(());
    }
    if engine::our_pid(&lab).is_none() {
        println!("The Docker engine was not started by this lab, so it goes on.");
    } else if !engine.is_idle()? {
        println!("The Docker engine still has containers that are not of this lab, so it goes on.");
    } else if engine::stop_ours(&lab)? {
        println!("Stopped the Docker engine that the lab had started.");
    }
    Ok(())
}

/// Says which hosts there are and how they are. Returns whether all are up.
pub fn status() -> Result<bool> {
    let lab = workspace::lab()?;
    let Some(engine) = Engine::find() else {
        println!("The lab is down: no Docker engine answers.");
        return Ok(false);
    };
    let found = machine::found(&engine, &lab)?;
    let mut up = true;
    for design in HOSTS {
        let Some(machine) = found.iter().find(|machine| machine.host == design.name) else {
            println!("{:5} missing", design.name);
            up = false;
            continue;
        };
        if machine.state != "running" {
            println!("{:5} {} ({})", design.name, machine.state, machine.container);
            up = false;
            continue;
        }
        let question = "systemctl is-system-running || true";
        let system = engine.docker(["exec", &machine.container, "sh", "-c", question]).read()?;
        let port = machine::published(&engine, &machine.container, 22)?;
        let state = system.trim();
        println!("{:5} {state:9} {}@127.0.0.1:{port} ({})", design.name, design.user, machine.container);
        up &= matches!(state, "running" | "degraded");
    }
    Ok(up)
}

/// Opens a shell on a host, or runs a command there, and returns its exit status.
pub fn ssh(host: &str, command: &[String]) -> Result<u8> {
    let files = Files::of(&workspace::lab()?);
    if !files.ssh_config.is_file() {
        return Err(Failure::new("The lab is not up. Start it with: cargo xtask lab up"));
    }
    if !HOSTS.iter().any(|design| design.name == host) {
        let names: Vec<&str> = HOSTS.iter().map(|design| design.name).collect();
        return Err(Failure::new(format!("The lab has no host {host}. It has: {}.", names.join(", "))));
    }
    files.ssh().arg(host).args(command.iter().cloned()).status()
}

/// Starts what is stopped, makes what is missing, and replaces what was made from an older recipe.
fn start_machines(engine: &Engine, lab: &Path, images: &Images, designs: &[Design]) -> Result<()> {
    let mut missing = Vec::new();
    let found = machine::found(engine, lab)?;
    for design in designs.iter().copied() {
        match found.iter().find(|machine| machine.host == design.name) {
            Some(machine) if machine.image != design.kind.image(images) => {
                println!("Replacing {}: its image is an older one.", machine.container);
                machine::remove(engine, &machine.container)?;
                missing.push(design);
            }
            Some(machine) if machine.state != "running" => {
                println!("Starting {} again.", machine.container);
                engine.docker(["start", &machine.container]).read()?;
            }
            Some(_) => {}
            None => missing.push(design),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let network = machine::ensure_network(engine, lab)?;
    let needs_engine = missing.iter().any(|design| design.kind == Kind::Dock);
    let seed = if needs_engine { seed::ensure(engine, images)? } else { String::new() };
    println!("Starting {} hosts.", missing.len());
    in_parallel(&machine::order(&missing)?, |order| {
        let container = machine::create(engine, lab, images, &network, order)?;
        if order.design.kind == Kind::Dock {
            seed::plant(engine, images, &seed, &container)?;
        }
        engine.docker(["start", &container]).read()
    })?;
    Ok(())
}

/// Waits for a host, gives it what it must have, and finds out how it is reached.
fn prepare(
    engine: &Engine,
    design: Design,
    found: &Found,
    images: &Images,
    credentials: &Credentials,
    distribution: &Distribution,
) -> Result<(Host, String)> {
    provision::wait_for_boot(engine, &found.container)?;
    provision::provision(engine, &found.container, design, credentials, distribution)?;
    let https_port = match design.kind {
        Kind::Web => None,
        Kind::Dock => {
            dock::provision(engine, &found.container, &images.inner)?;
            Some(machine::published(engine, &found.container, 443)?)
        }
    };
    let host = Host {
        name: design.name.to_owned(),
        port: machine::published(engine, &found.container, 22)?,
        http_port: machine::published(engine, &found.container, 80)?,
        https_port,
        inner_address: machine::inner_address(engine, &found.container)?,
        user: design.user.to_owned(),
        container: found.container.clone(),
        login: design.login,
    };
    access::wait_for_ssh(host.port)?;
    let keys = access::host_keys(engine, &host)?;
    Ok((host, keys))
}

/// Does the same for all at once; the first failure counts, after all have ended.
pub fn in_parallel<T: Sync, R: Send>(all: &[T], each: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let each = &each;
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(move || each(one))).collect();
        let ended: Vec<Result<R>> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(Failure::new("A thread ended early."))))
            .collect();
        ended.into_iter().collect()
    })
}

/// Two runs of `lab up` must not make the same host twice: the second waits for the first.
fn take_turn(lab: &Path) -> Result<File> {
    let file = File::create(lab.join("turn")).during("make the lab's lock")?;
    file.lock().during("wait for another run of the lab")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::{HOSTS, Kind, Login, in_parallel};
    use crate::failure::Failure;

    #[test]
    fn the_lab_has_a_fleet_and_hosts_with_a_password_only() {
        let count = |kind, login| HOSTS.iter().filter(|design| design.kind == kind && design.login == login).count();
        assert_eq!((count(Kind::Web, Login::Key), count(Kind::Web, Login::Password)), (3, 1));
        assert_eq!((count(Kind::Dock, Login::Key), count(Kind::Dock, Login::Password)), (1, 1));
    }

    #[test]
    fn one_failure_among_many_is_a_failure() {
        let all = [1, 2, 3];
        assert_eq!(in_parallel(&all, |number| Ok(number * 2)).ok(), Some(vec![2, 4, 6]));
        let failed = in_parallel(&all, |number| if *number == 2 { Err(Failure::new("two")) } else { Ok(()) });
        assert_eq!(failed.err().map(|failure| failure.to_string()).as_deref(), Some("two"));
    }
}
