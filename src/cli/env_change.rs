//! Carries out a change of settings: lock all, read all, stage all, replace all, and say it in the history.

use std::time::Duration;

use super::env::size;
use super::env_file::{Settings, read};
use super::look::Look;
use super::machine::Machine;
use super::operation::holder;
use crate::command::Command;
use crate::dotenv::File;
use crate::error::{Error, Kind};
use crate::event::Action;
use crate::fleet::{Answer, Member, ask, each, give};
use crate::lock;
use crate::plan::env::{Change, Difference, STAGING};
use crate::plan::record::{HistoryEntry, append_history};
use crate::report;
use crate::session::Status;

/// What one host's file becomes.
#[derive(Clone)]
struct Work {
    member: Member,
    place: crate::plan::env::Place,
    file: File,
    difference: Difference,
}

/// Changes the settings on every host of `look`, or on none.
pub async fn carry_out(machine: &Machine, look: Look, change: &Change, patience: Duration) -> Result<(), Error> {
    let result = change_all(machine, &look, change, patience).await;
    match result {
        Ok(text) => look.end(&text).await,
        Err(error) => {
            super::stage::close(&look.members).await;
            Err(error)
        }
    }
}

async fn change_all(machine: &Machine, look: &Look, change: &Change, patience: Duration) -> Result<String, Error> {
    super::look::refused(&look.refused)?;
    let facts = look.lock(&holder(machine, "a change of settings"), patience).await?;
    let held: Vec<String> = facts
        .iter()
        .zip(&look.members)
        .filter_map(|(facts, member)| Some((member, facts.hold.as_ref()?)))
        .map(|(member, hold)| format!("{}: deploys are locked by {}", member.name, lock::parse(hold)))
        .collect();
    if !held.is_empty() {
        return Err(Error::new(Kind::Refused, held.join("\n")).hint("`ship unlock` frees it"));
    }
    let before = read(look, change.pushed()).await?;
    let mut work = Vec::new();
    let mut after: Vec<(String, File)> = Vec::new();
    for (one, member) in before.iter().zip(&look.members) {
        let file = change
            .applied(&one.file)
            .map_err(|(key, refused)| Error::new(Kind::Refused, format!("{}: {key}: {refused}", one.host)))?;
        after.push((one.host.clone(), file.clone()));
        if file.text() != one.file.text() {
            let difference = Difference::between(&one.file, &file);
            work.push(Work { member: member.clone(), place: one.place.clone(), file, difference });
        }
    }
    let lost: Vec<String> = work
        .iter()
        .map(|one| (one, change.unasked(&one.difference)))
        .filter(|(_, keys)| !keys.is_empty())
        .map(|(one, keys)| format!("{} has {}, which the file has not", one.member.name, keys.join(", ")))
        .collect();
    if !lost.is_empty() {
        return Err(
            Error::usage(lost.join("\n")).hint("`--prune` removes them; `ship env get KEY` shows what they are")
        );
    }
    let told = told(&before, &work, change, &after);
    if work.is_empty() {
        return Ok(told);
    }
    stage(&work).await?;
    replace(machine, look, &work).await?;
    Ok(told)
}

/// Puts every new file beside the old one. Where that fails anywhere, nothing was changed.
async fn stage(work: &[Work]) -> Result<(), Error> {
    let failed = on_each(work, |one| async move {
        let text = one.file.text();
        give(one.member.session.as_ref(), one.place.stage(text.expose().len()), text)
            .await
            .map_err(|lost| lost.to_string())
            .and_then(|answer| outcome(&answer, STAGING))
    })
    .await;
    if failed.is_empty() {
        return Ok(());
    }
    let _ = on_each(work, |one| async move { run(&one, one.place.discard()).await }).await;
    let lines: Vec<String> = failed.iter().map(|(one, why)| format!("{}: {why}", one.member.name)).collect();
    Err(Error::new(Kind::Failed, format!("no host was changed:\n{}", lines.join("\n"))))
}

/// Replaces every file; from here on a host that fails needs a person.
async fn replace(machine: &Machine, look: &Look, work: &[Work]) -> Result<(), Error> {
    let time = (machine.clock)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let entry = HistoryEntry {
        time,
        action: Some(Action::Env),
        environment: look.project.selection.environment.clone(),
        by: machine.who(),
        url: machine.ci_url(),
        outcome: "done".to_owned(),
        state: "changed".to_owned(),
        ..HistoryEntry::default()
    };
    let failed = on_each(work, |one| async move { run(&one, one.place.replace()).await }).await;
    let unwritten = on_each(work, |one| {
        let entry = HistoryEntry { description: one.difference.to_string(), ..entry.clone() };
        let failed = failed.iter().any(|(other, _)| other.member.name == one.member.name);
        async move { if failed { Ok(()) } else { run(&one, append_history(&one.member.layout, &entry)).await } }
    })
    .await;
    for (one, why) in unwritten {
        report::print_stderr(&format!("warning: {}: the history could not be written: {why}\n", one.member.name));
    }
    if failed.is_empty() {
        return Ok(());
    }
    let names =
        |all: &mut dyn Iterator<Item = &Work>| all.map(|one| one.member.name.clone()).collect::<Vec<_>>().join(", ");
    let changed =
        names(&mut work.iter().filter(|one| failed.iter().all(|(other, _)| other.member.name != one.member.name)));
    let lines: Vec<String> = failed.iter().map(|(one, why)| format!("{}: {why}", one.member.name)).collect();
    let mut error = Error::new(Kind::NeedsPerson, format!("the new settings are not in place:\n{}", lines.join("\n")));
    error.hints =
        failed.iter().map(|(one, _)| format!("{}: {}", one.member.name, one.place.replace().display())).collect();
    if !changed.is_empty() {
        error.hints.push(format!("they are in place on {changed}"));
    }
    Err(error)
}

async fn run(one: &Work, command: Command) -> Result<(), String> {
    let answers = ask(one.member.session.as_ref(), vec![command]).await.map_err(|lost| lost.to_string())?;
    answers.iter().try_for_each(|answer| outcome(answer, &[]))
}

fn outcome(answer: &Answer, meanings: &[(i32, &str)]) -> Result<(), String> {
    match &answer.status {
        Some(Status::Exited(0)) => Ok(()),
        Some(Status::Exited(code)) => {
            let meant = meanings.iter().find(|(status, _)| status == code).map(|(_, meaning)| (*meaning).to_owned());
            Err(meant.unwrap_or_else(|| answer.last_line()))
        }
        _ => Err("it did not end as it should".to_owned()),
    }
}

/// Does `what` for all at once, and gives back those that failed.
async fn on_each<F>(work: &[Work], what: impl Fn(Work) -> F) -> Vec<(Work, String)>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let members: Vec<Member> = work.iter().map(|one| one.member.clone()).collect();
    let results = each(&members, |index, _| {
        let future = work.get(index).cloned().map(&what);
        async move {
            match future {
                Some(future) => future.await,
                None => Ok(()),
            }
        }
    })
    .await;
    work.iter().zip(results).filter_map(|(one, result)| Some((one.clone(), result.err()?))).collect()
}

/// What is said when all is done: by name and size, never by value.
fn told(before: &[Settings], work: &[Work], change: &Change, after: &[(String, File)]) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for one in before {
        let text = work
            .iter()
            .find(|work| work.member.name == one.host)
            .map_or("nothing to change".to_owned(), |work| work.difference.to_string());
        match groups.iter_mut().find(|(known, _)| *known == text) {
            Some((_, hosts)) => hosts.push(&one.host),
            None => groups.push((text, vec![&one.host])),
        }
    }
    let mut out: String = groups.iter().map(|(text, hosts)| format!("{}: {text}\n", hosts.join(", "))).collect();
    if let Change::Set(values) = change {
        for (key, value) in values {
            let end = if value.expose().ends_with('\n') { ", the last with its line end" } else { "" };
            out.push_str(&format!("{key}: {}{end}\n", size(value.expose())));
        }
    }
    let open: Vec<&str> = before.iter().filter(|one| one.open).map(|one| one.host.as_str()).collect();
    if !open.is_empty() {
        let path = before.first().map(|one| one.place.path().to_owned()).unwrap_or_default();
        out.push_str(&format!("Everybody on {} may read {path}: `chmod o-r` mends that.\n", open.join(", ")));
    }
    if let Some((first, rest)) = after.split_first() {
        let mut differing: Vec<String> = Vec::new();
        for (_, file) in rest {
            let difference = Difference::between(&first.1, file);
            differing.extend(difference.set.into_iter().chain(difference.unset));
        }
        differing.sort();
        differing.dedup();
        if !differing.is_empty() {
            out.push_str(&format!("The hosts differ in {}: `ship env list` compares them.\n", differing.join(", ")));
        }
    }
    if !work.is_empty() {
        out.push_str("The next deploy takes it up.\n");
    }
    out
}
