//! How long each step took, over all hosts.

use std::sync::{Mutex, PoisonError};

use crate::event::Phase;

/// The times of the tasks that have ended, in the order in which each first did.
#[derive(Debug, Default)]
pub struct Times(Mutex<Vec<(Phase, String, Vec<u64>)>>);

impl Times {
    /// A task ended after so many milliseconds.
    pub fn add(&self, phase: Phase, name: &str, millis: u64) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match times.iter_mut().find(|(known, task, _)| *known == phase && task == name) {
            Some((_, _, all)) => all.push(millis),
            None => times.push((phase, name.to_owned(), vec![millis])),
        }
    }

    /// A line for each step.
    pub fn lines(&self) -> Vec<String> {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times
            .iter()
            .filter_map(|(phase, name, all)| {
                let mut sorted = all.clone();
                sorted.sort_unstable();
                let (median, most) = (sorted.get(sorted.len() / 2)?, sorted.last()?);
                let times = if sorted.len() == 1 {
                    format!("{most} ms")
                } else {
                    format!("median {median} ms, at most {most} ms, {} times", sorted.len())
                };
                Some(format!("{}: {name}: {times}", phase.name()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_one_line_for_all_hosts() {
        let times = Times::default();
        for (name, millis) in [("Upload", 40), ("Verify", 7), ("Upload", 900), ("Upload", 30)] {
            times.add(Phase::Prepare, name, millis);
        }
        assert_eq!(times.lines(), ["prepare: Upload: median 40 ms, at most 900 ms, 3 times", "prepare: Verify: 7 ms"]);
    }
}
