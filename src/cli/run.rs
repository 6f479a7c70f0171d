//! `ship run`: a command on the chosen hosts, or where a service runs on one of them.

use super::args::{Global, RunArgs};
use super::look::Look;
use super::machine::Machine;
use super::operation::{Beginning, begin};
use super::project::Project;
use super::services::{self, How};
use super::stage::close;
use crate::command::Command;
use crate::error::{Error, Kind};
use crate::event::{Action, HostState, HostSummary, Outcome, Phase};
use crate::execute::Conclusion;
use crate::execute::host::Host;
use crate::fleet::{Member, ask, each};
use crate::plan::render::Filter;
use crate::step::{Action as TaskAction, Task};
use crate::target::Target;

/// `ship run`. Every host runs it, whatever happens on the others.
pub async fn run(global: &Global, machine: &Machine, args: &RunArgs) -> Result<(), Error> {
    let mut project = Project::load(global, machine, &args.select, Filter::default(), &[])?;
    let mut of_service = None;
    if let Some(service) = &args.service {
        let found = in_service(global, machine, args, service).await?;
        if machine.stdin_is_terminal && machine.stdout_is_terminal {
            let (target, command) = found;
            return tokio::task::block_in_place(|| super::ssh::talk(global, &target, &command.for_a_person()));
        }
        project.selection.hosts.retain(|host| host.name == found.0.name);
        of_service = Some(found.1);
    }
    let beginning =
        Beginning { action: Action::Run, transcript: false, revision: None, description: Some(args.words.join(" ")) };
    let stage = begin(global, machine, &project, beginning).await?;
    let with_sudo = args.sudo || of_service.as_ref().is_some_and(|command| command.sudo_argv().is_some());
    let targets = project.targets(|_| with_sudo);
    let members = match stage.connect(targets).await {
        Ok(members) => members,
        Err(refused) => return stage.refuse(refused).await,
    };
    let work = each(&members, |_, member| {
        let task = task(args, of_service.as_ref(), &member);
        let (sink, cancel) = (stage.sink.clone(), stage.cancel.clone());
        async move {
            let host = Host::new(member.name.clone(), member.session, sink);
            let result = host.carry_out(Phase::Finish, &[task], None, &cancel).await;
            (member.name, result.map_err(|stop| stop.why()))
        }
    });
    let results = tokio::select! {
        results = work => results,
        () = stage.abort.cancelled() => {
            let why = "stopped at once: the command may still run there";
            members.iter().map(|member| (member.name.clone(), Err(why.to_owned()))).collect()
        }
    };
    close(&members).await;
    let failed = results.iter().any(|(_, result)| result.is_err());
    let hosts = results
        .into_iter()
        .map(|(host, result)| HostSummary {
            host,
            before: None,
            after: None,
            state: HostState::Unchanged,
            why: result.err(),
            commands: Vec::new(),
        })
        .collect();
    let outcome = match (stage.cancel.is_cancelled(), failed) {
        (true, _) => Outcome::Interrupted,
        (false, true) => Outcome::Failed,
        (false, false) => Outcome::Done,
    };
    stage.conclude(Conclusion { outcome, hosts, hints: Vec::new() }).await
}

/// One word is shell text; several are a program and its arguments, each exactly as typed.
fn task(args: &RunArgs, of_service: Option<&Command>, member: &Member) -> Task {
    let mut command = match (args.words.as_slice(), of_service) {
        (_, Some(command)) => command.clone(),
        ([text], _) if !args.sudo => Command::shell(text.clone()),
        (words, _) => Command::argv(words.iter().cloned()),
    };
    if args.sudo {
        command = command.sudo();
    }
    if args.in_release {
        command = command.directory(member.layout.current());
    }
    if let Some(limit) = args.limit {
        command = command.timeout(limit);
    }
    Task::new(args.words.join(" "), TaskAction::Command(command))
}

/// The first host that has `service`, and what runs the command there.
async fn in_service(
    global: &Global,
    machine: &Machine,
    args: &RunArgs,
    service: &str,
) -> Result<(Target, Command), Error> {
    // What is read here needs no sudo; the command itself may.
    let mut look = Look::connect(global, machine, &args.select).await?;
    let places = services::places(&mut look, &[service.to_owned()]).await?;
    let first = look.members.iter().zip(&places).find(|(_, place)| !place.is_empty());
    let Some((member, place)) = first else {
        look.end("").await?;
        return Err(Error::usage(format!("no host that answers has the service `{service}`")));
    };
    let how = How { in_running: args.exec, terminal: machine.stdin_is_terminal && machine.stdout_is_terminal };
    let asked = ask(member.session.as_ref(), vec![place.settings()]).await;
    let command = asked.map_err(|lost| lost.to_string()).and_then(|answers| {
        let output = answers.first().map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned());
        place.run(&output.unwrap_or_default(), &args.words, how, &member.layout)
    });
    let (host, target) = (member.name.clone(), member.target.clone());
    look.end("").await?;
    Ok((target, command.map_err(|why| Error::new(Kind::Refused, format!("{host}: {why}")))?))
}
