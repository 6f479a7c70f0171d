//! From the tables of a recipe to its types.

use crate::config::inventory_file::{patterns, vars};
use crate::config::keys;
use crate::config::names::inside;
use crate::config::options;
use crate::config::recipe::{Origin, Recipe, Shared};
use crate::config::step_file;
use crate::config::template::is_template;
use crate::document::{Node, Problem, Problems, Reader, Value};
use crate::event::Phase;

/// The folders that builds commonly fill again, kept where a recipe does not say.
const CACHES: &[&str] = &["node_modules", "frontend/node_modules", "target"];

/// The phases that a recipe may have, in the order of a run.
const PHASES: &[(&str, Phase)] = &[
    ("build", Phase::Build),
    ("prepare", Phase::Prepare),
    ("publish", Phase::Publish),
    ("finish", Phase::Finish),
    ("setup", Phase::Setup),
];

/// Reads the whole file.
pub fn read(name: &str, origin: Origin, document: Node) -> Result<Recipe, Problems> {
    let mut problems = Problems::new();
    let recipe = tables(name, origin, &document, &mut problems);
    recipe.filter(|_| problems.is_empty()).ok_or(problems)
}

fn tables(name: &str, origin: Origin, document: &Node, problems: &mut Problems) -> Option<Recipe> {
    let mut reader = Reader::of(&keys::RECIPE, "the recipe", document, problems)?;
    let description = reader.string("description").unwrap_or_default();
    let options = reader.named("options");
    let vars = vars(&mut reader);
    let shared_table = reader.node("shared");
    let exclude = patterns(&mut reader, "exclude");
    let caches = caches(&mut reader);
    let read_only = reader.boolean("read_only").unwrap_or(false);
    let services = strings(&mut reader, "services");
    let env_file = env_file(&mut reader);
    let phases: Vec<(Phase, Vec<&Node>)> =
        PHASES.iter().map(|(key, phase)| (*phase, steps(&mut reader, key))).collect();
    reader.finish();
    let options = options::read(options, problems);
    for option in options.iter().filter(|option| vars.contains_key(&option.name)) {
        let message = format!("`{}` is an option and a variable", option.name);
        problems.push(Problem::at(&option.place, message).label("expected a name of its own"));
    }
    let shared = shared_table.map(|node| shared(node, problems)).unwrap_or_default();
    let steps = phases
        .into_iter()
        .flat_map(|(phase, steps)| steps.into_iter().map(move |step| (phase, step)))
        .filter_map(|(phase, step)| step_file::read(phase, step, problems))
        .collect();
    Some(Recipe {
        name: name.to_owned(),
        description,
        options,
        vars,
        shared,
        exclude,
        caches,
        read_only,
        services,
        env_file,
        steps,
        origin,
        place: document.place.clone(),
    })
}

fn steps<'a>(reader: &mut Reader<'a, '_>, key: &'static str) -> Vec<&'a Node> {
    match reader.node(key) {
        Some(Node { value: Value::Array(steps), .. }) => steps.iter().collect(),
        Some(other) => {
            let message = format!("`{key}` is {}", other.value.kind());
            let help = format!("write `[[{key}]]`, with two brackets, before each step");
            reader.problem(&other.place, message, Some("expected steps"), Some(help));
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn caches(reader: &mut Reader<'_, '_>) -> Vec<String> {
    let Some(caches) = reader.located_strings("caches") else {
        return CACHES.iter().map(|path| (*path).to_owned()).collect();
    };
    for cache in &caches {
        if let Err(expected) = inside(&cache.value) {
            reader.problem(
                &cache.place,
                format!("{:?} is no folder of the checkout", cache.value),
                Some(expected),
                None,
            );
        }
    }
    caches.into_iter().map(|cache| cache.value).collect()
}

fn env_file(reader: &mut Reader<'_, '_>) -> Option<Node> {
    let path = reader.string("env_file")?;
    let node = reader.node("env_file")?;
    // What is a template is checked when it is rendered.
    if !is_template(&path)
        && let Err(expected) = inside(&path)
    {
        let message = format!("{path:?} is no file below `shared/`");
        reader.problem(&node.place, message, Some(expected), None);
    }
    Some(node.clone())
}

/// Strings as nodes, because they are templates.
fn strings(reader: &mut Reader<'_, '_>, key: &'static str) -> Vec<Node> {
    let strings = reader.located_strings(key).unwrap_or_default();
    strings.into_iter().map(|string| Node { place: string.place, value: Value::String(string.value) }).collect()
}

fn shared(node: &Node, problems: &mut Problems) -> Shared {
    let Some(mut reader) = Reader::of(&keys::SHARED, "`shared`", node, problems) else { return Shared::default() };
    let shared = Shared { files: strings(&mut reader, "files"), dirs: strings(&mut reader, "dirs") };
    reader.finish();
    let mut seen: Vec<&str> = Vec::new();
    for node in shared.files.iter().chain(&shared.dirs) {
        let Value::String(path) = &node.value else { continue };
        // What is a template is checked when it is rendered.
        if is_template(path) {
            continue;
        }
        let trimmed = path.trim_end_matches('/');
        if let Err(expected) = inside(path) {
            problems.push(Problem::at(&node.place, format!("{path:?} cannot be shared")).label(expected));
        } else if let Some(other) = seen.iter().find(|other| contains(other, trimmed) || contains(trimmed, other)) {
            let message = if *other == trimmed {
                format!("`{trimmed}` is shared twice")
            } else {
                format!("`{trimmed}` and `{other}` are both shared, and one contains the other")
            };
            problems.push(Problem::at(&node.place, message));
        }
        seen.push(trimmed);
    }
    shared
}

/// Whether `outer` is `inner`, or a folder above it.
fn contains(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
