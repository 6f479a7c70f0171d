//! What every Rust file keeps to: it says its purpose first, its name says something, and it is not long.

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "helper", "helpers", "misc", "common", "shared", "stuff"];

/// Files with more lines than this are named, without failing the check.
pub const LONG: usize = 500;

/// What is wrong with a file, as sentences. `path` has the parts of its path inside the repository.
pub fn problems(path: &[&str], text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.starts_with("//! ") {
        problems.push("The first line does not say the purpose of the file: it must start with `//! `.".to_owned());
    }
    for name in path.iter().map(|part| part.trim_end_matches(".rs")).filter(|name| EMPTY_NAMES.contains(name)) {
        problems.push(format!("The name `{name}` does not say what is inside."));
    }
    problems
}

/// How many lines a file has, if they are too many.
pub fn too_long(text: &str) -> Option<usize> {
    Some(text.lines().count()).filter(|lines| *lines > LONG)
}

#[cfg(test)]
mod tests {
    use super::{LONG, problems, too_long};

    #[test]
    fn a_file_says_its_purpose_first() {
        assert!(problems(&["src", "plan.rs"], "//! Plans.\n").is_empty());
        assert_eq!(problems(&["src", "plan.rs"], "\n//! Plans.\n").len(), 1);
        assert_eq!(problems(&["src", "plan.rs"], "").len(), 1);
    }

    #[test]
    fn empty_names_are_refused_for_files_and_folders() {
        assert_eq!(problems(&["src", "utils.rs"], "//! X.\n").len(), 1);
        assert_eq!(problems(&["tests", "common", "mod.rs"], "//! X.\n").len(), 1);
    }

    #[test]
    fn only_long_files_are_long() {
        assert_eq!(too_long(&"\n".repeat(LONG)), None);
        assert_eq!(too_long(&"\n".repeat(LONG + 1)), Some(LONG + 1));
    }
}
