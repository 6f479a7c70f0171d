//! sudo with a password: proven once, never seen, never given to a command.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ship::command::Command;
use ship::secret::Secret;
use ship::session::{ConnectError, Connector, NoPrompt, Prompt, Session, Status};
use ship::target::{SudoPassword, Target};

use crate::session::commands::{body, ended, output, replies};
use crate::session::sshd::{Options, Sshd};

const PASSWORD: &str = "it's $HOME \\ \"hunter22\"";

/// A server whose sudo wants [`PASSWORD`].
struct Server {
    sshd: Sshd,
    folder: PathBuf,
}

impl Server {
    fn start(special: &[&str]) -> Self {
        let sshd = Sshd::start(Options::default());
        let folder = sshd.folder().join("sudo");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("password"), PASSWORD).unwrap();
        for name in special {
            fs::write(folder.join(name), "").unwrap();
        }
        let script = include_str!("../fixtures/sudo.sh").replace("SUDO", folder.to_str().unwrap());
        sshd.program("sudo", &script);
        Self { sshd, folder }
    }

    fn target(&self, sudo: SudoPassword) -> Target {
        Target { sudo: Some(sudo), ..self.sshd.target() }
    }

    async fn connect(&self, sudo: SudoPassword) -> Result<Arc<dyn Session>, ConnectError> {
        self.sshd.connector().connect(&self.target(sudo)).await.map(|connected| connected.session)
    }

    async fn session(&self) -> Arc<dyn Session> {
        match self.connect(SudoPassword::Known(Secret::new(PASSWORD.to_owned()))).await {
            Ok(session) => session,
            Err(error) => panic!("{error}\n{}", self.sshd.log()),
        }
    }

    /// How many passwords sudo was given.
    fn attempts(&self) -> usize {
        fs::read_to_string(self.folder.join("attempts")).unwrap_or_default().lines().count()
    }

    fn tickets(&self) -> usize {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        fs::read_dir(&self.folder).unwrap().map(name).filter(|name| name.starts_with("ticket.")).count()
    }
}

#[tokio::test]
async fn a_proven_password_serves_every_command_and_no_command_reads_it() {
    let server = Server::start(&[]);
    let session = server.session().await;
    assert_eq!(server.attempts(), 1);
    let sudo = |words: &[&str]| Command::argv(words.iter().copied()).sudo();
    let batch =
        vec![sudo(&["true"]), Command::shell("true"), sudo(&["sh", "-c", "cat; env | grep -c hunter22; exit 7"])];
    let all = replies(session.run(batch)).await;
    assert_eq!(all.last(), Some(&ended(2, 7)), "{all:?}");
    assert_eq!(output(session.run(vec![sudo(&["cat"])])).await, "");
    // The ticket of the proof serves them all.
    assert_eq!((server.attempts(), server.tickets()), (1, 1));
    session.close().await;
    assert_eq!(server.tickets(), 0, "`sudo -k` at the end");
}

#[tokio::test]
async fn a_command_with_a_body_gets_the_body_and_nothing_else() {
    for special in [&[][..], &["no-tickets"], &["nopasswd"]] {
        let server = Server::start(special);
        let session = server.session().await;
        let all = replies(session.feed(vec![Command::argv(["wc", "-c"]).sudo()], body(3, 1000))).await;
        assert!(format!("{all:?}").contains("3000"), "{special:?} {all:?}");
        assert_eq!(all.last(), Some(&ended(0, 0)));
        session.close().await;
        assert_eq!(server.tickets(), 0);
    }
}

#[tokio::test]
async fn a_new_shell_is_given_the_password_again() {
    let server = Server::start(&[]);
    let session = server.session().await;
    let limit = Duration::from_millis(10);
    // sudo's commands are not stopped on the host, so that the shell is given up.
    let slow = replies(session.run(vec![Command::argv(["sleep", "30"]).sudo().timeout(limit)])).await;
    assert!(matches!(slow.last(), Some(ship::session::Reply::Ended { status: Status::TimedOut(_), .. })), "{slow:?}");
    assert_eq!(output(session.run(vec![Command::argv(["echo", "there"]).sudo()])).await, "there\n");
    assert_eq!(server.attempts(), 2);
    session.close().await;
}

#[tokio::test]
async fn a_host_without_tickets_gets_the_password_at_each_command() {
    let server = Server::start(&["no-tickets"]);
    let session = server.session().await;
    let before = server.attempts();
    assert_eq!(output(session.run(vec![Command::argv(["cat"]).sudo()])).await, "");
    let all = replies(session.run(vec![Command::argv(["sh", "-c", "exit 9"]).sudo()])).await;
    assert_eq!(all.last(), Some(&ended(0, 9)));
    assert_eq!(server.attempts(), before + 2);
    session.close().await;
}

#[tokio::test]
async fn without_tickets_a_password_is_not_risked_where_some_commands_want_none() {
    let server = Server::start(&["no-tickets", "nopasswd"]);
    let Err(error) = server.connect(SudoPassword::Known(Secret::new(PASSWORD.to_owned()))).await else {
        panic!("it went on");
    };
    assert!(error.message.contains("web1") && error.message.contains("timestamp_timeout=0"), "{error}");
    assert!(!server.folder.join("commands").exists());
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_never_named() {
    let server = Server::start(&[]);
    let wrong = Secret::new("not-the-password".to_owned());
    let Err(error) = server.connect(SudoPassword::Known(wrong)).await else { panic!("it was taken") };
    assert_eq!(error.message, "sudo on web1 did not take the password; it said: Sorry, try again.");
    assert!(!format!("{error:?}").contains("not-the-password"));
    assert_eq!(server.attempts(), 1);
    assert!(!server.folder.join("commands").exists(), "nothing was run");
}

/// Answers with one password, and counts the questions.
struct Answers(&'static str, AtomicUsize);

impl Prompt for Answers {
    fn trust_host_key(&self, _: &str, _: &str, _: &str) -> bool {
        false
    }

    fn secret(&self, question: &str) -> Option<Secret> {
        assert_eq!(question, "Password for sudo on the hosts");
        self.1.fetch_add(1, Ordering::Relaxed);
        Some(Secret::new(self.0.to_owned()))
    }
}

#[tokio::test]
async fn a_person_is_asked_once_for_all_hosts() {
    let servers = [Server::start(&[]), Server::start(&["no-tickets"]), Server::start(&[])];
    let answers = Arc::new(Answers(PASSWORD, AtomicUsize::new(0)));
    // One client machine for all, which knows none of the servers but by their pinned keys.
    let connector = Connector::new(servers[0].sshd.settings(), answers.clone());
    let targets = servers
        .each_ref()
        .map(|server| Target { host_keys: vec![server.sshd.host_key.clone()], ..server.target(SudoPassword::Ask) });
    for target in &targets {
        let session = connector.connect(target).await.unwrap().session;
        assert_eq!(output(session.run(vec![Command::argv(["echo", "there"]).sudo()])).await, "there\n");
        session.close().await;
    }
    assert_eq!(answers.1.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn without_a_terminal_it_says_what_to_set_and_asks_for_nothing_that_is_not_needed() {
    let server = Server::start(&[]);
    let Err(error) = server.connect(SudoPassword::Ask).await else { panic!("there is nobody to ask") };
    assert!(error.message.contains("web1") && error.advice.unwrap().contains("sudo_password = { secret"));
    assert_eq!(server.attempts(), 0);

    let free = Server::start(&[]);
    free.sshd.program("sudo", "#!/bin/sh\nwhile [ \"${1#-}\" != \"$1\" ]; do shift; done\nexec \"$@\"\n");
    let connector = Connector::new(free.sshd.settings(), Arc::new(NoPrompt));
    let session = connector.connect(&free.target(SudoPassword::Ask)).await.unwrap().session;
    assert_eq!(output(session.run(vec![Command::argv(["echo", "free"]).sudo()])).await, "free\n");
    session.close().await;
}

/// Looks at every process of this machine until told to stop: what had the password in its arguments or its
/// environment?
fn spy(stop: Arc<std::sync::atomic::AtomicBool>) -> std::thread::JoinHandle<(usize, Vec<String>)> {
    std::thread::spawn(move || {
        let (mut looks, mut seen) = (0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            for entry in fs::read_dir("/proc").unwrap().flatten() {
                for file in ["cmdline", "environ"] {
                    let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
                    if String::from_utf8_lossy(&bytes).contains("hunter22-of-the-spy") {
                        seen.push(format!("{}: {}", entry.path().display(), String::from_utf8_lossy(&bytes)));
                    }
                }
            }
            looks += 1;
        }
        (looks, seen)
    })
}

#[tokio::test]
async fn no_process_shows_the_password() {
    let server = Server::start(&[]);
    let password = "hunter22-of-the-spy";
    fs::write(server.folder.join("password"), password).unwrap();
    let stop = Arc::default();
    let spy = spy(Arc::clone(&stop));
    let session = server.connect(SudoPassword::Known(Secret::new(password.to_owned()))).await.unwrap();
    for _ in 0..10 {
        assert_eq!(output(session.run(vec![Command::argv(["sleep", "0.01"]).sudo()])).await, "");
    }
    session.close().await;
    stop.store(true, Ordering::Relaxed);
    let (looks, seen) = spy.join().unwrap();
    assert!(looks > 0);
    assert_eq!(seen, [""; 0]);
}
