//! Makes schemas refuse unknown properties, whether or not the class asks for it, so that a
//! misspelled parameter is never ignored.

use std::collections::HashSet;

use serde_json::{Value, json};

/// Closes the schema of a class at the top, and in every object inside that stands alone. An
/// object that is joined with others stays open, because they add properties of their own.
pub(crate) fn closed(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let mut open = HashSet::new();
    let mut definitions = schema.get("$defs").cloned().unwrap_or_default();
    close(&mut schema, true, &mut open);
    refuse(&mut schema);
    if let Some(definitions) = definitions.as_object_mut() {
        for definition in definitions.values_mut() {
            close(definition, false, &mut open);
        }
        for (name, definition) in definitions.iter_mut() {
            if is_struct(definition) && !open.contains(&format!("#/$defs/{name}")) {
                refuse(definition);
            }
        }
    }
    if let Some(object) = schema.as_object_mut()
        && definitions.is_object()
    {
        object.insert("$defs".to_owned(), definitions);
    }
    schema
}

fn refuse(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    // For an object without declared properties, the validator names the surplus ones only if
    // they are "unevaluated".
    if object.get("additionalProperties") == Some(&json!(false))
        && !object.contains_key("properties")
    {
        object.remove("additionalProperties");
    }
    if !object.contains_key("additionalProperties") && !object.contains_key("unevaluatedProperties")
    {
        object.insert("unevaluatedProperties".to_owned(), json!(false));
    }
}

fn is_struct(schema: &Value) -> bool {
    let refuses = schema.get("additionalProperties") == Some(&json!(false));
    schema.get("properties").is_some() || refuses
}

/// Closes what is inside `schema`; `alone` is true if nothing else adds properties to the value.
/// Definitions that are joined with others go into `open`.
fn close(schema: &mut Value, alone: bool, open: &mut HashSet<String>) {
    let Some(object) = schema.as_object_mut() else { return };
    let joined =
        ["properties", "allOf", "anyOf", "oneOf"].iter().any(|key| object.contains_key(*key));
    if let Some(target) = object.get("$ref").and_then(Value::as_str)
        && (joined || !alone)
    {
        open.insert(target.to_owned());
    }
    let alone_inside = alone && !object.contains_key("properties") && !object.contains_key("$ref");
    for (key, inner) in object.iter_mut() {
        match (key.as_str(), inner) {
            ("properties" | "patternProperties", Value::Object(properties)) => {
                for property in properties.values_mut() {
                    by_itself(property, open);
                }
            }
            ("items" | "additionalProperties", item @ Value::Object(_)) => by_itself(item, open),
            ("prefixItems", Value::Array(items)) => {
                items.iter_mut().for_each(|item| by_itself(item, open));
            }
            ("anyOf" | "oneOf", Value::Array(branches)) => {
                branches.iter_mut().for_each(|branch| close(branch, alone_inside, open));
            }
            ("allOf", Value::Array(parts)) => {
                parts.iter_mut().for_each(|part| close(part, false, open));
            }
            _ => {}
        }
    }
}

fn by_itself(schema: &mut Value, open: &mut HashSet<String>) {
    close(schema, true, open);
    if is_struct(schema) {
        refuse(schema);
    }
}

#[cfg(test)]
mod tests {
    #![expect(dead_code, reason = "only the schemas of these types are used")]

    use std::collections::BTreeMap;

    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, JsonSchema)]
    struct Inner {
        width: u32,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(tag = "kind")]
    enum Tagged {
        Wide(Inner),
    }

    #[derive(Deserialize, JsonSchema)]
    struct Outer {
        plain: Option<Inner>,
        list: Option<Vec<Inner>>,
        #[serde(flatten)]
        flat: Inner,
    }

    #[derive(Deserialize, JsonSchema)]
    struct Enums {
        tagged: Tagged,
    }

    #[derive(Deserialize, JsonSchema)]
    struct Free {
        #[serde(flatten)]
        rest: BTreeMap<String, i64>,
    }

    fn valid<T: JsonSchema>(value: Value) -> bool {
        let schema = closed(&schemars::schema_for!(T).to_value());
        jsonschema::validator_for(&schema).unwrap().is_valid(&value)
    }

    #[test]
    fn unknown_properties_are_refused_at_every_depth() {
        assert!(valid::<Outer>(json!({"width": 1, "plain": {"width": 2}, "list": [{"width": 3}]})));
        assert!(!valid::<Outer>(json!({"width": 1, "depth": 2})));
        assert!(!valid::<Outer>(json!({"width": 1, "plain": {"width": 2, "depth": 2}})));
        assert!(!valid::<Outer>(json!({"width": 1, "list": [{"width": 2, "depth": 2}]})));
    }

    #[test]
    fn what_is_joined_with_others_stays_usable() {
        assert!(valid::<Enums>(json!({"tagged": {"kind": "Wide", "width": 1}})));
        assert!(valid::<Free>(json!({"any": 1, "other": 2})));
    }
}
