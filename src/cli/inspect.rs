//! What there is to see without running: `check`, `graph`, `stages`, `schema`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::{CheckArgs, GraphFormat, StagesArgs};
use super::format::one_line;
use super::{USAGE, complain, tell};
use crate::base::nearest::nearest;
use crate::config;
use crate::pipeline::Pipeline;
use crate::plan::{Plan, Step};
use crate::python::{self, Listed};
use crate::stage::registry::{Class, Registry};

/// For programs, as it is.
fn print(text: &str) -> ExitCode {
    super::print(text.as_bytes())
}

pub(super) fn check(pipeline: &Pipeline, args: &CheckArgs) -> ExitCode {
    let plan = pipeline.plan();
    let mut text =
        format!("{}: the configuration is valid\n", one_line(&args.named.source().shown()));
    for (index, step) in plan.steps.iter().enumerate() {
        text +=
            &format!("  {} ({}, {}){}\n", step.name, step.class, staff(step), leads(plan, index));
    }
    tell(&text)
}

/// `3 workers`, `1 to 3 workers in processes`, `2 workers on threads and 1 in processes`.
fn staff(step: &Step) -> String {
    let of = |least: usize, most: usize| {
        let workers = if most == 1 { "worker" } else { "workers" };
        let range = if least < most { format!("{least} to {most}") } else { most.to_string() };
        (range, workers)
    };
    let threads = step.workers - step.processes;
    let limit = |name: &str, value: Option<String>| {
        value.map(|value| format!(", {name} {value}")).unwrap_or_default()
    };
    let limits = limit("timeout", step.timeout.map(|time| format!("{} s", time.as_secs_f64())))
        + &limit("memory_limit", step.memory_limit.map(|bytes| format!("{bytes} bytes")));
    let (on_threads, workers) = of(step.min_threads, threads);
    let (in_processes, working) = of(step.min_processes, step.processes);
    match (threads, step.processes) {
        (_, 0) => format!("{on_threads} {workers}{limits}"),
        (0, 1) => format!("{in_processes} {working} in a process{limits}"),
        (0, _) => format!("{in_processes} {working} in processes{limits}"),
        _ => format!("{on_threads} {workers} on threads and {in_processes} in processes{limits}"),
    }
}

/// ` -> CLEAN, FIX (feedback)`, or nothing.
fn leads(plan: &Plan, index: usize) -> String {
    let routes = plan.steps[index].routes.iter().map(|route| {
        let name = &plan.steps[route.to].name;
        if route.feedback { format!("{name} (feedback)") } else { name.clone() }
    });
    let names: Vec<String> = routes.collect();
    if names.is_empty() { String::new() } else { format!(" -> {}", names.join(", ")) }
}

pub(super) fn graph(pipeline: &Pipeline, format: GraphFormat) -> ExitCode {
    let draw: fn(&Plan) -> String = match format {
        GraphFormat::Dot => config::dot,
        GraphFormat::Mermaid => config::mermaid,
    };
    print(&draw(pipeline.plan()))
}

pub(super) fn schema(registry: &Registry) -> ExitCode {
    print(&format!("{:#}\n", config::schema(registry)))
}

pub(super) fn stages(registry: &Registry, args: &StagesArgs) -> ExitCode {
    let offers: Vec<Offer> = match &args.python {
        None => registry.classes().map(Offer::of).collect(),
        Some(module) => match python::classes(args.interpreter.as_deref(), module) {
            Ok(listed) => listed.into_iter().map(Offer::listed).collect(),
            Err(error) => return complain(USAGE, format_args!("error: {error}")),
        },
    };
    show(&offers, args)
}

/// A class that a configuration may name.
struct Offer {
    class: Class,
    /// Where it may stand, in a word.
    place: &'static str,
}

impl Offer {
    fn of(class: &Class) -> Self {
        Self { class: class.clone(), place: class.kind().as_str() }
    }

    fn listed(listed: Listed) -> Self {
        let place = if listed.anywhere { "any" } else { listed.class.kind().as_str() };
        Self { class: listed.class, place }
    }
}

fn show(offers: &[Offer], args: &StagesArgs) -> ExitCode {
    match &args.name {
        None if args.json => {
            print(&format!("{:#}\n", offers.iter().map(as_json).collect::<Value>()))
        }
        None => tell(&list(offers)),
        Some(name) => match offers.iter().find(|offer| offer.class.name() == name) {
            Some(offer) if args.json => print(&format!("{:#}\n", as_json(offer))),
            Some(offer) => tell(&describe(offer)),
            None => {
                let names: Vec<&str> = offers.iter().map(|offer| offer.class.name()).collect();
                let hint = match nearest(name, names.iter().copied()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("the stages are {}", names.join(", ")),
                };
                complain(USAGE, format_args!("error: there is no stage \"{name}\"; {hint}"))
            }
        },
    }
}

fn as_json(offer: &Offer) -> Value {
    let class = &offer.class;
    json!({
        "name": class.name(),
        "kind": offer.place,
        "input": class.input(),
        "output": class.output(),
        "single": class.single(),
        "parameters": class.schema(),
    })
}

fn list(offers: &[Offer]) -> String {
    let width = offers.iter().map(|offer| offer.class.name().len()).max().unwrap_or(0);
    let rows = offers.iter().map(|Offer { class, place }| {
        let about = text_at(class.schema(), "description");
        let first = about.split_once("\n\n").map_or(about, |(first, _)| first);
        let first = first.replace('\n', " ");
        format!("{:width$}  {place:8}  {first}\n", class.name())
    });
    rows.collect()
}

fn describe(Offer { class, place }: &Offer) -> String {
    let mut text = format!("{} ({place})\n", class.name());
    if let Some(input) = class.input() {
        text += &format!("  takes  {input}\n");
    }
    if let Some(output) = class.output() {
        text += &format!("  emits  {output}\n");
    }
    if class.single() {
        text += "  runs on one worker\n";
    }
    let about = text_at(class.schema(), "description");
    if !about.is_empty() {
        text += &format!("\n{about}\n");
    }
    let none = serde_json::Map::new();
    let parameters = class.schema()["properties"].as_object().unwrap_or(&none);
    text += if parameters.is_empty() { "\nNo parameters.\n" } else { "\nParameters:\n" };
    let required = class.schema()["required"].as_array();
    for (name, schema) in parameters {
        let required = required.is_some_and(|names| names.iter().any(|n| n == name));
        text += &parameter(name, schema, required, class.schema());
    }
    text
}

fn parameter(name: &str, schema: &Value, required: bool, root: &Value) -> String {
    let unit = match text_at(schema, "unit") {
        "" => String::new(),
        unit => format!(" [{unit}]"),
    };
    let default = match (&schema["default"], required) {
        (_, true) => "required".to_owned(),
        (Value::Null, false) => "optional".to_owned(),
        (value, false) => format!("default {value}"),
    };
    let bounds = bounds(schema);
    let mut text = format!("  {name}: {}{unit}{bounds}, {default}\n", type_of(schema, root));
    for line in text_at(schema, "description").lines() {
        text += &format!("      {line}\n");
    }
    text
}

fn bounds(schema: &Value) -> String {
    let limit = |keyword: &str, sign: &str| match &schema[keyword] {
        Value::Null => String::new(),
        value => format!(", {sign} {value}"),
    };
    [
        limit("minimum", ">="),
        limit("exclusiveMinimum", ">"),
        limit("maximum", "<="),
        limit("exclusiveMaximum", "<"),
    ]
    .concat()
}

/// A parameter's type in words.
fn type_of(schema: &Value, root: &Value) -> String {
    if let Some(target) = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
        return root.pointer(target).map_or_else(|| "any".into(), |inner| type_of(inner, root));
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" or ");
    }
    for keyword in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[keyword].as_array() {
            let named = choices.iter().filter(|choice| choice["type"] != "null");
            return named.map(|choice| type_of(choice, root)).collect::<Vec<_>>().join(" or ");
        }
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => {
            format!("list of {}", type_of(&schema["items"], root))
        }
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            names.collect::<Vec<_>>().join(" or ")
        }
        _ => "any".into(),
    }
}

fn text_at<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema[key].as_str().unwrap_or_default()
}
