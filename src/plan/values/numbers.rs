//! Numbers: workers, messages, bytes, seconds.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::plan::keys::Form;

/// The most workers of one step.
pub(crate) const STEP_WORKERS: usize = 1000;

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

/// A number of items.
pub(crate) struct Items;

impl Form for Items {
    type Value = usize;
    const EXPECTED: &'static str = "a whole number of items of 1 or more";

    fn schema() -> Value {
        json!({"type": "integer", "minimum": 1, "maximum": u32::MAX})
    }

    fn read(json: &Value) -> Option<usize> {
        number(json).map(|count| count as usize)
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

/// A number of bytes, for an optional key.
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
