//! The checked graph of a run.

use std::path::PathBuf;
use std::time::Duration;

use crate::registry::{Build, Kind};

/// What is done with a message that failed and is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
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

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The index of the step that it leads to.
    pub to: usize,
    /// Whether it closes a loop: such an edge is exempt from the limit of the
    /// queue that it leads to, so that a full loop cannot stand still.
    pub feedback: bool,
}

/// One step of the plan.
#[derive(Clone)]
pub struct Step {
    /// Its name, unique in the plan.
    pub name: String,
    /// The name of its class.
    pub class: String,
    /// What its class is.
    pub kind: Kind,
    /// How many workers run it: 1 or more.
    pub workers: usize,
    /// The most messages that its queue holds; none is unbounded.
    pub queue_limit: Option<usize>,
    /// The most bytes that its queue holds (a larger message passes alone);
    /// none is unbounded.
    pub queue_bytes: Option<u64>,
    /// Where what it emits goes; the first is the default.
    pub routes: Vec<Route>,
    /// What is done with a message that failed.
    pub on_error: OnError,
    /// How often a failed message is tried again.
    pub retries: u32,
    /// The wait before the first retry; doubled before each further one.
    pub backoff: Duration,
    /// What makes its instances.
    pub(crate) build: Build,
}

/// The checked graph: every route leads to a step, every step is reachable
/// from a producer, every loop is declared, the types of every edge agree.
#[derive(Clone)]
pub struct Plan {
    /// Producers first, then in topological order without the feedback edges.
    pub steps: Vec<Step>,
    /// Where failed inputs are kept.
    pub quarantine: PathBuf,
    /// A hash of the configuration with the command line's settings, in hexadecimal.
    pub config_hash: String,
}

impl Plan {
    /// The index of the step of this name.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name == name)
    }

    /// The names of the steps that step `index` leads to, the default first.
    pub fn next_steps(&self, index: usize) -> Vec<String> {
        self.steps[index].routes.iter().map(|route| self.steps[route.to].name.clone()).collect()
    }
}
