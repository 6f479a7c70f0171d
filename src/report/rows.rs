//! Which finished steps make one line together: the same step on every host of a phase.
//!
//! Hosts go through the steps of a phase in the same order, but not through all of them: roles, `once`
//! and conditions leave some out. So a step is complete when every host has done it or is seen at work
//! on a later one.

use std::collections::{BTreeSet, HashMap};

use crate::event::Phase;

/// A step, over all hosts that did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its phase.
    pub phase: Phase,
    /// Its name.
    pub name: String,
    /// The hosts that did it.
    pub done: BTreeSet<String>,
    /// How long the slowest took.
    pub millis: u64,
    /// Bytes sent, over all hosts.
    pub bytes: u64,
    running: BTreeSet<String>,
    /// Hosts that failed here: they are told of on their own.
    failed: BTreeSet<String>,
    id: usize,
    told: bool,
}

impl Row {
    fn knows(&self, host: &str) -> bool {
        self.done.contains(host) || self.running.contains(host) || self.failed.contains(host)
    }
}

/// The steps of the phase that goes on.
#[derive(Debug, Default)]
pub struct Rows {
    hosts: BTreeSet<String>,
    /// Hosts that failed: nothing more is expected of them.
    gone: BTreeSet<String>,
    order: Vec<Row>,
    /// The step that each host began last.
    latest: HashMap<String, usize>,
    next: usize,
}

impl Rows {
    /// A phase begins on `hosts`.
    pub fn begin(&mut self, hosts: &[String]) {
        *self = Self { hosts: hosts.iter().cloned().collect(), next: self.next, ..Self::default() };
    }

    /// `host` begins a step.
    pub fn started(&mut self, host: &str, phase: Phase, name: &str) {
        let mine = |row: &&mut Row| row.phase == phase && row.name == name && !row.told && !row.knows(host);
        let id = match self.order.iter_mut().find(mine) {
            Some(row) => {
                row.running.insert(host.to_owned());
                row.id
            }
            None => self.insert(host, phase, name),
        };
        self.latest.insert(host.to_owned(), id);
    }

    /// A new row, behind the step that the host did before it.
    fn insert(&mut self, host: &str, phase: Phase, name: &str) -> usize {
        let id = self.next;
        self.next += 1;
        let place = self.place_of(host).map_or(self.order.len(), |place| place + 1);
        let row = Row {
            phase,
            name: name.to_owned(),
            done: BTreeSet::new(),
            millis: 0,
            bytes: 0,
            running: BTreeSet::from([host.to_owned()]),
            failed: BTreeSet::new(),
            id,
            told: false,
        };
        self.order.insert(place.min(self.order.len()), row);
        id
    }

    /// `host` did a step. Returns the rows that are complete now.
    pub fn done(&mut self, host: &str, phase: Phase, name: &str, millis: u64, bytes: u64) -> Vec<Row> {
        if let Some(row) = self.running_row(host, phase, name) {
            row.running.remove(host);
            row.done.insert(host.to_owned());
            row.millis = row.millis.max(millis);
            row.bytes = row.bytes.saturating_add(bytes);
        }
        self.complete()
    }

    /// `host` failed at a step; with `goes_on` it does the ones after it all the same.
    pub fn failed(&mut self, host: &str, phase: Phase, name: &str, goes_on: bool) -> Vec<Row> {
        if let Some(row) = self.running_row(host, phase, name) {
            row.running.remove(host);
            row.failed.insert(host.to_owned());
        }
        if !goes_on {
            self.gone.insert(host.to_owned());
            self.order.iter_mut().for_each(|row| {
                row.running.remove(host);
            });
        }
        self.complete()
    }

    /// The phase is over: the rows that were not told yet.
    pub fn rest(&mut self) -> Vec<Row> {
        let rest = |row: &&mut Row| !row.told && !row.done.is_empty();
        self.order
            .iter_mut()
            .filter(rest)
            .map(|row| {
                row.told = true;
                row.clone()
            })
            .collect()
    }

    fn running_row(&mut self, host: &str, phase: Phase, name: &str) -> Option<&mut Row> {
        self.order.iter_mut().find(|row| row.phase == phase && row.name == name && row.running.contains(host))
    }

    fn place_of(&self, host: &str) -> Option<usize> {
        let id = self.latest.get(host)?;
        self.order.iter().position(|row| row.id == *id)
    }

    fn complete(&mut self) -> Vec<Row> {
        let ready: Vec<bool> = self
            .order
            .iter()
            .enumerate()
            .map(|(place, row)| !row.told && row.running.is_empty() && !row.done.is_empty() && self.is_over(place, row))
            .collect();
        let mut complete = Vec::new();
        for (row, ready) in self.order.iter_mut().zip(ready) {
            if ready {
                row.told = true;
                complete.push(row.clone());
            }
        }
        complete
    }

    /// Whether no host of the phase will do `row` any more.
    fn is_over(&self, place: usize, row: &Row) -> bool {
        let elsewhere = row.done.is_disjoint(&self.hosts);
        let past = |host: &String| self.place_of(host).is_some_and(|at| at > place);
        elsewhere || self.hosts.iter().all(|host| row.knows(host) || self.gone.contains(host) || past(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(hosts: &[&str]) -> Rows {
        let mut rows = Rows::default();
        rows.begin(&hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>());
        rows
    }

    fn start(rows: &mut Rows, host: &str, name: &str) {
        rows.started(host, Phase::Prepare, name);
    }

    fn end(rows: &mut Rows, host: &str, name: &str) -> Vec<String> {
        shown(rows.done(host, Phase::Prepare, name, 5, 1))
    }

    fn shown(rows: Vec<Row>) -> Vec<String> {
        let hosts = |row: &Row| row.done.iter().cloned().collect::<Vec<_>>().join(" ");
        rows.iter().map(|row| format!("{}: {}", row.name, hosts(row))).collect()
    }

    #[test]
    fn a_step_is_told_when_its_last_host_did_it() {
        let mut rows = rows(&["a", "b"]);
        start(&mut rows, "a", "one");
        assert!(end(&mut rows, "a", "one").is_empty());
        start(&mut rows, "a", "two");
        start(&mut rows, "b", "one");
        assert_eq!(end(&mut rows, "b", "one"), ["one: a b"]);
        assert!(end(&mut rows, "a", "two").is_empty());
        assert_eq!(shown(rows.rest()), ["two: a"]);
        assert!(rows.rest().is_empty());
    }

    #[test]
    fn a_step_that_others_leave_out_is_told_when_they_are_past_it() {
        let mut rows = rows(&["a", "b"]);
        start(&mut rows, "a", "one");
        start(&mut rows, "b", "one");
        end(&mut rows, "a", "one");
        start(&mut rows, "a", "once");
        assert_eq!(end(&mut rows, "b", "one"), ["one: a b"]);
        assert!(end(&mut rows, "a", "once").is_empty());
        start(&mut rows, "a", "three");
        start(&mut rows, "b", "three");
        assert_eq!(end(&mut rows, "a", "three"), ["once: a"]);
        assert_eq!(end(&mut rows, "b", "three"), ["three: a b"]);
    }

    #[test]
    fn nobody_waits_for_a_host_that_failed_or_for_this_machine() {
        let mut rows = rows(&["a", "b"]);
        start(&mut rows, "local", "build");
        assert_eq!(end(&mut rows, "local", "build"), ["build: local"]);
        start(&mut rows, "a", "one");
        start(&mut rows, "b", "one");
        assert!(end(&mut rows, "a", "one").is_empty());
        assert_eq!(shown(rows.failed("b", Phase::Prepare, "one", false)), ["one: a"]);
        start(&mut rows, "a", "two");
        assert_eq!(end(&mut rows, "a", "two"), ["two: a"]);
    }

    #[test]
    fn two_steps_of_one_name_are_two_rows() {
        let mut rows = rows(&["a"]);
        for _ in 0..2 {
            start(&mut rows, "a", "one");
            assert_eq!(end(&mut rows, "a", "one"), ["one: a"]);
        }
        // Both of a's are there before b's first.
        let mut rows = super::tests::rows(&["a", "b"]);
        start(&mut rows, "a", "one");
        end(&mut rows, "a", "one");
        start(&mut rows, "a", "one");
        end(&mut rows, "a", "one");
        start(&mut rows, "b", "one");
        assert_eq!(end(&mut rows, "b", "one"), ["one: a b"]);
        start(&mut rows, "b", "one");
        assert_eq!(end(&mut rows, "b", "one"), ["one: a b"]);
    }
}
