//! How a run ended, and the exit code that follows.

use serde::{Deserialize, Serialize};

use super::exit_code;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "reason")]
#[non_exhaustive]
pub enum Verdict {
    /// Every input was processed.
    Done,
    /// The run reached its end, but some inputs failed.
    SomeFailed,
    /// A failure ended the run: under the policy `stop`, of the producer, of an `init`, of the
    /// journal, or of drpipe itself.
    Stopped(String),
    /// A signal ended the run.
    Interrupted,
}

impl Verdict {
    /// The verdict's name in the summary.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::SomeFailed => "some_failed",
            Self::Stopped(_) => "stopped",
            Self::Interrupted => "interrupted",
        }
    }

    /// The exit code: 0 if all is done, 1 if some inputs failed, 3 if a policy or an error
    /// stopped the run, 130 if a signal interrupted it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Done => exit_code::DONE,
            Self::SomeFailed => exit_code::SOME_FAILED,
            Self::Stopped(_) => exit_code::STOPPED,
            Self::Interrupted => exit_code::INTERRUPTED,
        }
    }
}
