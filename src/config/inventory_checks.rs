//! Whether the names in an inventory refer to something, and to one thing only.

use crate::config::inventory::{Inventory, Jump, SudoPasswordSpec};
use crate::config::located::Located;
use crate::config::pattern::{self, Pattern};
use crate::config::secrets::SecretSpec;
use crate::document::{Problem, Problems, suggestion};

/// Notes every name that refers to nothing or to two things.
pub fn check(inventory: &Inventory, problems: &mut Problems) {
    distinct_names(inventory, problems);
    default_environment(inventory, problems);
    if inventory.hosts.is_empty() && inventory.environments.iter().all(|environment| environment.hosts_from.is_none()) {
        problems.push(
            Problem::at(&inventory.place, "the inventory has no hosts")
                .help("add `[hosts.web1]` with `address = \"web1.example.org\"`".to_owned()),
        );
    }
    let hosts: Vec<&str> = inventory.hosts.iter().map(|host| host.name.value.as_str()).collect();
    let groups: Vec<&str> = inventory.groups.iter().map(|group| group.name.value.as_str()).collect();
    // Hosts that a command names are known only when it has run.
    let all_known = inventory.environments.iter().all(|environment| environment.hosts_from.is_none());
    for group in &inventory.groups {
        let what = format!("the group `{}`", group.name.value);
        members(&what, &group.hosts, &hosts, &[], all_known, problems);
    }
    for environment in &inventory.environments {
        let what = format!("the environment `{}`", environment.name.value);
        members(&what, &environment.hosts, &hosts, &groups, environment.hosts_from.is_none(), problems);
    }
    jumps(inventory, problems);
    passwords(inventory, problems);
}

fn distinct_names(inventory: &Inventory, problems: &mut Problems) {
    for group in &inventory.groups {
        if let Some(host) = inventory.host(&group.name.value) {
            problems.push(
                Problem::at(&group.name.place, format!("`{}` is the name of a group and of a host", group.name.value))
                    .label("expected a name of its own")
                    .help(format!("the host stands at {}", host.name.place)),
            );
        }
    }
}

fn default_environment(inventory: &Inventory, problems: &mut Problems) {
    let Some(default) = &inventory.default else { return };
    if inventory.environment(&default.value).is_none() {
        let names = inventory.environments.iter().map(|environment| environment.name.value.as_str());
        problems.push(
            Problem::at(&default.place, format!("there is no environment `{}`", default.value))
                .label("expected the name of an environment")
                .help(suggestion(&default.value, names)),
        );
    }
}

/// Names of hosts and groups, or globs that match some.
fn members(
    what: &str,
    members: &[Located<String>],
    hosts: &[&str],
    groups: &[&str],
    all_known: bool,
    problems: &mut Problems,
) {
    let existing = hosts.iter().chain(groups).copied();
    for (index, member) in members.iter().enumerate() {
        if members.iter().take(index).any(|earlier| earlier.value == member.value) {
            problems.push(Problem::at(&member.place, format!("{what} names `{}` twice", member.value)));
            continue;
        }
        let label = if groups.is_empty() { "expected a host" } else { "expected a host or a group" };
        match Pattern::new(&member.value) {
            Err(why) => problems.push(Problem::at(&member.place, format!("`{}` is no glob", member.value)).label(why)),
            Ok(pattern) if existing.clone().any(|name| pattern.matches(name)) || !all_known => {}
            Ok(_) if pattern::is_glob(&member.value) => {
                problems.push(Problem::at(&member.place, format!("`{}` matches nothing", member.value)).label(label));
            }
            Ok(_) => problems.push(
                Problem::at(&member.place, format!("{what} names `{}`, which does not exist", member.value))
                    .label(label)
                    .help(suggestion(&member.value, existing.clone())),
            ),
        }
    }
}

fn jumps(inventory: &Inventory, problems: &mut Problems) {
    for host in &inventory.hosts {
        let Some(Located { value: Jump::Host(name), place }) = &host.jump else { continue };
        if inventory.host(name).is_none() {
            let existing = inventory.hosts.iter().map(|host| host.name.value.as_str());
            let hint = crate::document::nearest(name, existing).map_or_else(
                || format!("for a host that is not in the inventory, write `user@{name}` or `{name}:22`"),
                |near| format!("did you mean `{near}`? For a host that is not in the inventory, write `user@{name}`"),
            );
            problems.push(
                Problem::at(place, format!("there is no host `{name}` to jump through"))
                    .label("expected a host of the inventory, or `user@host:port`")
                    .help(hint),
            );
            continue;
        }
        let mut path = vec![host.name.value.as_str()];
        let mut next = Some(name.as_str());
        while let Some(name) = next {
            let seen = path.contains(&name);
            path.push(name);
            if seen {
                // A cycle is reported at the first of its hosts, and not at those that lead into it.
                let order = |name: &str| inventory.hosts.iter().position(|host| host.name.value == name);
                if path.first() == Some(&name) && path.iter().all(|other| order(other) >= order(name)) {
                    let message = format!("the host `{name}` is reached through itself: {}", path.join(" → "));
                    problems.push(Problem::at(place, message).label("expected another host"));
                }
                break;
            }
            next = inventory.host(name).and_then(|host| match &host.jump {
                Some(Located { value: Jump::Host(name), .. }) => Some(name.as_str()),
                _ => None,
            });
        }
    }
}

fn passwords(inventory: &Inventory, problems: &mut Problems) {
    let of_environments = inventory.environments.iter().flat_map(|environment| &environment.secrets);
    let secrets: Vec<&SecretSpec> = inventory.secrets.iter().chain(of_environments).collect();
    let sudo = inventory.hosts.iter().filter_map(|host| match &host.sudo_password {
        Some(SudoPasswordSpec::Secret(secret)) => Some(secret),
        Some(SudoPasswordSpec::Ask) | None => None,
    });
    for password in inventory.hosts.iter().filter_map(|host| host.password.as_ref()).chain(sudo) {
        if !secrets.iter().any(|secret| secret.name == password.value) {
            problems.push(
                Problem::at(&password.place, format!("there is no secret `{}`", password.value))
                    .label("expected a name of `[secrets]`")
                    .help(suggestion(&password.value, secrets.iter().map(|secret| secret.name.as_str()))),
            );
        }
    }
}
