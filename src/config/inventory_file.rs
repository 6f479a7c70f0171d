//! From the tables of `inventory.toml` to its types.
//!
//! Deliberately absent: whether names refer to something that exists (`inventory_checks`).

use std::path::{Path, PathBuf};

use crate::artifact::pattern::check_pattern;
use crate::config::batch::Batch;
use crate::config::inventory::{
    EnvironmentSpec, GroupSpec, HostSpec, Inventory, Jump, KEEP_RELEASES, SudoPasswordSpec,
};
use crate::config::keys;
use crate::config::located::{Located, Vars};
use crate::config::names::{check_name, check_variable};
use crate::config::placement;
use crate::config::secrets;
use crate::config::template::is_template;
use crate::document::{Entry, Node, Problems, Reader, Value};

/// Reads the whole file; `None` where a key is missing without which nothing else can be checked.
pub fn read(path: &Path, document: &Node, problems: &mut Problems) -> Option<Inventory> {
    let folder = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => PathBuf::from("."),
    };
    let mut reader = Reader::of(&keys::INVENTORY, "the inventory", document, problems)?;
    reader.required("recipe", Some("add `recipe = \"NAME\"`; `ship recipes` lists those in the binary"));
    reader.required("app", Some("add `app = \"NAME\"`"));
    reader.required("deploy_to", Some("add `deploy_to = \"/var/www/NAME\"`"));
    let recipe = reader.located("recipe");
    let app = reader.located("app");
    let root = deploy_path(&mut reader);
    let default = reader.located("default");
    let keep_releases = keep_releases(&mut reader);
    let exclude = patterns(&mut reader, "exclude");
    let vars = vars(&mut reader);
    let hosts = reader.named("hosts");
    let groups = reader.named("groups");
    let environments = reader.named("environments");
    let secrets_table = reader.named("secrets");
    reader.finish();
    if let Some(recipe) = &recipe {
        check_name("a recipe", &recipe.value, &recipe.place, problems);
    }
    if let Some(app) = &app {
        check_name("an app", &app.value, &app.place, problems);
    }
    let hosts = hosts.iter().filter_map(|entry| host(entry, &folder, problems)).collect();
    let groups = groups.iter().filter_map(|entry| group(entry, problems)).collect();
    let environments = environments.iter().filter_map(|entry| environment(entry, &folder, problems)).collect();
    let secrets = secrets::read(secrets_table, &folder, problems);
    // What is missing was reported above; stand-ins let the rest be checked all the same.
    let missing = || Located { value: String::new(), place: document.place.clone() };
    Some(Inventory {
        path: path.to_owned(),
        folder,
        recipe: recipe.unwrap_or_else(missing),
        app: app.unwrap_or_else(missing).value,
        deploy_to: root.unwrap_or_else(missing),
        default,
        keep_releases,
        exclude,
        vars,
        hosts,
        groups,
        environments,
        secrets,
        place: document.place.clone(),
    })
}

fn host(entry: &Entry, folder: &Path, problems: &mut Problems) -> Option<HostSpec> {
    check_name("a host", &entry.key, &entry.key_place, problems);
    let mut reader = Reader::of(&keys::HOST, format!("the host `{}`", entry.key), &entry.node, problems)?;
    let address = login_part(&mut reader, "address");
    let user = login_part(&mut reader, "user");
    let port = reader.typed("port", "expected a port: 1 to 65535", port);
    let identity_file = reader.string("identity_file").map(|path| {
        // The home folder is known to `session` alone.
        if path.starts_with("~/") { PathBuf::from(path) } else { folder.join(path) }
    });
    let jump = reader.located("jump").and_then(|text| {
        let jump = read_jump(&text.value);
        if jump.is_none() {
            let message = format!("{:?} is no host to jump through", text.value);
            reader.problem(&text.place, message, Some("expected a host of the inventory, or `user@host:port`"), None);
        }
        jump.map(|value| Located { value, place: text.place })
    });
    let host_keys = host_keys(&mut reader);
    let forward_agent = reader.boolean("forward_agent").unwrap_or_default();
    let password_table = reader.node("password");
    let sudo_node = reader.node("sudo_password");
    let roles = names(&mut reader, "roles", "a role");
    let root = deploy_path(&mut reader);
    let vars = vars(&mut reader);
    reader.finish();
    let password = password_table.and_then(|node| password_secret("password", node, "", problems));
    let sudo_password = sudo_node.and_then(|node| match &node.value {
        Value::String(word) if word == "ask" => Some(SudoPasswordSpec::Ask),
        _ => password_secret("sudo_password", node, "`\"ask\"`, or ", problems).map(SudoPasswordSpec::Secret),
    });
    Some(HostSpec {
        name: Located { value: entry.key.clone(), place: entry.key_place.clone() },
        address: address.unwrap_or_else(|| entry.key.clone()),
        user,
        port,
        identity_file,
        jump,
        host_keys,
        forward_agent,
        password,
        sudo_password,
        roles,
        deploy_to: root,
        vars,
    })
}

/// The name of the secret that holds the password `key`. `others` is what else could stand there.
fn password_secret(key: &str, node: &Node, others: &str, problems: &mut Problems) -> Option<Located<String>> {
    let help = format!("write {others}`{key} = {{ secret = \"NAME\" }}` and say in `[secrets]` where it comes from");
    if let Value::String(_) = &node.value {
        let what = if key == "password" { "the password".to_owned() } else { format!("`{key}`") };
        problems.push(secrets::in_the_clear(&what, &node.place, &help));
        return None;
    }
    let mut reader = Reader::of(&keys::PASSWORD, format!("`{key}`"), node, problems)?;
    reader.required("secret", Some(&help));
    let secret = reader.located("secret");
    reader.finish();
    secret
}

fn group(entry: &Entry, problems: &mut Problems) -> Option<GroupSpec> {
    check_name("a group", &entry.key, &entry.key_place, problems);
    let mut reader = Reader::of(&keys::GROUP, format!("the group `{}`", entry.key), &entry.node, problems)?;
    let hosts = reader.located_strings("hosts").unwrap_or_default();
    let roles = names(&mut reader, "roles", "a role");
    let vars = vars(&mut reader);
    reader.finish();
    let name = Located { value: entry.key.clone(), place: entry.key_place.clone() };
    Some(GroupSpec { name, hosts, roles, vars })
}

fn environment(entry: &Entry, folder: &Path, problems: &mut Problems) -> Option<EnvironmentSpec> {
    check_name("an environment", &entry.key, &entry.key_place, problems);
    let what = format!("the environment `{}`", entry.key);
    let mut reader = Reader::of(&keys::ENVIRONMENT, what, &entry.node, problems)?;
    if reader.node("hosts_from").is_none() {
        reader.required("hosts", Some("add `hosts = [\"NAME\"]`, or `hosts = [\"*\"]` for all"));
    }
    let hosts = reader.located_strings("hosts").unwrap_or_default();
    let hosts_from = reader.node("hosts_from");
    let branch = reader.typed("branch", "expected the name of a branch", |value| match value {
        Value::String(text) if !text.is_empty() && !text.starts_with('-') => Some(text.clone()),
        _ => None,
    });
    let batch =
        reader.typed(
            "batch",
            "expected a count of hosts, a percentage such as \"50%\", or \"all\"",
            |value| match value {
                Value::Integer(count) => Batch::parse(&count.to_string()),
                Value::String(text) => Batch::parse(text),
                _ => None,
            },
        );
    let max_failures = reader.count("max_failures").unwrap_or_default();
    let confirm = reader.boolean("confirm").unwrap_or_default();
    let root = deploy_path(&mut reader);
    let vars = vars(&mut reader);
    let secrets_table = reader.named("secrets");
    reader.finish();
    let hosts_from = hosts_from.and_then(|node| {
        let mut reader = Reader::of(&keys::HOSTS_FROM, "`hosts_from`", node, problems)?;
        reader.required("command", Some("write `hosts_from = { command = \"…\" }`"));
        let command = reader.located("command");
        reader.finish();
        command
    });
    Some(EnvironmentSpec {
        name: Located { value: entry.key.clone(), place: entry.key_place.clone() },
        hosts,
        hosts_from,
        branch,
        batch: batch.unwrap_or_default(),
        max_failures,
        confirm,
        deploy_to: root,
        vars,
        secrets: secrets::read(secrets_table, folder, problems),
    })
}

fn keep_releases(reader: &mut Reader<'_, '_>) -> u32 {
    let read = reader.typed("keep_releases", "expected a whole number, 1 or more", |value| match value {
        Value::Integer(number) => u32::try_from(*number).ok().filter(|number| *number > 0),
        _ => None,
    });
    read.unwrap_or(KEEP_RELEASES)
}

fn deploy_path(reader: &mut Reader<'_, '_>) -> Option<Located<String>> {
    let path = reader.located("deploy_to")?;
    // What is a template is checked when it is rendered.
    if is_template(&path.value) {
        return Some(path);
    }
    match placement::path(path.value, &path.place) {
        Ok(value) => Some(Located { value, place: path.place }),
        Err(problem) => {
            reader.problems().push(problem);
            None
        }
    }
}

/// A part of `user@address`: what OpenSSH would take for an option or for two words is refused.
fn login_part(reader: &mut Reader<'_, '_>, key: &'static str) -> Option<String> {
    reader.typed(key, "expected one word that does not begin with `-`", |value| match value {
        Value::String(text) if is_login_part(text) => Some(text.clone()),
        _ => None,
    })
}

fn is_login_part(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '@')
}

fn port(value: &Value) -> Option<u16> {
    match value {
        Value::Integer(number) => u16::try_from(*number).ok().filter(|port| *port > 0),
        _ => None,
    }
}

/// Reads a jump: the name of a host, or `user@host:port` with user or port.
pub fn read_jump(text: &str) -> Option<Jump> {
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, after)) => (host, after.strip_prefix(':').or((!after.is_empty()).then_some(after))),
        None => match rest.rsplit_once(':') {
            // More than one colon without brackets is an IPv6 address.
            Some((host, _)) if host.contains(':') => (rest, None),
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|port: &u16| *port > 0)?),
        None => None,
    };
    if !is_login_part(host) || !user.is_none_or(is_login_part) {
        return None;
    }
    if user.is_none() && port.is_none() && !host.contains(':') {
        return Some(Jump::Host(host.to_owned()));
    }
    Some(Jump::Address { user: user.map(str::to_owned), host: host.to_owned(), port })
}

fn host_keys(reader: &mut Reader<'_, '_>) -> Vec<String> {
    let keys = reader.located_strings("host_key").unwrap_or_default();
    for key in &keys {
        let mut words = key.value.split_whitespace();
        let shaped = match (words.next(), words.next()) {
            (Some(fingerprint), None) => fingerprint.starts_with("SHA256:") && fingerprint.len() > "SHA256:".len(),
            (Some(_), Some(base64)) => base64.starts_with("AAAA"),
            _ => false,
        };
        if !shaped {
            let expected = "expected `ssh-ed25519 AAAA…` or `SHA256:…`";
            let help =
                "`ssh-keyscan HOST` prints a host's keys; compare them with the host's own before you trust them";
            reader.problem(&key.place, "this is no host key", Some(expected), Some(help.to_owned()));
        }
    }
    keys.into_iter().map(|key| key.value).collect()
}

/// Names of roles or the like: well formed, each once.
pub fn names(reader: &mut Reader<'_, '_>, key: &'static str, what: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in reader.located_strings(key).unwrap_or_default() {
        check_name(what, &name.value, &name.place, reader.problems());
        if names.contains(&name.value) {
            reader.problem(&name.place, format!("`{}` is named twice", name.value), None, None);
        } else {
            names.push(name.value);
        }
    }
    names
}

/// Variables: names that templates can use, with anything as value.
pub fn vars(reader: &mut Reader<'_, '_>) -> Vars {
    let mut vars = Vars::new();
    for entry in reader.named("vars") {
        check_variable(&entry.key, &entry.key_place, reader.problems());
        vars.insert(entry.key.clone(), entry.node.clone());
    }
    vars
}

/// Patterns of files in the manner of `.gitignore`.
pub fn patterns(reader: &mut Reader<'_, '_>, key: &'static str) -> Vec<String> {
    let patterns = reader.located_strings(key).unwrap_or_default();
    for pattern in &patterns {
        if let Err(why) = check_pattern(&pattern.value) {
            reader.problem(&pattern.place, "this is no pattern", Some(&why), None);
        }
    }
    patterns.into_iter().map(|pattern| pattern.value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_a_host_of_the_inventory_or_an_address() {
        let address = |user: Option<&str>, host: &str, port| {
            Some(Jump::Address { user: user.map(str::to_owned), host: host.to_owned(), port })
        };
        assert_eq!(read_jump("bastion"), Some(Jump::Host("bastion".to_owned())));
        assert_eq!(read_jump("me@gate"), address(Some("me"), "gate", None));
        assert_eq!(read_jump("gate:2222"), address(None, "gate", Some(2222)));
        assert_eq!(read_jump("me@[::1]:22"), address(Some("me"), "::1", Some(22)));
        assert_eq!(read_jump("me@::1"), address(Some("me"), "::1", None));
        for wrong in ["", "@gate", "me@", "gate:", "gate:0", "-oProxyCommand=x", "a b", "[::1]x"] {
            assert_eq!(read_jump(wrong), None, "{wrong}");
        }
    }
}
