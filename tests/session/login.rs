//! Logging in: keys, agents, certificates, passwords, jump hosts, busy servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use russh::server::{Auth, Response};
use ship::command::Command;
use ship::secret::Secret;
use ship::session::{ConnectError, Connector, NoPrompt, Prompt, Settings};
use ship::target::Target;

use crate::session::commands::output;
use crate::session::sshd::{Options, Sshd, keygen, read_key, sign, user};

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

async fn connects(target: &Target, settings: Settings) -> Result<(), ConnectError> {
    let connected = Connector::new(settings, Arc::new(NoPrompt)).connect(target).await?;
    assert_eq!(output(connected.session.run(vec![Command::argv(["echo", "hello"])])).await, "hello\n");
    connected.session.close().await;
    Ok(())
}

/// A key of its own that may log in.
fn key(sshd: &Sshd, name: &str, options: &[&str]) -> PathBuf {
    let file = sshd.folder().join(name);
    keygen(options, &file);
    sshd.authorize(&read_key(&file.with_extension("pub")));
    file
}

fn with_key(sshd: &Sshd, file: &Path) -> Target {
    Target { identity_file: Some(file.to_owned()), ..sshd.target() }
}

/// An ssh-agent that ends with the test.
struct Agent(Child, PathBuf);

impl Agent {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("agent");
        let mut process =
            Process::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::piped()).spawn().unwrap();
        // It speaks when it listens.
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(process.stdout.take().unwrap()), &mut line).unwrap();
        assert!(line.contains("agent"), "{line}");
        Self(process, socket)
    }

    fn add(&self, file: &Path) {
        let output = Process::new("ssh-add").arg("-q").arg(file).env("SSH_AUTH_SOCK", &self.1).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The settings of a machine with an agent.
fn with_agent(sshd: &Sshd, agent: &Agent, lines: &str) -> Settings {
    let file = sshd.folder().join("agent_config");
    let text = fs::read_to_string(&sshd.ssh_config).unwrap();
    fs::write(&file, format!("Host *\n{lines}\n{}", text.replace(" IdentityAgent none\n", ""))).unwrap();
    Settings { ssh_config: Some(file), agent: Some(agent.1.clone()), ..sshd.settings() }
}

#[tokio::test]
async fn keys_of_every_kind() {
    let sshd = Sshd::start(Options::default());
    for (name, options) in [
        ("ed25519", vec!["-t", "ed25519", "-N", ""]),
        ("ecdsa256", vec!["-t", "ecdsa", "-N", ""]),
        ("ecdsa521", vec!["-t", "ecdsa", "-b", "521", "-N", ""]),
        ("rsa", vec!["-t", "rsa", "-b", "2048", "-N", ""]),
        ("rsa-pem", vec!["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""]),
        ("ecdsa-pkcs8", vec!["-t", "ecdsa", "-m", "PKCS8", "-N", ""]),
    ] {
        let file = key(&sshd, name, &options);
        connects(&with_key(&sshd, &file), sshd.settings()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    // The same, as text that never touches the disk.
    let text = fs::read_to_string(sshd.folder().join("rsa")).unwrap().replace('\n', "\\n");
    let settings = Settings { key: Some(secret(&text)), ..sshd.settings() };
    let target = Target { identity_file: None, ..sshd.target() };
    connects(&target, settings).await.unwrap();
    let error = connects(&target, Settings { key: Some(secret("nonsense")), ..sshd.settings() }).await.unwrap_err();
    assert!(error.message.contains("SHIP_SSH_KEY is not a private key"), "{error}");
}

/// Answers every question with this, and counts.
struct Answer(&'static str, AtomicUsize);

impl Prompt for Answer {
    fn trust_host_key(&self, _: &str, _: &str, _: &str) -> bool {
        false
    }

    fn secret(&self, _: &str) -> Option<Secret> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Some(secret(self.0))
    }
}

#[tokio::test]
async fn an_encrypted_key_is_opened_once_for_the_whole_fleet() {
    let sshd = Sshd::start(Options::default());
    for (name, format) in [("openssh", "RFC4716"), ("pkcs8", "PKCS8")] {
        let file = key(&sshd, name, &["-t", "ecdsa", "-m", format, "-N", "open sesame"]);
        let target = with_key(&sshd, &file);
        let person = Arc::new(Answer("open sesame", AtomicUsize::new(0)));
        let connector = Connector::new(sshd.settings(), person.clone());
        let (one, two, three) =
            tokio::join!(connector.connect(&target), connector.connect(&target), connector.connect(&target));
        assert!(one.is_ok() && two.is_ok() && three.is_ok(), "{name}: {:?}", one.err());
        assert_eq!(person.1.load(Ordering::Relaxed), 1, "{name}");

        let settings = Settings { passphrase: Some(secret("open sesame")), ..sshd.settings() };
        connects(&target, settings).await.unwrap();
        let error = connects(&target, sshd.settings()).await.unwrap_err();
        assert!(error.message.contains("needs a passphrase"), "{error}");
    }
}

#[tokio::test]
async fn the_agent_signs_and_saves_the_passphrase() {
    let sshd = Sshd::start(Options::default());
    let agent = Agent::start(sshd.folder());
    for (name, options) in [("ed", vec!["-t", "ed25519"]), ("rsa", vec!["-t", "rsa", "-b", "2048"])] {
        let mut options = options;
        options.extend(["-N", ""]);
        let file = key(&sshd, name, &options);
        agent.add(&file);
        // From now on the file alone is of no use.
        let locked =
            Process::new("ssh-keygen").args(["-q", "-p", "-P", "", "-N", "secret", "-f"]).arg(&file).output().unwrap();
        assert!(locked.status.success());
        connects(&with_key(&sshd, &file), with_agent(&sshd, &agent, "")).await.unwrap();
    }
    let anyone = Target { identity_file: None, ..sshd.target() };
    connects(&anyone, with_agent(&sshd, &agent, "")).await.unwrap();
    let error = connects(&anyone, with_agent(&sshd, &agent, " IdentitiesOnly yes")).await.unwrap_err();
    assert!(error.message.contains("login refused") && error.message.contains("tried nothing"), "{error}");
    let listed = format!(
        " IdentitiesOnly yes\n IdentityFile {}/%%nothing\n IdentityFile {}/rsa",
        sshd.folder().display(),
        sshd.folder().display()
    );
    connects(&anyone, with_agent(&sshd, &agent, &listed)).await.unwrap();
}

#[tokio::test]
async fn a_full_agent_does_not_use_up_the_attempts() {
    let sshd = Sshd::start(Options::default());
    let agent = Agent::start(sshd.folder());
    for number in 0..8 {
        let file = sshd.folder().join(format!("stranger{number}"));
        keygen(&["-t", "ed25519", "-N", ""], &file);
        agent.add(&file);
    }
    connects(&sshd.target(), with_agent(&sshd, &agent, "")).await.unwrap();
    let error =
        connects(&Target { identity_file: None, ..sshd.target() }, with_agent(&sshd, &agent, "")).await.unwrap_err();
    assert!(
        error.message.starts_with("login refused for ")
            && error.message.contains("the server accepts publickey; tried agent's"),
        "{error}"
    );
    assert_eq!(error.message.matches("SHA256:").count(), 5, "{error}");
    assert!(error.advice.unwrap().contains("ssh-copy-id"));
}

#[tokio::test]
async fn the_agent_is_forwarded_only_where_it_is_wanted() {
    let sshd = Sshd::start(Options::default());
    let agent = Agent::start(sshd.folder());
    let file = key(&sshd, "held", &["-t", "ed25519", "-N", ""]);
    agent.add(&file);
    let look = || vec![Command::shell("ssh-add -l 2>&1 | cut -d' ' -f2; true")];
    for forward_agent in [true, false] {
        let target = Target { forward_agent, ..sshd.target() };
        let connector = Connector::new(with_agent(&sshd, &agent, ""), Arc::new(NoPrompt));
        let session = connector.connect(&target).await.unwrap().session;
        let seen = output(session.run(look())).await;
        assert_eq!(seen.starts_with("SHA256:"), forward_agent, "{seen}");
    }
}

#[tokio::test]
async fn user_certificates_from_a_file_and_with_the_agent() {
    let sshd =
        Sshd::start(Options { config: vec!["TrustedUserCAKeys FOLDER/ca.pub".to_owned()], ..Options::default() });
    let agent = Agent::start(sshd.folder());
    for (name, options) in [("ced", vec!["-t", "ed25519"]), ("crsa", vec!["-t", "rsa", "-b", "2048"])] {
        let file = sshd.folder().join(name);
        let mut options = options;
        options.extend(["-N", ""]);
        keygen(&options, &file);
        let target = with_key(&sshd, &file);
        assert!(connects(&target, sshd.settings()).await.is_err(), "{name} without certificate");
        sign(&sshd.folder().join("ca"), &["-n", &user()], &file.with_extension("pub"));
        connects(&target, sshd.settings()).await.unwrap_or_else(|error| panic!("{name}: {error}"));

        // Named by ssh_config, with the key in the agent.
        agent.add(&file);
        let certificate = sshd.folder().join(format!("{name}-elsewhere"));
        fs::rename(sshd.folder().join(format!("{name}-cert.pub")), &certificate).unwrap();
        let settings = with_agent(&sshd, &agent, &format!(" CertificateFile {}", certificate.display()));
        connects(&target, settings).await.unwrap_or_else(|error| panic!("{name} in the agent: {error}"));
    }
}

#[tokio::test]
async fn mistakes_are_told_apart() {
    let sshd = Sshd::start(Options::default());
    let absent = Target { identity_file: Some("/nowhere/key".into()), ..sshd.target() };
    let error = connects(&absent, sshd.settings()).await.unwrap_err();
    assert_eq!(error.message, "the identity_file of web1 cannot be used: /nowhere/key does not exist");

    let file = key(&sshd, "open", &["-t", "ed25519", "-N", ""]);
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let error = connects(&with_key(&sshd, &file), sshd.settings()).await.unwrap_err();
    assert!(error.message.contains("others may read it: chmod 600"), "{error}");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = connects(&Target { port: Some(nobody), ..sshd.target() }, sshd.settings()).await.unwrap_err();
    assert!(error.message.contains(&format!("127.0.0.1:{nobody} cannot be reached: Connection refused")), "{error}");

    // A server that takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target { port: Some(silent.local_addr().unwrap().port()), ..sshd.target() };
    let settings = Settings { connect_timeout: std::time::Duration::from_millis(300), ..sshd.settings() };
    let error = connects(&target, settings).await.unwrap_err();
    assert!(error.message.ends_with("did not answer within 0.3 s"), "{error}");
}

#[tokio::test]
async fn a_busy_server_is_tried_again_and_every_host_gets_in() {
    let sshd = Sshd::start(Options { config: vec!["MaxStartups 2:100:2".to_owned()], ..Options::default() });
    let connector = Arc::new(sshd.connector());
    let target = sshd.target();
    let many: Vec<_> = (0..12)
        .map(|_| {
            let (connector, target) = (connector.clone(), target.clone());
            tokio::spawn(async move { connector.connect(&target).await.map(|connected| connected.session) })
        })
        .collect();
    for one in many {
        one.await.unwrap().unwrap();
    }
    assert!(sshd.log().contains("MaxStartups"), "the server was never busy: {}", sshd.log());
}

#[tokio::test]
async fn a_jump_host_has_one_connection_for_all_behind_it() {
    let (bastion, sshd) = (Sshd::start(Options::default()), Sshd::start(Options::default()));
    // The machine knows both, the bastion's own key is another.
    let known = fs::read_to_string(&sshd.known_hosts).unwrap() + &fs::read_to_string(&bastion.known_hosts).unwrap();
    fs::write(&sshd.known_hosts, known).unwrap();
    let jump = Target { name: "bastion".to_owned(), ..bastion.target() };
    let target = Target { jump: Some(Box::new(jump)), ..sshd.target() };
    let connector = sshd.connector();
    let (one, two) = tokio::join!(connector.connect(&target), connector.connect(&target));
    let (one, two) = (one.unwrap().session, two.unwrap().session);
    assert_eq!(output(one.run(vec![Command::argv(["pwd"])])).await, format!("{}\n", sshd.home.display()));
    assert_eq!(output(two.run(vec![Command::argv(["echo", "two"])])).await, "two\n");
    assert_eq!(bastion.log().matches("Accepted publickey").count(), 1);
    // A big upload through it.
    let sum = Command::shell("cksum | cut -d' ' -f2");
    assert_eq!(output(one.feed(vec![sum], super::commands::body(64, 256 * 1024))).await, "16777216\n");

    // The same by ssh_config's ProxyJump, twice through the same host.
    let lines = format!(
        "Host behind\n HostName 127.0.0.1\n Port {}\n ProxyJump first,second\nHost first second\n HostName 127.0.0.1\n Port {}\n \
         IdentityFile {}\nHost *\n IdentitiesOnly yes\n",
        sshd.port,
        bastion.port,
        bastion.client_key.display()
    );
    let config = sshd.folder().join("jump_config");
    fs::write(&config, lines + &fs::read_to_string(&sshd.ssh_config).unwrap()).unwrap();
    let settings = Settings { ssh_config: Some(config), ..sshd.settings() };
    let target = Target { address: "behind".to_owned(), port: None, ..sshd.target() };
    let connector = Connector::new(settings, Arc::new(NoPrompt));
    let other = Target { name: "web2".to_owned(), ..target.clone() };
    let (one, two) = tokio::join!(connector.connect(&target), connector.connect(&other));
    assert!(one.is_ok() && two.is_ok(), "{:?}", one.err());
    assert_eq!(bastion.log().matches("Accepted publickey").count(), 3);

    let jump = Some(Box::new(bastion.target()));
    let closed = Target { address: "127.0.0.1".to_owned(), port: Some(1), jump, ..sshd.target() };
    let error = connects(&closed, sshd.settings()).await.unwrap_err();
    assert!(
        error.message.contains(&format!(
            "@127.0.0.1:1 cannot be reached through {}@127.0.0.1:{}",
            user(),
            bastion.port
        )),
        "{error}"
    );
}

/// A server in this process that takes a password, or answers to questions.
#[derive(Clone, Copy)]
struct Asking {
    password: bool,
}

impl russh::server::Handler for Asking {
    type Error = russh::Error;

    async fn auth_password(&mut self, _: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(if self.password && password == "hunter2 é" { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let answers: Vec<Vec<u8>> = response.into_iter().flatten().map(|answer| answer.to_vec()).collect();
        Ok(match answers.as_slice() {
            [] if self.password => Auth::reject(),
            [] => Auth::Partial {
                name: "".into(),
                instructions: "".into(),
                prompts: vec![("Password: ".into(), false), ("Code:\u{1b}[2J ".into(), true)].into(),
            },
            [password, code] if password == "hunter2 é".as_bytes() && code == b"123" => Auth::Accept,
            _ => Auth::reject(),
        })
    }
}

async fn asking(server: Asking) -> (u16, String) {
    let key =
        russh::keys::PrivateKey::random(&mut russh::keys::key::safe_rng(), russh::keys::Algorithm::Ed25519).unwrap();
    let public = key.public_key().to_openssh().unwrap();
    let config = Arc::new(russh::server::Config {
        keys: vec![key],
        auth_rejection_time: std::time::Duration::ZERO,
        ..russh::server::Config::default()
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let config = config.clone();
            tokio::spawn(async move {
                if let Ok(session) = russh::server::run_stream(config, stream, server).await {
                    let _ = session.await;
                }
            });
        }
    });
    (port, public)
}

#[tokio::test]
async fn passwords_and_questions() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    fs::write(&config, "Host *\n IdentityFile none\n IdentityAgent none\n UserKnownHostsFile /dev/null\n").unwrap();
    let settings = || Settings { ssh_config: Some(config.clone()), ..Settings::default() };
    let login = async |server, password: Option<&str>, prompt: Arc<dyn Prompt>| {
        let (port, key) = asking(server).await;
        let target = Target {
            name: "web1".to_owned(),
            address: "127.0.0.1".to_owned(),
            port: Some(port),
            user: Some("deploy".to_owned()),
            password: password.map(secret),
            host_keys: vec![key],
            ..Target::default()
        };
        Connector::new(settings(), prompt).connect(&target).await.map(|_| ())
    };
    let (plain, questions) = (Asking { password: true }, Asking { password: false });
    login(plain, Some("hunter2 é"), Arc::new(NoPrompt)).await.unwrap();
    let error = login(plain, Some("wrong"), Arc::new(NoPrompt)).await.unwrap_err();
    assert!(error.message.contains("tried password"), "{error}");
    // Not where ssh_config says no.
    let config_before = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("Host *\n PasswordAuthentication no\n{config_before}")).unwrap();
    let error = login(plain, Some("hunter2 é"), Arc::new(NoPrompt)).await.unwrap_err();
    assert!(error.message.contains("tried nothing"), "{error}");
    fs::write(&config, config_before).unwrap();
    // A person is asked where the inventory has none.
    login(plain, None, Arc::new(Answer("hunter2 é", AtomicUsize::new(0)))).await.unwrap();
    // The password answers the hidden question, a person the other.
    login(questions, Some("hunter2 é"), Arc::new(Answer("123", AtomicUsize::new(0)))).await.unwrap();
    let error = login(questions, Some("hunter2 é"), Arc::new(NoPrompt)).await.unwrap_err();
    assert!(error.message.contains("nobody answers its question `Code:\\x1b[2J`"), "{error}");
    assert!(!error.message.contains("hunter2"));
}
