//! OpenSSH's own client, for what needs a terminal: `ship ssh`, and a command of a service that a person talks to.
//!
//! It goes where ship would go, and trusts no more: host keys that the inventory pins are the only ones.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command as Process;

use super::args::{Global, SelectArgs, SshArgs};
use super::machine::Machine;
use super::project::{Project, definitions};
use crate::command::{join, quote};
use crate::error::{Error, Kind};
use crate::plan::render::Filter;
use crate::target::Target;

/// The name under which the keys of a pinned host are known to the client.
const PINNED: &str = "ship-pinned";

/// `ship ssh`: a shell in the live release.
pub fn run(global: &Global, machine: &Machine, args: &SshArgs) -> Result<(), Error> {
    // `ship ssh web1` means the host where no environment has that name.
    let (inventory, _) = definitions(global, machine)?;
    let is_environment = |name: &String| inventory.environments.iter().any(|env| env.name.value == *name);
    let (environment, host) = match (&args.environment, &args.host) {
        (Some(name), None) if !is_environment(name) => (None, Some(name.clone())),
        (environment, host) => (environment.clone(), host.clone()),
    };
    let select = SelectArgs { environment, host: host.into_iter().collect(), ..SelectArgs::default() };
    let project = Project::load(global, machine, &select, Filter::default(), &[])?;
    let host = project.selection.hosts.first().ok_or_else(|| Error::usage("no host is chosen"))?;
    let current = Project::layout(host).current();
    talk(global, &host.target, &format!("cd {} 2>/dev/null; exec \"${{SHELL:-/bin/sh}}\" -l", quote(&current)))
}

/// Runs `text` on the host in a terminal of its own, for a person.
#[expect(clippy::disallowed_methods, reason = "an interactive shell is OpenSSH's business")]
pub fn talk(global: &Global, target: &Target, text: &str) -> Result<(), Error> {
    let trouble = |error: std::io::Error| Error::new(Kind::Failed, format!("`ssh` cannot be prepared: {error}"));
    let folder = tempfile::Builder::new().prefix("ship-ssh-").tempdir().map_err(trouble)?;
    let config = global.ssh_config.as_deref().map(|file| file.display().to_string());
    let words = client(target, config.as_deref(), folder.path(), &mut 0).map_err(trouble)?;
    let status = Process::new("ssh")
        .args(words)
        .args(["-t", "--", &target.address, text])
        .status()
        .map_err(|error| Error::new(Kind::Failed, format!("`ssh` could not be started: {error}")))?;
    if status.success() { Ok(()) } else { Err(Error::told(Kind::Failed)) }
}

/// The options of the client for `target`. Files that it needs are written into the private `folder`.
fn client(
    target: &Target,
    config: Option<&str>,
    folder: &std::path::Path,
    files: &mut u32,
) -> std::io::Result<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut add = |option: &[&str]| words.extend(option.iter().map(|word| (*word).to_owned()));
    if let Some(config) = config {
        add(&["-F", config]);
    }
    if let Some(port) = target.port {
        add(&["-p", &port.to_string()]);
    }
    if let Some(user) = &target.user {
        add(&["-l", user]);
    }
    if let Some(file) = &target.identity_file {
        add(&["-i", &file.display().to_string()]);
    }
    add(&[if target.forward_agent { "-A" } else { "-a" }]);
    for option in pins(target, folder, files)? {
        add(&["-o", &option]);
    }
    if let Some(jump) = &target.jump {
        // Not `-J`, which takes no keys for the jump host.
        let mut inner = vec!["ssh".to_owned()];
        inner.extend(client(jump, config, folder, files)?);
        inner.extend(["--".to_owned(), jump.address.clone()]);
        // `%` begins a token of the client, such as the `%h` of another jump host's command.
        let through: Vec<String> = inner.iter().map(|word| word.replace('%', "%%")).collect();
        let (before, address) = through.split_at(through.len().saturating_sub(2));
        let command = format!(
            "{} -W '[%h]:%p' {}",
            join(before.iter().map(String::as_str)),
            join(address.iter().map(String::as_str))
        );
        add(&["-o", &format!("ProxyCommand={command}")]);
    }
    Ok(words)
}

/// Options by which only the pinned keys of `target` are accepted; none where the inventory pins none.
fn pins(target: &Target, folder: &std::path::Path, files: &mut u32) -> std::io::Result<Vec<String>> {
    if target.host_keys.is_empty() {
        return Ok(Vec::new());
    }
    *files += 1;
    let (prints, keys): (Vec<&String>, Vec<&String>) =
        target.host_keys.iter().partition(|key| key.starts_with("SHA256:"));
    let known = folder.join(format!("known_hosts{files}"));
    let lines: String = keys.iter().map(|key| format!("{PINNED} {key}\n")).collect();
    std::fs::write(&known, lines)?;
    let mut options = vec![
        format!("HostKeyAlias={PINNED}"),
        format!("UserKnownHostsFile={}", file_word(&known)),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        "UpdateHostKeys=no".to_owned(),
        "VerifyHostKeyDNS=no".to_owned(),
        // A session that somebody else opened knows nothing of these keys.
        "ControlPath=none".to_owned(),
        "ControlMaster=no".to_owned(),
    ];
    if !prints.is_empty() {
        // The client knows keys only: a program is asked whether the key with this fingerprint is known.
        let script = folder.join(format!("known{files}"));
        let patterns = prints.iter().map(|print| quote(print).into_owned()).collect::<Vec<_>>().join("|");
        let text = format!("#!/bin/sh\ncase $1 in {patterns}) printf '%s %s %s\\n' {PINNED} \"$2\" \"$3\" ;; esac\n");
        let mut file = std::fs::File::create(&script)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(std::fs::Permissions::from_mode(0o700))?;
        options.push(format!("KnownHostsCommand={} %f %t %K", file_word(&script)));
    }
    Ok(options)
}

/// A path in the client's configuration: one word, in which `%` stands for itself.
fn file_word(path: &std::path::Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_keys_are_the_only_ones_also_of_jump_hosts() {
        let folder = tempfile::tempdir().expect("a folder");
        let jump = Target {
            address: "gate".to_owned(),
            host_keys: vec!["SHA256:abc".to_owned()],
            jump: Some(Box::new(Target {
                address: "outer".to_owned(),
                user: Some("me".to_owned()),
                ..Target::default()
            })),
            ..Target::default()
        };
        let target = Target {
            address: "web1".to_owned(),
            port: Some(2222),
            host_keys: vec!["ssh-ed25519 AAAA".to_owned()],
            jump: Some(Box::new(jump)),
            ..Target::default()
        };
        let words = client(&target, Some("/etc/my config"), folder.path(), &mut 0).expect("options").join(" ");
        let shown = words.replace(&folder.path().display().to_string(), "DIR");
        insta::assert_snapshot!(shown, @r#"-F /etc/my config -p 2222 -a -o HostKeyAlias=ship-pinned -o UserKnownHostsFile="DIR/known_hosts1" -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o VerifyHostKeyDNS=no -o ControlPath=none -o ControlMaster=no -o ProxyCommand=ssh -F '/etc/my config' -a -o HostKeyAlias=ship-pinned -o 'UserKnownHostsFile="DIR/known_hosts2"' -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o VerifyHostKeyDNS=no -o ControlPath=none -o ControlMaster=no -o 'KnownHostsCommand="DIR/known2" %%f %%t %%K' -o 'ProxyCommand=ssh -F '\''/etc/my config'\'' -l me -a -W '\''[%%h]:%%p'\'' -- outer' -W '[%h]:%p' -- gate"#);
        assert_eq!(
            std::fs::read_to_string(folder.path().join("known_hosts1")).expect("a file"),
            "ship-pinned ssh-ed25519 AAAA\n"
        );
        assert!(pins(&Target::default(), folder.path(), &mut 0).expect("options").is_empty());
    }
}
