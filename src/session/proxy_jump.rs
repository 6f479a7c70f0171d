//! Reads the list of jump hosts of ssh_config(5), `ProxyJump`, as targets behind each other.

use super::ConnectError;
use crate::output::visible;
use crate::target::Target;

/// The last host of a `ProxyJump` list, each with the one before it as its own jump.
pub(super) fn read(list: &str, target: &Target) -> Result<Target, ConnectError> {
    let mut last: Option<Target> = None;
    for hop in list.split(',') {
        let hop = hop.trim();
        let hop = hop.strip_prefix("ssh://").unwrap_or(hop);
        let (user, place) = match hop.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, hop),
        };
        let (address, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => (address, port.strip_prefix(':')),
            None => match place.split_once(':') {
                Some((address, port)) if !port.contains(':') => (address, Some(port)),
                _ => (place, None),
            },
        };
        let port = port.map(str::parse).transpose().map_err(|_| ConnectError {
            message: format!(
                "ssh_config has a ProxyJump for {} that is not one: `{}`",
                target.name,
                visible(hop.as_bytes())
            ),
            advice: Some("It is `[user@]host[:port]`, several separated by commas.".to_owned()),
        })?;
        last = Some(Target {
            name: address.to_owned(),
            address: address.to_owned(),
            port,
            user,
            jump: last.map(Box::new),
            ..Target::default()
        });
    }
    last.ok_or_else(|| ConnectError {
        message: format!("ssh_config has an empty ProxyJump for {}", target.name),
        advice: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_hosts_in_every_spelling() {
        for (text, address, port) in [
            ("b", "b", None),
            ("b:22", "b", Some(22)),
            ("[::1]:2022", "::1", Some(2022)),
            ("::1", "::1", None),
            ("ssh://u@b:7", "b", Some(7)),
        ] {
            let hop = read(text, &Target::default()).unwrap();
            assert_eq!((hop.address.as_str(), hop.port), (address, port), "{text}");
        }
        assert!(read("b:x", &Target::default()).is_err());
    }
}
