//! How to reach a host: the inventory's word, with the gaps filled from `ssh_config`, as `ssh -G` reads it.
//!
//! OpenSSH itself is asked because nothing else is right about Match, Include, tokens and
//! canonicalisation (ssh(1), `-G`). Where there is no `ssh`, the inventory has to say everything.

#![expect(clippy::disallowed_methods, reason = "`ssh -G` is OpenSSH's own reading of its configuration")]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use russh::MethodKind;

use super::host_key::{Rules, Unknown};
use super::{ConnectError, Settings, proxy_jump};
use crate::output::visible;
use crate::target::Target;

/// How long `ssh -G` may take: a `Match exec` in the user's file runs commands.
const LIMIT: Duration = Duration::from_secs(20);

/// Everything that decides how a connection is made.
#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    /// Where to connect to.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    /// Addresses of one family only (`AddressFamily`).
    pub(super) family: Family,
    /// Through which host, as a target of its own.
    pub(super) jump: Option<Box<Target>>,
    /// How its key is checked.
    pub(super) rules: Rules,
    /// The inventory's key, offered first.
    pub(super) first_identity: Option<PathBuf>,
    pub(super) identities: Vec<PathBuf>,
    pub(super) certificates: Vec<PathBuf>,
    /// Offer nothing that is not listed (`IdentitiesOnly`).
    pub(super) identities_only: bool,
    /// The agent's socket.
    pub(super) agent: Option<PathBuf>,
    /// Methods that `ssh_config` switches off.
    pub(super) without: Vec<MethodKind>,
    /// `ConnectTimeout`.
    pub(super) timeout: Option<Duration>,
    /// When a server that says nothing any more is given up.
    pub(super) patience: Patience,
}

/// How a server that says nothing is asked whether it is still there, before it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// After how much silence (`ServerAliveInterval`).
    pub(super) interval: Duration,
    /// How often, 0 being for ever (`ServerAliveCountMax`).
    pub(super) count: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self { interval: Duration::from_secs(15), count: 3 }
    }
}

/// Which addresses of a host name are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Family {
    #[default]
    Any,
    V4,
    V6,
}

impl Route {
    /// The route to `target`.
    pub(super) async fn to(target: &Target, settings: &Settings) -> Result<Self, ConnectError> {
        check_word(target, "address", &target.address)?;
        if let Some(user) = &target.user {
            check_word(target, "user", user)?;
        }
        let mut route = match ask_ssh(target, settings).await? {
            Some(text) => read(&text, target, settings)?,
            None => alone(target, settings)?,
        };
        check_word(target, "host name", &route.host)?;
        check_word(target, "user", &route.user)?;
        route.first_identity = target.identity_file.as_ref().map(|file| expand(file, settings));
        if let Some(jump) = &target.jump {
            route.jump = Some(jump.clone());
        }
        // A bastion that its own `Host *` sends through itself is reached directly.
        if let Some(jump) = &route.jump
            && jump.address == target.address
            && jump.port.unwrap_or(route.port) == route.port
        {
            route.jump = None;
        }
        Ok(route)
    }
}

/// Nothing that a program or a shell could take for something else gets further than this.
fn check_word(target: &Target, what: &str, word: &str) -> Result<(), ConnectError> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "._:%@-".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(harmless) {
        return Ok(());
    }
    Err(ConnectError {
        message: format!("the {what} of {} is not one: `{}`", target.name, visible(word.as_bytes())),
        advice: Some("It may hold letters, digits and `. _ : % @ -`, and does not begin with `-`.".to_owned()),
    })
}

/// The route where there is no `ssh` to ask: the inventory, and OpenSSH's defaults.
fn alone(target: &Target, settings: &Settings) -> Result<Route, ConnectError> {
    let home = |name: &str| settings.home.as_ref().map(|home| home.join(name));
    let user = target.user.clone().or_else(|| settings.local_user.clone()).ok_or_else(|| ConnectError {
        message: format!("the inventory names no user for {}", target.name),
        advice: Some(
            "There is no `ssh` on this machine to read ~/.ssh/config, so the inventory has to say it.".to_owned(),
        ),
    })?;
    let defaults = ["id_ed25519", "id_ecdsa", "id_rsa"];
    Ok(Route {
        host: target.address.clone(),
        port: target.port.unwrap_or(22),
        user,
        rules: Rules {
            user_files: home(".ssh/known_hosts").into_iter().collect(),
            global_files: vec![PathBuf::from("/etc/ssh/ssh_known_hosts")],
            ..Rules::default()
        },
        identities: defaults.iter().filter_map(|name| home(&format!(".ssh/{name}"))).collect(),
        agent: settings.agent.clone(),
        ..Route::default()
    })
}

/// What `ssh -G` says; none where there is no `ssh`.
async fn ask_ssh(target: &Target, settings: &Settings) -> Result<Option<String>, ConnectError> {
    let mut ssh = tokio::process::Command::new("ssh");
    ssh.arg("-G").stdin(Stdio::null()).kill_on_drop(true);
    if let Some(file) = &settings.ssh_config {
        ssh.arg("-F").arg(file);
    }
    if let Some(port) = target.port {
        ssh.arg("-p").arg(port.to_string());
    }
    if let Some(user) = &target.user {
        ssh.arg("-l").arg(user);
    }
    ssh.arg("--").arg(&target.address);
    let failed = |reason: String| ConnectError {
        message: format!("ssh_config cannot be read for {}: {reason}", target.name),
        advice: Some(format!("Try: ssh -G {}", target.address)),
    };
    let output = match tokio::time::timeout(LIMIT, ssh.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("`ssh -G` did not answer within {} s", LIMIT.as_secs()))),
    };
    if !output.status.success() {
        return Err(failed(visible(output.stderr.trim_ascii())));
    }
    String::from_utf8(output.stdout).map(Some).map_err(|_| failed("it is not UTF-8".to_owned()))
}

/// The route from the lines `key value` of `ssh -G`.
fn read(text: &str, target: &Target, settings: &Settings) -> Result<Route, ConnectError> {
    let refuse = |message: &str, advice: &str| ConnectError {
        message: format!("ssh_config has {message} for {}", target.name),
        advice: Some(advice.to_owned()),
    };
    let mut route = Route { port: 22, agent: settings.agent.clone(), ..Route::default() };
    let (mut identities, mut certificates) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let Some((key, value)) = line.split_once(' ') else { continue };
        let value = value.trim();
        let unset = value.is_empty() || value.eq_ignore_ascii_case("none");
        match key {
            "hostname" => value.clone_into(&mut route.host),
            "port" => route.port = value.parse().unwrap_or(22),
            "user" => value.clone_into(&mut route.user),
            "addressfamily" => {
                route.family = match value {
                    "inet" => Family::V4,
                    "inet6" => Family::V6,
                    _ => Family::Any,
                };
            }
            "identityfile" if !unset => identities.push(value),
            "certificatefile" if !unset => certificates.push(value),
            "identitiesonly" => route.identities_only = value == "yes",
            "identityagent" => route.agent = agent(value, settings),
            "hostkeyalias" if !unset => route.rules.alias = Some(value.to_owned()),
            "hashknownhosts" => route.rules.hash = value == "yes",
            "userknownhostsfile" => route.rules.user_files = files(value, settings),
            "globalknownhostsfile" => route.rules.global_files = files(value, settings),
            "revokedhostkeys" if !unset => route.rules.revoked_file = Some(expand(Path::new(value), settings)),
            "stricthostkeychecking" => {
                route.rules.unknown = match value {
                    "yes" | "true" => Unknown::Refuse,
                    "no" | "false" | "off" | "accept-new" => Unknown::Accept,
                    _ => Unknown::Ask,
                };
            }
            "pubkeyauthentication" if off(value) => route.without.push(MethodKind::PublicKey),
            "passwordauthentication" if off(value) => route.without.push(MethodKind::Password),
            "kbdinteractiveauthentication" if off(value) => route.without.push(MethodKind::KeyboardInteractive),
            "connecttimeout" => route.timeout = value.parse().ok().map(Duration::from_secs),
            // 0 is OpenSSH's default and means that it never asks; a run must not wait for a dead host for ever.
            "serveraliveinterval" => {
                let asked = value.parse().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
                route.patience.interval = asked.unwrap_or(route.patience.interval);
            }
            "serveralivecountmax" => route.patience.count = value.parse().unwrap_or(route.patience.count),
            "proxyjump" if !unset => route.jump = Some(Box::new(proxy_jump::read(value, target)?)),
            "proxycommand" if !unset && target.jump.is_none() => {
                return Err(refuse(
                    "a ProxyCommand",
                    "ship does not run it. Use ProxyJump there, or `jump` in the inventory.",
                ));
            }
            "knownhostscommand" if !unset => {
                return Err(refuse(
                    "a KnownHostsCommand",
                    "ship does not run it. Use UserKnownHostsFile there, or `host_key` in the inventory.",
                ));
            }
            _ => {}
        }
    }
    if let Some(user) = &target.user {
        user.clone_into(&mut route.user);
    }
    route.port = target.port.unwrap_or(route.port);
    let files = |list: Vec<&str>| list.iter().map(|file| with_tokens(file, &route, target, settings)).collect();
    (route.identities, route.certificates) = (files(identities), files(certificates));
    Ok(route)
}

fn off(value: &str) -> bool {
    matches!(value, "no" | "false")
}

/// `IdentityAgent`: a socket, `SSH_AUTH_SOCK`, the name of another variable, or none.
fn agent(value: &str, settings: &Settings) -> Option<PathBuf> {
    match value {
        "none" => None,
        "SSH_AUTH_SOCK" => settings.agent.clone(),
        // Only `main` reads the environment; of its variables it passes on that one.
        _ if value.starts_with('$') => settings.agent.clone(),
        _ => Some(expand(Path::new(value), settings)),
    }
}

/// Files in a row. `ssh -G` does not quote them, so a part that does not begin a path belongs to the one
/// before it.
fn files(value: &str, settings: &Settings) -> Vec<PathBuf> {
    let mut paths: Vec<String> = Vec::new();
    for word in value.split(' ').filter(|word| !word.is_empty()) {
        match paths.last_mut() {
            Some(last) if !word.starts_with(['/', '~']) && word != "none" => {
                last.push(' ');
                last.push_str(word);
            }
            _ => paths.push(word.to_owned()),
        }
    }
    paths.iter().filter(|path| *path != "none").map(|path| expand(Path::new(path), settings)).collect()
}

/// `file` with the tokens of ssh_config(5) that `ssh -G` leaves in the names of keys.
fn with_tokens(file: &str, route: &Route, target: &Target, settings: &Settings) -> PathBuf {
    let home = settings.home.as_ref().map(|home| home.display().to_string()).unwrap_or_default();
    let local_user = settings.local_user.as_deref().unwrap_or_default();
    let port = route.port.to_string();
    let mut path = String::new();
    let mut characters = file.chars();
    while let Some(c) = characters.next() {
        let token = if c == '%' { characters.next() } else { None };
        match token {
            Some('%') => path.push('%'),
            Some('d') => path.push_str(&home),
            Some('h') => path.push_str(&route.host),
            Some('n') => path.push_str(&target.address),
            Some('p') => path.push_str(&port),
            Some('r') => path.push_str(&route.user),
            Some('u') => path.push_str(local_user),
            Some(other) => path.extend(['%', other]),
            None => path.push(c),
        }
    }
    expand(Path::new(&path), settings)
}

/// `~/…` under the home folder: `ssh -G` leaves it.
fn expand(file: &Path, settings: &Settings) -> PathBuf {
    match (file.strip_prefix("~"), &settings.home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings { home: Some("/home/me".into()), agent: Some("/run/agent".into()), ..Settings::default() }
    }

    fn web() -> Target {
        Target { name: "web1".into(), address: "web".into(), ..Target::default() }
    }

    #[test]
    fn the_inventory_wins_and_ssh_config_fills_the_gaps() {
        let text = "user deploy\nhostname 10.0.0.7\nport 2200\nidentityfile ~/.ssh/%r-id_x\nidentitiesonly yes\n\
            userknownhostsfile ~/.ssh/known hosts /etc/two\nstricthostkeychecking accept-new\n\
            identityagent SSH_AUTH_SOCK\nproxyjump me@b1:2022,b2\nproxycommand none\nconnecttimeout 7\nhostkeyalias web\n\
            serveraliveinterval 5\nserveralivecountmax 2\n";
        let target = Target { port: Some(22), ..web() };
        let route = read(text, &target, &settings()).unwrap();
        assert_eq!((route.host.as_str(), route.port, route.user.as_str()), ("10.0.0.7", 22, "deploy"));
        assert_eq!(route.identities, [PathBuf::from("/home/me/.ssh/deploy-id_x")]);
        assert_eq!(route.rules.user_files, [PathBuf::from("/home/me/.ssh/known hosts"), "/etc/two".into()]);
        assert_eq!((route.rules.unknown, route.rules.alias.as_deref()), (Unknown::Accept, Some("web")));
        assert_eq!((route.identities_only, route.timeout), (true, Some(Duration::from_secs(7))));
        assert_eq!(route.agent, Some("/run/agent".into()));
        assert_eq!(route.patience, Patience { interval: Duration::from_secs(5), count: 2 });
        let unset = read("serveraliveinterval 0\nserveralivecountmax 3\n", &target, &settings()).unwrap();
        assert_eq!(unset.patience, Patience::default());
        let last = route.jump.unwrap();
        let first = last.jump.unwrap();
        assert_eq!((last.address.as_str(), last.port, last.user), ("b2", None, None));
        assert_eq!((first.address.as_str(), first.port, first.user.as_deref()), ("b1", Some(2022), Some("me")));
    }

    #[test]
    fn a_proxy_command_is_refused_with_what_to_do() {
        let error = read("proxycommand nc %h %p\n", &web(), &settings()).unwrap_err();
        assert!(error.advice.unwrap().contains("ProxyJump"));
    }

    #[tokio::test]
    async fn what_looks_like_an_option_gets_nowhere() {
        for address in ["-oProxyCommand=id", "a b", "a;b", "", "a\nb"] {
            let target = Target { address: address.into(), ..web() };
            assert!(Route::to(&target, &settings()).await.is_err(), "{address}");
        }
    }

    #[tokio::test]
    async fn the_real_ssh_reads_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        std::fs::write(
            &file,
            "Host web\n HostName h.example\n User u\n Port 2201\nMatch host h.example\n ProxyJump b\n",
        )
        .unwrap();
        let settings = Settings { ssh_config: Some(file), ..settings() };
        let route = Route::to(&web(), &settings).await.unwrap();
        assert_eq!((route.host.as_str(), route.port, route.user.as_str()), ("h.example", 2201, "u"));
        assert_eq!(route.jump.unwrap().address, "b");
        assert_eq!(route.rules.unknown, Unknown::Ask);
    }
}
