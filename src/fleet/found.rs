//! Looks at what a setup is about: as the login user, and through sudo at what only root may see.

use super::{Answer, Member, Refused, ask, each, lost, split};
use crate::command::Command;
use crate::facts::found::{Found, Look};

/// Looks at every host. Nothing is changed.
pub async fn find(members: &[Member], looks: &[Look]) -> (Vec<Found>, Vec<Refused>) {
    let results = each(members, |index, member| {
        let look = looks.get(index).cloned().unwrap_or_default();
        async move { find_at(&member, &look).await }
    })
    .await;
    split(results)
}

async fn find_at(member: &Member, look: &Look) -> Result<Found, Refused> {
    let answers = ask(member.session.as_ref(), look.commands(&member.layout)).await;
    let answers = answers.map_err(|error| lost(member, &error))?;
    if let Some(failed) = answers.iter().find(|answer| !answer.success()) {
        return Err(refused(member, format!("it could not be looked at: {}", failed.last_line()), None));
    }
    let outputs: Vec<Vec<u8>> = answers.into_iter().map(|answer| answer.stdout).collect();
    let mut found = Found::parse(look, &outputs);
    for (path, answer) in as_root(member, found.hidden()).await? {
        found.reveal(look, &path, &answer.stdout);
    }
    for (path, answer) in as_root(member, found.unreadable()).await? {
        found.fill(&path, answer.stdout);
    }
    Ok(found)
}

/// Root's answers, each with the path that it is about.
async fn as_root(member: &Member, questions: Vec<(String, Command)>) -> Result<Vec<(String, Answer)>, Refused> {
    if questions.is_empty() {
        return Ok(Vec::new());
    }
    let (paths, commands): (Vec<String>, Vec<Command>) = questions.into_iter().unzip();
    let answers = ask(member.session.as_ref(), commands).await.map_err(|error| lost(member, &error))?;
    let answers: Vec<(String, Answer)> = paths.into_iter().zip(answers).collect();
    match answers.iter().find(|(_, answer)| !answer.success()) {
        None => Ok(answers),
        Some((path, answer)) => Err(refused(
            member,
            format!("{path} may be looked at by root alone, and sudo did not do it: {}", answer.last_line()),
            Some(
                "`--user NAME` sets the host up as another login, one that may use sudo for everything, or root"
                    .to_owned(),
            ),
        )),
    }
}

fn refused(member: &Member, why: String, advice: Option<String>) -> Refused {
    Refused { host: member.name.clone(), why, advice }
}
