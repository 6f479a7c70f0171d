//! `ship service`: restarts, stops and starts the recipe's services, and tells their state.

use std::sync::Arc;
use std::time::Duration;

use super::args::{Global, Output, ServiceAction, ServiceArgs, ServiceChange, ServiceDown, ServiceSelect};
use super::look::Look;
use super::machine::Machine;
use super::operation::{Beginning, begin, confirm, holder};
use super::project::{Project, definitions};
use super::prompt;
use super::services::{self, Place};
use super::stage::close;
use crate::config::selection::Host;
use crate::error::{Error, Kind};
use crate::event::{Action, HostState, HostSummary, Outcome, Phase};
use crate::execute::Conclusion;
use crate::execute::host::Host as Worker;
use crate::facts::Facts;
use crate::fleet::{self, Member, Question, ask, each};
use crate::layout::ReleaseId;
use crate::output::visible;
use crate::plan::render::Filter;
use crate::plan::services::{Act, State, step};
use crate::report::{self, Cell, Paint, Style, Table, Tone};
use crate::step::swap::Expected;
use crate::step::{Context, Task};

/// `ship service`.
pub async fn run(global: &Global, machine: &Machine, args: &ServiceArgs) -> Result<(), Error> {
    match &args.action {
        ServiceAction::Restart(args) => change(global, machine, Act::Restart, args).await,
        ServiceAction::Stop(args) => change(global, machine, Act::Stop, args).await,
        ServiceAction::Start(args) => change(global, machine, Act::Start, args).await,
        ServiceAction::Status(args) => status(global, machine, args).await,
        ServiceAction::Down(args) => down(global, machine, args).await,
    }
}

/// `ship service status`. The exit code is 1 where any service is not up, so that a script can ask.
async fn status(global: &Global, machine: &Machine, args: &ServiceSelect) -> Result<(), Error> {
    let (inventory, _) = definitions(global, machine)?;
    let (select, names) = services::words(&inventory, &args.select, &args.names);
    let mut look = Look::connect_for(global, machine, &select, services::need_sudo).await?;
    let places = services::places(&mut look, &names).await?;
    let found = state_of(&look.members, &places).await;
    let mut down: Vec<String> = found
        .iter()
        .flat_map(|(_, states)| states)
        .filter(|state| !state.up)
        .map(|state| state.service.clone())
        .collect();
    down.sort();
    down.dedup();
    look.end(&table(&found)).await?;
    if down.is_empty() { Ok(()) } else { Err(Error::new(Kind::Failed, format!("not up: {}", down.join(", ")))) }
}

/// The state of the services of each host, by its name.
async fn state_of(members: &[Member], places: &[Place]) -> Vec<(String, Vec<State>)> {
    each(members, |index, member| {
        let place = places.get(index).cloned().unwrap_or_default();
        async move {
            if place.is_empty() {
                return (member.name, Vec::new());
            }
            let answers = ask(member.session.as_ref(), vec![place.question()]).await;
            let states = match answers.map_err(|lost| lost.to_string()).map(|answers| answers.into_iter().next()) {
                Ok(Some(answer)) if answer.success() => place.states(&String::from_utf8_lossy(&answer.stdout)),
                Ok(answer) => unknown(&place, &answer.unwrap_or_default().last_line()),
                Err(lost) => unknown(&place, &lost),
            };
            (member.name, states)
        }
    })
    .await
}

/// The services of a host that does not say how they are: that is not the same as being down.
fn unknown(place: &Place, why: &str) -> Vec<State> {
    let short: String = why.chars().take(60).collect();
    let end = if short.len() < why.len() { "…" } else { "" };
    let state = |service| State { service, state: format!("unknown: {short}{end}"), ..State::default() };
    place.names().into_iter().map(state).collect()
}

fn table(found: &[(String, Vec<State>)]) -> String {
    let mut table = Table::new(&["host", "service", "state", "for", "restarts", "memory"]);
    for (host, states) in found {
        for state in states {
            let memory = state.memory.map(|bytes| format!("{} MiB", bytes >> 20)).unwrap_or_default();
            let since = state.since.map(spelled).unwrap_or_default();
            let cells = [host, &state.service, &state.state, &since, &state.restarts, &memory];
            let tone = if state.up { Tone::Plain } else { Tone::Bad };
            table.row(cells.iter().map(|cell| Cell::new(&visible(cell.as_bytes()), tone)));
        }
    }
    let mut text = table.lines(None, 0, Paint::new(&Style::default())).join("\n");
    text.push('\n');
    text
}

/// What changes services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Act(Act),
    Down { volumes: bool },
}

/// `ship service restart`, `stop` and `start`.
async fn change(global: &Global, machine: &Machine, act: Act, args: &ServiceChange) -> Result<(), Error> {
    let (inventory, _) = definitions(global, machine)?;
    let (select, names) = services::words(&inventory, &args.chosen.select, &args.chosen.names);
    let project = Project::load(global, machine, &select, Filter::default(), &[])?;
    let hosts: Vec<&Host> = project.selection.hosts.iter().collect();
    // A wrong name of a unit is known before any host is asked.
    if !services::are_containers(&project) {
        services::of_hosts(&project, &hosts, &[], &names)?;
    }
    let whose = if names.is_empty() { "all services".to_owned() } else { names.join(", ") };
    confirm(&project, machine, args.yes, &format!("{} {whose}", capital(act.name())))?;
    let what = format!("service {} {}", act.name(), names.join(" "));
    carry_out(global, machine, project, Change::Act(act), &names, args.lock_wait, what.trim_end()).await
}

/// `ship service down`: the containers of the whole project go, and with `--volumes` what they have stored.
async fn down(global: &Global, machine: &Machine, args: &ServiceDown) -> Result<(), Error> {
    let (inventory, _) = definitions(global, machine)?;
    if let Some(word) = args.select.environment.as_ref().filter(|word| inventory.environment(word).is_none()) {
        return Err(Error::usage(format!("there is no environment `{word}`"))
            .hint("`down` is for the whole project; `ship service stop NAME` stops one service"));
    }
    let project = Project::load(global, machine, &args.select, Filter::default(), &[])?;
    if !services::are_containers(&project) {
        return Err(Error::usage("`down` is for Compose projects; units are stopped with `ship service stop`"));
    }
    if args.volumes && !args.yes {
        confirm_volumes(&project, machine)?;
    } else {
        confirm(&project, machine, args.yes, "Remove the containers of the project")?;
    }
    let what = if args.volumes { "service down --volumes" } else { "service down" };
    carry_out(global, machine, project, Change::Down { volumes: args.volumes }, &[], args.lock_wait, what).await
}

/// What is stored cannot be got back: the name of the application is typed, whatever the environment says.
fn confirm_volumes(project: &Project, machine: &Machine) -> Result<(), Error> {
    let app = &project.inventory.app;
    if !machine.stdin_is_terminal {
        return Err(Error::usage(
            "--volumes removes what the services have stored, and there is no terminal to confirm on",
        )
        .hint("add --yes where nobody can answer"));
    }
    let hosts: Vec<&str> = project.selection.hosts.iter().map(|host| host.name.as_str()).collect();
    let question = format!(
        "This removes the containers of {app} on {} AND THE VOLUMES with all that they have stored.\nType {app} to go on:",
        hosts.join(", ")
    );
    if prompt::answer(&question).as_deref() == Some(app) { Ok(()) } else { Err(Error::usage("nothing was done")) }
}

/// Under the deploy lock, batch by batch, and watched.
async fn carry_out(
    global: &Global,
    machine: &Machine,
    project: Project,
    change: Change,
    names: &[String],
    lock_wait: Option<Duration>,
    what: &str,
) -> Result<(), Error> {
    let hosts: Vec<&Host> = project.selection.hosts.iter().collect();
    let beginning =
        Beginning { action: Action::Run, transcript: true, revision: None, description: Some(what.to_owned()) };
    let stage = begin(global, machine, &project, beginning).await?;
    let needs_sudo = |host: &Host| project.compose(host).is_none_or(|step| step.sudo);
    let members = match stage.connect(project.targets(needs_sudo)).await {
        Ok(members) => members,
        Err(refused) => return stage.refuse(refused).await,
    };
    let programs = ["sudo", "systemctl", "journalctl", "docker"].map(str::to_owned).to_vec();
    let questions = vec![Question { programs, ..Question::default() }; members.len()];
    let holder = holder(machine, what);
    let patience = lock_wait.unwrap_or(Duration::ZERO);
    let (facts, refused) = tokio::select! {
        found = fleet::lock_and_look(&members, &questions, &holder, patience, &stage.sink) => found,
        () = stage.cancel.cancelled() => (Vec::new(), Vec::new()),
    };
    if !refused.is_empty() || facts.is_empty() {
        close(&members).await;
        return stage.refuse(refused).await;
    }
    let known: Vec<&Facts> = facts.iter().collect();
    let places = match services::of_hosts(&project, &hosts, &known, names) {
        Ok(places) => places,
        Err(error) => {
            close(&members).await;
            return stage.fail(error).await;
        }
    };
    let before = state_of(&members, &places).await;
    let mut work = Vec::new();
    let mut lacking = Vec::new();
    for (((member, place), facts), (_, before)) in members.iter().zip(&places).zip(&facts).zip(&before) {
        match tasks(member, place, facts, change, before) {
            Ok(tasks) => work.push(tasks),
            Err(why) => lacking.push(fleet::Refused { host: member.name.clone(), why, advice: None }),
        }
    }
    if !lacking.is_empty() {
        close(&members).await;
        return stage.refuse(lacking).await;
    }
    let mut results: Vec<Option<String>> = Vec::new();
    let mut from = 0;
    for size in project.selection.batch.sizes(members.len()) {
        let batch = members.get(from..from + size).unwrap_or_default();
        if results.iter().any(Option::is_some) || stage.cancel.is_cancelled() {
            results.extend(batch.iter().map(|_| Some("not begun".to_owned())));
        } else {
            let done = each(batch, |index, member| {
                let tasks = work.get(from + index).cloned().unwrap_or_default();
                let place = places.get(from + index).cloned().unwrap_or_default();
                let (sink, cancel) = (stage.sink.clone(), stage.cancel.clone());
                async move {
                    let worker = Worker::new(member.name.clone(), Arc::clone(&member.session), sink);
                    let acted = worker.carry_out(Phase::Finish, &tasks, None, &cancel).await;
                    let watched = match (acted, watch(&member, &place, change).await) {
                        (Ok(()), Some(watch)) => worker.carry_out(Phase::Finish, &[watch], None, &cancel).await,
                        (acted, _) => acted,
                    };
                    watched.err().map(|stop| stop.why())
                }
            });
            let done = tokio::select! {
                done = done => done,
                () = stage.abort.cancelled() => {
                    vec![Some("stopped at once: the command may still run there".to_owned()); size]
                }
            };
            results.extend(done);
        }
        from += size;
    }
    let after = state_of(&members, &places).await;
    close(&members).await;
    let outcome = match (stage.cancel.is_cancelled(), results.iter().any(Option::is_some)) {
        (true, _) => Outcome::Interrupted,
        (false, true) => Outcome::Failed,
        (false, false) => Outcome::Done,
    };
    let hosts = members
        .iter()
        .zip(results)
        .map(|(member, why)| HostSummary {
            host: member.name.clone(),
            before: None,
            after: None,
            state: HostState::Unchanged,
            why,
            commands: Vec::new(),
        })
        .collect();
    let masker = stage.sink.masker().clone();
    let told = stage.conclude(Conclusion { outcome, hosts, hints: Vec::new() }).await;
    if global.output != Output::Json {
        let printed = report::print_stdout(&masker.mask(&table(&after)));
        printed.map_err(|error| Error::new(Kind::Failed, format!("standard output: {error}")))?;
    }
    told
}

/// The watch over containers, which are known only when they are there. Units are watched by their own step.
async fn watch(member: &Member, place: &Place, change: Change) -> Option<Task> {
    let stack = place.stack.as_ref()?;
    if !matches!(change, Change::Act(Act::Restart | Act::Start)) {
        return None;
    }
    let answers = ask(member.session.as_ref(), vec![stack.docker.containers()]).await.ok()?;
    stack.watch(&String::from_utf8_lossy(&answers.first()?.stdout))
}

/// A length of time in its largest unit.
fn spelled(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// The tasks of one host. The error says what it lacks.
fn tasks(member: &Member, place: &Place, facts: &Facts, change: Change, before: &[State]) -> Result<Vec<Task>, String> {
    let act = match (change, &place.stack) {
        (Change::Down { volumes }, stack) => return Ok(stack.iter().map(|stack| stack.down(volumes)).collect()),
        (Change::Act(act), Some(_)) => return Ok(place.act(act)),
        (Change::Act(act), None) => act,
    };
    if let Some(missing) = before.iter().find(|state| state.state == crate::plan::services::NO_UNIT) {
        return Err(format!("{}: there is no such unit", missing.service));
    }
    if place.units.is_empty() {
        return Ok(Vec::new());
    }
    let release = ReleaseId::parse("00000000T000000Z-none").ok_or("no release")?;
    let context = Context {
        layout: &member.layout,
        facts,
        release: &release,
        phase: Phase::Publish,
        expected: &Expected::default(),
        // After a crash loop systemd starts a unit only when it was told to forget the failures.
        put_back: before.iter().any(|state| state.failed),
        name: act.name(),
        directory: member.layout.root(),
        environment: &[],
        timeout: None,
        attempts: 1,
        detach: None,
    };
    step(act, place.units.clone()).tasks(&context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_does_not_answer_has_services_of_unknown_state() {
        let place = Place { units: vec!["app".to_owned()], stack: None };
        let states = unknown(&place, "permission denied");
        let shown: Vec<_> = states.iter().map(|own| (own.service.as_str(), own.state.as_str(), own.up)).collect();
        assert_eq!(shown, [("app", "unknown: permission denied", false)]);
    }
}
