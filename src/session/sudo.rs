//! sudo's password on a host: how a shell is given it, how it is proven once, and what the answers mean.
//!
//! The long-lived shell gets it on its standard input, into a variable that nothing inherits. Where there is
//! no tty, sudo keys its ticket on the process that started it (sudoers(5), `timestamp_type`), so that the
//! shell itself calls sudo and no other process of the user gains anything by the ticket. The password is sent
//! to `sudo -v` alone, which runs nothing that could read it. Hosts that keep no ticket
//! (`timestamp_timeout=0`) get it at each command, where every rule wants it.

use std::time::Duration;

use super::{ConnectError, Status};
use crate::command::{AS_ROOT, Command, SudoCall, quote};
use crate::secret::Secret;

/// The shell's variable that holds the password.
const VARIABLE: &str = "ship_sudo";

/// How long sudo may think about a password.
const LIMIT: Duration = Duration::from_secs(60);

/// There is no sudo.
const NO_SUDO: i32 = 81;
/// `printf` is a program of its own, which would show the password to all.
const NO_PRINTF: i32 = 82;
/// sudo did not take the password.
const WRONG: i32 = 83;
/// It keeps no ticket, and some commands need no password.
const MIXED: i32 = 84;
/// It keeps no ticket.
const NO_TICKETS: i32 = 85;
/// It wants a password.
const WANTED: i32 = 86;

/// What sudo needs on a host, as it was found out when the connection was made.
#[derive(Clone, Debug)]
pub(super) struct Sudo {
    password: Secret,
    tickets: bool,
}

impl Sudo {
    /// What a shell reads before its first command: one line. What has the variable's name in the environment
    /// would be exported again, so it is taken away first.
    pub(super) fn prelude(&self) -> String {
        format!("{}; {RENEW}; {}", given(&self.password), as_root())
    }

    /// What a shell reads before each command that sudo runs; empty where there is nothing to do.
    pub(super) fn before(&self) -> &'static str {
        if self.tickets { "ship_renew 8>&-; " } else { "" }
    }

    /// How commands call sudo.
    pub(super) fn call(&self) -> SudoCall {
        if self.tickets { SudoCall::WithoutPassword } else { SudoCall::PasswordIn(VARIABLE) }
    }
}

/// What a shell reads when it is left.
pub(super) const FAREWELL: &str = "sudo -k </dev/null >/dev/null 2>&1\n";

/// The ticket is made again where it is gone: deploys last longer than tickets do.
const RENEW: &str = "ship_renew() { sudo -n -v </dev/null >/dev/null 2>&1 || \
                     printf '%s\\n' \"$ship_sudo\" | sudo -S -p '' -v >/dev/null 2>&1; }";

/// What a part of the shell that goes on when the shell is gone calls sudo with: no ticket of the shell is its own.
fn as_root() -> String {
    format!(
        "{AS_ROOT}() {{ ship_renew; if sudo -n -v </dev/null >/dev/null 2>&1; then sudo -n -- \"$@\"; \
         else printf '%s\\n' \"${VARIABLE}\" | sudo -S -p '' -- \"$@\"; fi; }}"
    )
}

fn given(password: &Secret) -> String {
    format!("unset {VARIABLE}; {VARIABLE}={}", quote(password.expose()))
}

/// Asks whether sudo wants a password at all.
pub(super) fn question() -> Command {
    let text = format!(
        "ship_ask() {{ command -v sudo >/dev/null || return {NO_SUDO}; \
         sudo -k </dev/null >/dev/null 2>&1; \
         sudo -n -v </dev/null >/dev/null 2>&1 || return {WANTED}; }}; ship_ask"
    );
    Command::session(text).timeout(LIMIT)
}

/// Whether the answer to [`question`] says that a password is wanted.
pub(super) fn is_wanted(status: &Status) -> bool {
    *status == Status::Exited(WANTED)
}

/// Gives the shell `password` and tries it, exactly once: a second try brings an account nearer to being locked.
/// A ticket from before proves nothing, so it is dropped first.
pub(super) fn proof(password: &Secret) -> Command {
    let tell = format!("printf '%s\\n' \"${VARIABLE}\"");
    let text = format!(
        "{given}; {RENEW}; {as_root}; ship_prove() {{ command -v sudo >/dev/null || return {NO_SUDO}\n\
         [ \"$(command -v printf)\" = printf ] || return {NO_PRINTF}\n\
         sudo -k </dev/null >/dev/null 2>&1\n\
         {tell} | sudo -S -p '' -v || return {WRONG}\n\
         sudo -n -v </dev/null >/dev/null 2>&1 && return 0\n\
         case $({tell} | sudo -S -p '' -l 2>/dev/null) in\n\
         *NOPASSWD:*|*!authenticate*) return {MIXED} ;; esac\n\
         return {NO_TICKETS}; }}; ship_prove",
        given = given(password),
        as_root = as_root(),
    );
    Command::session(text).with_secret_text().timeout(LIMIT)
}

/// Why sudo cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The password is not the right one; another might be.
    Wrong(ConnectError),
    /// No password would help.
    Other(ConnectError),
}

/// What the answer to [`proof`] means on the host `name`. `said` is the last line of its standard error.
pub(super) fn judge(name: &str, password: Secret, status: &Status, said: &str) -> Result<Sudo, Refusal> {
    let error = |message: String, advice: &str| ConnectError { message, advice: Some(advice.to_owned()) };
    match status {
        Status::Exited(0) => Ok(Sudo { password, tickets: true }),
        Status::Exited(NO_TICKETS) => Ok(Sudo { password, tickets: false }),
        Status::Exited(WRONG) => {
            let said = if said.is_empty() { String::new() } else { format!("; it said: {said}") };
            Err(Refusal::Wrong(error(
                format!("sudo on {name} did not take the password{said}"),
                "It was tried once and nothing was changed. `sudo_password` of the host says where it comes from; \
                 the login user must be allowed to use sudo.",
            )))
        }
        Status::Exited(MIXED) => Err(Refusal::Other(error(
            format!(
                "sudo on {name} forgets passwords at once (timestamp_timeout=0), and wants one for some commands only"
            ),
            "A command that needs no password could read it. Let sudoers give all its commands NOPASSWD (`ship sudoers` \
             prints the lines) and take `sudo_password` away, or allow a timestamp_timeout.",
        ))),
        Status::Exited(NO_SUDO) => {
            Err(Refusal::Other(error(format!("there is no sudo on {name}"), "apt-get install sudo, as root")))
        }
        Status::Exited(NO_PRINTF) => Err(Refusal::Other(error(
            format!(
                "/bin/sh on {name} has no `printf` of its own, so that a password would show in its list of processes"
            ),
            "dash, bash and BusyBox have one.",
        ))),
        other => Err(Refusal::Other(ConnectError {
            message: format!("sudo on {name} could not be asked: {other:?}; it said: {said}"),
            advice: None,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::new("it's $HOME".to_owned())
    }

    #[test]
    fn each_case_has_a_status_of_its_own() {
        let judged = |status| judge("web1", secret(), &Status::Exited(status), "Sorry, try again.");
        assert!(judged(0).is_ok_and(|sudo| sudo.tickets && sudo.call() == SudoCall::WithoutPassword));
        assert!(judged(NO_TICKETS).is_ok_and(|sudo| !sudo.tickets && sudo.before().is_empty()));
        let Err(Refusal::Wrong(error)) = judged(WRONG) else { panic!("wrong") };
        assert_eq!(error.message, "sudo on web1 did not take the password; it said: Sorry, try again.");
        for status in [MIXED, NO_SUDO, NO_PRINTF, 1] {
            assert!(matches!(judged(status), Err(Refusal::Other(_))), "{status}");
        }
    }

    #[test]
    fn the_password_is_a_variable_that_nothing_inherits() {
        let sudo = Sudo { password: secret(), tickets: true };
        assert!(sudo.prelude().starts_with(r"unset ship_sudo; ship_sudo='it'\''s $HOME'; ship_renew()"));
        assert!(!sudo.prelude().contains("export"));
        assert!(proof(&secret()).holds_secrets() && !question().holds_secrets());
    }
}
