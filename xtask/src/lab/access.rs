//! How the hosts are reached: a throw-away key, a password, the hosts' own keys, and an `ssh_config` that names them.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::failure::{During as _, Failure, Result};
use crate::lab::engine::Engine;
use crate::lab::machine::Login;
use crate::lab::provision::Credentials;
use crate::lab::record::Host;
use crate::process::Program;

/// How long sshd may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// The files in the lab's folder that make logins possible.
#[derive(Debug)]
pub struct Files {
    /// The throw-away private key.
    pub key: PathBuf,
    /// The password of the users who have one.
    pub password: PathBuf,
    /// The hosts' keys, as the hosts themselves have them.
    pub known_hosts: PathBuf,
    /// Names, ports and users for `ssh -F`.
    pub ssh_config: PathBuf,
    /// A program that prints the password, for `SSH_ASKPASS`.
    pub askpass: PathBuf,
}

impl Files {
    /// The files of the lab in this folder.
    pub fn of(lab: &Path) -> Self {
        Self {
            key: lab.join("id_ed25519"),
            password: lab.join("password"),
            known_hosts: lab.join("known_hosts"),
            ssh_config: lab.join("ssh_config"),
            askpass: lab.join("askpass"),
        }
    }

    /// Makes the key and the password when they are missing, and reads them.
    pub fn ensure_credentials(&self) -> Result<Credentials> {
        let public = self.key.with_extension("pub");
        if !self.key.is_file() || !public.is_file() {
            let _ = fs::remove_file(&self.key);
            let program = Program::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "ship-lab", "-f"]);
            program.path(&self.key).read()?;
        }
        if !self.password.is_file() {
            write(&self.password, 0o600, &random_word()?)?;
        }
        let public_key = fs::read_to_string(&public).during(format_args!("read {}", public.display()))?;
        let password = fs::read_to_string(&self.password).during(format_args!("read {}", self.password.display()))?;
        Ok(Credentials { public_key, password: password.trim().to_owned() })
    }

    /// Writes the list of host keys, the client's settings and the program that tells the password.
    pub fn write(&self, hosts: &[Host], host_keys: &str) -> Result<()> {
        write(&self.known_hosts, 0o644, host_keys)?;
        let config: String = hosts.iter().map(|host| self.section(host)).collect();
        write(&self.ssh_config, 0o644, &config)?;
        write(&self.askpass, 0o700, &format!("#!/bin/sh\nexec cat '{}'\n", self.password.display()))
    }

    fn section(&self, host: &Host) -> String {
        let login = match host.login {
            Login::Key => format!("    IdentityFile \"{}\"\n    IdentitiesOnly yes\n", self.key.display()),
            Login::Password => "    PubkeyAuthentication no\n    PreferredAuthentications password\n".to_owned(),
        };
        format!(
            "Host {}\n    HostName 127.0.0.1\n    Port {}\n    User {}\n{login}    UserKnownHostsFile \"{}\"\n    \
             StrictHostKeyChecking yes\n\n",
            host.name,
            host.port,
            host.user,
            self.known_hosts.display()
        )
    }

    /// An `ssh` command that reaches the lab's hosts by name, and knows the password where one is asked for.
    pub fn ssh(&self) -> Program {
        Program::new("ssh")
            .arg("-F")
            .path(&self.ssh_config)
            .env("SSH_ASKPASS", self.askpass.display().to_string())
            .env("SSH_ASKPASS_REQUIRE", "force")
    }

    /// Removes everything that was of use for these hosts only.
    pub fn remove(&self) {
        let public = self.key.with_extension("pub");
        for file in [&self.key, &public, &self.password, &self.known_hosts, &self.ssh_config, &self.askpass] {
            // A file that is not there needs no removal.
            let _ = fs::remove_file(file);
        }
    }
}

/// The host's public keys as lines of a `known_hosts` file. They are read inside the container: what a connection
/// presents would prove nothing.
pub fn host_keys(engine: &Engine, host: &Host) -> Result<String> {
    let keys = engine.docker(["exec", &host.container, "sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub"]).read()?;
    let names = format!("[127.0.0.1]:{},{},{}", host.port, host.name, host.inner_address);
    let lines: String = keys
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(kind, rest)| format!("{names} {kind} {}\n", rest.split_whitespace().next().unwrap_or_default()))
        .collect();
    if lines.is_empty() { Err(Failure::new(format!("{} has no host keys.", host.container))) } else { Ok(lines) }
}

/// Waits until an SSH server greets on this port. The engine accepts connections before sshd does, so the greeting counts.
pub fn wait_for_ssh(port: u16) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < ANSWER {
        if greeting(port).is_ok_and(|greeting| greeting.starts_with(b"SSH-2.0-")) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Failure::new(format!("No SSH server answers on 127.0.0.1:{port} after {} s.", ANSWER.as_secs())))
}

fn greeting(port: u16) -> std::io::Result<[u8; 8]> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting)?;
    Ok(greeting)
}

/// Writes a file that has this mode from its first byte on, and appears whole or not at all.
pub fn write(path: &Path, mode: u32, text: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    let _ = fs::remove_file(&partial);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&partial)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&partial, path));
    written.during(format_args!("write {}", path.display()))
}

/// Twenty-four letters and digits from the system's source of randomness.
fn random_word() -> Result<String> {
    let mut bytes = [0_u8; 24];
    fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).during("read /dev/urandom")?;
    let letters: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').collect();
    Ok(bytes.iter().filter_map(|byte| letters.get(usize::from(*byte) % letters.len())).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::{Files, random_word, write};
    use crate::lab::machine::Login;
    use crate::lab::record::Host;

    #[test]
    fn passwords_are_long_plain_and_different() {
        let (first, second) = (random_word().unwrap(), random_word().unwrap());
        assert!(first.len() == 24 && first.chars().all(|letter| letter.is_ascii_alphanumeric()));
        assert_ne!(first, second);
    }

    #[test]
    fn a_password_user_is_not_offered_the_key() {
        let host = Host {
            name: "pw1".into(),
            port: 2204,
            http_port: 8084,
            https_port: None,
            inner_address: "172.18.0.5".into(),
            user: "doodle".into(),
            container: "ship-lab-pw1".into(),
            login: Login::Password,
        };
        let section = Files::of(Path::new("/lab")).section(&host);
        assert!(section.contains("PubkeyAuthentication no") && !section.contains("IdentityFile"), "{section}");
    }

    #[test]
    fn a_secret_file_is_never_readable_by_others() {
        let path = std::env::temp_dir().join(format!("xtask-secret-{}", std::process::id()));
        write(&path, 0o600, "x").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mode & 0o777, 0o600);
    }
}
