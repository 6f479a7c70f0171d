//! Which hosts a command is about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::batch::Batch;
use crate::config::candidates::{self, Candidate};
use crate::config::inventory::{EnvironmentSpec, HostSpec, Inventory, Jump, SudoPasswordSpec};
use crate::config::located::Vars;
use crate::config::pattern::Pattern;
use crate::config::secrets::SecretSpec;
use crate::config::template::is_template;
use crate::document::{Place, Problem, Problems, suggestion};
use crate::secret::Secret;
use crate::target::{SudoPassword, Target};

/// What the command line says about hosts. Patterns of one kind widen the choice, kinds narrow it:
/// `--host 'web*' --host db1 --role app` is every `web*` and `db1` that has the role `app`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The environment.
    pub environment: Option<String>,
    /// Names or globs of hosts.
    pub hosts: Vec<String>,
    /// Names or globs of roles.
    pub roles: Vec<String>,
    /// Names or globs of groups.
    pub groups: Vec<String>,
}

/// The hosts of a run, and what the environment says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The environment, where the inventory has any.
    pub environment: Option<String>,
    /// The environment's branch.
    pub branch: Option<String>,
    /// How many hosts are published at once.
    pub batch: Batch,
    /// How many hosts may fail.
    pub max_failures: u32,
    /// Whether a person has to confirm a deploy.
    pub confirm: bool,
    /// Variables for what happens on this machine: inventory < environment.
    pub vars: Vars,
    /// The secrets: those of the inventory, with the environment's in their place.
    pub secrets: Vec<SecretSpec>,
    /// The hosts, in the order of the inventory; never empty.
    pub hosts: Vec<Host>,
}

/// A host of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Its name in the inventory.
    pub name: String,
    /// What it does.
    pub roles: Vec<String>,
    /// The groups that it belongs to.
    pub groups: Vec<String>,
    /// Where its releases live; as the inventory says it, until [`crate::config::placement::placed`] has made
    /// templates paths.
    pub deploy_to: String,
    /// Where the inventory says so.
    pub deploy_to_place: Place,
    /// Its variables: inventory < group < environment < host.
    pub vars: Vars,
    /// How to connect. Passwords are put in by [`Selection::give_passwords`].
    pub target: Target,
    /// All hosts of the environment, also those that the command line leaves out: `hosts` in templates.
    pub peers: Arc<Vec<Peer>>,
    /// The secrets that are passwords: name of the target (the host, or one it jumps through) → name of
    /// the secret.
    pub passwords: BTreeMap<String, String>,
    /// Where sudo's password comes from.
    pub sudo_password: Option<SudoPasswordSpec>,
}

/// What templates can know of another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name in the inventory.
    pub name: String,
    /// Host name or address.
    pub address: String,
    /// What it does.
    pub roles: Vec<String>,
    /// The groups that it belongs to.
    pub groups: Vec<String>,
}

impl Selection {
    /// The names of the secrets that logins and sudo need.
    pub fn password_secrets(&self) -> BTreeSet<String> {
        let sudo = self.hosts.iter().filter_map(|host| match &host.sudo_password {
            Some(SudoPasswordSpec::Secret(secret)) => Some(secret.value.clone()),
            Some(SudoPasswordSpec::Ask) | None => None,
        });
        self.hosts.iter().flat_map(|host| host.passwords.values().cloned()).chain(sudo).collect()
    }

    /// Puts resolved secrets into the targets.
    pub fn give_passwords(&mut self, secrets: &BTreeMap<String, Secret>) {
        for host in &mut self.hosts {
            let mut target = Some(&mut host.target);
            while let Some(each) = target {
                each.password = host.passwords.get(&each.name).and_then(|name| secrets.get(name)).cloned();
                target = each.jump.as_deref_mut();
            }
            host.target.sudo = match &host.sudo_password {
                Some(SudoPasswordSpec::Ask) => Some(SudoPassword::Ask),
                Some(SudoPasswordSpec::Secret(name)) => secrets.get(&name.value).cloned().map(SudoPassword::Known),
                None => None,
            };
        }
    }
}

/// The hosts that `choice` names. `dynamic` runs a `hosts_from` command and returns what it printed, or
/// a sentence that says why it failed.
pub fn select(
    inventory: &Inventory,
    choice: &Choice,
    dynamic: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Selection, Problems> {
    let environment = environment(inventory, choice).map_err(|problem| vec![problem])?;
    let candidates =
        candidates::find(inventory, environment, &choice.hosts, dynamic).map_err(|problem| vec![problem])?;
    let peers: Vec<Peer> = candidates
        .iter()
        .map(|candidate| Peer {
            name: candidate.spec.name.value.clone(),
            address: candidate.spec.address.clone(),
            roles: candidate.roles.clone(),
            groups: candidate.groups.clone(),
        })
        .collect();
    let peers = Arc::new(peers);
    let chosen = choose(inventory, environment, choice, candidates)?;
    let mut vars = inventory.vars.clone();
    let mut secrets = inventory.secrets.clone();
    if let Some(environment) = environment {
        vars.extend(environment.vars.clone());
        secrets.retain(|secret| !environment.secrets.iter().any(|own| own.name == secret.name));
        secrets.extend(environment.secrets.iter().cloned());
    }
    let hosts: Vec<Host> =
        chosen.into_iter().map(|candidate| host(inventory, environment, &peers, candidate)).collect();
    one_app_per_place(inventory, &hosts)?;
    Ok(Selection {
        environment: environment.map(|environment| environment.name.value.clone()),
        branch: environment.and_then(|environment| environment.branch.clone()),
        batch: environment.map(|environment| environment.batch).unwrap_or_default(),
        max_failures: environment.map_or(0, |environment| environment.max_failures),
        confirm: environment.is_some_and(|environment| environment.confirm),
        vars,
        secrets,
        hosts,
    })
}

/// The environment that is meant; `None` where the inventory has none.
fn environment<'a>(inventory: &'a Inventory, choice: &Choice) -> Result<Option<&'a EnvironmentSpec>, Problem> {
    let names = || inventory.environments.iter().map(|environment| environment.name.value.as_str());
    let Some(name) = choice.environment.as_deref().or(inventory.default.as_ref().map(|default| default.value.as_str()))
    else {
        return match inventory.environments.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(only)),
            _ => Err(Problem::without_place("the inventory has several environments, and none is named")
                .label(format!("there is {}", names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")))
                .help("name one, or set `default` in the inventory".to_owned())),
        };
    };
    inventory.environment(name).map(Some).ok_or_else(|| {
        Problem::without_place(format!("there is no environment `{name}`")).help(
            suggestion(name, names())
                .unwrap_or_else(|| "the inventory has no environments; leave the name out".to_owned()),
        )
    })
}

/// Those of `candidates` that every kind of pattern leaves.
fn choose(
    inventory: &Inventory,
    environment: Option<&EnvironmentSpec>,
    choice: &Choice,
    candidates: Vec<Candidate>,
) -> Result<Vec<Candidate>, Problems> {
    let mut problems = Problems::new();
    let place = place_name(environment);
    let names: BTreeSet<&str> = candidates.iter().map(|candidate| candidate.spec.name.value.as_str()).collect();
    let roles: BTreeSet<&str> = candidates.iter().flat_map(|candidate| &candidate.roles).map(String::as_str).collect();
    let groups: BTreeSet<&str> =
        candidates.iter().flat_map(|candidate| &candidate.groups).map(String::as_str).collect();
    let elsewhere = |name: &str| inventory.host(name).is_some();
    let hosts = patterns("host", &choice.hosts, &names, &place, &elsewhere, &mut problems);
    let no_one = |_: &str| false;
    let roles = patterns("role", &choice.roles, &roles, &place, &no_one, &mut problems);
    let elsewhere = |name: &str| inventory.groups.iter().any(|group| group.name.value == name);
    let groups = patterns("group", &choice.groups, &groups, &place, &elsewhere, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let any = |patterns: &[Pattern], names: &[String]| {
        patterns.is_empty() || names.iter().any(|name| patterns.iter().any(|pattern| pattern.matches(name)))
    };
    let all: BTreeSet<String> = candidates.iter().map(|candidate| candidate.spec.name.value.clone()).collect();
    let chosen: Vec<Candidate> = candidates
        .into_iter()
        .filter(|candidate| {
            any(&hosts, std::slice::from_ref(&candidate.spec.name.value))
                && any(&roles, &candidate.roles)
                && any(&groups, &candidate.groups)
        })
        .collect();
    if chosen.is_empty() {
        if !(choice.hosts.is_empty() && choice.roles.is_empty() && choice.groups.is_empty()) {
            return Err(vec![
                Problem::without_place("no host is chosen")
                    .label(format!("{place} has {}", list(&all)))
                    .help("a host must fit `--host`, `--role` and `--group`, each where it is given".to_owned()),
            ]);
        }
        let place = environment.map_or(&inventory.place, |environment| &environment.name.place);
        return Err(vec![
            Problem::at(place, format!("{} has no hosts", place_name(environment))).label("expected at least one host"),
        ]);
    }
    Ok(chosen)
}

fn place_name(environment: Option<&EnvironmentSpec>) -> String {
    environment.map_or_else(
        || "the inventory".to_owned(),
        |environment| format!("the environment `{}`", environment.name.value),
    )
}

fn patterns(
    kind: &str,
    texts: &[String],
    existing: &BTreeSet<&str>,
    place: &str,
    elsewhere: &dyn Fn(&str) -> bool,
    problems: &mut Problems,
) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for text in texts {
        match Pattern::new(text) {
            Err(why) => problems.push(Problem::without_place(format!("`--{kind} {text}` is no glob: {why}"))),
            Ok(pattern) if existing.iter().any(|name| pattern.matches(name)) => patterns.push(pattern),
            Ok(_) if elsewhere(text) => problems.push(
                Problem::without_place(format!("the {kind} `{text}` is not in {place}"))
                    .help(format!("there is {}", list(existing))),
            ),
            Ok(_) => problems.push(
                Problem::without_place(format!("{place} has no {kind} `{text}`"))
                    .help(suggestion(text, existing.iter().copied())),
            ),
        }
    }
    patterns
}

fn list(names: &BTreeSet<impl std::fmt::Display>) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn host(
    inventory: &Inventory,
    environment: Option<&EnvironmentSpec>,
    peers: &Arc<Vec<Peer>>,
    candidate: Candidate,
) -> Host {
    let Candidate { spec, roles, groups, weak_vars } = candidate;
    let mut vars = inventory.vars.clone();
    vars.extend(weak_vars);
    for group in inventory.groups.iter().filter(|group| groups.contains(&group.name.value)) {
        vars.extend(group.vars.clone());
    }
    vars.extend(environment.map(|environment| environment.vars.clone()).unwrap_or_default());
    vars.extend(spec.vars.clone());
    let of_environment = || environment.and_then(|environment| environment.deploy_to.as_ref());
    let deploy_to = spec.deploy_to.as_ref().or_else(of_environment).unwrap_or(&inventory.deploy_to).clone();
    let mut passwords = BTreeMap::new();
    let target = target(inventory, &spec, &mut passwords);
    Host {
        name: spec.name.value,
        roles,
        groups,
        deploy_to: deploy_to.value,
        deploy_to_place: deploy_to.place,
        vars,
        target,
        peers: Arc::clone(peers),
        passwords,
        sudo_password: spec.sudo_password,
    }
}

/// How to connect to a host. Jumps end, because the inventory was checked for those that do not.
fn target(inventory: &Inventory, spec: &HostSpec, passwords: &mut BTreeMap<String, String>) -> Target {
    if let Some(password) = &spec.password {
        passwords.insert(spec.name.value.clone(), password.value.clone());
    }
    let jump = spec.jump.as_ref().and_then(|jump| match &jump.value {
        Jump::Host(name) => inventory.host(name).map(|spec| target(inventory, spec, passwords)),
        Jump::Address { user, host, port } => {
            let at = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
            let name = port.map_or_else(|| format!("{at}{host}"), |port| format!("{at}{host}:{port}"));
            Some(Target { name, address: host.clone(), user: user.clone(), port: *port, ..Target::default() })
        }
    });
    Target {
        name: spec.name.value.clone(),
        address: spec.address.clone(),
        port: spec.port,
        user: spec.user.clone(),
        identity_file: spec.identity_file.clone(),
        host_keys: spec.host_keys.clone(),
        jump: jump.map(Box::new),
        password: None,
        sudo: None,
        forward_agent: spec.forward_agent,
    }
}

/// Two names for one server would wait for each other's lock. Templates are compared once they are paths.
pub fn one_app_per_place(inventory: &Inventory, hosts: &[Host]) -> Result<(), Problems> {
    let same = |a: &Host, b: &Host| {
        let (a_target, b_target) = (&a.target, &b.target);
        let jump = |target: &Target| target.jump.as_ref().map(|jump| (jump.address.clone(), jump.port));
        !is_template(&a.deploy_to)
            && (&a_target.address, a_target.port, jump(a_target), &a.deploy_to)
                == (&b_target.address, b_target.port, jump(b_target), &b.deploy_to)
    };
    let mut problems = Problems::new();
    for (index, host) in hosts.iter().enumerate() {
        if let Some(first) = hosts.iter().take(index).find(|earlier| same(earlier, host)) {
            let place = inventory.host(&host.name).map_or(&inventory.place, |spec| &spec.name.place);
            let message = format!("`{}` and `{}` are the same folder of the same server", first.name, host.name);
            problems.push(Problem::at(place, message).label("expected another `address`, `port` or `deploy_to`"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}
