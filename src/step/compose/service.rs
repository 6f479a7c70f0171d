//! The services of a frozen release: how each is replaced, and in which order. No secret is in here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::facts::Facts;
use crate::layout::ReleaseId;

/// How a service is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// It runs to its end before what follows it.
    OneShot,
    /// New containers are up and healthy before the old ones are stopped.
    StartFirst,
    /// The old container is stopped before the new one is started; the text says why.
    Recreate(String),
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// How it is replaced.
    pub way: Way,
    /// The digest of everything that its containers are made from.
    pub config: String,
    /// How many containers it has.
    pub replicas: u32,
    /// The services that have to be up, or at their end, before it.
    pub after: Vec<String>,
    /// Whether it mounts a folder of the release, which has to stay for as long as a container does.
    #[serde(default)]
    pub folders: bool,
}

/// The services of a release, in the order in which they are brought up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// The services.
    pub services: Vec<Service>,
}

impl Services {
    /// Those of `release`, as its record on the host says; none where it has no record that can be read.
    pub fn of(facts: &Facts, release: &ReleaseId) -> Option<Self> {
        serde_json::from_str(facts.services.get(release)?).ok()
    }

    /// Those that go on running.
    pub fn running(&self) -> Vec<String> {
        self.services.iter().filter(|own| own.way != Way::OneShot).map(|own| own.name.clone()).collect()
    }

    /// What `service` needs to be running before it, also through others.
    pub fn needed_by(&self, service: &str) -> Vec<String> {
        let mut needed: BTreeSet<&str> = BTreeSet::new();
        let mut next = vec![service];
        while let Some(name) = next.pop() {
            let after = self.services.iter().filter(|own| own.name == name).flat_map(|own| &own.after);
            next.extend(after.map(String::as_str).filter(|name| needed.insert(name)));
        }
        let running = self.services.iter().filter(|own| own.way != Way::OneShot);
        running.filter(|own| needed.contains(own.name.as_str())).map(|own| own.name.clone()).collect()
    }

    /// The services in groups: each group needs only those before it.
    pub fn levels(&self) -> Vec<Vec<&Service>> {
        let known: BTreeSet<&str> = self.services.iter().map(|own| own.name.as_str()).collect();
        let mut done: BTreeSet<&str> = BTreeSet::new();
        let mut left: Vec<&Service> = self.services.iter().collect();
        let mut levels = Vec::new();
        while !left.is_empty() {
            let free = |own: &&Service| {
                own.after.iter().all(|name| done.contains(name.as_str()) || !known.contains(name.as_str()))
            };
            let (mut now, mut later): (Vec<_>, Vec<_>) = left.into_iter().partition(free);
            if now.is_empty() {
                // Compose refuses circles, so this is never reached; it must end all the same.
                now = std::mem::take(&mut later);
            }
            done.extend(now.iter().map(|own| own.name.as_str()));
            levels.push(now);
            left = later;
        }
        levels
    }
}

/// What the records on a host say of services before anything happens, for plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    services: Services,
    /// Of another release, where they are not those of the one to publish.
    of: Option<ReleaseId>,
}

impl Seen {
    /// Those of `release`, or of the live one, where that is not prepared yet.
    pub fn of(facts: &Facts, release: &ReleaseId) -> Option<Self> {
        if let Some(services) = Services::of(facts, release) {
            return Some(Self { services, of: None });
        }
        let live = facts.live()?;
        Some(Self { services: Services::of(facts, &live)?, of: Some(live) })
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let first = match &self.of {
            None => "in this release:".to_owned(),
            Some(live) => format!("in the live release {live} (the new one decides by its own Compose files):"),
        };
        let line = |own: &Service| match &own.way {
            Way::OneShot => format!("  {}: one-shot", own.name),
            Way::StartFirst => format!("  {}: start-first", own.name),
            Way::Recreate(why) => format!("  {}: recreated ({why})", own.name),
        };
        std::iter::once(first).chain(self.services.services.iter().map(line)).collect()
    }
}

/// What a recipe says of services by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// They run to their end.
    pub one_shot: Vec<String>,
    /// They must never run twice.
    pub single: Vec<String>,
    /// They may run twice, whatever speaks against it.
    pub start_first: Vec<String>,
    /// Other steps name them.
    pub uses: Vec<String>,
}

/// What is known of a service beside its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its image makes volumes of its own.
    pub image_volumes: bool,
    /// Folders of the host, or links to them, that it writes to and that are no part of the release.
    pub state: BTreeSet<String>,
}

/// How each service of the resolved configuration is replaced.
pub fn ways(
    services: &serde_json::Map<String, Value>,
    choice: &Choice,
    known: &BTreeMap<String, Known>,
) -> BTreeMap<String, Way> {
    let awaited: BTreeSet<&str> = services
        .values()
        .filter_map(|service| service.get("depends_on")?.as_object())
        .flatten()
        .filter(|(_, how)| how.get("condition").and_then(Value::as_str) == Some("service_completed_successfully"))
        .map(|(name, _)| name.as_str())
        .collect();
    let way = |name: &String, service: &Value| {
        if choice.one_shot.contains(name) || awaited.contains(name.as_str()) {
            return Way::OneShot;
        }
        if choice.single.contains(name) {
            return Way::Recreate("the recipe says that it never runs twice".to_owned());
        }
        if choice.start_first.contains(name) {
            return Way::StartFirst;
        }
        let none = Known::default();
        let obstacle = obstacle(name, service, services, known.get(name).unwrap_or(&none));
        obstacle.map_or(Way::StartFirst, Way::Recreate)
    };
    services.iter().map(|(name, service)| (name.clone(), way(name, service))).collect()
}

/// Why two containers of the service cannot run side by side.
fn obstacle(name: &str, service: &Value, services: &serde_json::Map<String, Value>, known: &Known) -> Option<String> {
    let text = |key: &str| service.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let list = |key: &str| service.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let published = list("ports").iter().find_map(|port| match port.get("published")? {
        Value::String(port) if !port.is_empty() => Some(port.clone()),
        Value::Number(port) => Some(port.to_string()),
        _ => None,
    });
    if let Some(port) = published {
        return Some(format!("it publishes port {port}"));
    }
    if let Some(container) = text("container_name") {
        return Some(format!("its container has the fixed name {container}"));
    }
    if let Some(mode) = text("network_mode").filter(|mode| *mode != "bridge" && *mode != "none") {
        return Some(format!("its network is {mode}"));
    }
    let networks = service.get("networks").and_then(Value::as_object);
    let fixed = |network: &Value| network.get("ipv4_address").is_some() || network.get("ipv6_address").is_some();
    if networks.is_some_and(|networks| networks.values().any(fixed)) {
        return Some("it has a fixed address".to_owned());
    }
    // Two databases on one volume destroy it. A volume that several services use is made for that.
    let volume = |volume: &&Value| {
        volume.get("type").and_then(Value::as_str) == Some("volume")
            && volume.get("read_only").and_then(Value::as_bool) != Some(true)
    };
    for volume in list("volumes").iter().filter(volume) {
        let Some(source) = volume.get("source").and_then(Value::as_str) else {
            return Some("it has a volume without a name".to_owned());
        };
        let shared = services.iter().any(|(other, service)| {
            let volumes = service.get("volumes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            other != name && volumes.iter().any(|volume| volume.get("source").and_then(Value::as_str) == Some(source))
        });
        if !shared {
            return Some(format!("it alone writes to the volume {source}"));
        }
    }
    if let Some(folder) = known.state.iter().next() {
        return Some(format!("it writes to {folder} on the host"));
    }
    known.image_volumes.then(|| "its image has a volume without a name".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ways_of(services: Value, choice: &Choice) -> BTreeMap<String, Way> {
        ways(services.as_object().expect("a table"), choice, &BTreeMap::new())
    }

    #[test]
    fn what_cannot_run_twice_is_recreated() {
        let volume = |source: &str| json!([{ "type": "volume", "source": source, "target": "/x" }]);
        let services = json!({
            "api": {},
            "awaits": { "depends_on": { "front": { "condition": "service_completed_successfully" } } },
            "db": { "volumes": volume("pgdata") },
            "front": { "volumes": volume("assets") },
            "named": { "container_name": "one" },
            "proxy": { "ports": [{ "target": 80, "published": "80" }] },
            "random_port": { "ports": [{ "target": 80 }] },
            "reader": { "volumes": volume("assets") },
            "worker": {},
        });
        let choice = Choice { single: vec!["worker".to_owned()], ..Choice::default() };
        let shown: Vec<String> =
            ways_of(services, &choice).into_iter().map(|(name, way)| format!("{name}: {way:?}")).collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        api: StartFirst
        awaits: StartFirst
        db: Recreate("it alone writes to the volume pgdata")
        front: OneShot
        named: Recreate("its container has the fixed name one")
        proxy: Recreate("it publishes port 80")
        random_port: StartFirst
        reader: StartFirst
        worker: Recreate("the recipe says that it never runs twice")
        "#);
    }

    #[test]
    fn images_with_volumes_and_folders_of_the_host_are_state() {
        let services = json!({ "cache": {}, "media": {}, "told": {} });
        let state = Known { image_volumes: true, ..Known::default() };
        let known = BTreeMap::from([
            ("cache".to_owned(), state.clone()),
            ("told".to_owned(), state),
            ("media".to_owned(), Known { state: BTreeSet::from(["/srv/media".to_owned()]), ..Known::default() }),
        ]);
        let choice = Choice { start_first: vec!["told".to_owned()], ..Choice::default() };
        let found = ways(services.as_object().expect("a table"), &choice, &known);
        assert_eq!(found.get("told"), Some(&Way::StartFirst));
        assert!(["cache", "media"].iter().all(|name| matches!(found.get(*name), Some(Way::Recreate(_)))));
    }

    fn service(name: &str, way: Way, after: &[&str]) -> Service {
        let after = after.iter().map(|name| (*name).to_owned()).collect();
        Service { name: name.to_owned(), way, config: String::new(), replicas: 1, after, folders: false }
    }

    #[test]
    fn services_come_up_after_what_they_need() {
        let services = Services {
            services: vec![
                service("web", Way::StartFirst, &["db", "migrate"]),
                service("migrate", Way::OneShot, &["db"]),
                service("db", Way::StartFirst, &["not in this profile"]),
                service("loop", Way::StartFirst, &["loop"]),
            ],
        };
        let levels: Vec<Vec<&str>> =
            services.levels().iter().map(|level| level.iter().map(|own| own.name.as_str()).collect()).collect();
        assert_eq!(levels, [vec!["db"], vec!["migrate"], vec!["web"], vec!["loop"]]);
        assert_eq!(services.needed_by("web"), ["db"]);
        assert_eq!(services.running(), ["web", "db", "loop"]);
    }
}
