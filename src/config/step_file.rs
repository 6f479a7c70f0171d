//! From the table of a step to its type.

use crate::config::keys;
use crate::config::names::check_name;
use crate::config::recipe::{Modifiers, StepSpec};
use crate::config::template::has_template;
use crate::document::{Entry, Node, Problem, Problems, Reader, Value, nearest};
use crate::event::Phase;
use crate::step::Kind;

/// Reads one step of `phase`.
pub fn read(phase: Phase, node: &Node, problems: &mut Problems) -> Option<StepSpec> {
    let actions = || Kind::ALL.iter().map(|kind| kind.name());
    let what = format!("a step of `{}`", phase.name());
    let mut reader = Reader::of(&keys::STEP, what.clone(), node, problems)?.also(actions());
    let entries = reader.entries();
    let name = reader.located("name");
    let modifiers = modifiers(&mut reader, phase);
    reader.finish();
    let mut found = entries.iter().filter_map(|entry| Some((entry, kind(&entry.key)?)));
    let action = found.next();
    if let (Some((first, _)), Some((second, _))) = (action, found.next()) {
        problems.push(
            Problem::at(&second.key_place, format!("a step has two actions: `{}` and `{}`", first.key, second.key))
                .label("expected exactly one action")
                .help(format!("begin another step with `[[{}]]`", phase.name())),
        );
        return None;
    }
    let Some((entry, kind)) = action else {
        // An unknown key was reported already, and is most likely the action with a typing error.
        if entries.iter().all(|entry| keys::STEP.names().any(|name| name == entry.key)) {
            let fitting = Kind::ALL.iter().filter(|kind| kind.phases().contains(&phase));
            let list = fitting.map(|kind| format!("`{}`", kind.name())).collect::<Vec<_>>().join(", ");
            problems.push(
                Problem::at(&node.place, format!("{what} has no action")).label(format!("expected one of {list}")),
            );
        }
        return None;
    };
    check_phase(phase, kind, entry, problems);
    // A body with templates can be checked only when it is rendered.
    if !has_template(&entry.node) {
        kind.check(&entry.node, problems);
    }
    Some(StepSpec { phase, name, kind, body: entry.node.clone(), modifiers, place: node.place.clone() })
}

fn kind(name: &str) -> Option<Kind> {
    Kind::ALL.iter().copied().find(|kind| kind.name() == name)
}

fn check_phase(phase: Phase, kind: Kind, entry: &Entry, problems: &mut Problems) {
    if kind.phases().contains(&phase) {
        return;
    }
    let phases: Vec<String> = kind.phases().iter().map(|phase| format!("`{}`", phase.name())).collect();
    problems.push(
        Problem::at(&entry.key_place, format!("`{}` cannot stand in `{}`", kind.name(), phase.name()))
            .label(format!("expected in {}", phases.join(" or "))),
    );
}

fn modifiers(reader: &mut Reader<'_, '_>, phase: Phase) -> Modifiers {
    let tags = reader.strings("tags").unwrap_or_default();
    let roles = reader.located_strings("roles").unwrap_or_default();
    for role in &roles {
        check_name("a role", &role.value, &role.place, reader.problems());
    }
    if phase == Phase::Build {
        for key in ["roles", "once"] {
            if let Some(entry) = reader.entry(key) {
                let message = format!("`{key}` has no meaning in `build`, which is done once, on this machine");
                reader.problem(&entry.key_place, message, None, None);
            }
        }
    }
    let creates = reader.node("creates").cloned().filter(|_| reader.string("creates").is_some());
    let done_when = reader.node("done_when").cloned().filter(|_| reader.string("done_when").is_some());
    for key in ["creates", "done_when"] {
        if let Some(entry) = reader.entry(key).filter(|_| phase != Phase::Setup) {
            let message =
                format!("`{key}` has no meaning in `{}`: only `setup` looks whether it is done", phase.name());
            reader.problem(&entry.key_place, message, None, None);
        }
    }
    let attempts = reader.typed("attempts", "expected a whole number, 1 or more", |value| match value {
        Value::Integer(number) => u32::try_from(*number).ok().filter(|number| *number > 0),
        _ => None,
    });
    Modifiers {
        tags,
        roles,
        when: expression(reader, "when"),
        unless: expression(reader, "unless"),
        once: reader.boolean("once").unwrap_or_default(),
        cwd: reader.node("cwd").cloned().filter(|_| reader.string("cwd").is_some()),
        env: environment(reader),
        timeout: reader.duration("timeout"),
        attempts: attempts.unwrap_or_default(),
        tolerate: reader.boolean("tolerate").unwrap_or_default(),
        creates,
        done_when,
    }
}

fn expression(reader: &mut Reader<'_, '_>, key: &'static str) -> Option<Node> {
    let node = reader.node(key)?;
    let label = match &node.value {
        Value::Boolean(_) => return Some(node.clone()),
        Value::String(text) if !has_template(node) && !text.trim().is_empty() => return Some(node.clone()),
        Value::String(_) => "expected an expression without braces, such as `not options.skip_front_build`",
        _ => "expected an expression in quotes, or true or false",
    };
    reader.problem(&node.place, format!("`{key}` is no expression"), Some(label), None);
    None
}

fn environment(reader: &mut Reader<'_, '_>) -> Vec<(String, Node)> {
    let entries = reader.named("env");
    for entry in entries {
        let shaped = entry.key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && entry.key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !shaped {
            let message = format!("{:?} cannot be the name of an environment variable", entry.key);
            reader.problem(&entry.key_place, message, Some("expected letters, digits and `_`"), None);
        }
        if matches!(entry.node.value, Value::Array(_) | Value::Table(_)) {
            let message = format!("the environment variable `{}` is {}", entry.key, entry.node.value.kind());
            reader.problem(&entry.node.place, message, Some("expected a string, a number or a boolean"), None);
        }
    }
    entries.iter().map(|entry| (entry.key.clone(), entry.node.clone())).collect()
}

/// Notes the roles of `steps` that look like a typing error: no host has them, but a role that is spelled
/// almost alike. A role that nobody has is no mistake by itself, for a recipe serves many inventories.
pub fn check_roles<'a>(steps: &[StepSpec], known: impl Iterator<Item = &'a str> + Clone, problems: &mut Problems) {
    for role in steps.iter().flat_map(|step| &step.modifiers.roles) {
        if known.clone().all(|name| name != role.value)
            && let Some(near) = nearest(&role.value, known.clone())
        {
            problems.push(
                Problem::at(&role.place, format!("no host has the role `{}`", role.value))
                    .label("this step would never be done")
                    .help(format!("did you mean `{near}`?")),
            );
        }
    }
}
