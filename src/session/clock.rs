//! The time of one command: when it is given up here, and whether `timeout(1)` ended it on the host.

use std::time::Duration;

use tokio::time::Instant;

use super::{Reply, Status};
use crate::command::Command;

/// How long a shell may take from its start, or from the end of a command, to its next marker.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How much longer than its time limit a command may take before its shell is given up: `timeout(1)` on
/// the host has acted long before (SIGTERM at the limit, SIGKILL 5 s later), so this bounds sudo's
/// commands, which it cannot stop, and ship's own short ones, which do without it.
const GRACE: Duration = Duration::from_secs(15);

/// How long output may still come after the shell has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How far the two clocks may differ: the host's starts before the news of the start is here.
const SKEW: Duration = Duration::from_millis(250);

/// Keeps the time of the command that runs or is about to.
#[derive(Debug)]
pub(super) struct Clock {
    /// The command's index.
    pub(super) index: usize,
    /// The command's time limit.
    pub(super) limit: Duration,
    /// When to give up.
    pub(super) deadline: Instant,
    /// It was heard to start.
    pub(super) running: bool,
    started: Instant,
    /// `timeout(1)` has it in hand.
    bounded: bool,
}

impl Clock {
    /// `command` at `index` is expected to start. What it reads has to arrive before, where that travels with it.
    pub(super) fn waiting(index: usize, command: Option<&Command>) -> Self {
        let clock = Self::running(index, command);
        let arriving = command.filter(|command| command.input().is_some()).map_or(Duration::ZERO, Command::time_limit);
        Self { running: false, deadline: clock.started + START_LIMIT + arriving, ..clock }
    }

    /// `command` at `index` has started.
    pub(super) fn running(index: usize, command: Option<&Command>) -> Self {
        let limit = command.map_or(Duration::ZERO, Command::time_limit);
        let started = Instant::now();
        let bounded = command.is_some_and(Command::is_bounded_there);
        Self { index, limit, deadline: started + limit + GRACE, running: true, started, bounded }
    }

    /// Whoever runs the command has ended: its last words are all that is waited for.
    pub(super) fn hurry(&mut self) {
        self.deadline = self.deadline.min(Instant::now() + LAST_WORDS);
    }

    /// Says [`Status::TimedOut`] for the statuses with which `timeout(1)` reports that it ended the
    /// command: 124, 137 where SIGKILL was needed, 143 from BusyBox.
    pub(super) fn judge(&self, reply: Reply) -> Reply {
        // The host counts whole seconds, see `Command::to_shell`.
        let on_host = Duration::from_secs(self.limit.as_secs().max(1));
        let due = self.bounded && self.started.elapsed() + SKEW >= on_host;
        match reply {
            Reply::Ended { index, status: Status::Exited(124 | 137 | 143) } if due => {
                Reply::Ended { index, status: Status::TimedOut(self.limit) }
            }
            reply => reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels_with_a_command_has_time_to_arrive() {
        let command = Command::shell("cat").timeout(Duration::from_secs(600));
        let wait = |command: &Command| {
            let clock = Clock::waiting(0, Some(command));
            clock.deadline - clock.started
        };
        assert_eq!(wait(&command), START_LIMIT);
        assert_eq!(wait(&command.with_input("x".into())), START_LIMIT + Duration::from_secs(600));
    }
}
