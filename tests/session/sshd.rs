//! A throw-away OpenSSH server on loopback, with keys, a home folder and a client configuration of its own.
//!
//! It runs as whoever runs the tests and logs in as that user only. A forced command gives each login a
//! private home folder and an environment of its own, so nothing of the real account is read or touched.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ship::session::{Connector, NoPrompt, Session, Settings};
use ship::target::Target;
use tempfile::TempDir;

/// What is special about a server.
#[derive(Default)]
pub struct Options {
    /// Lines for its `sshd_config`, in front of the others: the first of a kind counts.
    pub config: Vec<String>,
    /// The login shell, instead of `/bin/sh`.
    pub shell: Option<&'static str>,
    /// What the login shell's start-up file would run before each command.
    pub noise: Option<&'static str>,
}

/// A running server, stopped when dropped.
pub struct Sshd {
    process: Child,
    folder: TempDir,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// Its host key, as in a `.pub` file.
    pub host_key: String,
    /// A private key that may log in.
    pub client_key: PathBuf,
    /// The home folder of those who log in.
    pub home: PathBuf,
    /// First in the `PATH` of those who log in: a place for fake programs.
    pub bin: PathBuf,
    /// A `known_hosts` file that knows the server.
    pub known_hosts: PathBuf,
    /// An `ssh_config` that reads only that file and no key but the inventory's.
    pub ssh_config: PathBuf,
}

impl Sshd {
    /// Starts a server.
    pub fn start(options: Options) -> Self {
        let folder = tempfile::Builder::new().prefix("ship-sshd-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["home", "bin", "client"] {
            fs::create_dir(at(name)).unwrap();
        }
        keygen(&["-t", "ed25519", "-N", "", "-C", "host"], &at("host_ed25519"));
        keygen(&["-t", "ed25519", "-N", "", "-C", "client"], &at("client/id_ed25519"));
        keygen(&["-t", "ecdsa", "-N", "", "-C", "host"], &at("host_ecdsa"));
        keygen(&["-t", "ed25519", "-N", "", "-C", "authority"], &at("ca"));
        sign(&at("ca"), &["-h", "-n", "web.example.org,127.0.0.1"], &at("host_ed25519.pub"));
        fs::copy(at("client/id_ed25519.pub"), at("authorized_keys")).unwrap();
        write_script(&at("login"), &login_script(folder.path(), &options));
        if am_root() {
            // sshd's privilege separation folder; its absence is not ours to hide when not root.
            let _ = fs::create_dir("/run/sshd");
        }
        let host_key = read_key(&at("host_ed25519.pub"));
        let (process, port) = (0..20).find_map(|_| launch(folder.path(), &options)).expect("sshd does not start");
        fs::write(at("known_hosts"), format!("[127.0.0.1]:{port} {host_key}\n")).unwrap();
        let known_hosts = at("known_hosts");
        fs::write(
            at("ssh_config"),
            format!(
                "Host *\n UserKnownHostsFile {}\n GlobalKnownHostsFile /dev/null\n IdentityFile none\n IdentityAgent none\n",
                known_hosts.display()
            ),
        )
        .unwrap();
        Self {
            process,
            port,
            host_key,
            client_key: at("client/id_ed25519"),
            home: at("home"),
            bin: at("bin"),
            known_hosts,
            ssh_config: at("ssh_config"),
            folder,
        }
    }

    /// A folder that lives as long as the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The server as the inventory would have it.
    pub fn target(&self) -> Target {
        Target {
            name: "web1".to_owned(),
            address: "127.0.0.1".to_owned(),
            port: Some(self.port),
            user: Some(user()),
            identity_file: Some(self.client_key.clone()),
            ..Target::default()
        }
    }

    /// A client machine that reads nothing of the real account.
    pub fn settings(&self) -> Settings {
        Settings {
            home: Some(self.folder.path().join("client")),
            ssh_config: Some(self.ssh_config.clone()),
            connect_timeout: Duration::from_secs(20),
            ..Settings::default()
        }
    }

    /// A connector for that machine.
    pub fn connector(&self) -> Connector {
        Connector::new(self.settings(), Arc::new(NoPrompt))
    }

    /// A session on the server.
    pub async fn session(&self) -> Arc<dyn Session> {
        match self.connector().connect(&self.target()).await {
            Ok(connected) => connected.session,
            Err(error) => panic!("{error}\n{:?}\n{}", error.advice, self.log()),
        }
    }

    /// Lets another public key log in.
    pub fn authorize(&self, public_key: &str) {
        let file = self.folder.path().join("authorized_keys");
        let known = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("{known}{public_key}\n")).unwrap();
    }

    /// Gives the host key a new certificate, signed by the authority `ca` of the folder.
    pub fn sign_host(&self, options: &[&str]) {
        sign(&self.folder.path().join("ca"), options, &self.folder.path().join("host_ed25519.pub"));
        self.reload();
    }

    /// Has the server read its files again, and waits until it has.
    fn reload(&self) {
        let before = self.log().matches("Server listening").count();
        let process = self.process.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &process]).status().unwrap().success());
        while self.log().matches("Server listening").count() == before {
            std::thread::yield_now();
        }
    }

    /// What the server has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Puts a program first in the `PATH` of those who log in.
    pub fn program(&self, name: &str, script: &str) {
        write_script(&self.bin.join(name), script);
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whoever runs the tests.
pub fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Makes a key pair at `file` with the given options of ssh-keygen(1).
pub fn keygen(options: &[&str], file: &Path) {
    let output = Command::new("ssh-keygen").arg("-q").args(options).arg("-f").arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Makes a certificate of the key in `public_key` with the authority `ca` and options of ssh-keygen(1).
pub fn sign(ca: &Path, options: &[&str], public_key: &Path) {
    let output = Command::new("ssh-keygen")
        .arg("-q")
        .arg("-s")
        .arg(ca)
        .args(["-I", "test"])
        .args(options)
        .arg(public_key)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The public key in `file`, without its comment.
pub fn read_key(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn am_root() -> bool {
    user() == "root"
}

fn write_script(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

fn login_script(folder: &Path, options: &Options) -> String {
    let folder = folder.display();
    let shell = options.shell.unwrap_or("/bin/sh");
    let noise = options.noise.unwrap_or(":");
    format!(
        "#!/bin/sh\ncd {folder}/home || exit 1\n{noise}\n\
         exec env -i HOME={folder}/home PATH={folder}/bin:/usr/local/bin:/usr/bin:/bin USER=\"$USER\" LOGNAME=\"$LOGNAME\" \
         SHELL={shell} SSH_CONNECTION=\"$SSH_CONNECTION\" ${{SSH_AUTH_SOCK:+SSH_AUTH_SOCK=\"$SSH_AUTH_SOCK\"}} \
         {shell} -c \"$SSH_ORIGINAL_COMMAND\"\n"
    )
}

/// Starts sshd on a free port and waits until it listens; none where the port was taken meanwhile.
///
/// The account's own shell runs the forced command. `SetEnv` keeps it from reading the account's start-up files:
/// bash reads `~/.bashrc` where sshd started it and `SHLVL` says that it is the first.
fn launch(folder: &Path, options: &Options) -> Option<(Child, u16)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "{}\nListenAddress 127.0.0.1:{port}\nHostKey {f}/host_ed25519\nAuthorizedKeysFile {f}/authorized_keys\n\
         ForceCommand {f}/login\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nLogLevel VERBOSE\nSetEnv HOME={f}/home SHLVL=1\n{}",
        options.config.join("\n").replace("FOLDER", &folder.display().to_string()),
        // Of this one, the last counts.
        if options.config.iter().any(|line| line.starts_with("MaxStartups")) { "" } else { "MaxStartups 100\n" },
        f = folder.display()
    );
    fs::write(folder.join("sshd_config"), config).unwrap();
    let mut process = Command::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-f"])
        .arg(folder.join("sshd_config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssh-server is not installed: apt-get install openssh-server");
    let mut lines = BufReader::new(process.stderr.take().unwrap());
    let mut log = String::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap_or(0) == 0 {
            let _ = process.wait();
            assert!(log.contains("Address already in use"), "sshd: {log}");
            return None;
        }
        log.push_str(&line);
        if line.starts_with("Server listening on 127.0.0.1") {
            break;
        }
    }
    let mut file = fs::File::create(folder.join("log")).unwrap();
    std::thread::spawn(move || std::io::copy(&mut lines, &mut file));
    Some((process, port))
}
