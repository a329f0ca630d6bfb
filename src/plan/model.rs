//! The keys that a configuration may have: one table for each kind of object.
//! The check of the file and its published JSON Schema are both made from them.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::spec::{NAME_LENGTH, QUEUE_BYTES, QUEUE_LIMIT, WORKERS, Workers};
use super::{OnError, address};
use crate::base::path_name::path_of_name;

/// A key, what it is for and what values it takes.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// What it is for, in the published schema.
    pub(crate) about: &'static str,
    /// What its value must be, after "expected".
    pub(crate) expected: &'static str,
    pub(crate) shape: Shape,
}

/// What the value of a key is.
pub(crate) enum Shape {
    /// A value that this schema describes.
    Value(fn() -> Value),
    /// An object with the keys of a step.
    Step,
    /// A list of such objects.
    Steps,
}

impl Key {
    /// The schema of the value by itself.
    pub(crate) fn schema(&self) -> Value {
        match self.shape {
            Shape::Value(schema) => schema(),
            Shape::Step => json!({"type": "object"}),
            Shape::Steps => json!({"type": "array"}),
        }
    }

    /// Whether the key takes this value.
    pub(crate) fn takes(&self, value: &Value) -> bool {
        // The first model has it; the spelling says whether it is allowed.
        if self.name == "queue_limit" && is_zero(value) {
            return true;
        }
        let valid = jsonschema::validator_for(&self.schema()).is_ok_and(|v| v.is_valid(value));
        // What a schema cannot say: 2^64 bytes and more have no number here, and what is
        // an address.
        valid
            && match self.name {
                "queue_bytes" | "memory_limit" => bytes(value).is_some(),
                "monitor" | "gui_address" => value.as_str().is_some_and(is_address),
                _ => true,
            }
    }
}

/// Whether a limit is 0, or the digit.
pub(crate) fn is_zero(value: &Value) -> bool {
    number(value) == Some(0) && !value.as_f64().is_some_and(|number| number > 0.0)
}

fn is_address(text: &str) -> bool {
    text.parse::<address::Address>().is_ok()
}

/// The key of this name.
pub(crate) fn find(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name == name)
}

const fn key(name: &'static str, shape: Shape, expected: &'static str, about: &'static str) -> Key {
    Key { name, about, expected, shape }
}

const fn text(name: &'static str, about: &'static str) -> Key {
    key(name, Shape::Value(|| json!({"type": "string"})), "a text in double quotes", about)
}

const SCHEMA: Key = text("$schema", "Where an editor finds this schema; drpipe does not look.");

const VERSION: Key = key(
    "version",
    Shape::Value(|| json!({"const": 1})),
    "1, the only version there is",
    "The version of this format.",
);

const QUARANTINE: Key = key(
    "quarantine",
    Shape::Value(|| json!({"type": "string", "minLength": 1, "default": "quarantine"})),
    "the name of a directory",
    "Where failed inputs are kept; relative to the current directory.",
);

const ORDERED: Key = key(
    "ordered",
    Shape::Value(|| json!({"type": "boolean", "default": false})),
    "true or false",
    "Whether the steps at the end get their messages in the order of the producer's.",
);

const PYTHON: Key = key(
    "python",
    Shape::Value(|| json!({"type": "string", "minLength": 1})),
    "a Python interpreter: a name on PATH, a file, or the directory of a virtual environment",
    "The interpreter of steps in Python; without it the active virtual environment's, or python3.",
);

const PYTHONPATH: Key = key(
    "pythonpath",
    Shape::Value(names),
    "a directory, or a list of directories",
    "Where Python modules are looked for before all other places; relative to the current \
     directory, which comes after these, before the configuration's own directory.",
);

const MONITOR: Key = key(
    "monitor",
    Shape::Value(address),
    address::EXPECTED,
    "Where the run is shown to browsers while it lasts, such as localhost:5565.",
);

fn address() -> Value {
    json!({"type": "string", "minLength": 1})
}

/// The top level of a file in drpipe's own spelling.
pub(crate) const NATIVE: &[Key] = &[
    SCHEMA,
    VERSION,
    text("name", "The name of the pipeline."),
    text("description", "What the pipeline is for."),
    key("producer", Shape::Step, "an object, the first step", "The step that makes the messages."),
    key(
        "stagers",
        Shape::Steps,
        "a list of objects, one per step",
        "The steps between producer and consumer.",
    ),
    key("consumer", Shape::Step, "an object, the last step", "The step at the end."),
    ORDERED,
    QUARANTINE,
    PYTHON,
    PYTHONPATH,
    MONITOR,
];

/// The top level of a file in ctapipe's spelling.
pub(crate) const CTAPIPE: &[Key] = &[
    SCHEMA,
    VERSION,
    text("name", "The name of the pipeline."),
    text("description", "What the pipeline is for."),
    QUARANTINE,
    PYTHON,
    PYTHONPATH,
    key("Pipeline", Shape::Value(object), "an object with the steps", "The steps."),
    key("Flow", Shape::Value(object), "an object with the steps", "As \"Pipeline\"."),
];

fn object() -> Value {
    json!({"type": "object"})
}

/// The object around the steps in ctapipe's spelling: first the keys that
/// drpipe reads, then those that mean nothing to it.
pub(crate) const FLOW: &[Key] = &[
    key("producer_conf", Shape::Step, "an object, the first step", "The first step."),
    key("stagers_conf", Shape::Steps, "a list of objects, one per step", "The steps between."),
    key("consumer_conf", Shape::Step, "an object, the last step", "The step at the end."),
    ORDERED,
    QUARANTINE,
    PYTHON,
    PYTHONPATH,
    key(
        "mode",
        Shape::Value(|| json!({"enum": ["sequential", "multithread", "multiprocess"]})),
        "\"sequential\", \"multithread\" or \"multiprocess\"",
        "How the steps run: one after the other if sequential. Steps in Python run in processes \
         in every mode.",
    ),
    key(
        "gui",
        Shape::Value(|| json!({"type": "boolean", "default": false})),
        "true or false",
        "Whether the run is shown to browsers while it lasts.",
    ),
    key(
        "gui_address",
        Shape::Value(address),
        address::EXPECTED,
        "Where it is shown if gui is true; localhost:5565 if nothing else is said.",
    ),
    ignored("log_level"),
    ignored("log_format"),
    ignored("log_datefmt"),
    ignored("log_file"),
    ignored("log_config"),
    ignored("quiet"),
    ignored("ports"),
    ignored("zmq_ports"),
];

const fn ignored(name: &'static str) -> Key {
    key(name, Shape::Value(|| json!(true)), "anything", "Has no effect.")
}

/// Whether a key of the Pipeline object has no effect.
pub(crate) fn has_no_effect(key: &Key) -> bool {
    key.about == "Has no effect."
}

/// What [`wrong_name`](super::spec::wrong_name) finds nothing wrong with.
const NAME: &str =
    r"^[^.,=/\\\s\x00-\x1f\x7f-\x9f]([^.,=/\\\x00-\x1f\x7f-\x9f]*[^.,=/\\\s\x00-\x1f\x7f-\x9f])?$";

/// A step.
pub(crate) const STEP: &[Key] = &[
    key(
        "name",
        Shape::Value(|| json!({"type": "string", "pattern": NAME, "maxLength": NAME_LENGTH})),
        "a name without . , = / \\",
        "The name of the step, unique in the file.",
    ),
    text("class", "The class that does the step's work."),
    text("module", "The Python module that has the class; none, or \"drpipe\", for drpipe's own."),
    PYTHON,
    PYTHONPATH,
    key(
        "params",
        Shape::Value(object),
        "an object",
        "The parameters of the class; they win over the section named after the class.",
    ),
    key(
        "next_steps",
        Shape::Value(names),
        "the names of steps, as a list or with commas between them",
        "Where the step's output goes, the default first. If no step says it, the order of \
         the file is the chain.",
    ),
    key(
        "feedback",
        Shape::Value(names),
        "the names of steps, as a list or with commas between them",
        "Those of next_steps that close a loop.",
    ),
    key(
        "nb_thread",
        Shape::Value(|| workers_schema(1)),
        EXPECTED_WORKERS,
        "The number of workers on threads; 1 if there are no processes either.",
    ),
    key(
        "nb_process",
        Shape::Value(|| workers_schema(0)),
        EXPECTED_WORKERS,
        "The number of workers in processes of their own, beside the threads.",
    ),
    key(
        "queue_limit",
        Shape::Value(|| {
            json!({"default": QUEUE_LIMIT, "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": u32::MAX},
                {"const": -1},
                {"type": "string", "pattern": "^(-1|0{0,9}[1-9][0-9]{0,8})$"},
            ]})
        }),
        "a whole number of messages of 1 or more, or -1 for no limit",
        "The most messages that wait for the step.",
    ),
    key(
        "queue_bytes",
        Shape::Value(|| {
            json!({"default": QUEUE_BYTES, "anyOf": [
                {"type": "integer", "minimum": 1},
                {"const": -1},
                {"type": "string", "pattern": "^(-1|0{0,9}[1-9][0-9]{0,18} *([kKMGT]i?B|B)?)$"},
            ]})
        }),
        "a number of bytes such as 1048576 or \"256 MiB\", or -1 for no limit",
        "The most bytes that wait for the step.",
    ),
    key(
        "on_error",
        Shape::Value(
            || json!({"enum": ["stop", "skip", "quarantine"], "default": OnError::default()}),
        ),
        "\"stop\", \"skip\" or \"quarantine\"",
        "What is done with a message that failed.",
    ),
    key(
        "retries",
        Shape::Value(|| json!({"type": "integer", "minimum": 0, "maximum": 1000, "default": 0})),
        "a whole number from 0 to 1000",
        "How often a failed message is tried again.",
    ),
    key(
        "lost_retries",
        Shape::Value(|| json!({"type": "integer", "minimum": 0, "maximum": 1000, "default": 1})),
        "a whole number from 0 to 1000",
        "How often a message whose worker died is tried again, before `retries` count.",
    ),
    key(
        "backoff",
        Shape::Value(|| json!({"type": "number", "minimum": 0, "maximum": 86400, "default": 0.1})),
        "a number of seconds from 0 to 86400",
        "The wait before the first retry, in seconds; doubled before each further one.",
    ),
    key(
        "timeout",
        Shape::Value(|| json!({"type": "number", "exclusiveMinimum": 0, "maximum": 31_536_000})),
        "a number of seconds above 0, at most a year",
        "The longest time for one message, in seconds; then its worker is ended, and the \
         attempt has failed. Only where all workers are processes.",
    ),
    key(
        "memory_limit",
        Shape::Value(|| {
            json!({"anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": "^0{0,9}[1-9][0-9]{0,18} *([kKMGT]i?B|B)?$"},
            ]})
        }),
        "a number of bytes such as 1073741824 or \"1 GiB\"",
        "The most memory that one worker may have for itself; then it is ended, and the \
         attempt has failed. Only where all workers are processes.",
    ),
];

const EXPECTED_WORKERS: &str =
    "a whole number of workers from 0 to 1000, or {\"min\": 1, \"max\": 4}";

fn workers_schema(default: usize) -> Value {
    let digits = "^0{0,9}([0-9]{1,3}|1000)$";
    let limit = json!({"type": "integer", "minimum": 1, "maximum": WORKERS});
    json!({"default": default, "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": WORKERS},
        {"type": "string", "pattern": digits},
        {"type": "object", "properties": {"min": limit, "max": limit},
         "required": ["min", "max"], "additionalProperties": false},
    ]})
}

fn names() -> Value {
    json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
}

/// The names of a list, or of a text with commas; blanks around them and empty ones are
/// left out.
pub(crate) fn names_in(value: &Value) -> Vec<String> {
    let texts: Vec<&str> = match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let names = texts.into_iter().flat_map(|text| text.split(',')).map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// One directory, or a list of them.
pub(crate) fn directories(value: &Value) -> Vec<PathBuf> {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    items.iter().filter_map(Value::as_str).map(path_of_name).collect()
}

/// A whole number, or the digits of one; none for -1.
pub(crate) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::String(digits) => digits.trim().parse().ok(),
        // 2.0 is a whole number to JSON Schema.
        _ => value.as_u64().or_else(|| value.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64)),
    }
}

/// A number of workers, or its limits.
pub(crate) fn workers(value: &Value) -> Option<Workers> {
    let limit = |key: &str| number(&value[key]).map(|limit| limit as usize);
    match value {
        Value::Object(_) => Some(Workers { min: limit("min")?, max: limit("max")? }),
        _ => number(value).map(|count| Workers::exactly(count as usize)),
    }
}

/// A number of bytes; the inner value is none for no limit.
pub(crate) fn bytes(value: &Value) -> Option<Option<u64>> {
    let Value::String(text) = value else {
        let unbounded = value.as_f64() == Some(-1.0);
        return Some(if unbounded { None } else { number(value) });
    };
    if text.trim() == "-1" {
        return Some(None);
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: u64 = text[..end].parse().ok()?;
    let unit: u64 = match text[end..].trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "kiB" | "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    count.checked_mul(unit).map(Some)
}

/// A wait in seconds.
pub(crate) fn seconds(value: &Value) -> Option<Duration> {
    Duration::try_from_secs_f64(value.as_f64()?).ok()
}

/// One of the policies.
pub(crate) fn on_error(value: &Value) -> Option<OnError> {
    match value.as_str()? {
        "stop" => Some(OnError::Stop),
        "skip" => Some(OnError::Skip),
        "quarantine" => Some(OnError::Quarantine),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(name: &str, value: Value) -> bool {
        find(STEP, name).unwrap().takes(&value)
    }

    #[test]
    fn every_schema_compiles() {
        for key in NATIVE.iter().chain(CTAPIPE).chain(FLOW).chain(STEP) {
            assert!(jsonschema::validator_for(&key.schema()).is_ok(), "{}", key.name);
            assert!(!key.about.is_empty() && !key.expected.is_empty());
        }
    }

    #[test]
    fn names_are_those_that_have_nothing_wrong() {
        let names = ["", "A", "A B", "\u{e9}t\u{e9} 1", " A", "A ", "A.B", "A,B", "A=B", "A/B"];
        for name in names.into_iter().chain(["A\\B", "A\nB", "A\u{7f}", "\u{85}A", "A\u{a0}"]) {
            let good = crate::plan::spec::wrong_name(name).is_none();
            assert_eq!(takes("name", json!(name)), good, "{name:?}");
        }
    }

    #[test]
    fn workers_are_0_to_1000_or_their_digits() {
        for good in [json!(0), json!(1), json!(1000), json!("2"), json!("1000"), json!(2.0)] {
            assert!(takes("nb_thread", good.clone()), "{good}");
        }
        let bad = [json!(1001), json!("1001"), json!(-1), json!(1.5)];
        for bad in bad.into_iter().chain([json!("two"), json!(null), json!([2]), json!("")]) {
            assert!(!takes("nb_thread", bad.clone()), "{bad}");
        }
    }

    #[test]
    fn limits_are_positive_or_minus_1() {
        for name in ["queue_limit", "queue_bytes"] {
            for good in [json!(1), json!(-1), json!("10"), json!("-1")] {
                assert!(takes(name, good.clone()), "{name} {good}");
            }
            for bad in [json!(-2), json!("-0"), json!(""), json!(true), json!("ten")] {
                assert!(!takes(name, bad.clone()), "{name} {bad}");
            }
        }
        assert!(!takes("queue_bytes", json!(0)) && !takes("queue_limit", json!(0.5)));
        assert!(!takes("queue_bytes", json!("9999999999999999999 TiB")));
        assert!(!takes("queue_bytes", json!("1 QiB")));
    }

    #[test]
    fn bytes_have_units() {
        for (text, count) in
            [("1", 1), ("5 B", 5), ("2kB", 2000), ("256 MiB", 268_435_456), ("1 GiB", 1 << 30)]
        {
            assert!(takes("queue_bytes", json!(text)), "{text}");
            assert_eq!(bytes(&json!(text)), Some(Some(count)));
        }
        assert_eq!(bytes(&json!(-1)), Some(None));
    }
}
