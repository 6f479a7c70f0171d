//! Everything that shells on a host are given to read: the long-lived one, those with a body, the watchdog.
//!
//! POSIX only (XCU 2), with `timeout(1)`, `dd(1)` and `kill(1)`. It separates and reports; it decides nothing.

use std::fmt::Write as _;

use super::marker::Nonce;
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
pub(super) fn prelude(nonce: &Nonce) -> String {
    let (start, end, process) = (nonce.format('s', 1), nonce.format('e', 2), nonce.format('p', 1));
    format!(
        "{{ {ENVIRONMENT}\n\
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
pub(super) fn batch(commands: &[Command]) -> String {
    let mut script = String::from(":\nship_failed=; trap 'ship_failed=1' USR1\n");
    for (index, command) in commands.iter().enumerate() {
        let text = command.to_shell();
        let _ = match command.program() {
            Program::Session(_) => writeln!(script, "s {index} && {{ {text}\ne {index} $?; }}"),
            _ => writeln!(script, "s {index} && {{ {text} </dev/null 8>&-; e {index} $?; }}"),
        };
    }
    script.push_str("trap '' USR1; p\n");
    script
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
pub(super) fn fed(command: &Command, nonce: &Nonce) -> String {
    let (start, end, process) = (nonce.format('s', 1), nonce.format('e', 2), nonce.format('p', 1));
    format!(
        "printf {start} 0; printf {start} 0 >&2\n\
         exec 3<&0\n\
         {} <&3 3<&- &\n\
         exec 3<&- </dev/null\n\
         printf {process} $!\n\
         wait $!\n\
         set -- 0 $?\n\
         printf {end} \"$@\"; printf {end} \"$@\" >&2",
        command.to_shell()
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
