//! `inventory.example.toml` explains every key.

use std::collections::BTreeSet;
use std::path::Path;

use super::{inventory_tests, keys};
use crate::document::key::{KeyKind, Table};
use crate::document::{Node, Value, parse};

const EXAMPLE: &str = include_str!("../../inventory.example.toml");

#[test]
fn the_example_is_an_inventory() {
    let inventory = inventory_tests::read(EXAMPLE).unwrap_or_else(|said| panic!("{said}"));
    assert_eq!(inventory.hosts.len(), 4);
}

#[test]
fn the_example_has_every_key() {
    let node = parse(Path::new("inventory.example.toml"), EXAMPLE.to_owned()).expect("valid TOML");
    let mut used = BTreeSet::new();
    collect(&keys::INVENTORY, &node, &mut used);
    let all = keys::INVENTORY.all();
    let listed: BTreeSet<(&str, &str)> =
        all.iter().flat_map(|table| table.keys.iter().map(|key| (table.name, key.name))).collect();
    assert_eq!(used, listed);
}

fn collect(table: &'static Table, node: &Node, used: &mut BTreeSet<(&'static str, &'static str)>) {
    let Value::Table(entries) = &node.value else { panic!("a table") };
    for key in table.keys {
        let Some(entry) = entries.iter().find(|entry| entry.key == key.name) else { continue };
        used.insert((table.name, key.name));
        match (key.kind, &entry.node.value) {
            (KeyKind::Table(below), _) => collect(below, &entry.node, used),
            (KeyKind::Named(below), Value::Table(named)) => {
                named.iter().for_each(|entry| collect(below, &entry.node, used));
            }
            _ => {}
        }
    }
}
