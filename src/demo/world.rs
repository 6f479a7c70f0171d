//! What the demo happens in: two hosts, each an SSH server and a web server, and a project that is deployed
//! to them. All of it is in one scratch folder, and gone when this is dropped.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::server::Server;
use super::site::{HostEntry, LANGUAGES, Project};
use super::visitor;
use super::web::Web;
use crate::cli::args::Global;
use crate::cli::machine::Machine;

/// The names of the hosts; each has a language of [`LANGUAGES`].
pub(super) const HOSTS: [&str; 2] = ["web1", "web2"];

/// Where programs are, where the environment does not say.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The variables of the user that the runs of the demo see: how to show things, and who is asking. Not the
/// agent, keys and CI of real deploys.
const VARIABLES: &[&str] = &["LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "NO_COLOR", "PATH", "TERM", "USER"];

/// Where `machine` and the hosts look for programs.
pub(super) fn path(machine: &Machine) -> &str {
    machine.variable("PATH").unwrap_or(PATH)
}

/// One host.
struct Host {
    name: &'static str,
    server: Server,
    web: Web,
}

/// Hosts, project and folder.
pub(super) struct World {
    // In this order they are dropped: nothing writes into the folder when it is removed.
    hosts: Vec<Host>,
    project: Project,
    folder: TempDir,
}

impl World {
    /// Makes a world below the folder for temporary files that `machine` names.
    pub(super) async fn create(machine: &Machine) -> io::Result<Self> {
        let path = path(machine);
        let temporary = machine.variable("TMPDIR").unwrap_or("/tmp");
        let folder = tempfile::Builder::new().prefix("ship-demo-").tempdir_in(temporary)?;
        // The folder as the hosts see it: on some systems /tmp is a link.
        let root = folder.path().canonicalize()?;
        std::fs::write(root.join("ssh_config"), "")?;
        for private in ["home", "keys", "servers"] {
            DirBuilder::new().mode(0o700).create(root.join(private))?;
        }
        let (mut hosts, mut entries) = (Vec::new(), Vec::new());
        for (name, language) in HOSTS.into_iter().zip(LANGUAGES) {
            let home = root.join("servers").join(name);
            let server = Server::start(&home, path).await?;
            let deploy_to = home.join("site");
            let web = Web::start(deploy_to.join("current/public")).await?;
            let identity = root.join("keys").join(name);
            write_key(&identity, server.client_key().expose())?;
            entries.push(HostEntry {
                name: name.to_owned(),
                port: server.port(),
                host_key: server.host_key(),
                identity,
                deploy_to,
                web_port: web.port(),
                language,
            });
            hosts.push(Host { name, server, web });
        }
        let project = Project::create(&root.join("project"), &entries, path).await?;
        Ok(Self { hosts, project, folder })
    }

    /// The scratch folder.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The project.
    pub(super) fn project(&self) -> &Project {
        &self.project
    }

    /// The ports of the web servers.
    pub(super) fn web_ports(&self) -> Vec<u16> {
        self.hosts.iter().map(|host| host.web.port()).collect()
    }

    /// Name, SSH port and web port of each host.
    pub(super) fn addresses(&self) -> Vec<(&'static str, u16, u16)> {
        self.hosts.iter().map(|host| (host.name, host.server.port(), host.web.port())).collect()
    }

    /// What each host's site says it is, or why it says nothing.
    pub(super) async fn titles(&self) -> Vec<(&'static str, Result<String, String>)> {
        let mut titles = Vec::new();
        for host in &self.hosts {
            titles.push((host.name, visitor::title(host.web.port()).await));
        }
        titles
    }

    /// `machine` as the runs of the demo see it: standing in the project, with a home of its own and nobody
    /// to ask.
    pub(super) fn machine(&self, machine: &Machine) -> Machine {
        let mut environment = machine.environment.clone();
        environment.retain(|name, _| VARIABLES.contains(&name.as_str()));
        environment.insert("HOME".to_owned(), self.folder().join("home").to_string_lossy().into_owned());
        Machine {
            environment,
            directory: self.project.folder().to_owned(),
            stdin_is_terminal: false,
            ..machine.clone()
        }
    }

    /// `global` as the runs of the demo see it: their inventory, and none of the user's SSH settings.
    pub(super) fn global(&self, global: &Global) -> Global {
        Global {
            inventory: Some(self.project.folder().join("inventory.toml")),
            ssh_config: Some(self.folder().join("ssh_config")),
            ..global.clone()
        }
    }

    /// Stops the servers and removes the folder, or leaves it where `keep` says so, and gives back where.
    pub(super) async fn end(self, keep: bool) -> io::Result<Option<PathBuf>> {
        for host in self.hosts {
            host.server.stop().await;
        }
        if keep {
            return Ok(Some(self.folder.keep()));
        }
        self.folder.close().map(|()| None)
    }
}

/// Writes a private key that nobody else can read, as OpenSSH and ship demand it.
fn write_key(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}
