//! Whether Docker can be used on a host, for `ship check`.

use crate::command::Command;
use crate::facts::Facts;
use crate::fleet::{Answer, Member, ask};
use crate::step::compose::Compose;

/// What is good, or what is wrong with its advice.
pub type Finding = Result<String, (String, String)>;

/// Asks a host whose recipe has the step `compose`. Where `docker` is missing, that is told elsewhere.
pub async fn look(member: &Member, compose: &Compose, facts: &Facts) -> Vec<Finding> {
    let Some(docker) = facts.program("docker") else { return Vec::new() };
    let mut batch = vec![Command::argv([docker, "compose", "version", "--short"])];
    // Through sudo, what sudo allows is what counts.
    if !compose.sudo {
        batch.push(Command::argv([docker, "version", "--format", "{{.Server.Version}}"]));
    }
    match ask(member.session.as_ref(), batch).await {
        Ok(answers) => judge(&answers, &facts.user),
        Err(lost) => vec![Err((format!("Docker was not asked: {lost}"), String::new()))],
    }
}

fn judge(answers: &[Answer], user: &str) -> Vec<Finding> {
    let version = |answer: &Answer| answer.success().then(|| answer.last_line());
    let compose = answers.first().map(|answer| {
        let version = version(answer).filter(|version| !version.trim_start_matches('v').starts_with("1."));
        version.map(|version| format!("Compose {version}")).ok_or_else(|| {
            let advice = "as root: apt-get install docker-compose-plugin, or docker-compose of Debian 13 and later";
            ("`docker compose` is not there: Compose 2 is needed".to_owned(), advice.to_owned())
        })
    });
    let daemon = answers.get(1).map(|answer| {
        version(answer).map(|version| format!("Docker {version} answers {user}")).ok_or_else(|| {
            let advice = format!(
                "as root: usermod --append --groups docker {user} (who is as good as root then); or have ship use sudo, `docker_sudo = true` in the recipe compose"
            );
            (format!("Docker does not answer {user}: {}", answer.last_line()), advice)
        })
    });
    compose.into_iter().chain(daemon).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Status;

    fn answer(status: i32, text: &str) -> Answer {
        let text = text.as_bytes().to_vec();
        let (stdout, stderr) = if status == 0 { (text, Vec::new()) } else { (Vec::new(), text) };
        Answer { status: Some(Status::Exited(status)), stdout, stderr }
    }

    #[test]
    fn what_keeps_a_login_from_docker_is_told_with_what_to_do() {
        let good = judge(&[answer(0, "2.26.1\n"), answer(0, "20.10.24\n")], "ann");
        assert_eq!(good, [Ok("Compose 2.26.1".to_owned()), Ok("Docker 20.10.24 answers ann".to_owned())]);
        let bad = judge(&[answer(1, "docker: 'compose' is not a docker command.\n"), answer(1, "denied\n")], "ann");
        let told = |finding: &Finding| format!("{:?}", finding.as_ref().map_err(|(text, _)| text));
        insta::assert_snapshot!(bad.iter().map(told).collect::<Vec<_>>().join("\n"), @r#"
        Err("`docker compose` is not there: Compose 2 is needed")
        Err("Docker does not answer ann: denied")
        "#);
        assert!(judge(&[answer(0, "1.29.2\n")], "ann").iter().all(Result::is_err), "through sudo, and old");
    }
}
