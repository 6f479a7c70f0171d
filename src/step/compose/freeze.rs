//! From the resolved configuration of Compose to the frozen one of a release.
//!
//! Frozen means: each image by its id, nothing to build or pull, no profile, and files of the release mounted
//! through `current`, so that a container whose configuration did not change outlives the release that made
//! it. A label carries the digest of everything a container is made from; equal digests need no replacing.
//! The resolved configuration can hold secrets: nothing here is shown.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::docker::CONFIG_LABEL;
use super::service::{Choice, Known, Service, Services, Way, ways};
use crate::command::{Command, join};

/// The resolved configuration: the answer to `docker compose config --format json`.
#[derive(Clone, Debug)]
pub struct Resolved {
    whole: Map<String, Value>,
    services: Map<String, Value>,
}

/// What is mounted from the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// It is not there.
    Missing,
    /// It is a link to what outlives releases.
    Outside(String),
    /// It is a file of the release, with this digest.
    Inside(String),
    /// It is a folder of the release, with this digest.
    Folder(String),
}

/// What is known of a service's image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Its id, `sha256:…`.
    pub id: String,
    /// It makes volumes without names.
    pub volumes: bool,
}

/// Where the files of the release are.
#[derive(Clone, Copy, Debug)]
pub struct Paths<'a> {
    /// The folder of the release.
    pub release: &'a str,
    /// The link to the live release.
    pub current: &'a str,
}

/// A frozen release.
#[derive(Clone, Debug, PartialEq)]
pub struct Frozen {
    /// For everything after `prepare`.
    pub frozen: String,
    /// For one-off commands in `prepare`: mounts the release itself.
    pub prepared: String,
    /// What is replaced, and how.
    pub services: Services,
}

impl Resolved {
    /// Reads the answer.
    pub fn read(answer: &str) -> Result<Self, String> {
        let wrong = |_| "`docker compose config` answered what is no JSON: Compose 2 is needed".to_owned();
        let mut whole: Map<String, Value> = serde_json::from_str(answer).map_err(wrong)?;
        match whole.remove("services") {
            Some(Value::Object(services)) if !services.is_empty() => Ok(Self { whole, services }),
            _ => Err("the Compose files have no service (all in profiles that are not chosen?)".to_owned()),
        }
    }

    /// Whether the services that a recipe names are there; the error says which is not.
    pub fn knows(&self, choice: &Choice) -> Result<(), String> {
        let named = choice.one_shot.iter().chain(&choice.single).chain(&choice.start_first).chain(&choice.uses);
        let Some(unknown) = named.into_iter().find(|name| !self.services.contains_key(*name)) else { return Ok(()) };
        let known: Vec<&str> = self.services.keys().map(String::as_str).collect();
        Err(format!("the recipe names the service {unknown}; the Compose files have {}", known.join(", ")))
    }

    /// The services, sorted, each with whether it has something to build and the image that it names.
    pub fn images(&self) -> Vec<(&str, bool, Option<&str>)> {
        let image = |service: &'_ Value| -> bool { service.get("build").is_some_and(|build| !build.is_null()) };
        self.services
            .iter()
            .map(|(name, service)| (name.as_str(), image(service), service.get("image").and_then(Value::as_str)))
            .collect()
    }

    /// The configuration in which these services have these images: what is built and pulled. Nothing in it is
    /// replaced by a variable any more, so nothing of a setting shows in a warning.
    pub fn named(mut self, images: &BTreeMap<String, String>) -> String {
        for (name, image) in images {
            if let Some(service) = self.services.get_mut(name).and_then(Value::as_object_mut) {
                service.insert("image".to_owned(), json!(image));
            }
        }
        for service in self.services.values_mut().filter_map(Value::as_object_mut) {
            service.remove("profiles");
            service.remove("env_file");
        }
        self.text()
    }

    /// The files and folders of the release that are mounted, relative to it.
    pub fn mounted(&self, release: &str) -> Vec<String> {
        let mut found: BTreeSet<String> = BTreeSet::new();
        for volume in self.services.values().flat_map(volumes) {
            found.extend(bind(volume).and_then(|source| below(source, release)).map(str::to_owned));
        }
        for entry in ["configs", "secrets"].iter().filter_map(|key| self.whole.get(*key)?.as_object()).flatten() {
            let file = entry.1.get("file").and_then(Value::as_str);
            found.extend(file.and_then(|file| below(file, release)).map(str::to_owned));
        }
        found.into_iter().collect()
    }

    /// Freezes it, or says why that would lose something.
    pub fn freeze(
        mut self,
        paths: Paths<'_>,
        choice: &Choice,
        images: &BTreeMap<String, Image>,
        mounted: &BTreeMap<String, Mounted>,
    ) -> Result<Frozen, String> {
        if let Some((path, _)) = mounted.iter().find(|(_, what)| **what == Mounted::Missing) {
            return Err(format!(
                "{path} is mounted, and is no part of the release: name it in `shared.dirs`, so that it outlives releases, or use a volume"
            ));
        }
        let mut known: BTreeMap<String, Known> = BTreeMap::new();
        for (name, service) in &self.services {
            let state = volumes(service).iter().filter(|volume| !truth(volume, "read_only")).filter_map(bind);
            let state = state.filter_map(|source| match below(source, paths.release) {
                None => Some(source.to_owned()),
                Some(relative) => match mounted.get(relative) {
                    Some(Mounted::Outside(real)) => Some(real.clone()),
                    _ => None,
                },
            });
            let image_volumes = images.get(name).is_some_and(|image| image.volumes);
            known.insert(name.clone(), Known { image_volumes, state: state.collect() });
        }
        let folders: BTreeSet<String> = self
            .services
            .iter()
            .filter(|(_, service)| {
                let mut own = volumes(service).iter().filter_map(bind).filter_map(|path| below(path, paths.release));
                own.any(|path| matches!(mounted.get(path), Some(Mounted::Folder(_))))
            })
            .map(|(name, _)| name.clone())
            .collect();
        let ways = ways(&self.services, choice, &known);
        let one_shot: BTreeSet<String> =
            ways.iter().filter(|(_, way)| **way == Way::OneShot).map(|(name, _)| name.clone()).collect();
        let after: BTreeMap<String, Vec<String>> =
            self.services.iter().map(|(name, service)| (name.clone(), needs(service))).collect();

        for (name, service) in &mut self.services {
            let Some(service) = service.as_object_mut() else { continue };
            for key in ["build", "profiles", "env_file", "develop"] {
                service.remove(key);
            }
            let image = images.get(name).ok_or_else(|| format!("the image of {name} is not on the host"))?;
            service.insert("image".to_owned(), json!(image.id));
            service.insert("pull_policy".to_owned(), json!("never"));
            if let Some(Value::Object(needs)) = service.get_mut("depends_on") {
                needs.retain(|name, _| !one_shot.contains(name));
            }
        }
        let mut prepared = self.clone();
        let through_current = self.rewrite(paths);
        let kept: Vec<Service> = self
            .services
            .iter()
            .map(|(name, service)| Service {
                name: name.clone(),
                way: ways.get(name).cloned().unwrap_or(Way::StartFirst),
                config: digest(service, &self.whole, mounted),
                replicas: replicas(service),
                after: after.get(name).cloned().unwrap_or_default(),
                folders: folders.contains(name),
            })
            .collect();
        for service in &kept {
            self.label(&service.name, &service.config);
            // What mounts the release itself has to be made anew once the release is live.
            let mark = if through_current.contains(&service.name) { "prepare:" } else { "" };
            prepared.label(&service.name, &format!("{mark}{}", service.config));
        }
        Ok(Frozen { frozen: self.text(), prepared: prepared.text(), services: Services { services: kept } })
    }

    /// Mounts files of the release through `current`; gives back the services that do.
    fn rewrite(&mut self, paths: Paths<'_>) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (name, service) in &mut self.services {
            let Some(volumes) = service.get_mut("volumes").and_then(Value::as_array_mut) else { continue };
            for volume in volumes.iter_mut() {
                let Some(relative) = bind(volume).and_then(|source| below(source, paths.release)) else { continue };
                let source = beside(paths.current, relative);
                let Some(volume) = volume.as_object_mut() else { continue };
                volume.insert("source".to_owned(), json!(source));
                // Docker would make a folder, as root, where the file is not.
                let options = volume.entry("bind").or_insert_with(|| json!({}));
                if let Some(options) = options.as_object_mut() {
                    options.insert("create_host_path".to_owned(), json!(false));
                }
                found.insert(name.clone());
            }
        }
        for key in ["configs", "secrets"] {
            let Some(entries) = self.whole.get_mut(key).and_then(Value::as_object_mut) else { continue };
            for entry in entries.values_mut().filter_map(Value::as_object_mut) {
                let file = entry.get("file").and_then(Value::as_str).and_then(|file| below(file, paths.release));
                if let Some(file) = file.map(|relative| beside(paths.current, relative)) {
                    entry.insert("file".to_owned(), json!(file));
                }
            }
        }
        found
    }

    fn label(&mut self, service: &str, value: &str) {
        let Some(service) = self.services.get_mut(service).and_then(Value::as_object_mut) else { return };
        let labels = service.entry("labels").or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(CONFIG_LABEL.to_owned(), json!(value));
        }
    }

    fn text(mut self) -> String {
        self.whole.insert("services".to_owned(), Value::Object(self.services));
        Value::Object(self.whole).to_string()
    }
}

/// Asks what the paths of the release are: a line each, in the order of `paths`, after the release's own.
pub fn ask_mounted(release: &str, paths: &[String]) -> Command {
    // What a link leads to outlives releases and may be large: its content does not count.
    let text = format!(
        "root=$(pwd -P) || exit 125\n\
         for p in {paths}; do r=$(readlink -f -- \"$p\") || r=\n\
         if [ -z \"$r\" ] || [ ! -e \"$r\" ]; then echo missing; continue; fi\n\
         case $r/ in \"$root\"/*) q=.${{r#\"$root\"}}; k=inside; [ ! -d \"$q\" ] || k=folder; printf '%s %s\\n' $k \"$( {{ find \"$q\" -type f -exec sha256sum {{}} +; find \"$q\" -type l -exec readlink {{}} \\;; }} | LC_ALL=C sort | sha256sum )\" ;;\n\
         *) printf 'outside %s\\n' \"$r\" ;; esac; done",
        paths = join(paths.iter().map(|path| if path.is_empty() { "." } else { path.as_str() })),
    );
    Command::shell(text).directory(release)
}

/// Reads the answer to [`ask_mounted`].
pub fn read_mounted(paths: &[String], answer: &str) -> BTreeMap<String, Mounted> {
    let first = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    let read = |line: &str| match line.split_once(' ') {
        Some(("inside", digest)) => Mounted::Inside(first(digest)),
        Some(("folder", digest)) => Mounted::Folder(first(digest)),
        Some(("outside", path)) => Mounted::Outside(path.to_owned()),
        _ => Mounted::Missing,
    };
    let lines = answer.lines().map(read).chain(std::iter::repeat(Mounted::Missing));
    paths.iter().cloned().zip(lines).collect()
}

fn volumes(service: &Value) -> &[Value] {
    service.get("volumes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn truth(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool) == Some(true)
}

/// The source of a bind mount.
fn bind(volume: &Value) -> Option<&str> {
    let kind = volume.get("type").and_then(Value::as_str);
    volume.get("source").and_then(Value::as_str).filter(|_| kind == Some("bind"))
}

/// `path` relative to `folder`, where it is in it or is it.
fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(folder)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

fn beside(folder: &str, relative: &str) -> String {
    if relative.is_empty() { folder.to_owned() } else { format!("{folder}/{relative}") }
}

fn needs(service: &Value) -> Vec<String> {
    let needs = service.get("depends_on").and_then(Value::as_object);
    needs.map(|needs| needs.keys().cloned().collect()).unwrap_or_default()
}

fn replicas(service: &Value) -> u32 {
    let deploy = service.get("deploy").and_then(|deploy| deploy.get("replicas"));
    let count = service.get("scale").or(deploy).and_then(Value::as_u64);
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1)
}

/// What stands beside the services and is named by `service`: a volume that another one gets does not concern it.
fn named(service: &Value, whole: &Map<String, Value>) -> Map<String, Value> {
    let sources = |key: &str| -> Vec<&str> {
        let list = service.get(key).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|entry| entry.get("source").unwrap_or(entry).as_str()).collect()
    };
    let networks = service.get("networks").and_then(Value::as_object).into_iter().flatten();
    let kinds = [
        ("networks", networks.map(|(name, _)| name.as_str()).chain(sources("networks")).collect::<Vec<_>>()),
        ("volumes", sources("volumes")),
        ("configs", sources("configs")),
        ("secrets", sources("secrets")),
    ];
    let own = |(key, names): (&str, Vec<&str>)| {
        let all = whole.get(key)?.as_object()?;
        let own = all.iter().filter(|(name, _)| names.contains(&name.as_str()));
        Some((key.to_owned(), own.map(|(name, what)| (name.clone(), what.clone())).collect::<Map<_, _>>().into()))
    };
    kinds.into_iter().filter_map(own).collect()
}

/// The digest of everything that the service's containers are made from.
fn digest(service: &Value, whole: &Map<String, Value>, mounted: &BTreeMap<String, Mounted>) -> String {
    let named = named(service, whole);
    let used = |path: &String| {
        let end = format!("/{path}");
        let file = |entry: &Value| entry.get("file").and_then(Value::as_str).is_some_and(|file| file.ends_with(&end));
        volumes(service).iter().filter_map(bind).any(|source| path.is_empty() || source.ends_with(&end))
            || named.values().filter_map(Value::as_object).flatten().any(|(_, entry)| file(entry))
    };
    let contents: Vec<(&String, String)> =
        mounted.iter().filter(|(path, _)| used(path)).map(|(path, what)| (path, format!("{what:?}"))).collect();
    let all = json!({ "service": service, "named": named, "contents": contents });
    Sha256::digest(all.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: Paths<'_> = Paths { release: "/srv/app/releases/r2", current: "/srv/app/current" };

    fn resolved(release: &str) -> Resolved {
        let text = json!({
            "name": "app",
            "services": {
                "front": { "build": { "context": format!("{release}/front") }, "volumes": [{ "type": "volume", "source": "assets", "target": "/a" }] },
                "proxy": {
                    "image": "caddy:2", "profiles": ["web"],
                    "depends_on": { "web": { "condition": "service_healthy", "required": true } },
                    "ports": [{ "target": 80, "published": "80" }],
                    "volumes": [{ "type": "bind", "source": format!("{release}/Caddyfile"), "target": "/etc/Caddyfile", "bind": { "create_host_path": true } }],
                },
                "web": {
                    "build": { "context": release },
                    "depends_on": { "front": { "condition": "service_completed_successfully", "required": true } },
                    "environment": { "KEY": "s3cret$$" },
                    "volumes": [{ "type": "volume", "source": "assets", "target": "/a" }],
                },
            },
            "volumes": { "assets": { "name": "app_assets" } },
        });
        Resolved::read(&text.to_string()).expect("a configuration")
    }

    fn images() -> BTreeMap<String, Image> {
        ["front", "proxy", "web"]
            .map(|name| (name.to_owned(), Image { id: format!("sha256:{name}"), volumes: false }))
            .into_iter()
            .collect()
    }

    fn freeze(release: &str, caddyfile: &str) -> Frozen {
        let mounted = BTreeMap::from([("Caddyfile".to_owned(), Mounted::Inside(caddyfile.to_owned()))]);
        let paths = Paths { release, ..PATHS };
        resolved(release).freeze(paths, &Choice::default(), &images(), &mounted).expect("frozen")
    }

    #[test]
    fn a_frozen_configuration_builds_and_pulls_nothing() {
        let frozen = freeze(PATHS.release, "aa");
        let value: Value = serde_json::from_str(&frozen.frozen).expect("JSON");
        let proxy = &value["services"]["proxy"];
        assert_eq!(proxy["volumes"][0]["source"], "/srv/app/current/Caddyfile");
        assert_eq!(proxy["volumes"][0]["bind"]["create_host_path"], false);
        assert_eq!((&proxy["image"], &proxy["pull_policy"]), (&json!("sha256:proxy"), &json!("never")));
        assert!(proxy.get("profiles").is_none());
        let web = &value["services"]["web"];
        assert!(web.get("build").is_none() && web["depends_on"].as_object().is_some_and(Map::is_empty));
        assert_eq!(web["environment"]["KEY"], "s3cret$$");
        let prepared: Value = serde_json::from_str(&frozen.prepared).expect("JSON");
        assert_eq!(prepared["services"]["proxy"]["volumes"][0]["source"], "/srv/app/releases/r2/Caddyfile");
        assert_ne!(prepared["services"]["proxy"]["labels"], proxy["labels"]);
        assert_eq!(prepared["services"]["web"]["labels"], web["labels"]);
        let names: Vec<_> = frozen.services.services.iter().map(|own| (own.name.as_str(), &own.way)).collect();
        let port = Way::Recreate("it publishes port 80".to_owned());
        assert_eq!(names, [("front", &Way::OneShot), ("proxy", &port), ("web", &Way::StartFirst)]);
        assert!(!serde_json::to_string(&frozen.services).expect("JSON").contains("s3cret"));
    }

    #[test]
    fn only_what_changed_has_another_digest_in_the_next_release() {
        let digests = |frozen: Frozen| frozen.services.services.into_iter().map(|own| own.config).collect::<Vec<_>>();
        let first = digests(freeze("/srv/app/releases/r1", "aa"));
        assert_eq!(first, digests(freeze("/srv/app/releases/r2", "aa")));
        let changed = digests(freeze("/srv/app/releases/r2", "bb"));
        let same: Vec<bool> = first.iter().zip(&changed).map(|(a, b)| a == b).collect();
        assert_eq!(same, [true, false, true], "only the proxy mounts the Caddyfile");
    }

    #[test]
    fn what_stands_beside_the_services_concerns_those_that_name_it() {
        let service = json!({
            "networks": { "back": null }, "secrets": [{ "source": "token", "target": "/t" }],
            "volumes": [{ "type": "volume", "source": "data", "target": "/d" }, { "type": "bind", "source": "/x", "target": "/x" }],
        });
        let whole = |text: Value| text.as_object().expect("a table").clone();
        let found = named(
            &service,
            &whole(json!({
                "networks": { "back": { "name": "b" }, "front": {} }, "volumes": { "data": {}, "other": {} },
                "secrets": { "token": { "file": "/t" }, "key": {} },
            })),
        );
        let own = json!({
            "networks": { "back": { "name": "b" } }, "volumes": { "data": {} }, "secrets": { "token": { "file": "/t" } },
        });
        assert_eq!(Value::Object(found), own);
    }

    #[test]
    fn what_would_be_lost_or_is_misspelt_is_refused() {
        let missing = BTreeMap::from([("data".to_owned(), Mounted::Missing)]);
        let lost = resolved(PATHS.release).freeze(PATHS, &Choice::default(), &images(), &missing);
        assert!(lost.expect_err("lost").starts_with("data is mounted"));
        let choice = Choice { uses: vec!["web".to_owned(), "wep".to_owned()], ..Choice::default() };
        let misspelt = resolved(PATHS.release).knows(&choice);
        assert_eq!(
            misspelt,
            Err("the recipe names the service wep; the Compose files have front, proxy, web".to_owned())
        );
    }

    #[test]
    fn mounted_files_are_looked_at_on_a_real_shell() {
        let folder = tempfile::tempdir().expect("a folder");
        let release = folder.path().join("it's r1");
        std::fs::create_dir_all(release.join("conf d")).expect("a folder");
        std::fs::create_dir(folder.path().join("media")).expect("a folder");
        std::fs::write(release.join("conf d/x"), "1").expect("a file");
        std::os::unix::fs::symlink(folder.path().join("media"), release.join("media")).expect("a link");
        let paths: Vec<String> = ["", "conf d", "conf d/x", "gone", "media"].map(str::to_owned).to_vec();
        let ask = || {
            let command = ask_mounted(&release.to_string_lossy(), &paths);
            let output = std::process::Command::new("/bin/sh").arg("-c").arg(command.to_shell()).output().expect("sh");
            assert!(output.status.success(), "{output:?}");
            read_mounted(&paths, &String::from_utf8_lossy(&output.stdout))
        };
        let first = ask();
        assert_eq!(first["gone"], Mounted::Missing);
        assert!(matches!(&first["media"], Mounted::Outside(path) if path.ends_with("/media")), "{first:?}");
        std::fs::write(release.join("conf d/x"), "2").expect("a file");
        let second = ask();
        for changed in ["", "conf d", "conf d/x"] {
            let is_folder = matches!(first[changed], Mounted::Folder(_));
            assert!(is_folder != changed.ends_with('x') && first[changed] != second[changed], "{changed}");
        }
        assert_eq!(first["media"], second["media"]);
    }
}
