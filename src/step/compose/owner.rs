//! Whose the containers of a project are: a project of Compose is no more than a name, which others may use too.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::Decide;
use super::docker::{Docker, SEPARATOR};
use super::site::Site;
use crate::command::Command;
use crate::step::Task;

/// What it may mean that Docker does not answer.
const NO_ANSWER: &[(i32, &str)] =
    &[(1, "if Docker refused the login: `ship check` says what to do (the group docker, or `docker_sudo = true`)")];

/// Lists the containers of the project, each with its service and the Compose files that it was made from.
pub fn question(docker: &Docker) -> Command {
    let label = |name: &str| format!("{{{{.Label \"com.docker.compose.{name}\"}}}}");
    docker.containers_as(&[label("service"), label("project.config_files")])
}

/// Whose a container is, where it is not this app's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// An app that ship deploys to this folder.
    App(String),
    /// Whoever has these Compose files.
    Files(String),
}

/// A path as Compose writes it down: `/srv//app/./x` is `/srv/app/x`.
fn clean(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect()
}

/// The services of others.
fn others(site: &Site, answer: &str) -> BTreeMap<Owner, BTreeSet<String>> {
    let mut found: BTreeMap<Owner, BTreeSet<String>> = BTreeMap::new();
    for (service, files) in answer.lines().filter_map(|line| line.split_once(SEPARATOR)) {
        let owner = match files.split_once("/.ship/releases/") {
            Some((root, _)) if clean(root) == clean(site.layout.root()) => continue,
            Some((root, _)) => Owner::App(root.to_owned()),
            None => Owner::Files(files.to_owned()),
        };
        found.entry(owner).or_default().insert(service.to_owned());
    }
    found
}

/// Before the first release: nobody else's containers are replaced.
pub fn adopt(site: &Site, answer: &str) -> Result<Vec<Task>, String> {
    let others = others(site, answer);
    let project = &site.docker.project;
    let Some((owner, services)) = others.first_key_value() else { return Ok(Vec::new()) };
    let services = services.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let files = match owner {
        Owner::App(root) => {
            return Err(format!(
                "the project {project} on this host is that of the app in {root} ({services}): give this app another `project`"
            ));
        }
        Owner::Files(files) => files,
    };
    let of = if files.is_empty() { String::new() } else { format!(" of {files}") };
    Err(format!(
        "the project {project} has containers that ship did not make ({services}{of}), and could not put back: give this \
         app another `project`; or, if they are its own from before ship, stop them once on the host with `{}` (volumes \
         stay), then deploy",
        site.docker.down(false).display()
    ))
}

/// Where a first release failed: its containers go, unless some are others'. Volumes stay.
pub fn down(site: &Site, answer: &str) -> Vec<Task> {
    let task = || site.task("Take the containers down; volumes stay", site.docker.down(false));
    others(site, answer).is_empty().then(task).into_iter().collect()
}

/// The question whose answer decides.
pub fn ask(site: &Site, name: &str, decide: Decide) -> Task {
    let task = site.ask(name, question(&site.docker), decide);
    if site.docker.sudo { task } else { task.meanings(NO_ANSWER) }
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn a_folder_is_the_same_however_it_is_written() {
        assert_eq!(clean("/srv//app/./x/"), clean("/srv/app/x"));
        assert_ne!(clean("/srv/app"), clean("/srv/app2"));
    }
}
