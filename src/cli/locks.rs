//! `ship lock` and `ship unlock`: holds and frees the lock that outlives a run.

use super::args::{Global, LockArgs, SelectArgs};
use super::look::Look;
use super::machine::Machine;
use super::operation::holder;
use crate::command::Command;
use crate::error::{Error, Kind};
use crate::fleet::{Answer, Member, ask, each};
use crate::lock;

/// `ship lock`.
pub async fn hold(global: &Global, machine: &Machine, args: &LockArgs) -> Result<(), Error> {
    let look = Look::connect(global, machine, &args.select).await?;
    let holder = holder(machine, args.reason.as_deref().unwrap_or("no reason was given"));
    on_all(look, "locked", move |member| lock::hold(&member.layout, &holder)).await
}

/// `ship unlock`.
pub async fn free(global: &Global, machine: &Machine, args: &SelectArgs) -> Result<(), Error> {
    let look = Look::connect(global, machine, args).await?;
    on_all(look, "free", |member| lock::free(&member.layout)).await
}

async fn on_all(look: Look, done: &str, command: impl Fn(&Member) -> Command) -> Result<(), Error> {
    let results = each(&look.members, |_, member| {
        let command = command(&member);
        async move {
            let answers = ask(member.session.as_ref(), vec![command]).await.unwrap_or_default();
            let ended = answers.first().is_some_and(Answer::success);
            if ended { Ok(member.name) } else { Err(answers.first().map(Answer::last_line).unwrap_or_default()) }
        }
    })
    .await;
    let mut text = String::new();
    let mut failed = 0;
    for (result, member) in results.iter().zip(&look.members) {
        match result {
            Ok(host) => text.push_str(&format!("{host}: {done}\n")),
            Err(why) => {
                failed += 1;
                text.push_str(&format!("{}: failed: {why}\n", member.name));
            }
        }
    }
    look.end(&text).await?;
    if failed == 0 { Ok(()) } else { Err(Error::new(Kind::Failed, format!("{failed} hosts failed"))) }
}
