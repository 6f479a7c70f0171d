//! Runs one tool once, and measures what it took.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::bench::hosts::Hosts;
use crate::bench::memory::{MARK, Watch};
use crate::failure::{During as _, Failure, Result};

/// How many of the last lines of a tool that failed are repeated.
const LAST_LINES: usize = 12;

/// No run takes this long, so one that does hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// From the start of the program to its end.
    pub seconds: f64,
    /// The most memory that its processes held together, in bytes.
    pub memory: u64,
    /// What crossed the hosts' network cards, in both directions.
    pub bytes: u64,
}

/// Runs it with its output going into a file, not into a pipe: an SSH connection that stays open would hold that open.
pub fn measure(mut command: Command, hosts: &Hosts, count: usize, log: &Path, mark: &str) -> Result<Sample> {
    let output = File::create(log).during(format_args!("write {}", log.display()))?;
    let errors = output.try_clone().during("open the log twice")?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors).env(MARK, mark);
    let before = hosts.bytes_on_the_wire(count)?;
    let watch = Watch::begin(mark);
    let started = Instant::now();
    let mut child = command.spawn().during(format_args!("start {}", command.get_program().display()))?;
    // The clock of a kernel is better than a loop that looks: a thread kills what hangs, and we wait.
    let (done, hung) = std::sync::mpsc::channel::<()>();
    let pid = child.id().to_string();
    let guard = std::thread::spawn(move || {
        if hung.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").arg(&pid).status();
        }
    });
    let status = child.wait().during("wait for a tool")?;
    let seconds = started.elapsed().as_secs_f64();
    drop(done);
    let memory = watch.end()?;
    guard.join().map_err(|_| Failure::new("The guard over a tool ended early."))?;
    let bytes = hosts.bytes_on_the_wire(count)?.saturating_sub(before);
    if status.success() {
        return Ok(Sample { seconds, memory, bytes });
    }
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n    ");
    Err(Failure::new(format!("It ended with {status}:\n    {last}")))
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle)?;
    let lower = if values.len().is_multiple_of(2) { values.get(middle.checked_sub(1)?)? } else { upper };
    Some(lower.midpoint(*upper))
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }
}
