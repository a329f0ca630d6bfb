//! The JSON Schema of a configuration file, for editors and other programs, made from the keys
//! that the check itself uses.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::dialect::{ctapipe, native};
use super::draft;
use super::foreign::OWN;
use crate::plan::keys::{Key, Tag};
use crate::stage::registry::{Class, Registry};

/// What a fragment of a URI escapes.
const IN_FRAGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Returns the JSON Schema (draft 2020-12) of a configuration file in any layout, with the
/// classes of `registry`.
///
/// The schema describes the form of the file. Only [`load`](super::load) checks what concerns
/// the whole graph, such as types and the names of next steps.
pub fn schema(registry: &Registry) -> Value {
    let mut definitions = Map::new();
    let mut sections = Map::new();
    let mut parameters = Vec::new();
    for class in registry.classes() {
        let name = format!("class {}", class.name());
        let reference = reference(&name);
        parameters.push(json!({
            "if": {"properties": {"class": {"const": class.name()}}, "required": ["class"]},
            "then": {"properties": {"params": reference}},
        }));
        sections.insert(class.name().to_owned(), reference);
        define(&name, class, &mut definitions);
    }
    let names: Vec<&str> = registry.classes().map(Class::name).collect();
    let mut step = object(&draft::keys(), Map::new());
    // A step with another module has a class in Python, about which only the check can ask.
    step["if"] = json!({"properties": {"module": {"const": OWN}}});
    step["then"] = json!({"properties": {"class": {"enum": names}}, "allOf": parameters});
    definitions.insert("step".to_owned(), step.clone());
    // In the first model a queue takes one message more than its limit.
    let limits = &mut step["properties"]["queue_limit"]["anyOf"];
    limits.as_array_mut().into_iter().for_each(|limits| limits.push(json!({"enum": [0, "0"]})));
    definitions.insert("step of ctapipe".to_owned(), step);
    let mut native = object(&native::keys(), sections.clone());
    // Sections of classes in Python, which begin with a capital letter.
    native["patternProperties"] = json!({"^[A-Z]": {"type": "object"}});
    definitions.insert("native".to_owned(), native);
    let mut flow = object(&ctapipe::flow_keys(), Map::new());
    for key in ["producer_conf", "consumer_conf"] {
        flow["properties"][key]["$ref"] = reference("step of ctapipe")["$ref"].clone();
    }
    flow["properties"]["stagers_conf"]["items"] = reference("step of ctapipe");
    definitions.insert("flow".to_owned(), flow);
    let mut around = object(&ctapipe::keys(), sections);
    // The owner of a section is not known; the first model has many sections.
    around["additionalProperties"] = json!({"type": "object"});
    for key in ["Pipeline", "Flow"] {
        around["properties"][key] = reference("flow");
    }
    around["oneOf"] = json!([{"required": ["Pipeline"]}, {"required": ["Flow"]}]);
    definitions.insert("ctapipe".to_owned(), around);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "drpipe pipeline",
        "type": "object",
        "if": {"anyOf": [{"required": ["Pipeline"]}, {"required": ["Flow"]}]},
        "then": reference("ctapipe"),
        "else": reference("native"),
        "$defs": definitions,
    })
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{}", escape(name))})
}

/// Escapes a name as a segment of a JSON pointer in the fragment of a URI.
fn escape(name: &str) -> String {
    let segment = name.replace('~', "~0").replace('/', "~1");
    utf8_percent_encode(&segment, IN_FRAGMENT).to_string()
}

/// Returns the schema of an object with these keys, after other properties.
pub(super) fn object(keys: &[&'static Key], mut properties: Map<String, Value>) -> Value {
    properties.extend(keys.iter().map(|key| (key.name.to_owned(), key.schema())));
    let required = keys.iter().filter(|key| key.is(Tag::Required)).map(|key| key.name);
    json!({
        "type": "object",
        "properties": properties,
        "required": required.collect::<Vec<_>>(),
        "additionalProperties": false,
    })
}

/// Adds the schema of a class to the definitions, and its own definitions beside it. A required
/// parameter may stand in the step or in the section, so neither requires it alone.
fn define(name: &str, class: &Class, definitions: &mut Map<String, Value>) {
    let mut schema = class.schema().clone();
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("$schema");
    object.remove("required");
    let own = object.remove("$defs");
    if !object.contains_key("additionalProperties") {
        object.insert("unevaluatedProperties".to_owned(), json!(false));
    }
    rename(&mut schema, name);
    definitions.insert(name.to_owned(), schema);
    if let Some(Value::Object(own)) = own {
        for (inner, mut schema) in own {
            rename(&mut schema, name);
            definitions.insert(format!("{name} {inner}"), schema);
        }
    }
}

/// Redirects references to a class's own definitions to their new places.
fn rename(schema: &mut Value, name: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, name)),
        Value::Object(members) => {
            for (key, value) in members.iter_mut() {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(inner) = target.strip_prefix("#/$defs/") {
                            *target = format!("#/$defs/{}{inner}", escape(&format!("{name} ")));
                        } else if target == "#" {
                            *target = format!("#/$defs/{}", escape(name));
                        }
                    }
                    value => rename(value, name),
                }
            }
        }
        _ => {}
    }
}
