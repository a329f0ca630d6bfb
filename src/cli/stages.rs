//! `drpipe stages`: the classes that a configuration may name, with their parameters.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::output::{complain, print, print_text};
use crate::base::nearest::nearest;
use crate::event::exit_code::USAGE;
use crate::python::{self, Listed};
use crate::stage::registry::{Class, Registry};

#[derive(Debug, ClapArgs)]
pub(super) struct StagesArgs {
    /// The class to show
    pub(super) name: Option<String>,
    /// Look into this Python module instead of drpipe's own stages
    #[arg(long, value_name = "MODULE")]
    pub(super) python: Option<String>,
    /// The Python interpreter, or the directory of a virtual environment
    #[arg(long, value_name = "PROGRAM", requires = "python")]
    pub(super) interpreter: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
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
    /// Its possible place in a pipeline, in a word.
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
        None if args.json => print_json(&offers.iter().map(as_json).collect::<Value>()),
        None => print_text(&list(offers)),
        Some(name) => match offers.iter().find(|offer| offer.class.name() == name) {
            Some(offer) if args.json => print_json(&as_json(offer)),
            Some(offer) => print_text(&describe(offer)),
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

fn print_json(value: &Value) -> ExitCode {
    print(format!("{value:#}\n").as_bytes())
}

fn as_json(offer: &Offer) -> Value {
    let class = &offer.class;
    json!({
        "name": class.name(),
        "kind": offer.place,
        "input": class.input(),
        "output": class.output(),
        "single": class.singleton(),
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
    if class.singleton() {
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
