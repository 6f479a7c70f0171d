//! The containers that stand for servers: which there are, how one is started, which ports lead to it.

use std::net::TcpListener;
use std::path::Path;

use crate::failure::{Failure, Result};
use crate::lab::engine::Engine;
use crate::lab::image::{Images, hash};

/// How a person logs in to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// With the lab's key; the user may do nothing through sudo.
    Key,
    /// With a password and no key; the user may do everything through sudo, with that password.
    Password,
}

/// What a host is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// nginx, PostgreSQL and Redis under systemd.
    Web,
    /// Containers: Docker, Compose, and free ports 80 and 443.
    Dock,
}

impl Kind {
    /// The image of such hosts.
    pub fn image(self, images: &Images) -> &str {
        match self {
            Self::Web => &images.web,
            Self::Dock => &images.dock,
        }
    }
}

/// A host of the lab, as it should be.
#[derive(Clone, Copy, Debug)]
pub struct Design {
    /// Its name in the inventory, in `ssh_config` and on the lab's network.
    pub name: &'static str,
    /// The user who deploys.
    pub user: &'static str,
    /// How that user logs in.
    pub login: Login,
    /// What it is made for.
    pub kind: Kind,
}

/// All hosts of the lab.
pub const HOSTS: [Design; 6] = [
    Design { name: "web1", user: "deployer", login: Login::Key, kind: Kind::Web },
    Design { name: "web2", user: "deployer", login: Login::Key, kind: Kind::Web },
    Design { name: "web3", user: "deployer", login: Login::Key, kind: Kind::Web },
    Design { name: "pw1", user: "doodle", login: Login::Password, kind: Kind::Web },
    Design { name: "dock1", user: "deployer", login: Login::Key, kind: Kind::Dock },
    Design { name: "dock2", user: "doodle", login: Login::Password, kind: Kind::Dock },
];

/// The first ports that are tried for SSH, HTTP and HTTPS.
const FIRST_SSH_PORT: u16 = 2201;
const FIRST_HTTP_PORT: u16 = 8081;
const FIRST_HTTPS_PORT: u16 = 8441;

/// What systemd and sshd need beyond a container's usual rights. Not `--privileged`: where this runs in a sandbox,
/// the engine may not hold every right itself.
const RIGHTS: [&str; 8] =
    ["SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE", "MKNOD", "AUDIT_WRITE", "SYSLOG", "IPC_LOCK"];

/// A container of this lab, as the engine tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The name of the container.
    pub container: String,
    /// The name of the host it stands for.
    pub host: String,
    /// The image it was made from.
    pub image: String,
    /// `running`, `exited` and the like.
    pub state: String,
}

/// The containers of the lab in this folder; other checkouts' are not seen.
pub fn found(engine: &Engine, lab: &Path) -> Result<Vec<Found>> {
    let format = r#"{{.Names}} {{.Label "ship.lab.host"}} {{.Label "ship.lab.image"}} {{.State}}"#;
    let listed = engine
        .docker(["ps", "--all", "--filter", "label=ship.lab=1", "--filter", &ours(lab), "--format", format])
        .read()?;
    Ok(listed.lines().filter_map(parse_found).collect())
}

fn parse_found(line: &str) -> Option<Found> {
    let mut words = line.split_whitespace().map(str::to_owned);
    Some(Found { container: words.next()?, host: words.next()?, image: words.next()?, state: words.next()? })
}

fn ours(lab: &Path) -> String {
    format!("label=ship.lab.checkout={}", lab.display())
}

/// The network on which the hosts reach each other by name, for jump hosts. It is made when it is missing.
pub fn ensure_network(engine: &Engine, lab: &Path) -> Result<String> {
    let name = network(lab);
    if !engine.docker(["network", "inspect", &name]).succeeds() {
        engine.docker(["network", "create", "--label", "ship.lab=1", &name]).read()?;
    }
    Ok(name)
}

/// The name of this lab's network.
pub fn network(lab: &Path) -> String {
    format!("ship-lab-{:08x}", checkout_hash(lab))
}

fn checkout_hash(lab: &Path) -> u64 {
    hash(&lab.display().to_string()) & 0xffff_ffff
}

/// Removes the lab's containers and their network. Returns how many containers there were.
pub fn remove_all(engine: &Engine, lab: &Path) -> Result<usize> {
    let found = found(engine, lab)?;
    for machine in &found {
        remove(engine, &machine.container)?;
    }
    let network = network(lab);
    if engine.docker(["network", "inspect", &network]).succeeds() {
        engine.docker(["network", "rm", &network]).read()?;
    }
    Ok(found.len())
}

/// Removes one container with the volumes that have no name.
pub fn remove(engine: &Engine, container: &str) -> Result<()> {
    engine.docker(["rm", "--force", "--volumes", container]).read().map(drop)
}

/// A container that is about to be made.
#[derive(Debug)]
pub struct Order {
    /// The host it stands for.
    pub design: Design,
    /// Where SSH is published on 127.0.0.1.
    pub ssh_port: u16,
    /// Where HTTP is published on 127.0.0.1.
    pub http_port: u16,
    /// Where HTTPS is published on 127.0.0.1, by a host for containers.
    pub https_port: Option<u16>,
}

/// Gives each host that is to be made ports that nothing listens on, the usual ones where possible.
pub fn order(designs: &[Design]) -> Result<Vec<Order>> {
    let mut orders = Vec::new();
    let (mut ssh, mut http, mut https) = (FIRST_SSH_PORT, FIRST_HTTP_PORT, FIRST_HTTPS_PORT);
    for design in designs {
        let ssh_port = next_free(ssh)?;
        let http_port = next_free(http)?;
        let https_port = if design.kind == Kind::Dock { Some(next_free(https)?) } else { None };
        (ssh, http, https) = (ssh_port + 1, http_port + 1, https_port.map_or(https, |port| port + 1));
        orders.push(Order { design: *design, ssh_port, http_port, https_port });
    }
    Ok(orders)
}

fn next_free(first: u16) -> Result<u16> {
    (first..first.saturating_add(500))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| Failure::new(format!("None of the 500 ports from {first} is free on 127.0.0.1.")))
}

/// Makes a container with systemd in it, and returns its name. It is not started yet.
pub fn create(engine: &Engine, lab: &Path, images: &Images, network: &str, order: &Order) -> Result<String> {
    let name = order.design.name;
    let image = order.design.kind.image(images);
    let container = free_name(engine, lab, name);
    let mut run = engine
        .docker(["create", "--hostname", name, "--network", network, "--network-alias", name])
        .args(["--name", &container])
        .args(["--label", "ship.lab=1", "--label", &ours(lab).replacen("label=", "", 1)])
        .args(["--label", &format!("ship.lab.host={name}"), "--label", &format!("ship.lab.image={image}")])
        .args([
            "--security-opt",
            "seccomp=unconfined",
            "--cgroupns",
            "host",
            "--volume",
            control_groups(engine, image)?,
        ])
        .args(["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec,mode=1777"])
        .args(["--env", "container=docker", "--stop-signal", "SIGRTMIN+3"])
        .args(["--publish", &format!("127.0.0.1:{}:22", order.ssh_port)])
        .args(["--publish", &format!("127.0.0.1:{}:80", order.http_port)]);
    if let Some(port) = order.https_port {
        run = run.args(["--publish", &format!("127.0.0.1:{port}:443")]);
    }
    if order.design.kind == Kind::Dock {
        // An engine inside cannot lay overlays over the overlay that the container's own files are in.
        run = run.args(["--volume", "/var/lib/docker"]);
    }
    for right in RIGHTS {
        run = run.args(["--cap-add", right]);
    }
    run.args([image, "/sbin/init"]).read()?;
    Ok(container)
}

/// `ship-lab-web1`, or with the checkout's hash at the end where another checkout has that container.
fn free_name(engine: &Engine, lab: &Path, host: &str) -> String {
    let name = format!("ship-lab-{host}");
    if engine.docker(["container", "inspect", &name]).succeeds() {
        return format!("{name}-{:08x}", checkout_hash(lab));
    }
    name
}

/// systemd wants to write to the control groups. From version 256 on it refuses the first generation of them, so on a
/// machine with both it is shown the second alone.
fn control_groups(engine: &Engine, image: &str) -> Result<&'static str> {
    let all = "/sys/fs/cgroup:/sys/fs/cgroup:rw";
    let unified = Path::new("/sys/fs/cgroup/unified");
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() || !unified.exists() {
        return Ok(all);
    }
    let said = engine.docker(["run", "--rm", image, "systemctl", "--version"]).read()?;
    let version = said.split_whitespace().nth(1).and_then(|version| version.parse::<u32>().ok()).unwrap_or_default();
    Ok(if version < 256 { all } else { "/sys/fs/cgroup/unified:/sys/fs/cgroup:rw" })
}

/// The port of 127.0.0.1 that leads to this port of a running container.
pub fn published(engine: &Engine, container: &str, inside: u16) -> Result<u16> {
    let said = engine.docker(["port", container, &inside.to_string()]).read()?;
    said.lines()
        .next()
        .and_then(|line| line.rsplit_once(':'))
        .and_then(|(_, port)| port.trim().parse().ok())
        .ok_or_else(|| Failure::new(format!("The container {container} does not publish its port {inside}.")))
}

/// The address of a running container on the lab's network.
pub fn inner_address(engine: &Engine, container: &str) -> Result<String> {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
    let said = engine.docker(["inspect", "--format", format, container]).read()?;
    Ok(said.split_whitespace().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{HOSTS, next_free, order, parse_found};

    #[test]
    fn a_taken_port_is_passed_over() {
        let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(next_free(port).unwrap() > port);
    }

    #[test]
    fn every_order_has_ports_of_its_own() {
        let orders = order(&HOSTS).unwrap();
        let every = |order: &super::Order| [Some(order.ssh_port), Some(order.http_port), order.https_port];
        let mut ports: Vec<u16> = orders.iter().flat_map(every).flatten().collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 2 * HOSTS.len() + 2);
    }

    #[test]
    fn a_line_of_the_engine_is_read() {
        let found = parse_found("ship-lab-web1 web1 ship-lab-web:0f running").unwrap();
        assert_eq!((found.host.as_str(), found.state.as_str()), ("web1", "running"));
        assert_eq!(parse_found("ship-lab-web1"), None);
    }
}
