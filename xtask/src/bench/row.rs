//! The rows of the table: a job, where it is done, and what it is held against.

use crate::bench::tool::Tool;
use crate::bench::tree::Tree;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// A deploy to hosts that have no release yet.
    First(Tree),
    /// A deploy of a tree of which a little has changed since the last one.
    Changed(Tree),
    /// A command on every host.
    Run,
    /// Back to the release before.
    Rollback,
}

/// A row, with the targets of ship's time ÷ the others'.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// What is done.
    pub job: Job,
    /// On how many hosts.
    pub hosts: usize,
    /// Whether a round trip takes 50 ms longer than it does on this machine.
    pub distant: bool,
    /// What ship's time is divided by, and how large the result may be.
    pub rivals: &'static [(Tool, f64)],
    /// How large ship's time ÷ that of the best of the other tools may be.
    pub best: Option<f64>,
    /// The other tools that take part.
    pub others: &'static [Tool],
    /// How much of the tree may cross the network: a part of its bytes.
    pub bytes: Option<f64>,
    /// How much memory ship may hold, in MiB.
    pub memory: Option<f64>,
    /// How often ship and its rivals run, and how often the other tools: those take far longer.
    pub rounds: (usize, usize),
}

const ALL: &[Tool] = &[Tool::Fabric, Tool::Pyinfra, Tool::Ansible, Tool::Capistrano, Tool::Mina];
/// Mina knows one host only.
const FLEET: &[Tool] = &[Tool::Fabric, Tool::Pyinfra, Tool::Ansible, Tool::Capistrano];
/// All of them leave the bytes to rsync, so where bytes are what takes time, the two quickest stand for all.
const QUICKEST: &[Tool] = &[Tool::Fabric, Tool::Pyinfra];

const SCRIPT: Tool = Tool::Script;

const fn row(name: &'static str, title: &'static str, job: Job, hosts: usize, distant: bool) -> Row {
    Row {
        name,
        title,
        job,
        hosts,
        distant,
        rivals: &[],
        best: None,
        others: &[],
        bytes: None,
        memory: None,
        rounds: (5, 2),
    }
}

const fn near(name: &'static str, title: &'static str, job: Job, hosts: usize) -> Row {
    row(name, title, job, hosts, false)
}

const fn distant(name: &'static str, title: &'static str, job: Job, hosts: usize) -> Row {
    row(name, title, job, hosts, true)
}

/// Every row, in the order of the table.
pub const ROWS: [Row; 12] = [
    Row {
        rivals: &[(SCRIPT, 0.5)],
        best: Some(0.15),
        others: ALL,
        ..distant("changed-distant", "1 host, 1 % changed, 50 ms RTT", Job::Changed(Tree::Site), 1)
    },
    Row {
        rivals: &[(SCRIPT, 0.6)],
        best: Some(0.15),
        others: ALL,
        ..near("changed", "1 host, 1 % changed, no delay", Job::Changed(Tree::Site), 1)
    },
    Row {
        rivals: &[(SCRIPT, 0.6)],
        best: Some(0.3),
        others: ALL,
        ..near("first", "1 host, first deploy, no delay", Job::First(Tree::Site), 1)
    },
    Row {
        rivals: &[(SCRIPT, 0.5)],
        best: Some(0.25),
        others: ALL,
        ..distant("first-distant", "1 host, first deploy, 50 ms RTT", Job::First(Tree::Site), 1)
    },
    Row {
        rivals: &[(SCRIPT, 0.6)],
        best: Some(0.2),
        others: FLEET,
        rounds: (3, 1),
        ..near("ten-changed", "10 hosts, 1 % changed, no delay", Job::Changed(Tree::Site), 10)
    },
    Row {
        rivals: &[(SCRIPT, 0.7)],
        best: Some(0.6),
        others: FLEET,
        rounds: (3, 1),
        ..near("ten-first", "10 hosts, first deploy, no delay", Job::First(Tree::Site), 10)
    },
    Row {
        rivals: &[(Tool::Ssh, 0.4)],
        best: Some(0.4),
        others: FLEET,
        memory: Some(150.0),
        rounds: (3, 1),
        ..near("fifty-run", "50 hosts, one command (`ship run`)", Job::Run, 50)
    },
    Row {
        rivals: &[(SCRIPT, 1.0)],
        best: Some(0.3),
        others: QUICKEST,
        rounds: (3, 1),
        ..near("many", "100,000 files, 10 changed", Job::Changed(Tree::Many), 1)
    },
    Row {
        rivals: &[(SCRIPT, 1.0), (Tool::Scp, 1.0)],
        best: Some(0.5),
        others: QUICKEST,
        memory: Some(40.0),
        rounds: (3, 1),
        ..near("large-first", "1 GiB file, first time, no delay", Job::First(Tree::Large), 1)
    },
    Row {
        rivals: &[(SCRIPT, 0.3), (Tool::Scp, 0.3)],
        best: Some(0.3),
        others: &[Tool::Fabric],
        memory: Some(40.0),
        rounds: (2, 1),
        ..distant("large-first-distant", "1 GiB file, first time, 50 ms RTT", Job::First(Tree::Large), 1)
    },
    Row {
        rivals: &[(SCRIPT, 1.0)],
        bytes: Some(0.01),
        memory: Some(40.0),
        rounds: (3, 1),
        ..near("large-changed", "1 GiB file, 1 MiB changed", Job::Changed(Tree::Large), 1)
    },
    Row {
        rivals: &[(Tool::Ssh, 1.3)],
        best: Some(0.15),
        others: ALL,
        ..distant("rollback", "rollback, 50 ms RTT", Job::Rollback, 1)
    },
];

impl Row {
    /// Who takes part, in the order in which they take turns.
    pub fn tools(&self) -> Vec<Tool> {
        let rivals = self.rivals.iter().map(|(tool, _)| *tool);
        // Where bytes are what takes time, login and restart say nothing.
        let floor = (self.best.is_some() && self.tree() == Some(Tree::Site)).then_some(Tool::Floor);
        std::iter::once(Tool::Ship).chain(rivals).chain(floor).chain(self.others.iter().copied()).collect()
    }

    /// The tree that it deploys, if it does.
    pub fn tree(&self) -> Option<Tree> {
        match self.job {
            Job::First(tree) | Job::Changed(tree) => Some(tree),
            Job::Rollback => Some(Tree::Site),
            Job::Run => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ROWS;
    use crate::bench::tool::Tool;

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let mut names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
    }

    #[test]
    fn a_tool_for_one_host_has_no_part_in_jobs_with_more() {
        assert!(ROWS.iter().all(|row| row.hosts == 1 || !row.others.contains(&Tool::Mina)));
    }
}
