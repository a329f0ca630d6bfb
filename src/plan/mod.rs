//! The checked graph of a run.

pub(crate) mod address;
pub(crate) mod assemble;
pub(crate) mod codecs;
pub(crate) mod diagnostic;
pub(crate) mod draw;
pub(crate) mod edges;
pub(crate) mod findings;
pub(crate) mod model;
pub(crate) mod paths;
pub(crate) mod spec;
pub(crate) mod types;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::message::Codec;
use crate::stage::registry::{Build, Kind};
pub use paths::StepPath;

/// What is done with a message that failed and is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
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

/// Where a class written in Python is found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Python {
    /// The interpreter.
    pub interpreter: PathBuf,
    /// The module that has the class.
    pub module: String,
    /// Directories that modules are looked for in before all others.
    pub paths: Vec<PathBuf>,
    /// The whole configuration where the class takes it, else null: `sections` of classes,
    /// the `rest` of the file, and the command line's `settings` of classes.
    pub configuration: Value,
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
    /// How many workers run it at most, threads and processes together: 1 or more.
    pub workers: usize,
    /// How many of them are processes: those with the highest numbers.
    pub processes: usize,
    /// How many threads there are from the start, and when there is little to do.
    pub min_threads: usize,
    /// As `min_threads`, of the processes.
    pub min_processes: usize,
    /// The longest time for one message; only where all workers are processes.
    pub timeout: Option<Duration>,
    /// The most memory of one worker, in bytes; only where all workers are processes.
    pub memory_limit: Option<u64>,
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
    /// How often a message whose worker process died is tried again, before `retries`
    /// count.
    pub lost_retries: u32,
    /// The wait before the first retry; doubled before each further one.
    pub backoff: Duration,
    /// The parameters of its class; null where a program made the step.
    pub(crate) params: Value,
    /// Whether it gives out in `finish` what it has kept of its messages.
    pub gathers: bool,
    /// Whether it can have one worker only.
    pub single: bool,
    /// What makes its instances.
    pub(crate) build: Build,
    /// The name of the type that it takes; none for a producer.
    pub input: Option<&'static str>,
    /// How what it takes is serialized.
    pub codec: Codec,
    /// Whether steps in Python may send it whatever pickle takes.
    pub(crate) takes_objects: bool,
    /// Where its class is found if that is written in Python: then all of its
    /// workers are processes.
    pub python: Option<Python>,
}

/// The checked graph: every route leads to a step, every step is reachable
/// from a producer, every loop is declared, the types of every edge agree.
#[derive(Clone)]
pub struct Plan {
    /// Producers first, then in topological order without the feedback edges.
    pub steps: Vec<Step>,
    /// What the configuration calls the pipeline.
    pub name: Option<String>,
    /// Whether the steps that end the pipeline get their messages in order.
    pub ordered: bool,
    /// Whether the configuration asks for one step after the other.
    pub sequential: bool,
    /// Where failed inputs are kept.
    pub quarantine: PathBuf,
    /// Where the run is to be shown, if the configuration says so.
    pub monitor: Option<String>,
    /// The configuration with the command line's settings; null if a program made it.
    pub config: Value,
    /// A hash of the configuration with the command line's settings, in hexadecimal.
    pub config_hash: String,
    /// What is the same in every run of this pipeline: a hash of its name, or else its
    /// file's, and of its producers' classes.
    pub identity: String,
    /// Where its steps look for files, as far as their classes declare it.
    pub reads: Vec<StepPath>,
    /// Where they write files.
    pub writes: Vec<StepPath>,
    /// A hash of that part of it which the products depend on: the steps with
    /// their classes, parameters and routes, not how they are run. Parameters are
    /// known only where there is a configuration.
    pub work_hash: String,
}

impl Step {
    /// Whether only a process can do the step's work: in Python, or within limits.
    fn needs_processes(&self) -> bool {
        self.python.is_some() || self.timeout.is_some() || self.memory_limit.is_some()
    }

    /// Whether the worker of this number within the step is a process.
    pub fn is_process(&self, worker: usize) -> bool {
        self.processes > 0 && worker >= self.workers - self.processes
    }

    /// Whether the worker of this number is there from the start.
    pub fn is_initial(&self, worker: usize) -> bool {
        let threads = self.workers - self.processes;
        match worker.checked_sub(threads) {
            Some(process) => process < self.min_processes,
            None => worker < self.min_threads,
        }
    }
}

impl Plan {
    /// Whether any step has workers in processes.
    pub fn has_processes(&self) -> bool {
        self.steps.iter().any(|step| step.processes > 0)
    }

    /// Whether any step can do its work in a process only.
    pub(crate) fn needs_processes(&self) -> bool {
        self.steps.iter().any(Step::needs_processes)
    }

    /// Leaves each step one worker, in a process only where it has to be.
    pub(crate) fn give_each_one_worker(&mut self) {
        for step in &mut self.steps {
            let processes = usize::from(step.needs_processes());
            step.workers = 1;
            step.processes = processes;
            step.min_processes = processes;
            step.min_threads = 1 - processes;
        }
    }

    /// Whether what step `index` emits may go to a worker in a process.
    pub fn leads_to_processes(&self, index: usize) -> bool {
        self.steps[index].routes.iter().any(|route| self.steps[route.to].processes > 0)
    }

    /// Of each step, which ones can be reached from it.
    pub(crate) fn reach(&self) -> Vec<Vec<bool>> {
        let from = |start: usize| {
            let mut seen = vec![false; self.steps.len()];
            let mut stack = vec![start];
            while let Some(step) = stack.pop() {
                for route in &self.steps[step].routes {
                    if !std::mem::replace(&mut seen[route.to], true) {
                        stack.push(route.to);
                    }
                }
            }
            seen
        };
        (0..self.steps.len()).map(from).collect()
    }

    /// The index of the step of this name.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name == name)
    }

    /// How what each next step takes is serialized, the default's first.
    pub fn next_codecs(&self, index: usize) -> Vec<Codec> {
        self.steps[index].routes.iter().map(|route| self.steps[route.to].codec).collect()
    }

    /// The names of the steps that step `index` leads to, the default first.
    pub fn next_steps(&self, index: usize) -> Vec<String> {
        self.steps[index].routes.iter().map(|route| self.steps[route.to].name.clone()).collect()
    }
}
