//! The commands of Docker and Docker Compose, one argv each.

use crate::command::Command;
use crate::layout::{Layout, ReleaseId};

/// What stands between the fields of a container in the answer to [`Docker::containers`].
pub const SEPARATOR: char = '|';

/// The label that says with which frozen configuration a container was made: see `freeze`.
pub const CONFIG_LABEL: &str = "ship.config";

/// The label in which Compose notes the file that a container was made from.
const FILE_LABEL: &str = "com.docker.compose.project.config_files";

/// Docker on one host, for one project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Docker {
    /// The program, absolute.
    pub program: String,
    /// Whether it is called through sudo: the login is no member of the group `docker`.
    pub sudo: bool,
    /// The Compose project.
    pub project: String,
}

impl Docker {
    /// For a project; one without a name is called as the folder that is deployed to.
    pub fn new(program: String, sudo: bool, project: &str, layout: &Layout) -> Self {
        let folder = layout.root().rsplit('/').next().unwrap_or_default();
        Self { program, sudo, project: project_name(if project.is_empty() { folder } else { project }) }
    }

    /// `docker WORDS`.
    pub fn command<S: Into<String>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let words = std::iter::once(self.program.clone()).chain(words.into_iter().map(Into::into));
        let command = Command::argv(words);
        if self.sudo { command.sudo().any_arguments() } else { command }
    }

    /// `docker compose --file FILE WORDS` of the project. Output stays plain, for logs and files.
    pub fn compose<S: Into<String>>(&self, file: &str, words: impl IntoIterator<Item = S>) -> Command {
        self.compose_with(["--file".to_owned(), file.to_owned()], words)
    }

    /// `docker compose FLAGS WORDS` of the project.
    pub fn compose_with<S: Into<String>>(
        &self,
        flags: impl IntoIterator<Item = String>,
        words: impl IntoIterator<Item = S>,
    ) -> Command {
        let fixed = ["compose", "--ansi", "never", "--progress", "plain", "--project-name", &self.project];
        let fixed = fixed.into_iter().map(str::to_owned);
        self.command(fixed.chain(flags).chain(words.into_iter().map(Into::into)))
    }

    /// Lists the project's containers, also those that ended, but for those of `docker compose run`.
    pub fn containers(&self) -> Command {
        let label = |name: &str| format!("{{{{.Label {name:?}}}}}");
        self.containers_as(&[
            "{{.ID}}".to_owned(),
            label("com.docker.compose.service"),
            label(CONFIG_LABEL),
            "{{.State}}".to_owned(),
            "{{.Status}}".to_owned(),
        ])
    }

    /// The same, with other fields.
    pub fn containers_as(&self, fields: &[String]) -> Command {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = "label=com.docker.compose.oneoff=False".to_owned();
        let format = fields.join(&SEPARATOR.to_string());
        let words = ["ps", "--all", "--no-trunc", "--filter", &project, "--filter", &service, "--format", &format];
        self.command(words)
    }

    /// Lists the containers of all projects that Compose made, each as its service and the file it was made from.
    pub fn made(&self) -> Command {
        let format = format!("{{{{.Label \"com.docker.compose.service\"}}}}{SEPARATOR}{{{{.Label {FILE_LABEL:?}}}}}");
        let filter = format!("label={FILE_LABEL}");
        self.command(["ps", "--all", "--filter", &filter, "--format", &format])
    }

    /// What containers are doing: id, state, how often restarted, health.
    pub fn inspect(&self, ids: &[String]) -> Command {
        // The whole state: a template that names what a container may lack, such as its health, is an error.
        let format = "{{.Id}}|{{.RestartCount}}|{{json .State}}";
        self.command(["container", "inspect", "--format", format].into_iter().chain(ids.iter().map(String::as_str)))
    }

    /// Lists the images that ship has tagged for the project, one `name:tag` a line.
    pub fn images(&self, release: Option<&ReleaseId>) -> Command {
        let tag = release.map_or_else(|| "*".to_owned(), tag);
        let reference = format!("reference={}:{tag}", self.image_name("*"));
        self.command(["image", "ls", "--filter", &reference, "--format", "{{.Repository}}:{{.Tag}}"])
    }

    /// The image of `service` in `release`: `ship/<project>/<service>:<release>`, in lower case. The slash keeps the
    /// images of the project `app-stage` from those of `app`: no `*` of a filter goes over it.
    pub fn image(&self, service: &str, release: &ReleaseId) -> String {
        format!("{}:{}", self.image_name(&image_word(service)), tag(release))
    }

    fn image_name(&self, service: &str) -> String {
        format!("ship/{}/{service}", image_word(&self.project))
    }

    /// Stops and removes the project's containers and networks; its volumes only with `volumes`, which whoever
    /// calls this has to have had confirmed.
    pub fn down(&self, volumes: bool) -> Command {
        let mut words = vec!["compose", "--ansi", "never", "--project-name", &self.project];
        words.extend(["down", "--remove-orphans"]);
        if volumes {
            words.push("--volumes");
        }
        self.command(words)
    }
}

/// The tag of a release: names of images are lower case.
pub fn tag(release: &ReleaseId) -> String {
    release.as_str().to_ascii_lowercase()
}

/// `name` as a project of Compose: lower case letters, digits, `-` and `_`, beginning with a letter or digit.
pub fn project_name(name: &str) -> String {
    let safe: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-' { c } else { '-' })
        .collect();
    safe.trim_start_matches(['-', '_']).to_owned()
}

/// `name` as a part of the name of an image, which may not end with a separator.
fn image_word(name: &str) -> String {
    project_name(name).trim_end_matches(['-', '_']).to_owned()
}

/// The files of a release's record.
pub mod record {
    use super::{Layout, ReleaseId};

    /// The release in whose record `file` is; none where it is no record of `layout`.
    pub fn release_of(layout: &Layout, file: &str) -> Option<ReleaseId> {
        let rest = file.strip_prefix(&layout.records())?.strip_prefix("/releases/")?;
        ReleaseId::parse(rest.split('/').next()?)
    }

    /// The frozen configuration: what everything after `prepare` works on.
    pub fn frozen(layout: &Layout, release: &ReleaseId) -> String {
        format!("{}/compose.json", layout.record(release))
    }

    /// The same for one-off commands in `prepare`, when `current` still is another release.
    pub fn prepared(layout: &Layout, release: &ReleaseId) -> String {
        format!("{}/compose.prepare.json", layout.record(release))
    }

    /// The resolved configuration with the release's names of images: what is built and pulled.
    pub fn build(layout: &Layout, release: &ReleaseId) -> String {
        format!("{}/compose.build.json", layout.record(release))
    }

    /// The services and how each is replaced, without any secret.
    pub fn services(layout: &Layout, release: &ReleaseId) -> String {
        format!("{}/compose.services.json", layout.record(release))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_compose_and_registries() {
        assert_eq!(project_name("My.App"), "my-app");
        assert_eq!(project_name("_x"), "x");
        let docker = Docker { program: "/usr/bin/docker".to_owned(), sudo: true, project: "my-app".to_owned() };
        let release = ReleaseId::parse("20261121T101500Z-1a2b3c4").expect("an id");
        assert_eq!(docker.image("Web_", &release), "ship/my-app/web:20261121t101500z-1a2b3c4");
        insta::assert_snapshot!(docker.images(Some(&release)).display(), @"sudo /usr/bin/docker image ls --filter 'reference=ship/my-app/*:20261121t101500z-1a2b3c4' --format '{{.Repository}}:{{.Tag}}'");
        insta::assert_snapshot!(docker.containers().display(), @r#"sudo /usr/bin/docker ps --all --no-trunc --filter label=com.docker.compose.project=my-app --filter label=com.docker.compose.oneoff=False --format '{{.ID}}|{{.Label "com.docker.compose.service"}}|{{.Label "ship.config"}}|{{.State}}|{{.Status}}'"#);
        insta::assert_snapshot!(docker.down(false).display(), @"sudo /usr/bin/docker compose --ansi never --project-name my-app down --remove-orphans");
        insta::assert_snapshot!(docker.down(true).display(), @"sudo /usr/bin/docker compose --ansi never --project-name my-app down --remove-orphans --volumes");
    }
}
