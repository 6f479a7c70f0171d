//! `ship lock` and `ship unlock`: holds and frees the lock that outlives a run.

use super::args::{Global, LockArgs, SelectArgs};
use super::look::Look;
use super::machine::Machine;
use super::operation::holder;
use crate::command::Command;
use crate::error::{Error, Kind};
use crate::fleet::{Answer, Member, ask, each};
use crate::lock;
use crate::session::Status;

/// `ship lock`. A lock that somebody else holds is left as it is.
pub async fn hold(global: &Global, machine: &Machine, args: &LockArgs) -> Result<(), Error> {
    let look = Look::connect(global, machine, &args.select).await?;
    let holder = holder(machine, args.reason.as_deref().unwrap_or("no reason was given"));
    on_all(
        look,
        move |member| lock::hold(&member.layout, &holder),
        |answer| match answer.status {
            Some(Status::Exited(0)) => Ok("locked".to_owned()),
            Some(Status::Exited(lock::HELD)) => Err(format!("locked already by {}", lock::parse(&answer.last_line()))),
            _ => Err(answer.last_line()),
        },
    )
    .await
}

/// `ship unlock`.
pub async fn free(global: &Global, machine: &Machine, args: &SelectArgs) -> Result<(), Error> {
    let look = Look::connect(global, machine, args).await?;
    on_all(
        look,
        |member| lock::free(&member.layout),
        |answer| match (answer.success(), answer.last_line()) {
            (true, held) if held.is_empty() => Ok("was not locked".to_owned()),
            (true, held) => Ok(format!("free; it was locked by {}", lock::parse(&held))),
            (false, why) => Err(why),
        },
    )
    .await
}

async fn on_all(
    look: Look,
    command: impl Fn(&Member) -> Command,
    told: impl Fn(&Answer) -> Result<String, String>,
) -> Result<(), Error> {
    let answers = each(&look.members, |_, member| {
        let command = command(&member);
        async move {
            let answers = ask(member.session.as_ref(), vec![command]).await;
            answers.map(|answers| answers.into_iter().next().unwrap_or_default()).map_err(|lost| lost.to_string())
        }
    })
    .await;
    let mut text = String::new();
    let mut failed = 0;
    for (answer, member) in answers.iter().zip(&look.members) {
        match answer.as_ref().map_err(Clone::clone).and_then(&told) {
            Ok(done) => text.push_str(&format!("{}: {done}\n", member.name)),
            Err(why) => {
                failed += 1;
                text.push_str(&format!("{}: failed: {why}\n", member.name));
            }
        }
    }
    look.end(&text).await?;
    if failed == 0 { Ok(()) } else { Err(Error::new(Kind::Failed, format!("failed on {failed} of the hosts"))) }
}
