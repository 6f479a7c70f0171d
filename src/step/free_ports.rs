//! `free_ports`: refuses while something listens where something of this recipe is going to.

use super::ground::{Change, Ground, Noun};
use super::{Action, Task};
use crate::command::Command;
use crate::document::{Node, Problem, Problems, Value};

/// One line for the documentation.
pub const SUMMARY: &str =
    "refuses while something listens on these TCP ports; with `creates`, only before that is there";
/// An example in TOML.
pub const EXAMPLE: &str = "free_ports = [80, 443]";

/// A `free_ports` step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreePorts {
    /// The ports.
    pub ports: Vec<u16>,
}

impl FreePorts {
    /// Reads the body: an array of ports.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        let items = match &body.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(body),
        };
        let port = |item: &Node| match &item.value {
            Value::Integer(number) => u16::try_from(*number).ok().filter(|port| *port > 0),
            // What a template makes is text.
            Value::String(text) => text.parse().ok().filter(|port| *port > 0),
            _ => None,
        };
        let ports: Option<Vec<u16>> = items.iter().map(port).collect();
        if ports.is_none() {
            problems
                .push(Problem::at(&body.place, "`free_ports` are no ports").label("expected ports, such as [80, 443]"));
        }
        ports.map(|ports| Self { ports })
    }

    /// The check itself, where the ports are free now: what comes before it may start something.
    pub fn changes(&self, ground: &Ground<'_>) -> Result<Vec<Change>, String> {
        let list = |ports: &[u16]| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let busy: Vec<u16> = self.ports.iter().copied().filter(|port| ground.found.listening.contains(port)).collect();
        if !busy.is_empty() {
            return Err(format!(
                "the step \"{}\" needs free ports, and something listens on {} (`ss -ltnp`, as root, says what)",
                ground.context.name,
                list(&busy)
            ));
        }
        let pattern = self.ports.iter().map(|port| format!("{port:04X}")).collect::<Vec<_>>().join("|");
        let look = Command::shell(format!(
            "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == \"0A\" && $2 ~ /:({pattern})$/ {{ found = 1 }} END {{ exit found }}'"
        ));
        let mut task = Task::new(ground.context.name, Action::Command(ground.context.limited(look)));
        task.meanings = &[(1, "something listens there: `ss -ltnp`, as root, says what")];
        Ok(vec![Change::new(Noun::Check, format!("check that nothing listens on {}", list(&self.ports))).task(task)])
    }
}
