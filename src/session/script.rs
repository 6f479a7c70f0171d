//! Everything that shells on a host are given to read: the long-lived one, those with a body, the watchdog.
//!
//! POSIX only (XCU 2), with `timeout(1)`, `dd(1)` and `kill(1)`. It separates and reports; it decides nothing.

use std::fmt::Write as _;

use super::marker::Nonce;
use super::sudo::{FAREWELL, Sudo};
use crate::command::{Command, Program};

/// What is set up in every shell: administrators' programs are found, and `cd` goes where it is told.
const ENVIRONMENT: &str = "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export PATH; unset CDPATH";

/// What the shell reads first: one group, so that it is read whole or not at all.
///
/// `s` says that a command starts, unless one before it in the batch failed, and `e` that it ended. `s`
/// fails where it cannot print, so nothing starts that nobody hears of. SIGTERM (sent by the guard) ends
/// an idle shell at once, and a busy one when its command has ended: shells put off a trap until then,
/// and put it off for ever while they wait for input, so the trap is set only while a command runs. SIGUSR1
/// makes a busy shell skip the rest of its batch; an idle one ignores it. `p` says who the shell is.
pub(super) fn prelude(nonce: &Nonce, sudo: Option<&Sudo>) -> String {
    let sudo = sudo.map(|sudo| format!("{}\n", sudo.prelude())).unwrap_or_default();
    let (start, end, process) = (nonce.format('s', 1), nonce.format('e', 2), nonce.format('p', 1));
    format!(
        "{{ {ENVIRONMENT}\n{sudo}\
         s() {{ [ -z \"$ship_failed\" ] && trap 'exit 143' TERM && printf {start} \"$1\" && printf {start} \"$1\" >&2; }}\n\
         e() {{ trap - TERM; [ \"$2\" = 0 ] || ship_failed=1; printf {end} \"$@\"; printf {end} \"$@\" >&2; }}\n\
         p() {{ printf {process} \"$$\"; }}\n\
         trap '' USR1; p; }}\n"
    )
}

/// A batch, as the shell reads it.
///
/// File descriptor 8 is the deploy lock (a [`Program::Session`] opens it): nothing but the shell itself
/// may hold it, or the lock would outlive the session in whatever a command left running.
///
/// A trapped signal is back to its default in what a command starts, an ignored one is not (POSIX XCU 2.11),
/// so SIGUSR1 is ignored between batches only. The first line lets a trap that is due run before the batch
/// begins.
pub(super) fn batch(commands: &[Command], sudo: Option<&Sudo>) -> String {
    let mut script = String::from(":\nship_failed=; trap 'ship_failed=1' USR1\n");
    for (index, command) in commands.iter().enumerate() {
        let (before, text) = called(command, sudo);
        let _ = match command.program() {
            Program::Session(_) => writeln!(script, "s {index} && {{ {text}\ne {index} $?; }}"),
            _ => writeln!(script, "s {index} && {{ {before}{text} </dev/null 8>&-; e {index} $?; }}"),
        };
    }
    script.push_str("trap '' USR1; p\n");
    script
}

/// What comes before `command`, and the command itself, where sudo wants a password.
fn called(command: &Command, sudo: Option<&Sudo>) -> (&'static str, String) {
    match sudo.filter(|_| command.sudo_argv().is_some()) {
        Some(sudo) => (sudo.before(), command.to_shell_with(sudo.call())),
        None => ("", command.to_shell()),
    }
}

/// `body` as one compound command behind the bytes that start it: the command line for the login shell,
/// and what to send first.
///
/// The script travels as the first bytes of standard input, never as an argument, so that secrets in it
/// do not show in `ps`. `dd` takes exactly its length, byte by byte, because a shell would read ahead.
/// It is a compound command so that a part of it, where the connection breaks,
/// is a syntax error and runs nothing.
///
/// The command line keeps to what bash, dash, fish, tcsh and zsh read alike: words, and single quotes
/// around text without `'`, `!`, `\` and line ends.
pub(super) fn bootstrap(body: &str) -> (String, String) {
    let script = format!("{{ {ENVIRONMENT}\n{body}\n}}");
    (format!("exec /bin/sh -c 'eval \"$(dd bs=1 count=$1 2>/dev/null)\"' ship {}", script.len()), script)
}

/// The command in the background of a shell that names its process and waits for it. Such commands read
/// from `/dev/null` unless told otherwise (POSIX XCU 2.9.3), hence descriptor 3.
pub(super) fn fed(command: &Command, nonce: &Nonce, sudo: Option<&Sudo>) -> String {
    let (before, text) = called(command, sudo);
    let needed = sudo.filter(|_| command.sudo_argv().is_some());
    let prelude = needed.map(|sudo| format!("{}\n", sudo.prelude())).unwrap_or_default();
    let farewell = needed.map_or("", |_| FAREWELL);
    let (start, end, process) = (nonce.format('s', 1), nonce.format('e', 2), nonce.format('p', 1));
    format!(
        "{prelude}printf {start} 0; printf {start} 0 >&2\n\
         exec 3<&0\n\
         {before}{text} <&3 3<&- &\n\
         exec 3<&- </dev/null\n\
         printf {process} $!\n\
         wait $!\n\
         set -- 0 $?\n\
         {farewell}\
         printf {end} \"$@\"; printf {end} \"$@\" >&2"
    )
}

/// Reads signs of life; ends `process` when they stop, without having been told `q`. `i` interrupts its batch.
///
/// SIGTERM ends an idle shell at once and lets a busy one finish its command, which is bounded itself.
pub(super) fn watchdog(process: u32, silence: u64) -> String {
    format!(
        "while :; do\n\
         sign=$(timeout {silence} dd bs=1 count=1 2>/dev/null)\n\
         case $sign in .) ;; i) kill -USR1 {process} 2>/dev/null ;; q) exit 0 ;; *) kill -TERM {process} 2>/dev/null; exit 0 ;; esac\n\
         done >/dev/null 2>&1"
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt;
    use std::process::{Command as Process, Stdio};

    use super::*;
    use crate::event::Stream;
    use crate::secret::Secret;
    use crate::session::order::Streams;
    use crate::session::sudo::{judge, proof};
    use crate::session::{Reply, Status};

    /// The shells that are somewhere `/bin/sh`, where they are installed, called by that name.
    fn shells() -> impl Iterator<Item = Process> {
        ["dash", "bash", "mksh", "busybox", "zsh", "yash"].into_iter().filter_map(|name| {
            let path = ["/bin", "/usr/bin"].map(|folder| format!("{folder}/{name}"));
            let path = path.iter().find(|path| std::path::Path::new(path).exists())?;
            let mut process = Process::new(path);
            process.arg0("sh");
            Some(process)
        })
    }

    /// What `shell` answers to `input`: the replies and the status.
    fn converse(shell: &mut Process, nonce: &Nonce, input: &[u8]) -> (Vec<Reply>, Option<i32>) {
        let mut process = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        process.stdin.take().unwrap().write_all(input).unwrap();
        let output = process.wait_with_output().unwrap();
        let mut streams = Streams::new(nonce);
        let mut replies = streams.push(Stream::Stdout, output.stdout.into()).unwrap();
        replies.extend(streams.push(Stream::Stderr, output.stderr.into()).unwrap());
        assert!(streams.process().is_some());
        (replies, output.status.code())
    }

    fn ended(index: usize, status: i32) -> Reply {
        Reply::Ended { index, status: Status::Exited(status) }
    }

    fn without_output(replies: &[Reply]) -> Vec<Reply> {
        replies.iter().filter(|reply| !matches!(reply, Reply::Output { .. })).cloned().collect()
    }

    #[test]
    fn every_shell_runs_a_batch_up_to_the_first_failure() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock").display().to_string();
        let commands = [
            Command::session(format!("exec 8>>{lock}; flock -n 8")),
            Command::argv(["printf", "a\nb"]).directory("/"),
            Command::shell("! flock -n 8 2>/dev/null"),
            Command::argv(["flock", "-n", "-E", "9", &lock, "true"]),
            Command::shell("echo never"),
        ];
        // mksh closes descriptor 8 for every program, flock(1) included; nothing but Android has it as /bin/sh.
        for mut shell in shells().filter(|shell| !shell.get_program().to_string_lossy().ends_with("mksh")) {
            let nonce = Nonce::new().unwrap();
            let input = format!("{}{}", prelude(&nonce, None), batch(&commands, None));
            let (replies, status) = converse(&mut shell, &nonce, input.as_bytes());
            let started = |index| Reply::Started { index };
            let expected =
                [started(0), ended(0, 0), started(1), ended(1, 0), started(2), ended(2, 0), started(3), ended(3, 9)];
            assert_eq!(without_output(&replies), expected, "{shell:?} {replies:?}");
            assert!(replies.contains(&Reply::Output { index: 1, stream: Stream::Stdout, bytes: "a\nb".into() }));
            assert!(status.is_some_and(|status| status < 128), "{shell:?} {status:?}");
        }
    }

    #[test]
    fn every_shell_leaves_what_follows_its_script_to_the_command() {
        for mut shell in shells() {
            let nonce = Nonce::new().unwrap();
            let (line, text) = bootstrap(&fed(&Command::shell("cat; exit 5"), &nonce, None));
            let program = line.strip_prefix("exec /bin/sh -c '").unwrap().split('\'').next().unwrap();
            shell.args(["-c", program, "ship", &text.len().to_string()]);
            let body = "echo not a command\n".repeat(1000);
            let (replies, _) = converse(&mut shell, &nonce, format!("{text}{body}").as_bytes());
            let printed: Vec<u8> = replies
                .iter()
                .filter_map(|reply| match reply {
                    Reply::Output { bytes, .. } => Some(bytes.to_vec()),
                    _ => None,
                })
                .flatten()
                .collect();
            assert_eq!(String::from_utf8_lossy(&printed), body, "{shell:?}");
            assert_eq!(replies.last(), Some(&ended(0, 5)), "{shell:?}");
        }
    }

    #[test]
    fn a_part_of_a_script_runs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        for mut shell in shells() {
            let nonce = Nonce::new().unwrap();
            let (line, text) = bootstrap(&fed(&Command::argv(["touch", trace.to_str().unwrap()]), &nonce, None));
            let program = line.strip_prefix("exec /bin/sh -c '").unwrap().split('\'').next().unwrap();
            shell.args(["-c", program, "ship", &text.len().to_string()]);
            shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut process = shell.spawn().unwrap();
            process.stdin.take().unwrap().write_all(&text.as_bytes()[..text.len() - 2]).unwrap();
            assert!(!process.wait().unwrap().success() && !trace.exists(), "{shell:?}");
        }
    }

    #[test]
    fn a_shell_that_was_told_to_end_starts_nothing_more() {
        for mut shell in shells() {
            let nonce = Nonce::new().unwrap();
            let commands =
                [Command::shell("kill -TERM $(ps -o ppid= -p $PPID); sleep 1"), Command::shell("echo never")];
            let input = format!("{}{}", prelude(&nonce, None), batch(&commands, None));
            let (replies, status) = converse(&mut shell, &nonce, input.as_bytes());
            assert_eq!(without_output(&replies), [Reply::Started { index: 0 }], "{shell:?}");
            assert_eq!(status, Some(143), "{shell:?}");
        }
    }

    #[test]
    fn every_shell_keeps_the_password_to_itself_and_sudo_its_ticket() {
        let password = Secret::new("it's $HOME \\ \"hunter22\"".to_owned());
        // yash's `printf` is a program as far as it says, and mksh has none.
        for mut shell in shells().filter(|shell| !shell.get_program().to_string_lossy().ends_with("mksh")) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().display().to_string();
            let program = folder.path().join("sudo");
            std::fs::write(&program, include_str!("../../tests/fixtures/sudo.sh").replace("SUDO", &path)).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::write(folder.path().join("password"), password.expose()).unwrap();
            // Something of the variable's name that came with the login is exported, and stays so when it is set.
            shell.env("ship_sudo", "x").env("PATH", format!("{path}:{}", std::env::var("PATH").unwrap()));
            let nonce = Nonce::new().unwrap();
            let Ok(sudo) = judge("web1", password.clone(), &Status::Exited(0), "") else { panic!("sudo") };
            let environment = Command::shell("env | grep -c hunter22");
            let commands = [Command::argv(["cat"]).sudo(), Command::argv(["sh", "-c", "exit 7"]).sudo()];
            let input = format!(
                "{}{}{}{}{FAREWELL}",
                prelude(&nonce, None),
                batch(&[proof(&password)], None),
                batch(&[environment], Some(&sudo)),
                batch(&commands, Some(&sudo))
            );
            let mut process =
                shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let printed = process.wait_with_output().unwrap();
            let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
            let ends: Vec<&str> =
                printed.lines().filter_map(|line| line.split_once(" e ").map(|(_, end)| end)).collect();
            assert_eq!(ends, ["0 0", "0 1", "0 0", "1 7"], "{shell:?} {printed}");
            let lines = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap().lines().count();
            assert_eq!((lines("attempts"), lines("commands")), (1, 2), "{shell:?}");
            let left = std::fs::read_dir(folder.path())
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("ticket."));
            assert_eq!(left.count(), 0, "{shell:?}");
        }
    }
}
