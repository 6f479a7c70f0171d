//! Everything that shells on a host are given to read: the long-lived one, those with a body, the watchdog.
//!
//! POSIX only (XCU 2), with `timeout(1)`, `dd(1)` and `kill(1)`. It separates and reports; it decides nothing.

use std::fmt::Write as _;

use russh::keys::ssh_encoding::base64::{Base64, Encoding as _};

use super::marker::Nonce;
use super::sudo::{FAREWELL, Sudo};
use crate::command::{Command, Program};

/// What is set up in every shell: administrators' programs are found, and `cd` goes where it is told.
const ENVIRONMENT: &str = "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export PATH; unset CDPATH";

/// What the shell reads first: one group, so that it is read whole or not at all.
///
/// `s` says that a command starts, unless one before it in the batch failed, and `e` that it ended, or `t` where
/// its failure stops nothing. `s` fails where it cannot print, so nothing starts that nobody hears of. SIGTERM (sent by the guard) ends
/// an idle shell at once, and a busy one when its command has ended: shells put off a trap until then,
/// and put it off for ever while they wait for input, so the trap is set only while a command runs. SIGUSR1
/// makes a busy shell skip the rest of its batch; an idle one ignores it. `p` says who the shell is.
pub(super) fn prelude(nonce: &Nonce, sudo: Option<&Sudo>) -> String {
    let sudo = sudo.map(|sudo| format!("{}\n", sudo.prelude())).unwrap_or_default();
    format!("{{ {ENVIRONMENT}\nunset ship_nonce; ship_nonce={}\n{sudo}{FUNCTIONS}}}\n", nonce.text())
}

/// What marks the commands of a batch, with the nonce in a variable that nothing inherits.
const FUNCTIONS: &str = "\
    m() { printf '\\036%s %s\\n' \"$ship_nonce\" \"$1\"; }\n\
    s() { [ -z \"$ship_failed\" ] && trap 'exit 143' TERM && m \"s $1\" && m \"s $1\" >&2; }\n\
    e() { [ \"$2\" = 0 ] || ship_failed=1; t \"$@\"; }\n\
    t() { trap - TERM; m \"e $1 $2\"; m \"e $1 $2\" >&2; }\n\
    p() { m \"p $$\"; }\n\
    trap '' USR1; p; ";

/// The longest text that travels as an argument: Linux takes 128 KiB (execve(2)).
const LONGEST_ARGUMENT: usize = 100 * 1024;

/// The command line of a shell that runs `commands` at once and then reads on from its standard input, which a
/// server opens only when the program runs; none where it is too long.
///
/// Others on the host may read the arguments, so nothing secret may be in `commands`, and the nonce of the markers is
/// made there and said behind `greeting`: by Linux, elsewhere by the random device.
///
/// A trapped or ignored signal stays ignored in the shell that follows, where POSIX does not let it be trapped
/// again, so it is set back before. Korn shells close what `exec` opened unless it is named again.
pub(super) fn opening(commands: &[Command], greeting: &Nonce) -> Option<String> {
    let mut batch = batch(commands, None);
    // The shell that follows says who it is by itself.
    batch.truncate(batch.len().saturating_sub(LAST_LINE.len()));
    let hello = greeting.format('h', 1);
    let text = format!(
        "{ENVIRONMENT}\nunset ship_nonce\n\
         {{ read -r ship_nonce </proc/sys/kernel/random/uuid || \
         ship_nonce=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \\n'); }} 2>/dev/null\n\
         printf {hello} \"${{ship_nonce:={own}}}\"; printf {hello} \"$ship_nonce\" >&2\n\
         {{ {FUNCTIONS}}}\n{batch}\
         trap - USR1\n\
         if {{ true >&8; }} 2>/dev/null; then exec /bin/sh 8>&8; fi\n\
         exec /bin/sh",
        own = greeting.text(),
    );
    // `printf %b` reads these four; everything else means itself in single quotes, in every login shell.
    let mut argument = String::with_capacity(text.len() + text.len() / 4);
    for character in text.chars() {
        match character {
            '\\' | '\'' | '!' | '\n' => {
                let _ = write!(argument, "\\0{:03o}", u32::from(character));
            }
            other => argument.push(other),
        }
    }
    (argument.len() <= LONGEST_ARGUMENT)
        .then(|| format!("exec /bin/sh -c 'eval \"$(printf %b \"$1\")\"' ship '{argument}'"))
}

/// The last line of a batch.
const LAST_LINE: &str = "trap '' USR1; p\n";

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
        let end = if command.may_fail() { "t" } else { "e" };
        let _ = match (command.program(), command.input()) {
            (Program::Session(_), _) => writeln!(script, "s {index} && {{ {text}\n{end} {index} $?; }}"),
            (_, None) => writeln!(script, "s {index} && {{ {before}{text} </dev/null 8>&-; {end} {index} $?; }}"),
            (_, Some(input)) => writeln!(
                script,
                "s {index} && {{ {{ base64 -d | {text}; }} 8>&- <<'{END_OF_INPUT}'; {end} {index} $?; }}\n{}\n{END_OF_INPUT}",
                encoded(input),
            ),
        };
    }
    script.push_str(LAST_LINE);
    script
}

/// Ends what a command reads. No line of base64 (RFC 4648, 4) is this.
const END_OF_INPUT: &str = "ship_end";

/// `input` in base64, in lines of a length that every shell and decoder reads.
fn encoded(input: &[u8]) -> String {
    // Whole groups of three bytes have no padding.
    const LINE: usize = 3 << 8;
    input.chunks(LINE).map(Base64::encode_string).collect::<Vec<_>>().join("\n")
}

/// What comes before `command`, and the command itself, where sudo wants a password.
fn called(command: &Command, sudo: Option<&Sudo>) -> (&'static str, String) {
    match sudo.filter(|_| command.sudo_argv().is_some()) {
        Some(sudo) => (sudo.before(), command.to_shell_with(sudo.call())),
        None => ("", command.to_shell()),
    }
}

/// The command line of a shell that is told on its standard input what to do, see [`told`].
///
/// The script travels as the first lines of standard input, never as an argument, so that secrets in it do not show
/// in `ps`. `read` takes no more than a line, byte by byte (POSIX XCU, `read`), where a shell would read ahead.
///
/// The command line keeps to what bash, dash, fish, tcsh and zsh read alike: words, and single quotes
/// around text without `'`, `!`, `\` and line ends.
pub(super) const BOOTSTRAP: &str = "exec /bin/sh -c 'IFS= read -r ship_line && eval \"$ship_line\"' ship";

/// What a shell of [`BOOTSTRAP`] reads first: a line that reads a script line by line, and the script.
///
/// Of a part of it, where the connection breaks, nothing runs. What was read is in no variable while it runs. Scripts
/// are short: what reading them takes grows with the square of their lines.
pub(super) fn told(body: &str) -> String {
    let script = format!("{ENVIRONMENT}\n{body}\n");
    format!(
        "ship_end=$(printf '\\n.') && ship_end=${{ship_end%.}} && ship_text= && set -- {} && \
         while [ $1 -gt 0 ] && IFS= read -r ship_line; do ship_text=$ship_text$ship_line$ship_end; set -- $(($1-1)); done && \
         [ $1 -eq 0 ] && eval \"unset ship_text ship_line ship_end; set --; $ship_text\"\n{script}",
        script.lines().count(),
    )
}

/// The commands of a shell that stops at the first that fails, and of which the last gets the rest of the shell's
/// input. It runs in the background of the shell, which names its process and waits for it: such commands read
/// from `/dev/null` unless told otherwise (POSIX XCU 2.9.3), hence descriptor 3.
pub(super) fn fed(commands: &[Command], nonce: &Nonce, sudo: Option<&Sudo>) -> String {
    let Some((last, first)) = commands.split_last() else { return String::from(":") };
    let needed = sudo.filter(|_| commands.iter().any(|command| command.sudo_argv().is_some()));
    let prelude = needed.map(|sudo| format!("{}\n", sudo.prelude())).unwrap_or_default();
    let farewell = needed.map_or("", |_| FAREWELL);
    let (start, end, process) = (nonce.format('s', 1), nonce.format('e', 2), nonce.format('p', 1));
    let mut script = format!(
        "{prelude}s() {{ printf {start} \"$1\" && printf {start} \"$1\" >&2; }}\n\
         e() {{ printf {end} \"$@\"; printf {end} \"$@\" >&2; }}\n"
    );
    for (index, command) in first.iter().enumerate() {
        let (before, text) = called(command, sudo);
        let _ = writeln!(
            script,
            "s {index} || exit 1; {before}{text} </dev/null; set -- {index} $?; e \"$@\"; [ \"$2\" = 0 ] || {{ {farewell}exit 0; }}"
        );
    }
    let index = first.len();
    let (before, text) = called(last, sudo);
    let _ = write!(
        script,
        "s {index} || exit 1\n\
         exec 3<&0\n\
         {before}{text} <&3 3<&- &\n\
         exec 3<&- </dev/null\n\
         printf {process} $!\n\
         wait $!\n\
         set -- {index} $?\n\
         {farewell}\
         e \"$@\""
    );
    script
}

/// Reads signs of life; ends `process` when they stop, without having been told `q`. `i` interrupts its batch.
///
/// SIGTERM ends an idle shell at once and lets a busy one finish its command, which is bounded itself or
/// short.
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

    use bytes::Bytes;

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

    /// What the shell of [`BOOTSTRAP`] is given to run.
    fn program() -> &'static str {
        BOOTSTRAP.strip_prefix("exec /bin/sh -c '").unwrap().split('\'').next().unwrap()
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
    fn every_shell_opens_with_commands_and_reads_on_with_what_they_opened() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("it's a lock");
        let open = format!("exec 8>>{}", crate::command::quote(&lock.to_string_lossy()));
        let first =
            [Command::session(open), Command::shell("printf 'a\\tb!\\n'; exit 3"), Command::shell("echo never")];
        let second = [Command::session("echo held >&8"), Command::shell("echo $PPID; env | grep -c ship_nonce")];
        for mut shell in shells().filter(|shell| !shell.get_program().to_string_lossy().ends_with("mksh")) {
            std::fs::write(&lock, "").unwrap();
            let (greeting, nonce) = (Nonce::new().unwrap(), Nonce::new().unwrap());
            let line = opening(&first, &greeting).unwrap();
            // The login shell is one that reads the line; what it starts is the shell in question, called `sh`.
            let path = folder.path().join(shell.get_program().to_string_lossy().replace('/', "-"));
            std::fs::create_dir(&path).unwrap();
            std::os::unix::fs::symlink(shell.get_program(), path.join("sh")).unwrap();
            let path = path.join("sh").display().to_string();
            shell = Process::new("/bin/sh");
            shell.arg("-c").arg(line.replace("/bin/sh", &path));
            let input = format!("{}{}", prelude(&nonce, None), super::batch(&second, None));
            let mut process =
                shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let output = process.wait_with_output().unwrap();
            let mut streams = Streams::greeted(&greeting, &nonce);
            let mut replies = streams.push(Stream::Stdout, output.stdout.into()).unwrap();
            replies.extend(streams.push(Stream::Stderr, output.stderr.into()).unwrap());
            assert!(replies.contains(&Reply::Output { index: 1, stream: Stream::Stdout, bytes: "a\tb!\n".into() }));
            assert!(replies.contains(&ended(0, 0)) && replies.contains(&ended(1, 3)), "{path} {replies:?}");
            assert_eq!(std::fs::read_to_string(&lock).unwrap(), "held\n", "{path} {replies:?}");
            assert!(streams.process().is_some(), "{path}");
        }
    }

    /// All that was printed, in its order.
    fn printed(replies: &[Reply]) -> String {
        let parts = replies.iter().filter_map(|reply| match reply {
            Reply::Output { bytes, .. } => Some(&bytes[..]),
            _ => None,
        });
        String::from_utf8_lossy(&parts.collect::<Vec<_>>().concat()).into_owned()
    }

    #[test]
    fn every_shell_gives_commands_the_input_that_travels_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        let input: Vec<u8> = (0..300_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for mut shell in shells() {
            let take = |path: &std::path::Path, input: &[u8]| {
                let text = format!("cat >{}; exit 7", crate::command::quote(&path.to_string_lossy()));
                Command::shell(text).tolerated().with_input(Bytes::copy_from_slice(input))
            };
            let commands = [take(&first, &input), take(&second, b""), Command::shell("cat; echo after")];
            let nonce = Nonce::new().unwrap();
            let text = format!("{}{}", prelude(&nonce, None), batch(&commands, None));
            let (replies, _) = converse(&mut shell, &nonce, text.as_bytes());
            assert_eq!(std::fs::read(&first).unwrap(), input, "{shell:?}");
            assert_eq!(std::fs::read(&second).unwrap(), b"", "{shell:?}");
            assert!(replies.contains(&ended(0, 7)) && replies.contains(&ended(1, 7)), "{shell:?} {replies:?}");
            assert!(replies.contains(&Reply::Output { index: 2, stream: Stream::Stdout, bytes: "after\n".into() }));
        }
    }

    #[test]
    fn every_shell_runs_a_subshell_that_changes_nothing_outside() {
        let text = "umask 077; cd /; set -e; name=x; false; echo never";
        let look = "umask; pwd; echo \"${name-unset}\"";
        for mut shell in shells() {
            let nonce = Nonce::new().unwrap();
            shell.current_dir("/usr");
            let commands =
                [Command::subshell(text).tolerated(), Command::subshell("exit 9").directory("/").tolerated()];
            let input = format!(
                "umask 022\n{}{}",
                prelude(&nonce, None),
                batch(&[&commands[..], &[Command::session(look)]].concat(), None)
            );
            let (replies, _) = converse(&mut shell, &nonce, input.as_bytes());
            assert!(replies.contains(&ended(0, 1)) && replies.contains(&ended(1, 9)), "{shell:?} {replies:?}");
            let printed = printed(&replies);
            assert!(printed.contains("22\n/usr\nunset\n") && !printed.contains("never"), "{shell:?} {printed}");
        }
    }

    #[test]
    fn every_shell_leaves_what_follows_its_script_to_the_command() {
        for mut shell in shells() {
            let nonce = Nonce::new().unwrap();
            let text = told(&fed(&[Command::shell("cat; echo first"), Command::shell("cat; exit 5")], &nonce, None));
            shell.args(["-c", program(), "ship"]);
            let body = "echo not a command\n".repeat(1000);
            let (replies, _) = converse(&mut shell, &nonce, format!("{text}{body}").as_bytes());
            assert_eq!(printed(&replies), format!("first\n{body}"), "{shell:?}");
            let started = |index| Reply::Started { index };
            assert_eq!(without_output(&replies), [started(0), ended(0, 0), started(1), ended(1, 5)], "{shell:?}");
        }
    }

    #[test]
    fn a_part_of_a_script_runs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        for mut shell in shells() {
            let nonce = Nonce::new().unwrap();
            let text = told(&fed(&[Command::argv(["touch", trace.to_str().unwrap()])], &nonce, None));
            shell.args(["-c", program(), "ship"]);
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
