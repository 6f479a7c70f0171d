//! The plan as text, for `ship plan`: every command as it will run, every file, and the way back.

use super::{HostPlan, Plan, Transfer};
use crate::artifact::{Entry, Patch};
use crate::command::Command;
use crate::event::{Action as RunAction, Phase};
use crate::output::visible;
use crate::step::{Action, Judge, Task};

/// How many paths of each kind are listed before only their number is given.
const LISTED: usize = 20;

/// The plan. With `verbose` no list is cut. Hosts with the same plan are shown once.
pub fn text(plan: &Plan, verbose: u8) -> String {
    let mut out = String::new();
    let environment = plan.environment.as_deref().map(|name| format!(" to {name}")).unwrap_or_default();
    let verb = match plan.action {
        RunAction::Rollback => "Roll back",
        _ => "Deploy",
    };
    out.push_str(&format!("{verb} {}{environment}: release {}\n", plan.app, plan.release));
    if !plan.description.is_empty() {
        out.push_str(&format!("  from {}\n", visible(plan.description.as_bytes())));
    }
    let mut groups: Vec<(Vec<&str>, String)> = Vec::new();
    for host in &plan.hosts {
        let body = host_text(host, verbose);
        match groups.iter_mut().find(|(_, known)| *known == body) {
            Some((names, _)) => names.push(&host.host),
            None => groups.push((vec![&host.host], body)),
        }
    }
    for (names, body) in groups {
        out.push_str(&format!("\n{}\n{body}", names.join(", ")));
    }
    out.push_str("\nOrder\n");
    if plan.hosts.iter().any(|host| !host.prepare.is_empty()) {
        out.push_str(
            "  prepare on every host; if it fails on any, nothing is switched and the new release is removed\n",
        );
    }
    for (number, batch) in plan.batches.iter().enumerate() {
        let names: Vec<&str> =
            batch.iter().filter_map(|index| plan.hosts.get(*index)).map(|host| host.host.as_str()).collect();
        out.push_str(&format!("  publish {} of {}: {}\n", number + 1, plan.batches.len(), names.join(", ")));
    }
    out.push_str(&match plan.max_failures {
        0 => "  if publish fails on any host, every reached host is put back\n".to_owned(),
        allowed => format!("  if publish fails on more than {allowed} hosts, every reached host is put back\n"),
    });
    out
}

fn host_text(host: &HostPlan, verbose: u8) -> String {
    let mut out = String::new();
    match (&host.before, &host.foreign) {
        (Some(before), _) => out.push_str(&format!("  live now: {before}\n")),
        (None, Some(foreign)) => {
            out.push_str(&format!("  live now: {} (not made by ship)\n", visible(foreign.as_bytes())));
        }
        (None, None) => out.push_str("  live now: nothing\n"),
    }
    if let Some(transfer) = &host.transfer {
        files(&mut out, transfer, verbose);
    }
    for phase in [Phase::Prepare, Phase::Publish, Phase::Finish] {
        section(&mut out, phase.name(), host.tasks(phase));
    }
    section(&mut out, "if publish fails", &host.put_back);
    out
}

pub(super) fn section(out: &mut String, title: &str, tasks: &[Task]) {
    if tasks.is_empty() {
        return;
    }
    out.push_str(&format!("  {title}\n"));
    for task in tasks {
        let mark = if task.command().is_some_and(|command| command.sudo_argv().is_some()) { "#" } else { "$" };
        out.push_str(&format!("    {}\n", visible(task.name.as_bytes())));
        match &task.action {
            Action::Command(command) => typed(out, mark, command),
            Action::Derive(derive) => {
                typed(out, mark, &derive.question);
                for line in derive.decide.follows() {
                    out.push_str(&format!("        {}\n", visible(line.as_bytes())));
                }
            }
            Action::Feed(feed) => typed(out, mark, &feed.command),
            Action::Poll(poll) => {
                let until = match &poll.judge {
                    Judge::Success => "its status is 0".to_owned(),
                    Judge::HttpStatus(codes) => {
                        format!("it prints {}", codes.iter().map(u16::to_string).collect::<Vec<_>>().join(" or "))
                    }
                    Judge::Steady { window, .. } => format!("every unit was up for {} s", window.as_secs_f32()),
                    Judge::Compose(watch) => watch.until(),
                };
                out.push_str(&format!("      {mark} {}\n", visible(poll.probe.display().as_bytes())));
                out.push_str(&format!("        until {until}, for at most {} s\n", poll.within.as_secs_f32()));
            }
            Action::Detached(detached) => {
                for (index, line) in detached.command.display().lines().enumerate() {
                    let lead = if index == 0 { mark } else { " " };
                    out.push_str(&format!("      {lead} {}\n", visible(line.as_bytes())));
                }
                out.push_str(&format!("        {}\n", detached.outlook()));
            }
            Action::Transfer => {}
            Action::Send(sending) => {
                let (layers, all) = sending.load.counts();
                out.push_str(&format!("      {mark} {}\n", visible(sending.command.display().as_bytes())));
                out.push_str(&format!("        {layers} of {all} layers to send; {} bytes\n", sending.load.total()));
            }
        }
        if task.attempts > 1 {
            out.push_str(&format!("        tried up to {} times\n", task.attempts));
        }
        if task.tolerate {
            out.push_str("        a failure is reported and changes nothing else\n");
        }
    }
}

fn typed(out: &mut String, mark: &str, command: &Command) {
    for (index, line) in command.display().lines().enumerate() {
        let lead = if index == 0 { mark } else { " " };
        out.push_str(&format!("      {lead} {}\n", visible(line.as_bytes())));
    }
}

fn files(out: &mut String, transfer: &Transfer, verbose: u8) {
    let difference = &transfer.difference;
    let entries = transfer.tree.manifest().entries();
    out.push_str(&format!(
        "  files: {} added, {} changed, {} removed, {} unchanged; {} bytes to send\n",
        difference.added.len(),
        difference.changed.len(),
        difference.removed.len(),
        difference.unchanged.len(),
        transfer.bytes()
    ));
    let taken: usize = transfer.taken.iter().map(|taken| taken.entries.len()).sum();
    if taken > 0 {
        out.push_str(&format!("    {taken} of them are there since an upload that was interrupted\n"));
    }
    let patched = |index: usize| transfer.patches.iter().find(|patch| patch.entry == index).map(Patch::bytes);
    let shown = |entry: &Entry, sent: Option<u64>| match sent {
        Some(sent) => format!("{} ({sent} of {} bytes)", visible(&entry.path), entry.size()),
        None => visible(&entry.path),
    };
    let paths = |indices: &[usize]| -> Vec<String> {
        indices.iter().filter_map(|index| Some(shown(entries.get(*index)?, patched(*index)))).collect()
    };
    for (sign, paths) in
        [("+", paths(&difference.added)), ("~", paths(&difference.changed)), ("-", transfer.removed.clone())]
    {
        let shown = if verbose > 0 { paths.len() } else { LISTED };
        for path in paths.iter().take(shown) {
            out.push_str(&format!("    {sign} {path}\n"));
        }
        if paths.len() > shown {
            out.push_str(&format!("    {sign} and {} more (-v lists them)\n", paths.len() - shown));
        }
    }
}
