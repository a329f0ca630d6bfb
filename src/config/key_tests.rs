//! Declaring a key is enough: the check, the published schema, the settings of the command
//! line, the hashes, and the reference in docs/ follow the declaration.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::dialect::{ctapipe, native};
use super::overrides::Setting;
use super::read::{read, unknown_key};
use super::schema::object;
use super::{draft, load, schema};
use crate::plan::findings::Findings;
use crate::plan::keys::{Key, Options, Tag, keys};
use crate::plan::options::StepOptions;
use crate::plan::values::Retries;
use crate::stage::registry::Registry;
use crate::stages;

keys! {
    /// A key that nothing but this declaration knows.
    struct Drafted {
        /// How urgent the step's messages are.
        ///
        /// 0 is not at all.
        urgency: u32 as Retries [Inputs, Products] = 3,
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    stages::register(&mut registry);
    registry
}

fn file(step: &str) -> String {
    format!(
        r#"{{"producer": {{"name": "IN", "class": "Integers", "params": {{"first": 1, "last": 2}}}},
        "stagers": [{{"name": "A", "class": "Square"{step}}}],
        "consumer": {{"name": "OUT", "class": "Discard"}}}}"#
    )
}

/// Returns the findings about a file with these additional keys in its step, or with these
/// settings.
fn said(step: &str, settings: &[&str]) -> String {
    let settings: Vec<Setting> =
        settings.iter().map(|text| Setting::parse(text).unwrap()).collect();
    match load(&file(step), "p.json", &registry(), &settings) {
        Ok(loaded) => loaded.warnings.iter().map(ToString::to_string).collect(),
        Err(error) => error.to_string(),
    }
}

/// Returns the findings about an object that may have the drafted key, and the value that it sets.
fn read_drafted(text: &str) -> (String, u32) {
    let (root, _) = super::text::parse(text);
    let keys: Vec<&'static Key> = Drafted::KEYS.iter().collect();
    let (mut drafted, mut findings) = (Drafted::default(), Findings::default());
    read(
        root.as_ref().unwrap(),
        &keys,
        &mut findings,
        |key, value, span| drafted.set(key.name, value, span),
        |member, findings| unknown_key(member, &keys, [], findings),
    );
    let source = super::locate::Source::new("p.json", text, &[]);
    let found = findings.into_diagnostics(|span| source.locate(root.as_ref(), span));
    (found.iter().map(ToString::to_string).collect(), *drafted.urgency)
}

#[test]
fn a_drafted_key_needs_its_declaration_only() {
    assert_eq!(read_drafted("{}"), (String::new(), 3));
    assert_eq!(read_drafted(r#"{"urgency": 5}"#), (String::new(), 5));
    let wrong =
        "p.json:1:13: error: urgency: found \"high\"; expected a whole number from 0 to 1000";
    assert_eq!(read_drafted(r#"{"urgency": "high"}"#).0, wrong);
    let unknown = "p.json:1:2: error: urgenzy: unknown key \"urgenzy\"; expected one of urgency; \
                   did you mean \"urgency\"?";
    assert_eq!(read_drafted(r#"{"urgenzy": 5}"#).0, unknown);
    let keys: Vec<&'static Key> = Drafted::KEYS.iter().collect();
    assert_eq!(
        object(&keys, Map::new())["properties"]["urgency"],
        json!({"type": "integer", "minimum": 0, "maximum": 1000, "default": 3,
               "description": "How urgent the step's messages are."})
    );
    let row = "| `urgency` | How urgent the step's messages are. 0 is not at all. \
               | a whole number from 0 to 1000 | 3 | yes |";
    assert!(reference(&keys).contains(row), "{}", reference(&keys));
}

#[test]
fn every_key_of_a_step_is_wherever_keys_are() {
    let published = &schema(&registry())["$defs"]["step"]["properties"];
    let plan = load(&file(""), "p.json", &registry(), &[]).unwrap().plan;
    for key in draft::keys() {
        let name = key.name;
        assert_eq!(published[name], key.schema(), "{name}");
        let typed = format!(r#", "{name}z": 1"#);
        assert!(said(&typed, &[]).contains(&format!("did you mean \"{name}\"?")), "{name}");
        let valued = format!(r#", "{name}": [[]]"#);
        let expected = format!("found a list; expected {}", key.expected);
        assert!(said(&valued, &[]).contains(&expected), "{}", said(&valued, &[]));
        let set = said("", &[&format!("A.{name}={{\"a\": []}}")]);
        let refused = match key.is(Tag::FileOnly) {
            true => format!("\"{name}\" cannot be set"),
            // Any string is allowed.
            false if key.expected.starts_with("a string") => String::new(),
            false => format!("\"{name}\": found an object; expected {}", key.expected),
        };
        let is_text = ["python", "next_steps", "feedback", "pythonpath"].contains(&name);
        assert!(is_text || set.contains(&refused), "{set}");
    }
    for key in StepOptions::KEYS {
        let hashed = match key.name {
            "nb_thread" => "threads",
            "nb_process" => "processes",
            name => name,
        };
        assert!(plan.config["steps"][0].get(hashed).is_some(), "{hashed}");
    }
}

/// Journals and products of earlier versions have these hashes. A new key or another default
/// changes the hash of the configuration, which is only shown; the other two must stay.
#[test]
fn hashes_stay_as_they_are() {
    let text = r#"{ "name": "pinned", "quarantine": "bad",
        "producer": { "name": "IN", "class": "Integers", "params": { "first": 1, "last": 3 },
            "next_steps": "A" },
        "stagers": [ { "name": "A", "class": "Square", "nb_process": { "min": 1, "max": 2 },
            "queue_limit": "7", "queue_bytes": "2 MiB", "on_error": "skip", "retries": 2,
            "lost_retries": 0, "backoff": 1.5, "timeout": 60, "memory_limit": "1 GiB",
            "next_steps": ["OUT"] } ],
        "consumer": { "name": "OUT", "class": "Discard", "nb_thread": 2 } }"#;
    let plan = load(text, "p.json", &registry(), &[]).unwrap().plan;
    assert_eq!(plan.config_hash, "055885c79dfae52c");
    assert_eq!(plan.work_hash, "16f42ca590c47ef2");
    assert_eq!(plan.identity, "6cf78e09db37ce34");
    let step = plan.config["steps"][1].to_string();
    assert_eq!(
        step,
        r#"{"work":{"name":"A","class":"Square","params":{},"module":null,"routes":[["OUT",false]]},"#
            .to_owned()
            + r#""threads":[0,0],"processes":[1,2],"timeout":60.0,"memory_limit":1073741824,"grace":2.0,"#
            + r#""queue_limit":7,"queue_bytes":2097152,"on_error":"skip","retries":2,"#
            + r#""lost_retries":0,"backoff":1.5,"window":64,"window_bytes":67108864,"#
            + r#""priority":"normal","results":false}"#
    );
}

#[test]
fn documentation_has_every_key() {
    let pipeline = native::keys();
    let (step, around, flow) = (draft::keys(), ctapipe::keys(), ctapipe::flow_keys());
    let has_effect = |keys: Vec<&'static Key>| -> Vec<&'static Key> {
        keys.into_iter().filter(|key| !key.is(Tag::Ignored)).collect()
    };
    assert_documented("README.md", &[("a step", summary(&step))]);
    let tables = [
        ("the pipeline", reference(&pipeline)),
        ("a step", reference(&step)),
        ("ctapipe's top level", reference(&around)),
        ("ctapipe's Pipeline", reference(&has_effect(flow))),
    ];
    assert_documented("docs/CONFIGURATION.md", &tables);
}

/// A table for new users.
fn summary(keys: &[&'static Key]) -> String {
    let row =
        |key: &&'static Key| format!("| `{}` | {} | {} |\n", key.name, meaning(key), default(key));
    let rows: String = keys.iter().map(row).collect();
    format!("| key | meaning | default |\n| --- | --- | --- |\n{rows}")
}

/// A table with all details.
fn reference(keys: &[&'static Key]) -> String {
    let row = |key: &&'static Key| {
        let products = if key.is(Tag::Products) { "yes" } else { "no" };
        let expected = key.expected.replace('\\', "\\\\");
        format!(
            "| `{}` | {} | {expected} | {} | {products} |\n",
            key.name,
            meaning(key),
            default(key)
        )
    };
    let rows: String = keys.iter().map(row).collect();
    let head = "| key | meaning | value | default | products depend on it |";
    format!("{head}\n| --- | --- | --- | --- | --- |\n{rows}")
}

/// All paragraphs of a key's documentation.
fn meaning(key: &Key) -> String {
    let lines = key.doc.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

fn default(key: &Key) -> String {
    const MIB: u64 = 1 << 20;
    match key.default.map(|default| default()) {
        _ if key.is(Tag::Required) => "required".to_owned(),
        None => "none".to_owned(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(value) => match value.as_u64() {
            Some(bytes) if bytes >= MIB && bytes % MIB == 0 => format!("{} MiB", bytes / MIB),
            _ => value.to_string(),
        },
    }
}

/// The file has each table between the comments that name it. With `DRPIPE_BLESS=1` in the
/// environment, writes the tables instead.
#[track_caller]
fn assert_documented(file: &str, tables: &[(&str, String)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut wanted = text.clone();
    for (name, table) in tables {
        let start = format!("<!-- keys of {name} -->\n");
        let end = "<!-- end of keys -->";
        let (before, rest) = wanted.split_once(&start).unwrap_or_else(|| panic!("no {start}"));
        let (_, after) = rest.split_once(end).unwrap();
        wanted = format!("{before}{start}{table}{end}{after}");
    }
    if std::env::var_os("DRPIPE_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let is_same = std::fs::read_to_string(&path).unwrap() == wanted;
    assert!(is_same, "{file} is made from src/plan/options.rs: DRPIPE_BLESS=1 writes it anew");
}
