//! Hosts that a command names, in the JSON of Ansible's dynamic inventories.
//!
//! What is read: groups as `{ hosts, vars, children }` or as plain lists, `_meta.hostvars`, and of the
//! variables that Ansible itself reads `ansible_host`, `ansible_user`, `ansible_port` and
//! `ansible_ssh_private_key_file`. A host's groups are also its roles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Map, Value as Json};

use crate::config::inventory::HostSpec;
use crate::config::located::{Located, Vars};
use crate::config::names::{is_name, variable};
use crate::document::{Entry, Node, Place, Problem, Value};

/// A host that the command named.
#[derive(Clone, Debug, PartialEq)]
pub struct DynamicHost {
    /// As if it stood in the inventory.
    pub spec: HostSpec,
    /// Its groups, without `all` and `ungrouped`.
    pub groups: Vec<String>,
    /// Variables of its groups.
    pub group_vars: Vars,
}

/// Reads what the command at `place` printed.
pub fn read(printed: &str, place: &Place) -> Result<Vec<DynamicHost>, Problem> {
    let wrong = |message: String| {
        Problem::at(place, message).label("the command must print the JSON of an Ansible dynamic inventory")
    };
    let json: Json = serde_json::from_str(printed)
        .map_err(|error| wrong(format!("what the command printed cannot be read: {error}")))?;
    let Json::Object(groups) = &json else {
        return Err(wrong("what the command printed is no JSON object".to_owned()));
    };
    let empty = Map::new();
    let meta = groups.get("_meta").and_then(|meta| meta.get("hostvars")).and_then(Json::as_object).unwrap_or(&empty);
    let mut members: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in groups.keys().filter(|name| *name != "_meta") {
        let mut seen = BTreeSet::new();
        collect(groups, name, &mut seen, members.entry(name).or_default());
    }
    let names: BTreeSet<&str> = members.values().flatten().copied().chain(meta.keys().map(String::as_str)).collect();
    if let Some(bad) = names.iter().find(|name| !is_name(name)) {
        return Err(wrong(format!("{bad:?} cannot be the name of a host")));
    }
    let host = |name: &str| {
        let of_host: Vec<&str> =
            members.iter().filter(|(_, hosts)| hosts.contains(name)).map(|(group, _)| *group).collect();
        let mut group_vars = Vars::new();
        // `all` is the weakest, whatever its name sorts before.
        for group in of_host.iter().filter(|group| **group == "all").chain(of_host.iter().filter(|g| **g != "all")) {
            if let Some(vars) = groups.get(*group).and_then(|group| group.get("vars")).and_then(Json::as_object) {
                group_vars.extend(to_vars(vars, place));
            }
        }
        let own = meta.get(name).and_then(Json::as_object).unwrap_or(&empty);
        let named: Vec<String> =
            of_host.into_iter().filter(|group| *group != "all" && *group != "ungrouped").map(str::to_owned).collect();
        // Ansible looks for these in the host's variables first, then in its groups'.
        let find = |key: &str| {
            own.get(key).or_else(|| {
                named
                    .iter()
                    .map(String::as_str)
                    .chain(["all"])
                    .find_map(|group| groups.get(group)?.get("vars")?.get(key))
            })
        };
        let text = |key: &str| find(key).and_then(Json::as_str).map(str::to_owned);
        DynamicHost {
            spec: HostSpec {
                name: Located { value: name.to_owned(), place: place.clone() },
                address: text("ansible_host").unwrap_or_else(|| name.to_owned()),
                user: text("ansible_user"),
                port: find("ansible_port").and_then(port),
                identity_file: text("ansible_ssh_private_key_file").map(PathBuf::from),
                jump: None,
                host_keys: Vec::new(),
                forward_agent: false,
                password: None,
                sudo_password: None,
                roles: named.clone(),
                deploy_to: None,
                vars: to_vars(own, place),
            },
            groups: named,
            group_vars,
        }
    };
    let hosts: Vec<DynamicHost> = names.iter().map(|name| host(name)).collect();
    for host in &hosts {
        let spec = &host.spec;
        let login = std::iter::once(&spec.address).chain(&spec.user);
        if let Some(bad) = login.into_iter().find(|part| part.starts_with('-') || part.contains(char::is_whitespace)) {
            return Err(wrong(format!("{bad:?} of the host `{}` is no address and no user", spec.name.value)));
        }
    }
    Ok(hosts)
}

/// The hosts of a group and of the groups below it.
fn collect<'a>(
    groups: &'a Map<String, Json>,
    name: &'a str,
    seen: &mut BTreeSet<&'a str>,
    hosts: &mut BTreeSet<&'a str>,
) {
    if !seen.insert(name) {
        return;
    }
    let Some(group) = groups.get(name) else { return };
    let strings = |list: &'a Json| list.as_array().into_iter().flatten().filter_map(Json::as_str);
    hosts.extend(strings(group).chain(group.get("hosts").into_iter().flat_map(strings)));
    for child in group.get("children").into_iter().flat_map(strings) {
        collect(groups, child, seen, hosts);
    }
}

fn port(value: &Json) -> Option<u16> {
    match value {
        Json::String(text) => text.parse().ok(),
        other => other.as_u64().and_then(|port| u16::try_from(port).ok()),
    }
}

/// The variables that templates can use. Ansible's own, and names that no template could say, are left out.
fn to_vars(vars: &Map<String, Json>, place: &Place) -> Vars {
    vars.iter()
        .filter(|(name, _)| !name.starts_with("ansible_") && variable(name).is_ok())
        .filter_map(|(name, value)| Some((name.clone(), node(value, place)?)))
        .collect()
}

/// JSON as a value with a place; `null` is as good as nothing.
fn node(json: &Json, place: &Place) -> Option<Node> {
    let value = match json {
        Json::Null => return None,
        Json::Bool(boolean) => Value::Boolean(*boolean),
        Json::Number(number) => number.as_i64().map(Value::Integer).or_else(|| number.as_f64().map(Value::Float))?,
        Json::String(text) => Value::String(text.replace('\0', "")),
        Json::Array(items) => Value::Array(items.iter().filter_map(|item| node(item, place)).collect()),
        Json::Object(entries) => Value::Table(
            entries
                .iter()
                .filter_map(|(key, value)| {
                    Some(Entry { key: key.clone(), key_place: place.clone(), node: node(value, place)? })
                })
                .collect(),
        ),
    };
    Some(Node { place: place.clone(), value })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::document::Source;

    fn place() -> Place {
        let source = Source { path: "inventory.toml".into(), text: "list-hosts".to_owned() };
        Place { source: Arc::new(source), span: 0..10 }
    }

    #[test]
    fn groups_children_and_variables_are_read() {
        let hosts = read(
            r#"{
                "all": { "vars": { "tier": "low", "ansible_user": "deployer" }, "children": ["web", "ungrouped"] },
                "web": { "children": ["blue"], "vars": { "tier": "web" } },
                "blue": ["web2", "web1"],
                "_meta": { "hostvars": { "web1": { "ansible_host": "10.0.0.1", "ansible_port": "2222", "workers": 3, "bad-name": 1, "nothing": null } } }
            }"#,
            &place(),
        )
        .expect("hosts");
        let shown: Vec<String> = hosts
            .iter()
            .map(|host| {
                let spec = &host.spec;
                let vars: Vec<&String> = host.group_vars.keys().chain(spec.vars.keys()).collect();
                format!(
                    "{} {:?}@{}:{:?} {:?} {vars:?}",
                    spec.name.value, spec.user, spec.address, spec.port, host.groups
                )
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        web1 Some("deployer")@10.0.0.1:Some(2222) ["blue", "web"] ["tier", "workers"]
        web2 Some("deployer")@web2:None ["blue", "web"] ["tier"]
        "#);
        assert!(matches!(&hosts[0].group_vars["tier"].value, Value::String(tier) if tier == "web"));
    }

    #[test]
    fn what_is_no_inventory_is_said_so() {
        for wrong in ["", "[]", "{\"web\": [\"a b\"]}", "{\"web\": [\"-oProxyCommand=x\"]}"] {
            assert!(read(wrong, &place()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn groups_that_contain_each_other_end() {
        let hosts = read(r#"{"a": {"children": ["b"]}, "b": {"children": ["a"], "hosts": ["x"]}}"#, &place());
        assert_eq!(hosts.expect("hosts")[0].groups, ["a", "b"]);
    }
}
