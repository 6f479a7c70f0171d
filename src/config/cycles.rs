//! Variables that refer to themselves.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::renderer::Variable;
use crate::config::template::{PLAIN, engine, is_template};
use crate::document::{self, Node, Problem, Problems};

/// Variables that refer to themselves, each cycle once.
pub fn find(variables: &BTreeMap<String, Variable>) -> Problems {
    let mut problems = Problems::new();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for name in variables.keys() {
        follow(variables, name, &mut Vec::new(), &mut done, &mut problems);
    }
    problems
}

fn follow<'a>(
    variables: &'a BTreeMap<String, Variable>,
    name: &'a str,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
    problems: &mut Problems,
) {
    if let Some(start) = path.iter().position(|earlier| *earlier == name) {
        let cycle: Vec<&str> = path.iter().skip(start).copied().collect();
        problems.extend(problem(variables, &cycle));
        return;
    }
    let Some((name, Variable::Node(node))) = variables.get_key_value(name) else { return };
    if done.contains(name.as_str()) {
        return;
    }
    path.push(name);
    for reference in references(node) {
        if let Some((reference, _)) = variables.get_key_value(&reference) {
            follow(variables, reference, path, done, problems);
        }
    }
    path.pop();
    done.insert(name);
}

fn problem(variables: &BTreeMap<String, Variable>, names: &[&str]) -> Option<Problem> {
    let first = names.first()?;
    let mut places = names.iter().filter_map(|name| match variables.get(*name) {
        Some(Variable::Node(node)) => Some((name, &node.place)),
        _ => None,
    });
    let (_, place) = places.next()?;
    let others: Vec<String> = places.map(|(name, place)| format!("`{name}` stands at {place}")).collect();
    let path = [names, &[first]].concat().join(" → ");
    Some(
        Problem::at(place, format!("the variable `{first}` refers to itself: {path}"))
            .label("expected a value that does not depend on itself")
            .help((!others.is_empty()).then(|| others.join(", "))),
    )
}

/// The variables that the templates in `node` refer to.
pub fn references(node: &Node) -> BTreeSet<String> {
    match &node.value {
        document::Value::String(text) if is_template(text) => {
            let template = engine().template_from_named_str(PLAIN, text);
            template.map(|template| template.undeclared_variables(false).into_iter().collect()).unwrap_or_default()
        }
        document::Value::Array(items) => items.iter().flat_map(references).collect(),
        document::Value::Table(entries) => entries.iter().flat_map(|entry| references(&entry.node)).collect(),
        _ => BTreeSet::new(),
    }
}
