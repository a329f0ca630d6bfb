//! How an attempt went wrong.

use serde::{Deserialize, Serialize};

/// How one attempt on a message went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Cause {
    /// The stage returned a failure.
    Failed,
    /// The stage panicked.
    Panicked,
    /// The worker died while it was at work on the message.
    Lost,
    /// The message took longer than the step's `timeout`; its worker was ended.
    #[serde(rename = "timed out")]
    TimedOut,
    /// The message was for a step that had already finished.
    Late,
    /// The producer has cancelled the item while a worker was at it; the worker was ended.
    Cancelled,
    /// The stage had deferred the message, and nothing was left that could bring what it waits for.
    #[serde(rename = "in vain")]
    InVain,
}
