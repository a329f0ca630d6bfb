//! The hashes that identify pipelines and their configurations. Journals keep these hashes, so they
//! must not change between versions.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::edges::Edge;
use super::keys::{Options as _, Tag};
use super::options::StepOptions;
use super::spec::StepSpec;
use super::step::Step;
use super::values::WorkerRange;
use crate::base::fnv::fnv1a;
use crate::stage::registry::Kind;

/// Returns the effective configuration, which is the same for files that differ only in
/// layout, order of keys, or blanks.
pub(super) fn effective(
    specs: &[StepSpec],
    edges: &[Edge],
    order: &[usize],
    quarantine: &Path,
) -> Value {
    let step = |index: &usize| {
        let limits = |range: WorkerRange| json!([range.min, range.max]);
        let options = &specs[*index].options;
        let mut step = Map::new();
        step.insert("work".to_owned(), work(specs, edges, *index));
        let mut values = options.values();
        // The order in which events show the configuration.
        values.sort_by_key(|(key, _)| (!key.name.starts_with("nb_"), !key.is(Tag::Processes)));
        for (key, value) in values {
            let (name, value) = match key.name {
                "nb_thread" => ("threads", limits(*options.nb_thread)),
                "nb_process" => ("processes", limits(*options.nb_process)),
                name => (name, value),
            };
            if !key.is(Tag::Products) {
                step.insert(name.to_owned(), value);
            }
        }
        Value::Object(step)
    };
    let steps: Vec<Value> = order.iter().map(step).collect();
    json!({"steps": steps, "quarantine": quarantine.to_string_lossy()})
}

/// Returns what the products of one step depend on.
pub(super) fn work(specs: &[StepSpec], edges: &[Edge], index: usize) -> Value {
    let spec = &specs[index];
    let routes = edges.iter().filter(|edge| edge.from == index);
    let routes = routes.map(|edge| json!([specs[edge.to].name, edge.feedback]));
    let mut work = json!({
        "name": spec.name, "class": spec.class, "params": spec.params,
        "module": spec.python.as_ref().map(|python| &python.module),
        "routes": routes.collect::<Vec<_>>(),
    });
    let whole = spec.python.as_ref().map(|python| &python.configuration);
    if let Some(whole) = whole.filter(|whole| !whole.is_null()) {
        // The helpers of such a class may take any section.
        work["configuration"] = json!([whole["sections"], whole["settings"]]);
    }
    // Defaults are left out, so that a new key does not change the hashes of existing
    // configurations.
    let defaults = StepOptions::default().values();
    for ((key, value), (_, default)) in spec.options.values().into_iter().zip(defaults) {
        if key.is(Tag::Products) && value != default {
            work[key.name] = value;
        }
    }
    work
}

pub(super) fn hash_of(value: &Value) -> String {
    format!("{:016x}", fnv1a(sorted(value).to_string().bytes()))
}

/// Returns what is the same in every run of a pipeline, whatever its parameters are.
pub(crate) fn identity(name: &str, steps: &[Step]) -> String {
    let producers = steps.iter().filter(|step| step.kind == Kind::Producer);
    let mut classes: Vec<&str> = producers.map(|step| step.class.as_str()).collect();
    classes.sort_unstable();
    format!("{:016x}", fnv1a(format!("{name}\n{}", classes.join("\n")).bytes()))
}

/// Sorts the keys of all objects in alphabetical order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            let members = members.into_iter().map(|(key, value)| (key.clone(), sorted(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_is_no_difference() {
        let (a, b) =
            (json!({"a": 1, "b": {"c": 1, "d": 2}}), json!({"b": {"d": 2, "c": 1}, "a": 1}));
        assert_eq!(sorted(&a).to_string(), sorted(&b).to_string());
    }
}
