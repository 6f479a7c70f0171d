//! Whatever stands in a file, it is read or refused; nothing ends the program.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::inventory::Inventory;
use super::recipe::Recipe;
use super::{diagnostic, inventory_tests, placeholders, recipe_tests, shell_text};
use crate::document::{Node, Place, Source, Value};

/// `text` with a part replaced by something else.
fn broken(text: &'static str) -> impl Strategy<Value = String> {
    let pieces = "[\\[\\]{}\"'=.#\\n\\\\a-zé1 ]{0,6}";
    (0..text.len(), 0..20usize, pieces).prop_map(move |(start, length, piece)| {
        let inside = |at: usize| (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        let (start, end) = (inside(start), inside((start + length).min(text.len())));
        format!("{}{piece}{}", &text[..start], &text[end..])
    })
}

proptest! {
    #[test]
    fn inventories(text in broken(inventory_tests::GOOD)) {
        if let Err(problems) = Inventory::read(Path::new("inventory.toml"), text) {
            prop_assert!(!problems.is_empty());
            prop_assert!(diagnostic::render(&problems, true).contains("error"));
        }
    }

    #[test]
    fn recipes(text in broken(recipe_tests::GOOD)) {
        if let Err(problems) = Recipe::read("x", Path::new("x.toml"), text) {
            prop_assert!(!problems.is_empty());
            prop_assert!(diagnostic::render(&problems, false).contains("error"));
        }
    }

    #[test]
    fn templates(text in "([{}%#'\"\\\\`$()<|.é a\\n-]|\\{\\{|\\}\\}|\\{%|%\\}|<<|raw|safe|is){0,24}") {
        let tags = placeholders::tags(&text);
        let mut end = 0;
        for tag in &tags {
            prop_assert!(tag.range.start >= end && text.get(tag.range.clone()).is_some());
            prop_assert!(tag.names.iter().all(|name| text.get(name.range.clone()).is_some()));
            end = tag.range.end;
        }
        shell_text::misquoted(&text, &tags);
    }

    #[test]
    fn offsets_in_strings(value in "[a-zé\\\\\"'\\n\\t ]{0,12}", at in 0..12usize) {
        let mut written = String::new();
        for c in value.chars() {
            match c {
                '"' | '\\' => written.extend(['\\', c]),
                '\n' => written.push_str("\\n"),
                'é' => written.push_str("\\u00e9"),
                c => written.push(c),
            }
        }
        let text = format!("\"{written}\"");
        let source = Arc::new(Source { path: "x".into(), text });
        let node = Node { place: Place { span: 0..source.text.len(), source }, value: Value::String(value.clone()) };
        if value.is_char_boundary(at) && at < value.len() {
            let place = node.inside(&(at..at + 1));
            prop_assert!(place.source.text.get(place.span.clone()).is_some());
            prop_assert!(place.span.len() < node.place.span.len());
        }
    }
}
