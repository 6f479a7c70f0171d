//! Patterns to leave out, read as `.gitignore` reads them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// What `exclude` of a part leaves out.
///
/// The last pattern that matches decides; `!` takes back. A pattern with a slash at its start or in its
/// middle is seen from the part's folder, others match at any depth; one that ends in a slash matches
/// folders only. `*` and `?` stop at a slash, `**` does not, `{a,b}` is either.
#[derive(Debug)]
pub struct Patterns {
    set: GlobSet,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    takes_back: bool,
    folders_only: bool,
}

impl Patterns {
    /// Reads `patterns`; the error names the one that cannot be understood.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let mut set = GlobSetBuilder::new();
        let mut rules = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let (takes_back, rest) = match pattern.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, pattern.as_str()),
            };
            let (folders_only, rest) = match rest.strip_suffix('/') {
                Some(rest) => (true, rest),
                None => (false, rest),
            };
            if rest.trim_matches('/').is_empty() {
                return Err(format!("the pattern {pattern:?} matches nothing"));
            }
            if rest.split('/').any(|name| name == "." || name == "..") {
                return Err(format!("the pattern {pattern:?} has `.` or `..`, which no path has"));
            }
            let glob = match rest.strip_prefix('/') {
                Some(anchored) => anchored.to_owned(),
                None if rest.contains('/') => rest.to_owned(),
                None => format!("**/{rest}"),
            };
            let glob = GlobBuilder::new(&glob)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| format!("the pattern {pattern:?}: {}", error.kind()))?;
            set.add(glob);
            rules.push(Rule { takes_back, folders_only });
        }
        let set = set.build().map_err(|error| error.to_string())?;
        Ok(Self { set, rules })
    }

    /// Whether the file or folder at `path`, relative to the part's folder, is left out. What is in a
    /// folder that is left out is not asked for.
    pub fn leave_out(&self, path: &[u8], is_folder: bool) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        let matching = self.set.matches(Path::new(OsStr::from_bytes(path)));
        let deciding = matching.iter().filter_map(|index| self.rules.get(*index).map(|rule| (index, rule)));
        deciding
            .filter(|(_, rule)| is_folder || !rule.folders_only)
            .max_by_key(|(index, _)| **index)
            .is_some_and(|(_, rule)| !rule.takes_back)
    }
}

/// Whether `pattern` can be understood; `config` asks, to report it at its place.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    Patterns::new(&[pattern.to_owned()]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn patterns(patterns: &[&str]) -> Patterns {
        Patterns::new(&patterns.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "/", "!", "//", "a/../b", "./a", "[", "{a"] {
            assert!(check_pattern(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_match_too() {
        assert!(patterns(&["*.pyc"]).leave_out(b"a/\xff\n.pyc", false));
        assert!(patterns(&["a?"]).leave_out(b"a\xff", false));
    }

    /// git itself is asked about the same patterns and paths.
    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        let folder = tempfile::tempdir().unwrap();
        let git =
            |arguments: &[&str]| Command::new("git").arg("-C").arg(folder.path()).args(arguments).output().unwrap();
        assert!(git(&["init", "--quiet"]).status.success());
        let files =
            ["a.pyc", "docs/x.md", "src/docs/x.md", "src/docs/deep/y.pyc", "node_modules/m/i.js", "build", ".hidden"];
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        for list in [
            &["*.pyc"][..],
            &["/docs"],
            &["docs"],
            &["docs/"],
            &["build/"],
            &["src/docs"],
            &["src/*"],
            &["**/docs"],
            &["src/**"],
            &["src/**/y.pyc"],
            &["*", "!a.pyc"],
            &["*.pyc", "!a.*"],
            &["!a.pyc", "*.pyc"],
            &["node_modules/"],
            &[".*"],
            &["?.pyc", "[bx]*"],
            &["x.md", "!/docs/x.md"],
            &[r"\build"],
        ] {
            std::fs::write(folder.path().join(".git/info/exclude"), list.join("\n")).unwrap();
            let ours = patterns(list);
            for file in files {
                let ignored = git(&["check-ignore", "--quiet", "--", file]).status.success();
                let mut left_out = ours.leave_out(file.as_bytes(), false);
                for (slash, _) in file.match_indices('/') {
                    left_out |= ours.leave_out(&file.as_bytes()[..slash], true);
                }
                assert_eq!(left_out, ignored, "{list:?} on {file}");
            }
        }
    }
}
