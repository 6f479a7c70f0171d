//! The Compose files that steps name: a name that is wrong is told before anything changes.

use super::Obstacle;
use super::deploy::HostInput;
use crate::document::nearest;
use crate::event::Phase;
use crate::step::Step;

/// The files that Compose looks for where none is named.
const DEFAULTS: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// What is missing. Where other steps may make files in the release before, nothing is known.
pub fn obstacles(host: &HostInput<'_>) -> Vec<Obstacle> {
    let mut found: Vec<Obstacle> = Vec::new();
    let paths: Vec<&str> =
        host.tree.manifest().entries().iter().filter_map(|entry| std::str::from_utf8(&entry.path).ok()).collect();
    let there = |path: &str| {
        let written = host.settings.iter().any(|file| file.path() == path.as_bytes());
        let linked =
            host.shared.files.iter().chain(&host.shared.dirs).any(|link| {
                path.strip_prefix(link.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
        written || linked || paths.contains(&path)
    };
    for planned in host.steps.iter().filter(|planned| planned.phase == Phase::Prepare) {
        match &planned.step {
            Step::Run(_) | Step::Sudo(_) => break,
            Step::Compose(compose) if compose.run.is_none() => {
                let missing = missing(&compose.files, &paths, there);
                found.extend(missing.map(|(text, advice)| Obstacle::new(&host.name, text, advice)));
            }
            _ => {}
        }
    }
    found
}

/// The first of `files` that is not there, and what might be meant.
fn missing(files: &[String], paths: &[&str], there: impl Fn(&str) -> bool) -> Option<(String, Option<String>)> {
    let alike = || paths.iter().copied().filter(|path| is_compose(path));
    let listed = || {
        let all: Vec<&str> = alike().collect();
        (!all.is_empty()).then(|| format!("`compose_files` names what to use; there is {}", all.join(", ")))
    };
    if files.is_empty() {
        let none = !DEFAULTS.iter().any(|name| there(name));
        return none.then(|| (format!("the release has no {}", DEFAULTS.join(", no ")), listed()));
    }
    let gone = files.iter().find(|file| !there(file.trim_start_matches("./")))?;
    let meant = nearest(gone, paths.iter().copied()).map(|near| format!("did you mean {near}?"));
    Some((format!("the Compose file {gone} is not in the release"), meant.or_else(listed)))
}

fn is_compose(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.contains("compose") && (name.ends_with(".yml") || name.ends_with(".yaml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_named_with_the_one_that_is_meant() {
        let paths = ["backend/manage.py", "docker-compose.stage.yml", "docker/compose.yml"];
        let told = |files: &[&str], paths: &[&str]| {
            let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
            let (text, advice) = missing(&files, paths, |path| paths.contains(&path)).unwrap_or_default();
            format!("{text}: {}", advice.unwrap_or_default())
        };
        assert_eq!(told(&["./docker/compose.yml", "docker-compose.stage.yml"], &paths), ": ");
        assert_eq!(told(&[], &["compose.yml"]), ": ");
        insta::assert_snapshot!(
            [told(&["docker-compose.stge.yml"], &paths), told(&["prod.yml"], &paths), told(&[], &paths), told(&[], &["a"])]
                .join("\n"),
            @r"
        the Compose file docker-compose.stge.yml is not in the release: did you mean docker-compose.stage.yml?
        the Compose file prod.yml is not in the release: `compose_files` names what to use; there is docker-compose.stage.yml, docker/compose.yml
        the release has no compose.yaml, no compose.yml, no docker-compose.yaml, no docker-compose.yml: `compose_files` names what to use; there is docker-compose.stage.yml, docker/compose.yml
        the release has no compose.yaml, no compose.yml, no docker-compose.yaml, no docker-compose.yml:
        ");
    }
}
