//! The plan of a setup as text: what would change on each host, how each file differs, and every command.

use super::setup::HostSetup;
use super::show::section;
use crate::output::visible;
use crate::step::ground::{Change, Noun};

/// The whole plan. Hosts with the same one are shown once.
pub fn text(app: &str, environment: Option<&str>, hosts: &[HostSetup]) -> String {
    let place = environment.map(|name| format!(" on {name}")).unwrap_or_default();
    let mut out = format!("Set up {app}{place}\n");
    for (names, body) in grouped(hosts, host_text) {
        out.push_str(&format!("\n{}\n{body}", names.join(", ")));
    }
    out
}

/// What is told before it is done: each change, and how each file differs; packages alone, where there are any.
pub fn outline(hosts: &[HostSetup]) -> Vec<(Vec<&str>, String)> {
    let mut groups = grouped(hosts, |host| {
        let mut out = String::new();
        for change in host.next().filter(|change| change.noun != Noun::Check) {
            title(&mut out, "", change);
        }
        out
    });
    groups.retain(|(_, body)| !body.is_empty());
    groups
}

/// What changed, counted: `1 package, 3 files`.
pub fn counted<'a>(changes: impl Iterator<Item = &'a Change>) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for change in changes.filter(|change| change.noun != Noun::Check) {
        *counts.entry(change.noun).or_insert(0) += change.count;
    }
    counts.into_iter().map(|(noun, count)| noun.words(count)).collect::<Vec<_>>().join(", ")
}

fn grouped(hosts: &[HostSetup], body: impl Fn(&HostSetup) -> String) -> Vec<(Vec<&str>, String)> {
    let mut groups: Vec<(Vec<&str>, String)> = Vec::new();
    for host in hosts {
        let body = body(host);
        match groups.iter_mut().find(|(_, known)| *known == body) {
            Some((names, _)) => names.push(&host.host),
            None => groups.push((vec![&host.host], body)),
        }
    }
    groups
}

fn host_text(host: &HostSetup) -> String {
    if host.is_done() {
        return "  nothing to do\n".to_owned();
    }
    let mut out = String::new();
    for change in host.all() {
        title(&mut out, "  ", change);
        let tasks: Vec<_> = change.tasks.iter().chain(&change.trial).cloned().collect();
        section(&mut out, "commands", &tasks);
        section(&mut out, "if one of the last fails", &change.undo);
    }
    for later in &host.later {
        out.push_str(&format!("  decided once the packages are there: {}\n", visible(later.as_bytes())));
    }
    out
}

fn title(out: &mut String, lead: &str, change: &Change) {
    out.push_str(&format!("{lead}{}\n", visible(change.title.as_bytes())));
    for line in change.diff.iter().flat_map(|diff| diff.lines()) {
        out.push_str(&format!("{lead}  {line}\n"));
    }
}
