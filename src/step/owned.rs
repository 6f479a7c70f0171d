//! Where a file or folder of `setup` stands, whose it is, and what others may do with it.

use super::link::wrong;
use crate::document::{Node, Problems, Reader, Value};

/// Owner, group and mode, as far as the recipe says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// A user's name or number.
    pub owner: Option<String>,
    /// A group's name or number.
    pub group: Option<String>,
    /// The permission bits.
    pub mode: Option<u32>,
}

impl Owned {
    /// Reads the keys `owner`, `group` and `mode`.
    pub fn read(reader: &mut Reader<'_, '_>) -> Self {
        let mut name = |key| {
            let name = reader.string(key)?;
            let place = reader.node(key).map_or_else(|| reader.place().clone(), |node| node.place.clone());
            if !name.contains("{{") && !valid_name(&name) {
                reader.problem(&place, format!("{name:?} is no name of a user or group"), None, None);
            }
            Some(name)
        };
        let (owner, group) = (name("owner"), name("group"));
        let mode = reader.typed("mode", "expected octal digits such as \"0644\"", |value| match value {
            Value::String(text) => u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777),
            _ => None,
        });
        Self { owner, group, mode }
    }
}

/// What `useradd` and `groupadd` take, and numbers.
fn valid_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('-') && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-$".contains(c))
}

/// Notes a problem where `path` is no absolute path of its own on a host.
pub fn check_path(kind: &str, path: &str, body: &Node, problems: &mut Problems) {
    let reason = if path.contains("{{") {
        None
    } else if !path.starts_with('/') {
        Some("it is not absolute")
    } else if path.split('/').any(|part| part == ".." || part == ".") {
        Some("it has `.` or `..` in it")
    } else if path.chars().any(char::is_control) {
        Some("it has a control character in it")
    } else if path.trim_matches('/').is_empty() {
        Some("it is the root of the host")
    } else {
        None
    };
    if let Some(reason) = reason {
        problems.push(wrong(&body.place, format!("`{kind}` cannot be at {path:?}: {reason}")));
    }
}
