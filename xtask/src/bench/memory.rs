//! How much memory a program and all that it started hold together, at most.
//!
//! What belongs together is told by a word in the environment, which processes inherit also when their parent is gone.
//! The sum is of resident memory, so pages that several processes share count for each of them.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::failure::{Failure, Result};

/// The variable whose value marks the processes of one run.
pub const MARK: &str = "SHIP_BENCH_RUN";

/// The pause between two looks. Peaks last longer, and a look takes a tenth of a millisecond.
const INTERVAL: Duration = Duration::from_millis(10);

/// Looks again and again until it is asked for the result.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Watch {
    /// Begins, before the program is started.
    pub fn begin(mark: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ends, word) = (Arc::clone(&stop), format!("{MARK}={mark}"));
        let strangers: BTreeSet<u32> = processes().collect();
        let thread = std::thread::spawn(move || {
            let (mut ours, mut peak) = (BTreeSet::new(), 0);
            while !ends.load(Ordering::Relaxed) {
                peak = peak.max(look(&strangers, &mut ours, &word));
                std::thread::sleep(INTERVAL);
            }
            peak
        });
        Self { stop, thread }
    }

    /// The largest sum that was seen, in bytes.
    pub fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Failure::new("The watch over memory ended early."))
    }
}

fn look(strangers: &BTreeSet<u32>, ours: &mut BTreeSet<u32>, word: &str) -> u64 {
    let mut sum = 0;
    for process in processes().filter(|process| !strangers.contains(process)) {
        // A new process has its parent's environment until it becomes another program, so a no is not remembered.
        if ours.contains(&process) || is_marked(process, word) {
            ours.insert(process);
            sum += resident(process);
        }
    }
    sum
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
}

fn is_marked(process: u32, word: &str) -> bool {
    let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == word.as_bytes())
}

/// The resident memory of a process that may have ended meanwhile.
fn resident(process: u32) -> u64 {
    resident_in(&fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default())
}

fn resident_in(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::{MARK, Watch, is_marked, resident, resident_in};

    #[test]
    fn the_line_of_resident_memory_is_read() {
        assert_eq!(resident_in("Name:\tx\nVmRSS:\t     12 kB\nThreads:\t1\n"), 12 * 1024);
        assert_eq!(resident_in(""), 0);
    }

    #[test]
    fn a_child_of_a_child_counts() {
        let mark = format!("test-{}", std::process::id());
        let watch = Watch::begin(&mark);
        let child = Command::new("sh").args(["-c", "cat | cat"]).env(MARK, &mark).stdin(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        while !is_marked(child.id(), &format!("{MARK}={mark}")) {}
        let alone = resident(child.id());
        std::thread::sleep(super::INTERVAL * 5);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(watch.end().unwrap() > alone, "the shell and its children");
    }
}
