//! The sample project: a site with an inventory and a recipe, in git where there is git.
#![expect(clippy::disallowed_methods, reason = "the project is made with git, which is a program")]

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// A page of the site.
const PAGE: &str = include_str!("site/page.html");

/// The recipe.
const RECIPE: &str = include_str!("site/recipe.toml");

/// The languages of the site, in the order of the hosts: each host is asked for the health of its own.
pub(super) const LANGUAGES: [&str; 2] = ["en", "de"];

/// What the inventory says of a host.
#[derive(Clone, Debug)]
pub(super) struct HostEntry {
    /// Its name.
    pub(super) name: String,
    /// The port of its SSH server.
    pub(super) port: u16,
    /// Its public key.
    pub(super) host_key: String,
    /// The file with the key that may log in.
    pub(super) identity: PathBuf,
    /// Where its releases live.
    pub(super) deploy_to: PathBuf,
    /// The port of its web server.
    pub(super) web_port: u16,
    /// The language whose health it is asked for.
    pub(super) language: &'static str,
}

/// A project in a folder of its own.
#[derive(Debug)]
pub(super) struct Project {
    folder: PathBuf,
    path: String,
    git: bool,
}

/// A version of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// Its number, which every page shows.
    pub(super) number: u32,
    /// Whether every language has its health page.
    pub(super) complete: bool,
}

impl Version {
    /// The title of its pages.
    pub(super) fn title(self) -> String {
        format!("Version {}", self.number)
    }
}

impl Project {
    /// A project in `folder`, which is made, for `hosts`. `path` is where git is looked for.
    pub(super) async fn create(folder: &Path, hosts: &[HostEntry], path: &str) -> io::Result<Self> {
        std::fs::create_dir_all(folder.join("recipes"))?;
        std::fs::write(folder.join("inventory.toml"), inventory(hosts))?;
        std::fs::write(folder.join("recipes/demo.toml"), RECIPE)?;
        std::fs::write(folder.join(".gitignore"), ".ship/\n")?;
        let mut project = Self { folder: folder.to_owned(), path: path.to_owned(), git: true };
        project.git = match project.git(&["init", "-q"]).await {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if project.git {
            // `git init -b` is of 2020; this is of always.
            project.git(&["symbolic-ref", "HEAD", "refs/heads/main"]).await?;
        }
        Ok(project)
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it is in git.
    pub(super) fn has_git(&self) -> bool {
        self.git
    }

    /// Writes `version` and commits it.
    pub(super) async fn write(&self, version: Version) -> io::Result<()> {
        let public = self.folder.join("public");
        let page = PAGE.replace("VERSION", &version.title());
        for language in LANGUAGES {
            std::fs::create_dir_all(public.join(language))?;
            std::fs::write(public.join(language).join("index.html"), page.replace("LANGUAGE", language))?;
            std::fs::write(public.join(language).join("health.txt"), "well\n")?;
        }
        std::fs::write(public.join("index.html"), page.replace("LANGUAGE", "en"))?;
        if let (false, Some(forgotten)) = (version.complete, LANGUAGES.last()) {
            std::fs::remove_file(public.join(forgotten).join("health.txt"))?;
        }
        if self.git {
            self.git(&["add", "--all"]).await?;
            self.git(&["commit", "-q", "-m", &version.title()]).await?;
        }
        Ok(())
    }

    /// Runs git, apart from the user's settings and repositories.
    async fn git(&self, arguments: &[&str]) -> io::Result<()> {
        let output = Command::new("git")
            .args(["-c", "user.name=ship demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgSign=false"])
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", &self.folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("`git {}` failed: {}", arguments.join(" "), said.trim())))
    }
}

fn inventory(hosts: &[HostEntry]) -> String {
    let mut text =
        String::from("recipe    = \"demo\"\napp       = \"site\"\ndeploy_to = \"/var/www/site\"\nkeep_releases = 5\n");
    for host in hosts {
        text.push_str(&format!(
            "\n[hosts.{}]\naddress = \"127.0.0.1\"\nport = {}\nuser = \"deployer\"\nroles = [\"web\"]\n\
             host_key = {}\nidentity_file = {}\ndeploy_to = {}\n\
             [hosts.{}.vars]\nweb_port = {}\nlanguage = {}\n",
            host.name,
            host.port,
            quoted(&host.host_key),
            quoted(&host.identity.to_string_lossy()),
            quoted(&host.deploy_to.to_string_lossy()),
            host.name,
            host.web_port,
            quoted(host.language),
        ));
    }
    let names: Vec<String> = hosts.iter().map(|host| quoted(&host.name)).collect();
    text.push_str(&format!("\n[environments.demo]\nhosts = [{}]\nbranch = \"main\"\nbatch = 1\n", names.join(", ")));
    text
}

/// `text` as a basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::inventory::Inventory;
    use crate::config::recipe::Recipe;

    #[test]
    fn the_inventory_and_the_recipe_are_ones_that_ship_reads() {
        let entry = |name: &str, language| HostEntry {
            name: name.to_owned(),
            port: 4022,
            host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0000000000000000000000000000000000000000000".to_owned(),
            identity: PathBuf::from("/tmp/a \"quoted\\ folder/keys/web1"),
            deploy_to: PathBuf::from("/tmp/a \"quoted\\ folder/web1/site"),
            web_port: 4080,
            language,
        };
        let text = inventory(&[entry("web1", "en"), entry("web2", "de")]);
        let read = Inventory::read(Path::new("inventory.toml"), text).unwrap();
        let host = read.hosts.first().unwrap();
        assert_eq!(host.deploy_to.as_ref().map(|path| path.value.as_str()), Some("/tmp/a \"quoted\\ folder/web1/site"));
        assert_eq!(host.identity_file, Some(PathBuf::from("/tmp/a \"quoted\\ folder/keys/web1")));
        Recipe::read("demo", Path::new("recipes/demo.toml"), RECIPE.to_owned()).unwrap();
    }

    #[tokio::test]
    async fn a_project_is_whole_but_for_the_version_that_forgot_something() {
        let folder = tempfile::tempdir().unwrap();
        let project = Project::create(folder.path(), &[], "/usr/local/bin:/usr/bin:/bin").await.unwrap();
        for (number, complete) in [(1, true), (2, true), (3, false)] {
            project.write(Version { number, complete }).await.unwrap();
            let page = std::fs::read_to_string(folder.path().join("public/index.html")).unwrap();
            assert!(page.contains(&format!("<title>Version {number}</title>")));
            assert!(folder.path().join("public/en/health.txt").exists());
            assert_eq!(folder.path().join("public/de/health.txt").exists(), complete);
        }
        assert!(!project.has_git() || folder.path().join(".git/refs/heads/main").exists());
    }
}
