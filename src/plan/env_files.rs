//! Files of settings that steps read: each has to be there, and complete, before anything changes.

use super::Obstacle;
use super::deploy::HostInput;
use crate::facts::placeholders::placeholders;
use crate::step::Step;

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
