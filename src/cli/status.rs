//! `ship status`, `ship releases` and `ship history`: what is live, what is there, what was done.

use std::collections::BTreeSet;

use super::args::{Global, HistoryArgs, SelectArgs};
use super::look::Look;
use super::machine::Machine;
use crate::command::Command;
use crate::error::{Error, Kind};
use crate::event::Action;
use crate::facts::{Current, DetachedState, Facts, ReleaseState};
use crate::fleet::{Answer, ask, each};
use crate::lock;
use crate::output::visible;
use crate::plan::record::HistoryEntry;
use crate::plan::services::State;
use crate::plan::stack::Stack;
use crate::report::{Cell, Paint, Style, Table, Tone};

/// `ship status`. The exit code is 1 where hosts differ, so that a script can ask.
pub async fn status(global: &Global, machine: &Machine, args: &SelectArgs) -> Result<(), Error> {
    let mut look = Look::connect(global, machine, args).await?;
    let facts = look.facts().await?;
    let locks = locks(&look).await;
    let services = services(&look, &facts).await?;
    let mut table = Table::new(&["host", "release", "state", "revision", "from", "services", "lock", "free"]);
    for (((host, facts), lock), services) in facts.iter().zip(&locks).zip(&services) {
        let live = facts.live();
        let release = live.as_ref().and_then(|live| facts.releases.get(live));
        let state = match &facts.current {
            Current::Missing => "nothing is live".to_owned(),
            Current::Other => "current is no link".to_owned(),
            Current::Link { exists: false, .. } => "current points nowhere".to_owned(),
            Current::Link { .. } => release.and_then(|r| r.state).map_or("unknown", ReleaseState::name).to_owned(),
        };
        let revision: String = release.map(|r| r.info.revision.chars().take(7).collect()).unwrap_or_default();
        let from = release.map(|r| visible(r.info.description.as_bytes())).unwrap_or_default();
        let free = facts.free_kib.map(|kib| format!("{:.1} GB", kib as f64 / 1_000_000.0)).unwrap_or_default();
        let cells = [
            host.clone(),
            live.map(|live| live.to_string()).unwrap_or_default(),
            state,
            revision,
            from,
            services.clone(),
            lock.clone(),
            free,
        ];
        table.row(cells.iter().map(|cell| Cell::new(cell, Tone::Plain)));
    }
    let releases: BTreeSet<Option<String>> =
        facts.iter().map(|(_, facts)| facts.live().map(|live| live.to_string())).collect();
    let mut text = lines(&table);
    text.push_str(&detached(&facts));
    let differ = releases.len() > 1;
    if differ {
        text.push_str("\nThe hosts differ: not all have the same release live.\n");
    }
    look.end(&text).await?;
    if differ { Err(Error::new(Kind::Failed, "the hosts differ")) } else { Ok(()) }
}

/// A line for each detached command that still runs.
fn detached(facts: &[(String, Facts)]) -> String {
    let mut text = String::new();
    for (host, facts) in facts {
        for found in facts.detached.values().filter(|found| found.state == DetachedState::Runs) {
            let name = visible(found.name.as_bytes());
            text.push_str(&format!("\n{host}: still runs detached for release {}: {name}\n", found.release));
        }
    }
    text
}

fn lines(table: &Table) -> String {
    let mut text = table.lines(None, 0, Paint::new(&Style::default())).join("\n");
    text.push('\n');
    text
}

/// Who holds the lock of each host; empty where it is free.
async fn locks(look: &Look) -> Vec<String> {
    each(&look.members, |_, member| async move {
        let batch = vec![lock::probe(&member.layout)];
        let free = ask(member.session.as_ref(), batch).await.is_ok_and(|answers| answers.iter().all(Answer::success));
        if free {
            let held = ask(member.session.as_ref(), vec![Command::argv(["cat", &member.layout.hold()])]).await;
            let held = held.ok().and_then(|answers| answers.into_iter().next()).filter(Answer::success);
            return held.map(|answer| describe(&answer)).unwrap_or_default();
        }
        let holder = ask(member.session.as_ref(), vec![lock::holder(&member.layout)]).await;
        holder.ok().and_then(|answers| answers.into_iter().next()).map(|a| describe(&a)).unwrap_or_default()
    })
    .await
}

fn describe(answer: &Answer) -> String {
    lock::parse(&visible(answer.stdout.trim_ascii_end())).to_string()
}

/// The state of the recipe's services on each host: "gunicorn active, celery failed".
async fn services(look: &Look, facts: &[(String, Facts)]) -> Result<Vec<String>, Error> {
    let mut named = Vec::new();
    for (member, (_, facts)) in look.members.iter().zip(facts) {
        let host = look.project.selection.hosts.iter().find(|host| host.name == member.name);
        let units = host.map(|host| look.project.services(host)).transpose()?.unwrap_or_default();
        // What needs sudo may need its password, which this command does not ask for.
        let compose = host.and_then(|host| look.project.compose(host)).filter(|step| !step.sudo);
        let stack = compose.and_then(|step| Stack::of(&step, &member.layout, facts).ok());
        named.push((units, stack));
    }
    Ok(each(&look.members, |index, member| {
        let (units, stack) = named.get(index).cloned().unwrap_or_default();
        async move {
            if let Some(stack) = stack {
                let answers = ask(member.session.as_ref(), vec![stack.docker.containers()]).await.unwrap_or_default();
                return containers(&stack, answers.first());
            }
            if units.is_empty() {
                return String::new();
            }
            let argv = ["systemctl", "is-active", "--"].into_iter().map(str::to_owned).chain(units.iter().cloned());
            // The status is not 0 where any unit is not active; the output says which.
            let command = Command::argv(argv);
            let answer = ask(member.session.as_ref(), vec![command]).await.ok().and_then(|a| a.into_iter().next());
            let output = answer.map(|answer| visible_lines(&answer.stdout)).unwrap_or_default();
            let states = output.iter().map(String::as_str).chain(std::iter::repeat("unknown"));
            units.iter().zip(states).map(|(unit, state)| format!("{unit} {state}")).collect::<Vec<_>>().join(", ")
        }
    })
    .await)
}

/// The services of a Compose release in short: "web up, worker Exited (1) 2 minutes ago".
fn containers(stack: &Stack, answer: Option<&Answer>) -> String {
    let Some(answer) = answer.filter(|answer| answer.success()) else { return "unknown".to_owned() };
    let states = stack.states(&String::from_utf8_lossy(&answer.stdout));
    let short = |own: &State| format!("{} {}", own.service, if own.up { "up" } else { &own.state });
    visible(states.iter().map(short).collect::<Vec<_>>().join(", ").as_bytes())
}

fn visible_lines(bytes: &[u8]) -> Vec<String> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(visible).collect()
}

/// `ship releases`.
pub async fn releases(global: &Global, machine: &Machine, args: &SelectArgs) -> Result<(), Error> {
    let mut look = Look::connect(global, machine, args).await?;
    let facts = look.facts().await?;
    let all: BTreeSet<_> = facts.iter().flat_map(|(_, facts)| facts.releases.keys().cloned()).collect();
    let mut header = vec!["release", "from", "by"];
    header.extend(facts.iter().map(|(host, _)| host.as_str()));
    let mut table = Table::new(&header);
    for id in all.iter().rev() {
        let info =
            facts.iter().find_map(|(_, facts)| facts.releases.get(id)).map(|r| r.info.clone()).unwrap_or_default();
        let mut cells = vec![id.to_string(), visible(info.description.as_bytes()), visible(info.by.as_bytes())];
        cells.extend(facts.iter().map(|(_, facts)| state_on(facts, id)));
        table.row(cells.iter().map(|cell| Cell::new(cell, Tone::Plain)));
    }
    let text = if all.is_empty() { "There is no release yet.\n".to_owned() } else { lines(&table) };
    look.end(&text).await
}

fn state_on(facts: &Facts, id: &crate::layout::ReleaseId) -> String {
    let Some(release) = facts.releases.get(id) else { return "-".to_owned() };
    let state = release.state.map_or("unknown", ReleaseState::name);
    let gone = if release.present { "" } else { ", removed" };
    let current = if facts.live().as_ref() == Some(id) { " *" } else { "" };
    format!("{state}{gone}{current}")
}

/// `ship history`: the entries of all hosts, each run once.
pub async fn history(global: &Global, machine: &Machine, args: &HistoryArgs) -> Result<(), Error> {
    let mut look = Look::connect(global, machine, &args.select).await?;
    let facts = look.facts().await?;
    let mut runs: Vec<(HistoryEntry, Vec<String>)> = Vec::new();
    for (host, facts) in &facts {
        for entry in facts.history.iter().filter_map(|line| serde_json::from_str::<HistoryEntry>(line).ok()) {
            let same = |(known, hosts): &&mut (HistoryEntry, Vec<String>)| {
                !hosts.contains(host)
                    && known.time == entry.time
                    && known.action == entry.action
                    && known.release == entry.release
                    && known.by == entry.by
                    && known.state == entry.state
            };
            match runs.iter_mut().find(same) {
                Some((_, hosts)) => hosts.push(host.clone()),
                None => runs.push((entry, vec![host.clone()])),
            }
        }
    }
    runs.sort_by(|a, b| a.0.time.cmp(&b.0.time));
    let mut table = Table::new(&["time", "action", "release", "outcome", "hosts", "state", "by", "why"]);
    for (entry, hosts) in runs.iter().rev().take(args.lines).rev() {
        let action = entry.action.map_or("?", Action::name);
        let cells = [
            entry.time.as_str(),
            action,
            &entry.release,
            &entry.outcome,
            &hosts.join(", "),
            &entry.state,
            &entry.by,
            // What `ship env` changed is told by its description alone.
            entry.why.as_deref().unwrap_or(if entry.action == Some(Action::Env) { &entry.description } else { "" }),
        ];
        table.row(cells.iter().map(|cell| Cell::new(&visible(cell.as_bytes()), Tone::Plain)));
    }
    let text = if runs.is_empty() { "Nothing was done yet.\n".to_owned() } else { lines(&table) };
    look.end(&text).await
}
