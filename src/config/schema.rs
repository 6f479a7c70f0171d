//! JSON Schema of the inventory and of recipes, for editors: made from the tables that the readers use.

use serde_json::{Map, Value, json};

use crate::config::keys;
use crate::document::key::{Absent, Key, KeyKind, Table};
use crate::event::Phase;
use crate::step::Kind;

/// The schema of `inventory.toml`.
pub fn inventory() -> Value {
    document(&keys::INVENTORY)
}

/// The schema of a recipe.
pub fn recipe() -> Value {
    document(&keys::RECIPE)
}

fn document(root: &'static Table) -> Value {
    let mut schema = object(root);
    let definitions: Map<String, Value> =
        root.all().into_iter().skip(1).map(|table| (name(table), object(table))).collect();
    if let Value::Object(entries) = &mut schema {
        entries.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        entries.insert("title".to_owned(), json!(format!("{} of ship", root.name)));
        entries.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema
}

/// The name of a table among the definitions.
fn name(table: &Table) -> String {
    table.name.trim_matches(['[', ']']).to_owned()
}

fn object(table: &'static Table) -> Value {
    let mut properties: Map<String, Value> =
        table.keys.iter().map(|key| (key.name.to_owned(), described(key))).collect();
    if std::ptr::eq(table, &raw const keys::STEP) {
        for kind in Kind::ALL {
            let action = json!({ "description": format!("{}\n\n{}", kind.summary(), kind.example()) });
            properties.insert(kind.name().to_owned(), action);
        }
    }
    let required: Vec<&str> =
        table.keys.iter().filter(|key| key.absent == Absent::Required).map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "description": table.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if let Value::Object(entries) = &mut schema {
        if !required.is_empty() {
            entries.insert("required".to_owned(), json!(required));
        }
        if std::ptr::eq(table, &raw const keys::SECRET) {
            entries.insert("minProperties".to_owned(), json!(1));
            entries.insert("maxProperties".to_owned(), json!(1));
        }
    }
    schema
}

fn described(key: &Key) -> Value {
    let mut schema = value(key);
    if let Value::Object(entries) = &mut schema {
        let doc = match key.absent {
            Absent::Default(default) => format!("{} (default: {default})", key.doc),
            Absent::Required | Absent::None => key.doc.to_owned(),
        };
        entries.insert("description".to_owned(), json!(doc));
    }
    schema
}

fn value(key: &Key) -> Value {
    let reference = |table: &Table| json!({ "$ref": format!("#/$defs/{}", name(table)) });
    let scalar = json!(["string", "number", "boolean"]);
    match key.kind {
        KeyKind::String | KeyKind::Template => json!({ "type": "string" }),
        KeyKind::Boolean => json!({ "type": "boolean" }),
        KeyKind::Expression => json!({ "type": ["string", "boolean"] }),
        KeyKind::Count => json!({ "type": "integer", "minimum": 0 }),
        KeyKind::CountOrString => json!({ "type": ["integer", "string"], "minimum": 1 }),
        KeyKind::Duration => {
            json!({ "type": ["string", "integer"], "pattern": "^ *[0-9]+ *(ms|s|m|min|h)? *$", "minimum": 0 })
        }
        KeyKind::Strings => json!({ "type": ["string", "array"], "items": { "type": "string" } }),
        KeyKind::OneOf(choices) => json!({ "enum": choices }),
        KeyKind::Scalar => json!({ "type": scalar }),
        KeyKind::Any => json!({}),
        KeyKind::Vars => json!({ "type": "object", "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" } }),
        KeyKind::Env => json!({ "type": "object", "additionalProperties": { "type": scalar } }),
        KeyKind::WordOrTable(word, table) => json!({ "anyOf": [{ "enum": [word] }, reference(table)] }),
        KeyKind::Table(table) => reference(table),
        KeyKind::Named(table) => json!({ "type": "object", "additionalProperties": reference(table) }),
        KeyKind::List(table) => json!({ "type": "array", "items": step(table, key.name) }),
    }
}

/// A step of `phase`: exactly one of the actions that may stand there.
fn step(table: &Table, phase: &str) -> Value {
    let fits = |phases: &[Phase]| phases.iter().any(|each| each.name() == phase);
    let actions: Vec<Value> =
        Kind::ALL.iter().filter(|kind| fits(kind.phases())).map(|kind| json!({ "required": [kind.name()] })).collect();
    let mut schema = json!({ "$ref": format!("#/$defs/{}", name(table)) });
    if let (Value::Object(entries), false) = (&mut schema, actions.is_empty()) {
        entries.insert("oneOf".to_owned(), Value::Array(actions));
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_has_its_definition_and_no_table_takes_unknown_keys() {
        for schema in [inventory(), recipe()] {
            let text = schema.to_string();
            for reference in text.split("\"#/$defs/").skip(1) {
                let name = reference.split('"').next().expect("a name");
                assert_eq!(schema["$defs"][name]["additionalProperties"], false, "{name}");
            }
            assert_eq!(schema["additionalProperties"], false);
        }
    }

    #[test]
    fn a_host_and_a_step() {
        let inventory = inventory();
        insta::assert_snapshot!(serde_json::to_string_pretty(&inventory["$defs"]["secrets.NAME"]).expect("JSON"), @r#"
        {
          "additionalProperties": false,
          "description": "where a secret comes from: exactly one of these",
          "maxProperties": 1,
          "minProperties": 1,
          "properties": {
            "age": {
              "description": "a file that `age` decrypts, relative to this one",
              "type": "string"
            },
            "command": {
              "description": "what a command prints, for example `op read …`; run in the folder of this file",
              "type": "string"
            },
            "env": {
              "description": "an environment variable of ship",
              "type": "string"
            },
            "file": {
              "description": "a file, relative to this one",
              "type": "string"
            }
          },
          "type": "object"
        }
        "#);
        assert_eq!(inventory["required"], json!(["recipe", "app", "deploy_to"]));
        let recipe = recipe();
        insta::assert_snapshot!(recipe["properties"]["build"], @r##"{"description":"steps on this machine, in a clean checkout of the revision","items":{"$ref":"#/$defs/step","oneOf":[{"required":["local"]}]},"type":"array"}"##);
        assert!(recipe["$defs"]["step"]["properties"]["upload"].is_object());
    }
}
