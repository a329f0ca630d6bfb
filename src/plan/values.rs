//! The forms that values of keys have: what is allowed, and what it becomes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::address::{self, Address};
use super::diagnostic::did_you_mean;
use super::keys::Form;
use crate::base::home;
use crate::base::nearest::nearest;
use crate::base::path_name::{name_of_path, path_of_name};

/// The longest name of a step, in characters: it becomes part of file names.
const NAME_LENGTH: usize = 64;
/// The most workers of one step.
pub(crate) const STEP_WORKERS: usize = 1000;

/// What is done with a message that failed and is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The run is stopped; its exit code is 3.
    Stop,
    /// The message is dropped, with a line in the log.
    Skip,
    /// The message is kept in quarantine, with the reason.
    #[default]
    Quarantine,
}

/// The number of workers of one kind that a step has: as many as it needs, within limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerRange {
    /// The number at the start, and while there is little to do.
    pub min: usize,
    /// The number that is never exceeded.
    pub max: usize,
}

impl WorkerRange {
    /// A fixed number of workers.
    pub const fn exactly(count: usize) -> Self {
        Self { min: count, max: count }
    }
}

impl Serialize for WorkerRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self { min, max } if min == max => max.serialize(serializer),
            Self { min, max } => json!({"min": min, "max": max}).serialize(serializer),
        }
    }
}

/// Any text.
pub(crate) struct Text;

impl Form for Text {
    type Value = String;
    const EXPECTED: &'static str = "a text in double quotes";

    fn schema() -> Value {
        json!({"type": "string"})
    }

    fn read(json: &Value) -> Option<String> {
        json.as_str().map(str::to_owned)
    }
}

/// A text; an empty one says nothing.
pub(crate) struct Title;

impl Form for Title {
    type Value = Option<String>;
    const EXPECTED: &'static str = Text::EXPECTED;

    fn schema() -> Value {
        Text::schema()
    }

    fn read(json: &Value) -> Option<Option<String>> {
        Text::read(json).map(|text| Some(text).filter(|text| !text.is_empty()))
    }
}

/// The version of the format.
pub(crate) struct Version;

impl Form for Version {
    type Value = u64;
    const EXPECTED: &'static str = "1, the only version there is";

    fn schema() -> Value {
        json!({"const": 1})
    }

    fn read(json: &Value) -> Option<u64> {
        number(json)
    }
}

/// Yes or no.
pub(crate) struct Flag;

impl Form for Flag {
    type Value = bool;
    const EXPECTED: &'static str = "true or false";

    fn schema() -> Value {
        json!({"type": "boolean"})
    }

    fn read(json: &Value) -> Option<bool> {
        json.as_bool()
    }
}

/// One directory; `~` is the home directory.
pub(crate) struct Directory;

impl Form for Directory {
    type Value = PathBuf;
    const EXPECTED: &'static str = "the name of a directory";

    fn schema() -> Value {
        json!({"type": "string", "minLength": 1})
    }

    fn read(json: &Value) -> Option<PathBuf> {
        json.as_str().map(|path| home::expand(Path::new(path)))
    }

    fn write(value: &PathBuf) -> Value {
        json!(value.to_string_lossy())
    }
}

/// One directory, or a list of them.
pub(crate) struct Directories;

impl Form for Directories {
    type Value = Vec<PathBuf>;
    const EXPECTED: &'static str = "a directory, or a list of directories";

    fn schema() -> Value {
        texts()
    }

    fn read(json: &Value) -> Option<Vec<PathBuf>> {
        let items = match json {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        Some(items.iter().filter_map(Value::as_str).map(path_of_name).collect())
    }

    fn write(value: &Vec<PathBuf>) -> Value {
        value.iter().map(name_of_path).collect()
    }
}

/// A Python interpreter.
pub(crate) struct Interpreter;

impl Form for Interpreter {
    type Value = String;
    const EXPECTED: &'static str =
        "a Python interpreter: a name on PATH, a file, or the directory of a virtual environment";

    fn schema() -> Value {
        json!({"type": "string", "minLength": 1})
    }

    fn read(json: &Value) -> Option<String> {
        Text::read(json)
    }
}

/// The address of a dashboard.
pub(crate) struct DashboardAddress;

impl Form for DashboardAddress {
    type Value = Option<String>;
    const EXPECTED: &'static str = address::EXPECTED;

    fn schema() -> Value {
        json!({"type": "string", "minLength": 1})
    }

    fn read(json: &Value) -> Option<Option<String>> {
        let text = json.as_str().filter(|text| text.parse::<Address>().is_ok())?;
        Some(Some(text.to_owned()))
    }
}

/// Where the published schema describes a step.
const STEP: &str = "#/$defs/step";

/// Declares forms of values that are read elsewhere, member by member.
macro_rules! parts {
    ($(
        $(#[$about:meta])+
        $Form:ident: $type:literal, $expected:literal $(, published as $published:tt)?;
    )+) => {$(
        $(#[$about])+
        pub(crate) struct $Form;

        impl Form for $Form {
            type Value = ();
            const EXPECTED: &'static str = $expected;

            fn schema() -> Value {
                json!({"type": $type})
            }

            $(fn published() -> Value {
                json!($published)
            })?

            fn read(_: &Value) -> Option<()> {
                Some(())
            }
        }
    )+};
}

parts! {
    /// The step that makes the messages.
    FirstStep: "object", "an object, the first step", published as {"$ref": STEP};
    /// The steps between.
    StepList: "array", "a list of objects, one per step",
        published as {"type": "array", "items": {"$ref": STEP}};
    /// The step at the end.
    LastStep: "object", "an object, the last step", published as {"$ref": STEP};
    /// An object around the steps.
    Steps: "object", "an object with the steps";
    /// The parameters of a class.
    Parameters: "object", "an object";
}

/// What [`wrong_name`] finds nothing wrong with.
const NAME: &str =
    r"^[^.,=/\\\s\x00-\x1f\x7f-\x9f]([^.,=/\\\x00-\x1f\x7f-\x9f]*[^.,=/\\\s\x00-\x1f\x7f-\x9f])?$";

/// Says what is wrong with a step's name, if anything. The characters that are forbidden
/// have a meaning elsewhere: `,` between next steps, `.` and `=` in settings, `/` and `\` in
/// the names of files.
pub(crate) fn wrong_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a step's name must not be empty".to_owned());
    }
    if name.trim() != name {
        return Some("a step's name must not begin or end with a blank".to_owned());
    }
    if name.chars().count() > NAME_LENGTH {
        return Some(format!("a step's name must not be longer than {NAME_LENGTH} characters"));
    }
    let forbidden = |c: &char| c.is_control() || matches!(c, '.' | ',' | '=' | '/' | '\\');
    name.chars().find(forbidden).map(|c| format!("a step's name must not contain {c:?}"))
}

/// The name of a step.
pub(crate) struct StepName;

impl Form for StepName {
    type Value = String;
    const EXPECTED: &'static str = "a name without . , = / \\";

    fn schema() -> Value {
        json!({"type": "string", "pattern": NAME, "maxLength": NAME_LENGTH})
    }

    fn read(json: &Value) -> Option<String> {
        Text::read(json)
    }

    fn hint(found: &Value) -> String {
        found.as_str().and_then(wrong_name).unwrap_or_default()
    }
}

/// The names of other steps.
pub(crate) struct StepNames;

impl Form for StepNames {
    type Value = Vec<String>;
    const EXPECTED: &'static str = "the names of steps, as a list or with commas between them";

    fn schema() -> Value {
        texts()
    }

    /// Leaves out blanks around names, and empty names.
    fn read(json: &Value) -> Option<Vec<String>> {
        let texts: Vec<&str> = match json {
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        };
        let names = texts.into_iter().flat_map(|text| text.split(',')).map(str::trim);
        Some(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }
}

fn texts() -> Value {
    json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
}

/// A number of workers, or its limits.
pub(crate) struct Workers;

impl Form for Workers {
    type Value = WorkerRange;
    const EXPECTED: &'static str =
        "a whole number of workers from 0 to 1000, or {\"min\": 1, \"max\": 4}";

    fn schema() -> Value {
        let digits = "^0{0,9}([0-9]{1,3}|1000)$";
        let limit = json!({"type": "integer", "minimum": 1, "maximum": STEP_WORKERS});
        json!({"anyOf": [
            {"type": "integer", "minimum": 0, "maximum": STEP_WORKERS},
            {"type": "string", "pattern": digits},
            {"type": "object", "properties": {"min": limit, "max": limit},
             "required": ["min", "max"], "additionalProperties": false},
        ]})
    }

    fn read(json: &Value) -> Option<WorkerRange> {
        let limit = |key: &str| number(&json[key]).map(|limit| limit as usize);
        match json {
            Value::Object(_) => Some(WorkerRange { min: limit("min")?, max: limit("max")? }),
            _ => number(json).map(|count| WorkerRange::exactly(count as usize)),
        }
    }
}

/// A number of messages; `None` is no limit.
pub(crate) struct MessageLimit;

impl Form for MessageLimit {
    type Value = Option<usize>;
    const EXPECTED: &'static str = "a whole number of messages of 1 or more, or -1 for no limit";

    fn schema() -> Value {
        json!({"anyOf": [
            {"type": "integer", "minimum": 1, "maximum": u32::MAX},
            {"const": -1},
            {"type": "string", "pattern": "^(-1|0{0,9}[1-9][0-9]{0,8})$"},
        ]})
    }

    fn read(json: &Value) -> Option<Option<usize>> {
        Some(number(json).map(|limit| limit as usize))
    }
}

/// A number of bytes; `None` is no limit.
pub(crate) struct ByteLimit;

impl Form for ByteLimit {
    type Value = Option<u64>;
    const EXPECTED: &'static str =
        "a number of bytes such as 1048576 or \"256 MiB\", or -1 for no limit";

    fn schema() -> Value {
        json!({"anyOf": [
            {"type": "integer", "minimum": 1},
            {"const": -1},
            {"type": "string", "pattern": "^(-1|0{0,9}[1-9][0-9]{0,18} *([kKMGT]i?B|B)?)$"},
        ]})
    }

    fn read(json: &Value) -> Option<Option<u64>> {
        match json {
            Value::String(text) if text.trim() == "-1" => Some(None),
            Value::String(text) => bytes(text).map(Some),
            number if number.as_f64() == Some(-1.0) => Some(None),
            other => Some(number(other)),
        }
    }
}

/// A number of bytes, where there need be none.
pub(crate) struct Bytes;

impl Form for Bytes {
    type Value = Option<u64>;
    const EXPECTED: &'static str = "a number of bytes such as 1073741824 or \"1 GiB\"";

    fn schema() -> Value {
        json!({"anyOf": [
            {"type": "integer", "minimum": 1},
            {"type": "string", "pattern": "^0{0,9}[1-9][0-9]{0,18} *([kKMGT]i?B|B)?$"},
        ]})
    }

    fn read(json: &Value) -> Option<Option<u64>> {
        ByteLimit::read(json)
    }
}

/// A policy about failures.
pub(crate) struct Policy;

impl Form for Policy {
    type Value = OnError;
    const EXPECTED: &'static str = "\"stop\", \"skip\" or \"quarantine\"";

    fn schema() -> Value {
        json!({"enum": ["stop", "skip", "quarantine"]})
    }

    fn read(json: &Value) -> Option<OnError> {
        OnError::deserialize(json).ok()
    }

    fn hint(found: &Value) -> String {
        let near = found.as_str().and_then(|text| nearest(text, ["stop", "skip", "quarantine"]));
        did_you_mean(near)
    }
}

/// A number of repetitions.
pub(crate) struct Retries;

impl Form for Retries {
    type Value = u32;
    const EXPECTED: &'static str = "a whole number from 0 to 1000";

    fn schema() -> Value {
        json!({"type": "integer", "minimum": 0, "maximum": 1000})
    }

    fn read(json: &Value) -> Option<u32> {
        number(json).map(|count| count as u32)
    }
}

/// A wait in seconds.
pub(crate) struct Wait;

impl Form for Wait {
    type Value = Duration;
    const EXPECTED: &'static str = "a number of seconds from 0 to 86400";

    fn schema() -> Value {
        json!({"type": "number", "minimum": 0, "maximum": 86400})
    }

    fn read(json: &Value) -> Option<Duration> {
        Duration::try_from_secs_f64(json.as_f64()?).ok()
    }

    fn write(value: &Duration) -> Value {
        json!(value.as_secs_f64())
    }
}

/// A limit in seconds; `None` is no limit.
pub(crate) struct TimeLimit;

impl Form for TimeLimit {
    type Value = Option<Duration>;
    const EXPECTED: &'static str = "a number of seconds above 0, at most a year";

    fn schema() -> Value {
        json!({"type": "number", "exclusiveMinimum": 0, "maximum": 31_536_000})
    }

    fn read(json: &Value) -> Option<Option<Duration>> {
        Wait::read(json).map(Some)
    }

    fn write(value: &Option<Duration>) -> Value {
        json!(value.map(|time| time.as_secs_f64()))
    }
}

/// Reads a whole number, or the digits of one; `None` for a negative number.
pub(crate) fn number(json: &Value) -> Option<u64> {
    match json {
        Value::String(digits) => digits.trim().parse().ok(),
        // 2.0 is a whole number to JSON Schema.
        _ => json.as_u64().or_else(|| json.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64)),
    }
}

/// Reads a number of bytes with a unit.
fn bytes(text: &str) -> Option<u64> {
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
    count.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::keys::read;

    #[test]
    fn names_are_those_that_have_nothing_wrong() {
        let names = ["", "A", "A B", "\u{e9}t\u{e9} 1", " A", "A ", "A.B", "A,B", "A=B", "A/B"];
        for name in names.into_iter().chain(["A\\B", "A\nB", "A\u{7f}", "\u{85}A", "A\u{a0}"]) {
            let is_good = wrong_name(name).is_none();
            assert_eq!(read::<StepName>(&json!(name)).is_some(), is_good, "{name:?}");
        }
    }

    #[test]
    fn workers_are_0_to_1000_or_their_digits() {
        for good in [json!(0), json!(1), json!(1000), json!("2"), json!("1000"), json!(2.0)] {
            assert!(read::<Workers>(&good).is_some(), "{good}");
        }
        let bad = [json!(1001), json!("1001"), json!(-1), json!(1.5)];
        for bad in bad.into_iter().chain([json!("two"), json!(null), json!([2]), json!("")]) {
            assert!(read::<Workers>(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn limits_are_positive_or_minus_1() {
        for good in [json!(1), json!(-1), json!("10"), json!("-1")] {
            assert!(read::<MessageLimit>(&good).is_some(), "{good}");
            assert!(read::<ByteLimit>(&good).is_some(), "{good}");
        }
        for bad in [json!(0), json!(-2), json!("-0"), json!(""), json!(true), json!("ten")] {
            assert!(read::<MessageLimit>(&bad).is_none(), "{bad}");
            assert!(read::<ByteLimit>(&bad).is_none(), "{bad}");
        }
        assert!(read::<MessageLimit>(&json!(0.5)).is_none());
        assert!(read::<ByteLimit>(&json!("9999999999999999999 TiB")).is_none());
        assert!(read::<ByteLimit>(&json!("1 QiB")).is_none());
    }

    #[test]
    fn bytes_have_units() {
        for (text, count) in
            [("1", 1), ("5 B", 5), ("2kB", 2000), ("256 MiB", 268_435_456), ("1 GiB", 1 << 30)]
        {
            assert_eq!(read::<ByteLimit>(&json!(text)), Some(Some(count)), "{text}");
        }
        assert_eq!(read::<ByteLimit>(&json!(-1)), Some(None));
    }
}
