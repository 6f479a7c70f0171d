//! `ship check` and `ship sudoers`: is every host ready, and what may the login user do as root.

use super::args::{Global, SelectArgs};
use super::check_docker;
use super::look::Look;
use super::machine::Machine;
use super::project::{Project, ReleaseFacts, problems};
use crate::command::{Command, join};
use crate::error::{Error, Kind};
use crate::event::Phase;
use crate::facts::Facts;
use crate::fleet::{Answer, Member, ask, each};
use crate::layout::{Layout, ReleaseId};
use crate::output::visible;
use crate::plan::deploy::obstacles_of;
use crate::plan::render::{PlannedStep, tasks};
use crate::plan::rights::{Right, Rights};
use crate::plan::sudoers::{file_name, fragment, lines};
use crate::step::swap::Expected;

/// What the recipe runs through sudo on a host.
#[derive(Debug, Default)]
pub struct Needs {
    /// Every command, each once.
    pub commands: Vec<Vec<String>>,
    /// Those of them without which a run goes on: they help, and are not needed.
    pub spare: Vec<Vec<String>>,
    /// What the host lacks, as sentences.
    pub lacking: Vec<String>,
}

impl Needs {
    /// The needs of `steps`.
    fn of(steps: &[PlannedStep], layout: &Layout, facts: &Facts) -> Self {
        let mut needs = Self::default();
        let Some(release) = ReleaseId::parse("00000000T000000Z-check") else { return needs };
        let mut made = Vec::new();
        for phase in [Phase::Prepare, Phase::Publish, Phase::Finish] {
            // As for the way back, which needs the most.
            match tasks(steps, phase, layout, facts, &release, &Expected::default(), true) {
                Ok(more) => made.extend(more),
                Err(found) => needs.lacking.extend(found),
            }
        }
        let commands = |spare: bool| {
            let mut commands: Vec<Vec<String>> = Vec::new();
            for task in made.iter().filter(|task| task.tolerate == spare) {
                if let Some(argv) = task.command().and_then(Command::sudo_rule)
                    && !commands.contains(&argv)
                {
                    commands.push(argv);
                }
            }
            commands
        };
        needs.commands = commands(false);
        needs.spare = commands(true);
        needs.spare.retain(|argv| !needs.commands.contains(argv));
        needs.commands.extend(needs.spare.iter().cloned());
        needs
    }
}

fn steps_of(project: &Project, member: &Member) -> Result<Vec<PlannedStep>, Error> {
    let host = project.host(&member.name);
    let steps = host.map(|host| project.steps_to_check(host)).transpose();
    steps.map(Option::unwrap_or_default).map_err(|found| problems(&found, false))
}

/// The commands that sudo runs for `steps`, and what the host lacks for those commands.
pub fn rights_of(steps: &[PlannedStep], layout: &Layout, facts: &Facts) -> Needs {
    let steps: Vec<PlannedStep> = steps.iter().filter(|planned| planned.step.needs_sudo()).cloned().collect();
    Needs::of(&steps, layout, facts)
}

/// `ship check`. Changes nothing; the exit code is 3 where any host is not ready.
pub async fn check(global: &Global, machine: &Machine, args: &SelectArgs) -> Result<(), Error> {
    let mut look = Look::connect_for(global, machine, args, |project, host| project.needs_sudo(host)).await?;
    let facts = look.facts().await?;
    let mut wanted = Vec::new();
    for (member, (_, facts)) in look.members.iter().zip(&facts) {
        wanted.push(Needs::of(&steps_of(&look.project, member)?, &member.layout, facts));
    }
    let rights = each(&look.members, |index, member| {
        let commands = wanted.get(index).map(|needs| needs.commands.clone()).unwrap_or_default();
        async move { ask_sudo(&member, &commands).await }
    })
    .await;
    let engines = each(&look.members, |index, member| {
        let host = look.project.host(&member.name);
        let compose = host.and_then(|host| look.project.compose(host));
        let facts = facts.get(index).map(|(_, facts)| facts.clone()).unwrap_or_default();
        async move {
            match compose {
                Some(compose) => check_docker::look(&member, &compose, &facts).await,
                None => Vec::new(),
            }
        }
    })
    .await;
    let mut text = String::new();
    let mut wrong = look.refused.len();
    for refused in &look.refused {
        text.push_str(&format!("{}\n  ✗ {}\n", refused.host, refused.why));
        text.extend(refused.advice.iter().map(|advice| format!("    {advice}\n")));
    }
    let asked = rights.into_iter().zip(engines);
    for (((member, (_, facts)), needs), (rights, engine)) in look.members.iter().zip(&facts).zip(&wanted).zip(asked) {
        text.push_str(&format!("{}\n  ✓ reachable, host key known, login as {}\n", member.name, facts.user));
        let mut bad = |line: String, advice: Option<String>| {
            wrong += 1;
            text.push_str(&format!("  ✗ {line}\n"));
            text.extend(advice.map(|advice| format!("    {advice}\n")));
        };
        for obstacle in obstacles_of(&member.name, &member.layout, facts) {
            bad(obstacle.text, obstacle.advice);
        }
        let host = look.project.host(&member.name);
        let shared = host.map(|host| look.project.shared(host, &ReleaseFacts::default())).transpose();
        for file in shared.map_err(|found| problems(&found, false))?.unwrap_or_default().files {
            if !facts.shared.contains(&file) {
                bad(format!("the shared file {}/{file} does not exist", member.layout.shared()), None);
            }
        }
        for lack in &needs.lacking {
            bad(lack.clone(), None);
        }
        let (able, unable): (Vec<_>, Vec<_>) = engine.into_iter().partition(Result::is_ok);
        for (line, advice) in unable.into_iter().filter_map(Result::err) {
            bad(line, Some(advice));
        }
        let has_password = member.target.sudo.is_some();
        let sudo = judge_sudo(needs, &rights, &facts.user, has_password);
        for line in sudo.bad {
            bad(line, None);
        }
        if !sudo.missing.is_empty() {
            let file = file_name(&look.project.rules_name(&member.layout));
            text.push_str(&format!("    as root, with `visudo -f /etc/sudoers.d/{file}`, add:\n"));
            text.extend(sudo.missing.iter().map(|line| format!("      {line}\n")));
        }
        text.extend(able.into_iter().flatten().map(|line| format!("  ✓ {line}\n")));
        text.extend(sudo.good.map(|line| format!("  ✓ {line}\n")));
        if !sudo.spare.is_empty() {
            text.push_str("  ! sudo does not allow these, which help on the way back from a release that crashed:\n");
            text.extend(sudo.spare.iter().map(|line| format!("      {line}\n")));
        }
        if !sudo.wider.is_empty() {
            text.push_str("  ! sudo allows more than the recipe needs:\n");
            text.extend(sudo.wider.iter().map(|line| format!("      {line}\n")));
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

/// What sudo says about the commands that the recipe runs through it.
#[derive(Default)]
struct Sudo {
    /// What it lists; `None` where it lists nothing.
    rights: Option<Rights>,
    /// For each command, whether sudo allows it.
    allowed: Vec<bool>,
}

/// Asks sudo, in the host's long-lived shell, to which its ticket belongs where a password was proven.
///
/// `sudo -l COMMAND` says whether the command is allowed, but also for one that needs a password, so the
/// listing decides about that (sudo(8), `-l`; sudoers(5), `NOPASSWD`).
async fn ask_sudo(member: &Member, commands: &[Vec<String>]) -> Sudo {
    if commands.is_empty() {
        return Sudo::default();
    }
    let quiet = "</dev/null 2>/dev/null 8>&-";
    let mut each = String::new();
    for argv in commands {
        let argv = join(argv.iter().map(String::as_str));
        each.push_str(&format!("sudo -n -l -- {argv} >/dev/null {quiet} && echo yes || echo no\n"));
    }
    let listing = format!("sudo -n -l {quiet} || :");
    let batch = vec![Command::session(listing), Command::session(format!("{{ {each}}}"))];
    let answers = ask(member.session.as_ref(), batch).await.unwrap_or_default();
    let text =
        |index: usize| answers.get(index).map(|answer: &Answer| String::from_utf8_lossy(&answer.stdout).into_owned());
    Sudo {
        rights: text(0).filter(|listing| !listing.trim().is_empty()).map(|listing| Rights::parse(&listing)),
        allowed: text(1).unwrap_or_default().lines().map(|line| line == "yes").collect(),
    }
}

/// What `ship check` says about sudo on one host.
#[derive(Default)]
struct SudoReport {
    good: Option<String>,
    bad: Vec<String>,
    missing: Vec<String>,
    spare: Vec<String>,
    wider: Vec<String>,
}

fn judge_sudo(needs: &Needs, sudo: &Sudo, user: &str, has_password: bool) -> SudoReport {
    let mut report = SudoReport::default();
    let commands = &needs.commands;
    let Some(rights) = &sudo.rights else {
        if has_password {
            report.good = Some("sudo takes the password; it lists no rights without asking again".to_owned());
        } else if !commands.is_empty() {
            report.bad.push("sudo lists nothing that the user may do without a password".to_owned());
            report.missing = lines(user, commands);
        }
        return report;
    };
    let shown = |argv: &[String]| visible(argv.join(" ").as_bytes());
    let (mut missing, mut spare) = (Vec::new(), Vec::new());
    for (index, argv) in commands.iter().enumerate() {
        let allowed = sudo.allowed.get(index).copied().unwrap_or(false);
        match rights.of(argv, allowed) {
            Right::Free => continue,
            Right::Password if has_password => continue,
            _ if needs.spare.contains(argv) => {
                spare.push(argv.clone());
                continue;
            }
            Right::Password => report.bad.push(format!("sudo {}: allowed, but it needs a password", shown(argv))),
            Right::Missing => report.bad.push(format!("sudo {}: not allowed", shown(argv))),
        }
        missing.push(argv.clone());
    }
    report.missing = lines(user, &missing);
    report.spare = lines(user, &spare);
    if missing.is_empty() && !commands.is_empty() {
        let how = if has_password { "with the password, or without" } else { "without a password" };
        report.good = Some(format!("{} sudo commands allowed {how}", commands.len() - spare.len()));
    }
    let wider = rights.wider(commands);
    report.wider = wider.iter().map(|wider| visible(format!("{}  # {}", wider.rule, wider.why).as_bytes())).collect();
    report
}

/// `ship sudoers`: the fragment of each host; hosts with the same one are named together.
pub async fn sudoers(global: &Global, machine: &Machine, args: &SelectArgs) -> Result<(), Error> {
    let mut look = Look::connect(global, machine, args).await?;
    let facts = look.facts().await?;
    let mut fragments: Vec<(String, Vec<String>)> = Vec::new();
    for (member, (host, facts)) in look.members.iter().zip(&facts) {
        let needs = rights_of(&steps_of(&look.project, member)?, &member.layout, facts);
        if let Some(lack) = needs.lacking.first() {
            return Err(Error::new(Kind::Refused, format!("{host}: {lack}")));
        }
        let name = look.project.rules_name(&member.layout);
        let text = fragment(&name, &facts.user, &needs.commands);
        match fragments.iter_mut().find(|(known, _)| *known == text) {
            Some((_, hosts)) => hosts.push(host.clone()),
            None => fragments.push((text, vec![host.clone()])),
        }
    }
    let mut out = String::new();
    for (text, hosts) in &fragments {
        if fragments.len() > 1 || !look.refused.is_empty() {
            out.push_str(&format!("# {}\n", hosts.join(", ")));
        }
        out.push_str(text);
    }
    look.end(&out).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(listing: &str, allowed: &[bool], has_password: bool) -> SudoReport {
        let argv = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let commands = [argv("/usr/bin/systemctl restart app"), argv("/usr/bin/systemctl restart nginx")];
        let sudo = Sudo { rights: Some(Rights::parse(listing)), allowed: allowed.to_vec() };
        let needs = Needs { commands: commands.to_vec(), ..Needs::default() };
        judge_sudo(&needs, &sudo, "deployer", has_password)
    }

    #[test]
    fn what_is_missing_is_printed_as_the_line_to_add() {
        let listing = "    (root) PASSWD: /usr/bin/systemctl restart app\n";
        let report = judged(listing, &[true, false], false);
        assert_eq!(
            report.bad,
            [
                "sudo /usr/bin/systemctl restart app: allowed, but it needs a password",
                "sudo /usr/bin/systemctl restart nginx: not allowed"
            ]
        );
        assert_eq!(
            report.missing,
            [
                "deployer ALL=(root) NOPASSWD: /usr/bin/systemctl restart app",
                "deployer ALL=(root) NOPASSWD: /usr/bin/systemctl restart nginx"
            ]
        );
        let report = judged(listing, &[true, false], true);
        assert_eq!((report.bad.len(), report.missing.len()), (1, 1));
    }

    #[test]
    fn what_only_helps_may_be_missing() {
        let argv = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let spare = argv("/usr/bin/systemctl reset-failed app");
        let needs = Needs {
            commands: vec![argv("/usr/bin/systemctl restart app"), spare.clone()],
            spare: vec![spare],
            ..Needs::default()
        };
        let listing = "    (ALL : ALL) NOPASSWD: /usr/bin/systemctl restart app\n";
        let sudo = Sudo { rights: Some(Rights::parse(listing)), allowed: vec![true, false] };
        let report = judge_sudo(&needs, &sudo, "deployer", false);
        assert_eq!((report.bad.len(), report.missing.len()), (0, 0));
        assert_eq!(report.good.as_deref(), Some("1 sudo commands allowed without a password"));
        assert_eq!(report.spare, ["deployer ALL=(root) NOPASSWD: /usr/bin/systemctl reset-failed app"]);
    }

    #[test]
    fn more_than_is_needed_is_a_warning() {
        let report = judged("    (ALL : ALL) ALL\n", &[true, true], true);
        assert!(report.bad.is_empty());
        assert_eq!(report.wider, ["(ALL : ALL) ALL  # every command"]);
    }
}
