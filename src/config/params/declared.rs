//! What the schema of a class declares: names and types of parameters.

use serde_json::Value;

/// Returns the names of the parameters.
pub(crate) fn properties(schema: &Value) -> Vec<String> {
    let mut names = Vec::new();
    collect(schema, schema, 0, &mut names);
    names
}

/// Whether a parameter takes only strings, or null.
pub(crate) fn only_text(schema: &Value, param: &str) -> bool {
    let mut types = Vec::new();
    if let Some(property) = schema["properties"].get(param) {
        collect_types(property, schema, 0, &mut types);
    }
    types.contains(&"string") && types.iter().all(|name| matches!(*name, "string" | "null"))
}

/// Turns whole numbers with a point or an exponent, such as `1e3`, into integers where a
/// parameter takes integers only. To JSON Schema they are the same, to serde they are not.
pub(crate) fn integers(schema: &Value, params: &mut Value) {
    for (name, value) in params.as_object_mut().into_iter().flatten() {
        if let Some(property) = schema["properties"].get(name) {
            integers_of(property, schema, value);
        }
    }
}

fn integers_of(schema: &Value, root: &Value, value: &mut Value) {
    match value {
        Value::Number(number) if !number.is_i64() && !number.is_u64() => {
            let mut types = Vec::new();
            collect_types(schema, root, 0, &mut types);
            let only = types.contains(&"integer") && !types.contains(&"number");
            let whole = number.as_f64().filter(|n| only && n.fract() == 0.0 && n.abs() <= EXACT);
            if let Some(whole) = whole {
                *value = Value::from(whole as i64);
            }
        }
        Value::Array(items) => {
            let schema = schema.get("items").unwrap_or(&Value::Null);
            items.iter_mut().for_each(|item| integers_of(schema, root, item));
        }
        _ => {}
    }
}

/// The largest number up to which a double represents every whole number: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The most references between definitions that are followed: they may form a cycle.
const DEPTH: usize = 8;

fn target<'a>(schema: &Value, root: &'a Value) -> Option<&'a Value> {
    root.pointer(schema.get("$ref")?.as_str()?.strip_prefix('#')?)
}

fn branches(schema: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["allOf", "anyOf", "oneOf"];
    lists.into_iter().filter_map(|key| schema.get(key)?.as_array()).flatten()
}

pub(super) fn collect(schema: &Value, root: &Value, depth: usize, names: &mut Vec<String>) {
    if depth > DEPTH {
        return;
    }
    if let Some(properties) = schema["properties"].as_object() {
        let new: Vec<_> =
            properties.keys().filter(|name| !names.contains(*name)).cloned().collect();
        names.extend(new);
    }
    for branch in branches(schema).chain(target(schema, root)) {
        collect(branch, root, depth + 1, names);
    }
}

fn collect_types<'a>(schema: &'a Value, root: &'a Value, depth: usize, types: &mut Vec<&'a str>) {
    if depth > DEPTH {
        return;
    }
    match schema.get("type") {
        Some(Value::String(name)) => types.push(name),
        Some(Value::Array(names)) => types.extend(names.iter().filter_map(Value::as_str)),
        _ => {}
    }
    if schema.get("const").is_some_and(Value::is_string) {
        types.push("string");
    }
    for branch in branches(schema).chain(target(schema, root)) {
        collect_types(branch, root, depth + 1, types);
    }
}
