//! `ship run` and `ship ssh`: a command on the chosen hosts, a shell on one.

use super::args::{Global, RunArgs, SelectArgs, SshArgs};
use super::machine::Machine;
use super::project::{Project, definitions};
use super::stage::{Stage, Telling, close};
use crate::command::{Command, quote};
use crate::error::{Error, Kind};
use crate::event::{Action, Event, HostState, HostSummary, Outcome, Phase};
use crate::execute::Conclusion;
use crate::execute::host::Host;
use crate::fleet::{Member, each};
use crate::plan::render::Filter;
use crate::step::{Action as TaskAction, Task};

/// `ship run`. Every host runs it, whatever happens on the others.
pub async fn run(global: &Global, machine: &Machine, args: &RunArgs) -> Result<(), Error> {
    let project = Project::load(global, machine, &args.select, Filter::default(), &[])?;
    let stage = Stage::open(
        global,
        machine,
        Telling {
            action: Action::Run,
            environment: project.selection.environment.as_deref(),
            transcripts: None,
            secrets: project.secrets.values().cloned().collect(),
        },
    )?;
    stage
        .sink
        .emit(Event::RunStarted {
            action: Action::Run,
            app: project.inventory.app.clone(),
            environment: project.selection.environment.clone(),
            hosts: project.selection.hosts.iter().map(|host| host.name.clone()).collect(),
            revision: None,
            description: Some(args.words.join(" ")),
        })
        .await;
    let targets = project.targets(|_| args.sudo);
    let members = match stage.connect(targets).await {
        Ok(members) => members,
        Err(refused) => return stage.refuse(refused).await,
    };
    let work = each(&members, |_, member| {
        let task = task(args, &member);
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
fn task(args: &RunArgs, member: &Member) -> Task {
    let mut command = match args.words.as_slice() {
        [text] if !args.sudo => Command::shell(text.clone()),
        words => Command::argv(words.iter().cloned()),
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

/// `ship ssh`: the system's own client does what a terminal needs.
#[expect(clippy::disallowed_methods, reason = "an interactive shell is OpenSSH's business")]
pub fn ssh(global: &Global, machine: &Machine, args: &SshArgs) -> Result<(), Error> {
    // `ship ssh web1` means the host where no environment has that name.
    let (inventory, _) = definitions(global, machine)?;
    let is_environment = |name: &String| inventory.environments.iter().any(|env| env.name.value == *name);
    let (environment, host) = match (&args.environment, &args.host) {
        (Some(name), None) if !is_environment(name) => (None, Some(name.clone())),
        (environment, host) => (environment.clone(), host.clone()),
    };
    let select = SelectArgs { environment, host: host.into_iter().collect(), ..SelectArgs::default() };
    let project = Project::load(global, machine, &select, Filter::default(), &[])?;
    let host = project.selection.hosts.first().ok_or_else(|| Error::usage("no host is chosen"))?;
    let mut ssh = std::process::Command::new("ssh");
    let target = &host.target;
    if let Some(file) = &global.ssh_config {
        ssh.arg("-F").arg(file);
    }
    if let Some(port) = target.port {
        ssh.arg("-p").arg(port.to_string());
    }
    if let Some(user) = &target.user {
        ssh.arg("-l").arg(user);
    }
    if let Some(file) = &target.identity_file {
        ssh.arg("-i").arg(file);
    }
    if let Some(jump) = &target.jump {
        let user = jump.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let port = jump.port.map(|port| format!(":{port}")).unwrap_or_default();
        ssh.arg("-J").arg(format!("{user}{}{port}", jump.address));
    }
    let current = Project::layout(host).current();
    let status = ssh
        .arg("-t")
        .arg("--")
        .arg(&target.address)
        .arg(format!("cd {} 2>/dev/null; exec \"${{SHELL:-/bin/sh}}\" -l", quote(&current)))
        .status()
        .map_err(|error| Error::new(Kind::Failed, format!("`ssh` could not be started: {error}")))?;
    if status.success() { Ok(()) } else { Err(Error::told(Kind::Failed)) }
}
