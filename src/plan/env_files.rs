//! Files of settings that steps read: each has to be there, and complete, before anything changes; and which of them
//! `ship env` is about.

use std::collections::BTreeMap;

use super::Obstacle;
use super::deploy::HostInput;
use crate::facts::placeholders::placeholders;
use crate::plan::render::PlannedStep;
use crate::step::Step;

/// The file below `shared/` that `ship env` is about: of those that the steps read the one that is `pushed`, or else the
/// first; `.env` where they read none. What is made from a template is no file of the host.
pub fn chosen(steps: &[PlannedStep], pushed: Option<&str>) -> Result<String, String> {
    let read: Vec<&str> = steps.iter().flat_map(|planned| planned.step.env_files()).map(String::as_str).collect();
    let made = steps.iter().filter_map(|planned| match &planned.step {
        Step::Settings(own) => Some((own.to.as_str(), planned.name.as_str())),
        _ => None,
    });
    choice(&read, &made.collect(), pushed)
}

/// The same, from the files that steps read, and those that are made, each with the name of its step.
fn choice(read: &[&str], made: &BTreeMap<&str, &str>, pushed: Option<&str>) -> Result<String, String> {
    let pushed = pushed.map(|path| path.strip_prefix("./").unwrap_or(path));
    let wanted = pushed.and_then(|pushed| read.iter().find(|path| **path == pushed));
    let path = wanted.or_else(|| read.iter().find(|path| !made.contains_key(**path))).or_else(|| read.first());
    let Some(path) = path.copied() else { return Ok(".env".to_owned()) };
    match made.get(path) {
        Some(step) => Err(format!(
            "{path} is made anew in each release by the step \"{step}\"; change its template, or the secrets and vars in it"
        )),
        None => Ok(path.to_owned()),
    }
}

/// What is wrong with them. Keys are named, values never.
pub fn obstacles(host: &HostInput<'_>) -> Vec<Obstacle> {
    let mut found = Vec::new();
    let mut paths: Vec<&String> = host.steps.iter().flat_map(|planned| planned.step.env_files()).collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        let shared = host.facts.shared.contains(path);
        let written = host.steps.iter().any(|planned| matches!(&planned.step, Step::Settings(own) if own.to == *path));
        let rendered = host.settings.iter().find(|file| file.path() == path.as_bytes());
        let place = format!("{}/{path}", host.layout.shared());
        if shared && written {
            found.push(Obstacle::new(
                &host.name,
                format!("{path} is written by a `settings` step, and is also at {place}"),
                Some("keep one of them".to_owned()),
            ));
            continue;
        }
        let keys = match rendered {
            Some(file) => placeholders(&String::from_utf8_lossy(file.contents())),
            None if shared => host.facts.placeholders.get(path).cloned().unwrap_or_default(),
            None if written || host.tree.manifest().get(path.as_bytes()).is_some() => Vec::new(),
            None => {
                found.push(Obstacle::new(
                    &host.name,
                    format!("the settings file {place} does not exist"),
                    Some(format!("`ship env push {path}` puts it there, or a `settings` step writes it")),
                ));
                continue;
            }
        };
        if !keys.is_empty() {
            let where_ = if shared { place } else { path.clone() };
            found.push(Obstacle::new(
                &host.name,
                format!("a <placeholder> is left in {where_}: {}", keys.join(", ")),
                Some("give each of these keys its value; nothing was changed".to_owned()),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ship_env_is_about_a_file_that_the_steps_read_and_no_other_step_makes() {
        let made = BTreeMap::from([("stage/stage.env", "Write the settings")]);
        let none = BTreeMap::new();
        let name = |path: &str| Ok(path.to_owned());
        assert_eq!(choice(&[], &made, Some("stage/stage.env")), name(".env"));
        assert_eq!(choice(&["stage/stage.env"], &none, None), name("stage/stage.env"));
        assert_eq!(choice(&["a.env", "b.env"], &none, None), name("a.env"));
        assert_eq!(choice(&["a.env", "b.env"], &none, Some("./b.env")), name("b.env"));
        assert_eq!(choice(&["a.env", "b.env"], &none, Some("c.env")), name("a.env"));
        assert_eq!(choice(&["stage/stage.env", "b.env"], &made, None), name("b.env"));
        insta::assert_snapshot!(
            choice(&["stage/stage.env"], &made, None).expect_err("made"),
            @r#"stage/stage.env is made anew in each release by the step "Write the settings"; change its template, or the secrets and vars in it"#
        );
    }
}
