//! The contents of the first event of a run: which plan runs, where, and for whom.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::path_name::{as_text, as_text_if_any};
use crate::plan::OnError;
use crate::stage::registry::Kind;

/// What is known about a run when it begins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Opened {
    /// The version of the form of events: 1.
    pub format: u32,
    /// The version of drpipe.
    pub version: String,
    /// The name of the run.
    pub run: String,
    /// When it began: UTC, in the form of RFC 3339.
    pub started: String,
    /// The name of the machine.
    pub host: String,
    /// The process ID of the program.
    pub pid: u32,
    /// The pipeline's name: that in its configuration, else the name of that file without its
    /// extension, else that of the program that built the pipeline.
    #[serde(default)]
    pub pipeline: String,
    /// Whether the whole run processes one message at a time.
    #[serde(default)]
    pub sequential: bool,
    /// The directory that relative paths are relative to.
    #[serde(with = "as_text")]
    pub directory: PathBuf,
    /// The program's arguments; empty if the run is part of another program.
    #[serde(default)]
    pub command: Vec<String>,
    /// The configuration with the command line's settings; null if a program built the
    /// pipeline.
    #[serde(default)]
    pub config: serde_json::Value,
    /// The hash of the configuration.
    pub config_hash: String,
    /// Where failed inputs are kept.
    #[serde(with = "as_text")]
    pub quarantine: PathBuf,
    /// The journal, if the run keeps one.
    #[serde(default, with = "as_text_if_any")]
    pub journal: Option<PathBuf>,
    /// The names of the steps in the order of the plan.
    pub steps: Vec<Arc<str>>,
    /// The steps in the same order.
    pub plan: Vec<StepPlan>,
}

/// What is known about a step when a run begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Its class.
    pub class: String,
    /// Whether its class is a producer, a stage or a consumer.
    pub kind: Kind,
    /// The most workers that its configuration allows.
    pub workers: usize,
    /// The steps that it leads to, the default first.
    pub next_steps: Vec<NextStep>,
    /// The most messages that its queue holds; none if it is unbounded.
    pub queue_limit: Option<usize>,
    /// The most bytes that its queue holds; none if it is unbounded.
    pub queue_bytes: Option<u64>,
    /// What the step does with a message that failed.
    pub on_error: OnError,
    /// How often a failed message is tried again.
    pub retries: u32,
}

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NextStep {
    /// The name of the step that it leads to.
    pub name: Arc<str>,
    /// Whether it closes a loop.
    pub feedback: bool,
}
