//! Finds the paths in a Rust file that lead to another module of the same crate.

use crate::layers::token::{Kind, Token, tokens};

/// A path that starts at `crate`, `super`, `self` or the crate's own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The line of its first word.
    pub line: usize,
    /// As it is written, with `{…}` lists taken apart: one reference for each name.
    pub written: Vec<String>,
    /// From the top of the crate: the module, then what is in it.
    pub resolved: Vec<String>,
    /// Whether it is inside a module called `tests`.
    pub in_tests: bool,
}

/// All references of a file. `module` is where the file is in the crate; `own_name` is the name by which a binary
/// calls the library beside it.
pub fn references(text: &str, module: &[String], own_name: Option<&str>) -> Vec<Reference> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    // The inline modules around the current token, each with the depth of braces at which it ends.
    let mut inside: Vec<(String, usize)> = Vec::new();
    let mut depth = 0_usize;
    let mut after_path = false;
    let mut position = 0;
    while let Some(token) = tokens.get(position) {
        match &token.kind {
            Kind::Sign('{') => depth += 1,
            Kind::Sign('}') => {
                depth = depth.saturating_sub(1);
                inside.retain(|(_, end)| *end <= depth);
            }
            Kind::Word(word) if word == "mod" => {
                if let (Some(Kind::Word(name)), Some(Kind::Sign('{'))) =
                    (kind(&tokens, position + 1), kind(&tokens, position + 2))
                {
                    inside.push((name.clone(), depth + 1));
                }
            }
            Kind::Word(word) if !after_path && is_root(word, own_name) => {
                let mut written = Vec::new();
                let next = follow(&tokens, position, &mut vec![word.clone()], &mut written);
                let here: Vec<&str> =
                    module.iter().map(String::as_str).chain(inside.iter().map(|(name, _)| name.as_str())).collect();
                let in_tests = here.contains(&"tests");
                found.extend(written.into_iter().filter(|path| path.len() > 1).map(|written| Reference {
                    line: token.line,
                    resolved: resolve(&written, &here),
                    written,
                    in_tests,
                }));
                // Everything that `follow` passed was part of the path, including the braces of its lists.
                position = next;
                after_path = false;
                continue;
            }
            _ => {}
        }
        after_path = token.kind == Kind::Path;
        position += 1;
    }
    found
}

fn kind(tokens: &[Token], position: usize) -> Option<&Kind> {
    tokens.get(position).map(|token| &token.kind)
}

fn is_root(word: &str, own_name: Option<&str>) -> bool {
    matches!(word, "crate" | "super" | "self") || Some(word) == own_name
}

/// Reads the rest of a path whose last word is at `position`, adds each path it spells, and returns where it ends.
fn follow(tokens: &[Token], position: usize, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    if kind(tokens, position + 1) != Some(&Kind::Path) {
        found.push(path.clone());
        return position + 1;
    }
    match kind(tokens, position + 2) {
        Some(Kind::Word(word)) => {
            path.push(word.clone());
            let end = follow(tokens, position + 2, path, found);
            path.pop();
            end
        }
        Some(Kind::Sign('*')) => {
            found.push([path.as_slice(), &["*".to_owned()]].concat());
            position + 3
        }
        Some(Kind::Sign('{')) => follow_list(tokens, position + 3, path, found),
        // A turbofish: `crate::name::<T>`.
        _ => {
            found.push(path.clone());
            position + 2
        }
    }
}

/// Reads `a, b::c, {…}}` after the opening brace.
fn follow_list(tokens: &[Token], mut position: usize, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    while let Some(token) = tokens.get(position) {
        match &token.kind {
            Kind::Sign('}') => return position + 1,
            Kind::Word(word) if word == "as" => position += 2,
            Kind::Word(word) if word == "self" => {
                found.push(path.clone());
                position += 1;
            }
            Kind::Word(word) => {
                path.push(word.clone());
                position = follow(tokens, position, path, found);
                path.pop();
            }
            Kind::Sign('*') => {
                found.push([path.as_slice(), &["*".to_owned()]].concat());
                position += 1;
            }
            _ => position += 1,
        }
    }
    position
}

fn resolve(written: &[String], here: &[&str]) -> Vec<String> {
    let ups = written.iter().take_while(|word| *word == "super" || *word == "self").count();
    let supers = written.iter().take(ups).filter(|word| *word == "super").count();
    let (start, rest) = if ups == 0 {
        (&[][..], written.get(1..))
    } else {
        (here.get(..here.len().saturating_sub(supers)).unwrap_or_default(), written.get(ups..))
    };
    start.iter().map(|word| (*word).to_owned()).chain(rest.unwrap_or_default().iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::references;

    fn resolved(text: &str, module: &[&str]) -> Vec<String> {
        let module: Vec<String> = module.iter().map(|word| (*word).to_owned()).collect();
        references(text, &module, Some("ship"))
            .into_iter()
            .map(|found| format!("{}:{}", found.line, found.resolved.join("::")))
            .collect()
    }

    #[test]
    fn plain_paths_and_lists() {
        let text = "use crate::plan::Plan;\nuse crate::{event::{Event, Stream as S}, facts, step::{self, Step}};\nfn f() -> crate::layout::Layout {}";
        assert_eq!(
            resolved(text, &["execute"]),
            [
                "1:plan::Plan",
                "2:event::Event",
                "2:event::Stream",
                "2:facts",
                "2:step",
                "2:step::Step",
                "3:layout::Layout"
            ]
        );
    }

    #[test]
    fn lists_over_several_lines_and_globs() {
        assert_eq!(resolved("use crate::{\n    plan,\n    event::*,\n};", &["x"]), ["1:plan", "1:event::*"]);
    }

    #[test]
    fn super_climbs_from_the_file_and_from_inline_modules() {
        assert_eq!(resolved("use super::execute::run;", &["plan"]), ["1:execute::run"]);
        assert_eq!(resolved("use super::link::Link;", &["step", "upload"]), ["1:step::link::Link"]);
        assert_eq!(resolved("use super::super::plan;", &["step", "upload"]), ["1:plan"]);
        assert_eq!(
            resolved("mod inner { use super::super::plan; }\nuse super::fleet;", &["step"]),
            ["1:plan", "2:fleet"]
        );
    }

    #[test]
    fn words_that_only_look_like_paths() {
        assert_eq!(
            resolved("pub(crate) fn f(&self) { other::crate_name(); self.x; } // crate::plan\n\"crate::plan\"", &["x"]),
            [""; 0]
        );
    }

    #[test]
    fn a_binary_names_its_library() {
        assert_eq!(resolved("fn main() { ship::cli::run() }", &["main"]), ["1:cli::run"]);
    }

    #[test]
    fn turbofish_and_macros() {
        assert_eq!(
            resolved("crate::step::make::<u8>(); $crate::event::tell!()", &["x"]),
            ["1:step::make", "1:event::tell"]
        );
    }

    #[test]
    fn tests_are_marked_and_end_with_their_brace() {
        let text = "mod tests { fn f() { if a {} } use super::*; }\nuse super::*;";
        let found = references(text, &["plan".to_owned()], None);
        assert_eq!(found.iter().map(|found| found.in_tests).collect::<Vec<_>>(), [true, false]);
    }
}
