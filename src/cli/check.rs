//! `ship check` and `ship sudoers`: is every host ready, and what may the login user do as root.

use super::args::{Global, SelectArgs};
use super::look::Look;
use super::machine::Machine;
use super::project::{Project, ReleaseFacts, problems};
use crate::command::Command;
use crate::error::{Error, Kind};
use crate::event::Phase;
use crate::facts::Facts;
use crate::fleet::{Answer, Member, ask, each};
use crate::layout::{Layout, ReleaseId};
use crate::output::visible;
use crate::plan::deploy::obstacles_of;
use crate::plan::render::{PlannedStep, tasks};
use crate::plan::sudoers::{file_name, fragment};
use crate::step::swap::Expected;

/// What the recipe runs through sudo on a host, and what the host lacks for its steps.
fn needs(project: &Project, member: &Member, facts: &Facts) -> Result<(Vec<Vec<String>>, Vec<String>), Error> {
    let Some(host) = project.selection.hosts.iter().find(|host| host.name == member.name) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let steps = project.steps_to_check(host).map_err(|found| problems(&found, false))?;
    Ok(rights_of(&steps, &member.layout, facts))
}

/// The commands that sudo runs for `steps`, and what the host lacks for them.
pub fn rights_of(steps: &[PlannedStep], layout: &Layout, facts: &Facts) -> (Vec<Vec<String>>, Vec<String>) {
    let (mut commands, mut lacking) = (Vec::new(), Vec::new());
    let Some(release) = ReleaseId::parse("00000000T000000Z-check") else { return (commands, lacking) };
    for phase in [Phase::Prepare, Phase::Publish, Phase::Finish] {
        // As for the way back, which needs the most.
        match tasks(steps, phase, layout, facts, &release, &Expected::default(), true) {
            Ok(made) => {
                for argv in made.iter().filter_map(|task| task.command()?.sudo_argv()) {
                    if !commands.iter().any(|known: &Vec<String>| known == argv) {
                        commands.push(argv.to_vec());
                    }
                }
            }
            Err(found) => lacking.extend(found),
        }
    }
    (commands, lacking)
}

/// `ship check`. Changes nothing; the exit code is 3 where any host is not ready.
pub async fn check(global: &Global, machine: &Machine, args: &SelectArgs) -> Result<(), Error> {
    let mut look = Look::connect(global, machine, args).await?;
    let facts = look.facts().await?;
    let mut wanted = Vec::new();
    for (member, (_, facts)) in look.members.iter().zip(&facts) {
        wanted.push(needs(&look.project, member, facts)?);
    }
    let rights = each(&look.members, |index, member| {
        let commands = wanted.get(index).map(|(commands, _)| commands.clone()).unwrap_or_default();
        async move { sudo_rights(&member, commands).await }
    })
    .await;
    let mut text = String::new();
    let mut wrong = look.refused.len();
    for refused in &look.refused {
        text.push_str(&format!("{}\n  ✗ {}\n", refused.host, refused.why));
        text.extend(refused.advice.iter().map(|advice| format!("    {advice}\n")));
    }
    for (((member, (_, facts)), (commands, lacking)), rights) in
        look.members.iter().zip(&facts).zip(&wanted).zip(rights)
    {
        text.push_str(&format!("{}\n  ✓ reachable, host key known, login as {}\n", member.name, facts.user));
        let mut bad = |line: String, advice: Option<String>| {
            wrong += 1;
            text.push_str(&format!("  ✗ {line}\n"));
            text.extend(advice.map(|advice| format!("    {advice}\n")));
        };
        for obstacle in obstacles_of(&member.name, &member.layout, facts) {
            bad(obstacle.text, obstacle.advice);
        }
        let host = look.project.selection.hosts.iter().find(|host| host.name == member.name);
        let shared = host.map(|host| look.project.shared(host, &ReleaseFacts::default())).transpose();
        for file in shared.map_err(|found| problems(&found, false))?.unwrap_or_default().files {
            if !facts.shared.contains(&file) {
                bad(format!("the shared file {}/{file} does not exist", member.layout.shared()), None);
            }
        }
        for lack in lacking {
            bad(lack.clone(), None);
        }
        for right in &rights {
            if let Some(missing) = &right.missing {
                bad(format!("sudo {}: {missing}", right.command), Some("`ship sudoers` prints the rule".to_owned()));
            }
        }
        if rights.iter().all(|right| right.missing.is_none()) && !commands.is_empty() {
            text.push_str(&format!("  ✓ {} sudo commands allowed without a password\n", commands.len()));
        }
        let free = facts.free_kib.map_or("unknown".to_owned(), |kib| format!("{} MiB", kib >> 10));
        text.push_str(&format!("  ✓ {} free in {}, {} releases\n", free, facts.nearest, facts.releases.len()));
    }
    let refused = std::mem::take(&mut look.refused).len();
    look.end(&text).await?;
    match (wrong, refused) {
        (0, _) => Ok(()),
        (wrong, _) => Err(Error::new(Kind::Refused, format!("not everything is ready (problems: {wrong})"))),
    }
}

/// One command that the recipe runs through sudo.
struct Right {
    command: String,
    /// What is missing; `None` where it is allowed without a password.
    missing: Option<&'static str>,
}

/// `sudo -l COMMAND` says whether the command is allowed, but also for one that needs a password, so the
/// listing decides about that (sudo(8), `-l`; sudoers(5), `NOPASSWD`).
async fn sudo_rights(member: &Member, commands: Vec<Vec<String>>) -> Vec<Right> {
    if commands.is_empty() {
        return Vec::new();
    }
    let mut listing = String::new();
    let mut rights = Vec::new();
    if let Ok(answers) = ask(member.session.as_ref(), vec![Command::argv(["sudo", "-n", "-l"])]).await {
        listing =
            answers.first().map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned()).unwrap_or_default();
    }
    for argv in commands {
        let question = ["sudo", "-n", "-l", "--"].into_iter().map(str::to_owned).chain(argv.iter().cloned());
        let answers = ask(member.session.as_ref(), vec![Command::argv(question)]).await;
        let allowed = answers.is_ok_and(|answers| answers.iter().all(Answer::success));
        let command = argv.join(" ");
        let missing = match (allowed, without_password(&listing, &command)) {
            (false, _) => Some("not allowed"),
            (true, false) => Some("allowed, but it needs a password"),
            (true, true) => None,
        };
        rights.push(Right { command: visible(command.as_bytes()), missing });
    }
    rights
}

/// Whether a listing of `sudo -l` allows exactly `command`, or everything, without a password.
fn without_password(listing: &str, command: &str) -> bool {
    // A long rule goes on in the next line, indented further than the rule itself.
    let mut rules: Vec<String> = Vec::new();
    for line in listing.lines() {
        match (line.trim_start().starts_with('('), rules.last_mut()) {
            (true, _) => rules.push(line.trim().to_owned()),
            (false, Some(rule)) if line.starts_with("     ") => {
                rule.push(' ');
                rule.push_str(line.trim());
            }
            _ => {}
        }
    }
    rules
        .iter()
        .filter_map(|rule| rule.split_once("NOPASSWD:"))
        .flat_map(|(_, commands)| commands.split(", "))
        .map(|allowed| allowed.trim().replace('\\', ""))
        .any(|allowed| allowed == "ALL" || allowed == command || allowed == format!("{command} \"\""))
}

/// `ship sudoers`: the fragment of each host; hosts with the same one are named together.
pub async fn sudoers(global: &Global, machine: &Machine, args: &SelectArgs) -> Result<(), Error> {
    let mut look = Look::connect(global, machine, args).await?;
    let facts = look.facts().await?;
    let mut fragments: Vec<(String, Vec<String>)> = Vec::new();
    for (member, (host, facts)) in look.members.iter().zip(&facts) {
        let (commands, lacking) = needs(&look.project, member, facts)?;
        if let Some(lack) = lacking.first() {
            return Err(Error::new(Kind::Refused, format!("{host}: {lack}")));
        }
        let app = &look.project.inventory.app;
        let text = fragment(app, &facts.user, &commands);
        match fragments.iter_mut().find(|(known, _)| *known == text) {
            Some((_, hosts)) => hosts.push(host.clone()),
            None => fragments.push((text, vec![host.clone()])),
        }
    }
    let mut out = String::new();
    for (text, hosts) in &fragments {
        if fragments.len() > 1 || !look.refused.is_empty() {
            out.push_str(&format!(
                "# {} (/etc/sudoers.d/{})\n",
                hosts.join(", "),
                file_name(&look.project.inventory.app)
            ));
        }
        out.push_str(text);
    }
    look.end(&out).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "User deployer may run the following commands on web1:\n    (ALL : ALL) NOPASSWD: /usr/bin/systemctl restart nginx, /usr/bin/systemctl start nginx\n    (root) PASSWD: /usr/bin/systemctl restart app\n    (root) NOPASSWD: /usr/bin/chown -R a\\:b /srv\n";

    #[test]
    fn a_rule_that_needs_a_password_is_not_enough() {
        assert!(without_password(LISTING, "/usr/bin/systemctl start nginx"));
        assert!(without_password(LISTING, "/usr/bin/chown -R a:b /srv"));
        assert!(!without_password(LISTING, "/usr/bin/systemctl restart app"));
        assert!(!without_password(LISTING, "/usr/bin/systemctl restart"));
        assert!(without_password("    (ALL) NOPASSWD: ALL\n", "/bin/anything"));
    }
}
