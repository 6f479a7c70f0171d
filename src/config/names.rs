//! Which names and paths the author of an inventory or a recipe may choose.

use crate::document::{Place, Problem, Problems};
use crate::event::LOCAL;

/// Variables that ship sets itself.
pub const RUN_VARIABLES: &[&str] = &[
    "app",
    "host",
    "address",
    "deploy_user",
    "hosts",
    "roles",
    "groups",
    "environment",
    "deploy_to",
    "release",
    "revision",
    "branch",
    "author",
    "title",
    "time",
    "by",
    "release_path",
    "current_path",
    "shared_path",
    "options",
    "secrets",
];

/// Words that templates give a meaning of their own.
const TEMPLATE_WORDS: &[&str] = &[
    "true", "false", "none", "True", "False", "None", "and", "or", "not", "in", "is", "if", "else", "loop", "self",
    "super", "caller",
];

/// Whether `name` is made of `[A-Za-z0-9._-]`, and neither looks like an option nor like a path.
pub fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && name.chars().all(allowed) && !name.starts_with(['-', '.'])
}

/// Notes a problem where `name` cannot be the name of `what`: an app, a host, a group …
pub fn check_name(what: &str, name: &str, place: &Place, problems: &mut Problems) {
    if !is_name(name) {
        problems.push(
            Problem::at(place, format!("{name:?} cannot be the name of {what}"))
                .label("expected letters, digits, `.`, `_` and `-`, beginning with a letter or digit"),
        );
    } else if what == "a host" && name == LOCAL {
        problems.push(
            Problem::at(place, format!("`{LOCAL}` cannot be the name of a host"))
                .label("this name means the machine that ship runs on"),
        );
    }
}

/// Whether `name` can be used in a template: `[A-Za-z_][A-Za-z0-9_]*`.
pub fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !TEMPLATE_WORDS.contains(&name)
}

/// Notes a problem where `name` cannot be the name of a variable.
pub fn check_variable(name: &str, place: &Place, problems: &mut Problems) {
    if let Err(label) = variable(name) {
        problems.push(Problem::at(place, format!("`{name}` cannot be the name of a variable")).label(label));
    }
}

/// Whether `name` can be the name of a variable; the error says what is wrong with it.
pub fn variable(name: &str) -> Result<(), String> {
    if !is_identifier(name) {
        Err("expected letters, digits and `_`, beginning with a letter".to_owned())
    } else if RUN_VARIABLES.contains(&name) {
        Err("ship sets this variable itself".to_owned())
    } else {
        Ok(())
    }
}

/// Whether `path` can be where releases live; the error says what is wrong with it.
pub fn deploy_to(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        Err("expected an absolute path")
    } else if path.split('/').any(|part| part == ".." || part == ".") {
        Err("expected a path without `.` and `..`")
    } else if path.trim_matches('/').is_empty() {
        Err("expected a folder of the application's own, not the root of the host")
    } else if path.chars().any(char::is_control) {
        Err("expected a path without control characters")
    } else {
        Ok(())
    }
}

/// Whether `path` stays inside the folder that it is relative to; the error says what is wrong with it.
pub fn inside(path: &str) -> Result<(), &'static str> {
    if path.starts_with('/') {
        Err("expected a relative path")
    } else if path.split('/').any(|part| part == "..") {
        Err("expected a path without `..`")
    } else if path.split('/').all(|part| part.is_empty() || part == ".") {
        Err("expected a path below the folder")
    } else if path.chars().any(char::is_control) {
        Err("expected a path without control characters")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths_and_commands() {
        for good in ["web1", "web-1.example.org", "a_b"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a b", "-x", ".", "..", "a/b", "é", "a*"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn releases_live_in_a_folder_of_their_own() {
        assert_eq!(deploy_to("/var/www/my app"), Ok(()));
        for bad in ["var/www", "/", "//", "/var/../etc", "/var/./x", "", "~/x"] {
            assert!(deploy_to(bad).is_err(), "{bad}");
        }
    }
}
