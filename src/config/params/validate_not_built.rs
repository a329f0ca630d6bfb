//! The check of parameters in a build that reads no configurations.

use serde_json::Value;

use super::fault::Fault;
use crate::base::not_built::NotBuilt;

/// Refuses all parameters: unchecked, a misspelt one would have no effect.
pub(crate) fn faults(_: &Value, _: &Value) -> Vec<Fault> {
    let message = NotBuilt { feature: "config" }.to_string();
    vec![Fault { message, ..Fault::at(Vec::new()) }]
}
