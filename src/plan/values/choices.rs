//! Values out of a few alternatives.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::numbers::number;
use crate::base::nearest::nearest;
use crate::message::Priority;
use crate::plan::diagnostic::did_you_mean;
use crate::plan::keys::Form;

/// What happens to a message that failed and is not tried again.
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
    /// The message is kept nowhere: the producer, which asks what became of its items, is told.
    Tell,
}

/// The values of [`OnError`].
const POLICIES: [&str; 4] = ["stop", "skip", "quarantine", "tell"];

/// The values of [`Priority`].
const PRIORITIES: [&str; 2] = ["normal", "high"];

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

/// A policy about failures.
pub(crate) struct Policy;

impl Form for Policy {
    type Value = OnError;
    const EXPECTED: &'static str = "\"stop\", \"skip\", \"quarantine\" or \"tell\"";

    fn schema() -> Value {
        json!({"enum": POLICIES})
    }

    fn read(json: &Value) -> Option<OnError> {
        OnError::deserialize(json).ok()
    }

    fn hint(found: &Value) -> String {
        let near = found.as_str().and_then(|text| nearest(text, POLICIES));
        did_you_mean(near)
    }
}

/// How urgent messages are.
pub(crate) struct Urgency;

impl Form for Urgency {
    type Value = Priority;
    const EXPECTED: &'static str = "\"normal\" or \"high\"";

    fn schema() -> Value {
        json!({"enum": PRIORITIES})
    }

    fn read(json: &Value) -> Option<Priority> {
        Priority::deserialize(json).ok()
    }

    fn hint(found: &Value) -> String {
        let near = found.as_str().and_then(|text| nearest(text, PRIORITIES));
        did_you_mean(near)
    }
}
