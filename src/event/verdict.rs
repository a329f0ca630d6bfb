//! How a run ended, and the exit code that follows.

use serde::{Deserialize, Serialize};

/// The part of their time that the workers of a bottleneck are busy at least: below half of
/// it, waiting takes more of the run than the step does.
pub(crate) const BUSY_ENOUGH: f64 = 0.5;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "reason")]
#[non_exhaustive]
pub enum Verdict {
    /// Every input was processed.
    Done,
    /// The run reached its end, but some inputs failed.
    SomeFailed,
    /// A failure under the policy `stop`, of the producer, of an `init`, of the
    /// journal, or of drpipe itself ended the run.
    Stopped(String),
    /// A signal ended the run.
    Interrupted,
}

impl Verdict {
    /// Its name, as in the summary.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::SomeFailed => "some_failed",
            Self::Stopped(_) => "stopped",
            Self::Interrupted => "interrupted",
        }
    }

    /// 0 all done; 1 some inputs failed; 3 stopped by policy or by an error;
    /// 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Done => 0,
            Self::SomeFailed => 1,
            Self::Stopped(_) => 3,
            Self::Interrupted => 130,
        }
    }
}
