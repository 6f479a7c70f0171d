//! The hosts of an environment, before the command line narrows them.

use crate::config::dynamic;
use crate::config::inventory::{EnvironmentSpec, HostSpec, Inventory};
use crate::config::located::Vars;
use crate::config::pattern::{self, Pattern};
use crate::document::Problem;

/// A host that may be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// What the inventory, or the `hosts_from` command, says about it.
    pub spec: HostSpec,
    /// Its own roles and those of its groups.
    pub roles: Vec<String>,
    /// The groups that it belongs to.
    pub groups: Vec<String>,
    /// Variables weaker than those of the inventory's groups.
    pub weak_vars: Vars,
}

/// The hosts of `environment`, or of the whole inventory. A host that is only a way to others takes part
/// where it is named, also by `wanted`, the command line's patterns; a glob does not name it.
pub fn find(
    inventory: &Inventory,
    environment: Option<&EnvironmentSpec>,
    wanted: &[String],
    run: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Vec<Candidate>, Problem> {
    let named = |name: &str| wanted.iter().any(|wanted| wanted == name);
    let mut candidates: Vec<Candidate> = inventory
        .hosts
        .iter()
        .filter(|spec| match environment {
            Some(environment) => is_member(inventory, environment, spec),
            None => named(&spec.name.value) || !inventory.is_only_jump(&spec.name.value),
        })
        .map(|spec| Candidate {
            spec: spec.clone(),
            roles: spec.roles.clone(),
            groups: Vec::new(),
            weak_vars: Vars::new(),
        })
        .collect();
    if let Some(command) = environment.and_then(|environment| environment.hosts_from.as_ref()) {
        let printed = run(&command.value)
            .map_err(|why| Problem::at(&command.place, format!("the hosts could not be asked for: {why}")))?;
        for found in dynamic::read(&printed, &command.place)? {
            let name = &found.spec.name.value;
            // What the inventory says about a host is stronger than what the command says.
            let position = candidates.iter().position(|candidate| candidate.spec.name.value == *name);
            let mut weak_vars = found.group_vars;
            let spec = match inventory.host(name) {
                Some(spec) => {
                    weak_vars.extend(found.spec.vars);
                    spec.clone()
                }
                None => found.spec.clone(),
            };
            let mut roles = spec.roles.clone();
            extend_new(&mut roles, &found.spec.roles);
            let candidate = Candidate { spec, roles, groups: found.groups, weak_vars };
            match position.and_then(|position| candidates.get_mut(position)) {
                Some(existing) => *existing = candidate,
                None => candidates.push(candidate),
            }
        }
    }
    for candidate in &mut candidates {
        for group in &inventory.groups {
            let member = group.hosts.iter().any(|member| matches(&member.value, &candidate.spec.name.value));
            if member || candidate.groups.contains(&group.name.value) {
                extend_new(&mut candidate.groups, std::slice::from_ref(&group.name.value));
                extend_new(&mut candidate.roles, &group.roles);
            }
        }
    }
    Ok(candidates)
}

fn extend_new(names: &mut Vec<String>, more: &[String]) {
    for name in more {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
}

fn is_member(inventory: &Inventory, environment: &EnvironmentSpec, spec: &HostSpec) -> bool {
    let name = &spec.name.value;
    environment.hosts.iter().any(|member| {
        let of_group = inventory
            .groups
            .iter()
            .filter(|group| matches(&member.value, &group.name.value))
            .any(|group| group.hosts.iter().any(|member| names_host(inventory, &member.value, name)));
        of_group || names_host(inventory, &member.value, name)
    })
}

fn names_host(inventory: &Inventory, pattern: &str, name: &str) -> bool {
    matches(pattern, name) && (!pattern::is_glob(pattern) || !inventory.is_only_jump(name))
}

fn matches(pattern: &str, name: &str) -> bool {
    Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(name))
}
