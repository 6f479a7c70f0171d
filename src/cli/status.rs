//! `ship status`, `ship releases` and `ship history`: what is live, what is there, what was done.

use std::collections::{BTreeMap, BTreeSet};

use super::args::{Global, HistoryArgs, SelectArgs};
use super::look::Look;
use super::machine::Machine;
use crate::command::Command;
use crate::error::{Error, Kind};
use crate::event::Action;
use crate::facts::{Current, DetachedState, Facts, ReleaseState};
use crate::fleet::{Answer, Member, ask, each};
use crate::lock;
use crate::output::visible;
use crate::plan::record::HistoryEntry;
use crate::plan::services::State;
use crate::plan::stack::Stack;
use crate::report::{Cell, Paint, Style, Table, Tone};

/// `ship status`. The exit code is 1 where hosts differ, so that a script can ask.
pub async fn status(global: &Global, machine: &Machine, args: &SelectArgs) -> Result<(), Error> {
    let mut look = Look::connect(global, machine, args).await?;
    let units: BTreeMap<String, Vec<String>> =
        look.members.iter().map(|member| member.name.clone()).zip(units(&look)?).collect();
    let beside: Vec<Vec<Command>> = look
        .members
        .iter()
        .map(|member| {
            let services = units.get(&member.name).and_then(|units| units_question(units));
            lock_questions(member).into_iter().chain(services).collect()
        })
        .collect();
    let found = look.facts_beside(&beside).await?;
    let stacks = containers(&look, &found).await;
    let mut table = Table::new(&["host", "release", "state", "revision", "from", "services", "lock", "free"]);
    let nothing = Answer::default();
    for (host, facts, answers) in &found {
        let answer = |index: usize| answers.get(index).unwrap_or(&nothing);
        let units = units.get(host).map(Vec::as_slice).unwrap_or_default();
        let (lock, services) = (
            held([answer(0), answer(1), answer(2)]),
            stacks.get(host).cloned().unwrap_or_else(|| services(units, answer(3))),
        );
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
            services,
            lock,
            free,
        ];
        table.row(cells.iter().map(|cell| Cell::new(cell, Tone::Plain)));
    }
    let facts: Vec<(String, Facts)> = found.into_iter().map(|(host, facts, _)| (host, facts)).collect();
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

/// Asks whether the lock is free, who holds it for the time of a run, and who set it.
fn lock_questions(member: &Member) -> [Command; 3] {
    [lock::probe(&member.layout), lock::holder(&member.layout), Command::argv(["cat", &member.layout.hold()])]
}

/// Who holds the lock; empty where it is free.
fn held([free, holder, hold]: [&Answer; 3]) -> String {
    if !free.success() {
        return describe(holder);
    }
    if hold.success() { describe(hold) } else { String::new() }
}

fn describe(answer: &Answer) -> String {
    lock::parse(&visible(answer.stdout.trim_ascii_end())).to_string()
}

/// The units of each host of which the state is told.
fn units(look: &Look) -> Result<Vec<Vec<String>>, Error> {
    let mut named = Vec::new();
    for member in &look.members {
        let host = look.project.host(&member.name);
        named.push(host.map(|host| look.project.services(host)).transpose()?.unwrap_or_default());
    }
    Ok(named)
}

/// Asks for the state of `units`. The status is not 0 where any unit is not active; the output says which.
fn units_question(units: &[String]) -> Option<Command> {
    let argv = ["systemctl", "is-active", "--"].into_iter().chain(units.iter().map(String::as_str));
    (!units.is_empty()).then(|| Command::argv(argv))
}

/// The state of the services: "gunicorn active, celery failed".
fn services(units: &[String], answer: &Answer) -> String {
    let output = visible_lines(&answer.stdout);
    let states = output.iter().map(String::as_str).chain(std::iter::repeat("unknown"));
    units.iter().zip(states).map(|(unit, state)| format!("{unit} {state}")).collect::<Vec<_>>().join(", ")
}

/// The services of the live Compose releases in short, by host: "web up, worker Exited (1) 2 minutes ago". Which there
/// are, the facts say, so that this is asked after them; through sudo it may need a password, and is not asked.
async fn containers(look: &Look, found: &[(String, Facts, Vec<Answer>)]) -> BTreeMap<String, String> {
    let stack = |member: &Member| {
        let host = look.project.host(&member.name)?;
        let compose = look.project.compose(host).filter(|step| !step.sudo)?;
        let (_, facts, _) = found.iter().find(|(name, ..)| *name == member.name)?;
        Stack::of(&compose, &member.layout, facts).ok()
    };
    let stacks: Vec<Option<Stack>> = look.members.iter().map(stack).collect();
    let shown = each(&look.members, |index, member| {
        let stack = stacks.get(index).cloned().flatten();
        async move {
            let stack = stack?;
            let answers = ask(member.session.as_ref(), vec![stack.docker.containers()]).await.unwrap_or_default();
            Some((member.name, in_short(&stack, answers.first())))
        }
    });
    shown.await.into_iter().flatten().collect()
}

fn in_short(stack: &Stack, answer: Option<&Answer>) -> String {
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
