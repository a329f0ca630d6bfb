//! The checked graph of a run.

pub(crate) mod address;
pub(crate) mod assemble;
pub(crate) mod codecs;
pub(crate) mod diagnostic;
pub(crate) mod draw;
pub(crate) mod edges;
pub(crate) mod findings;
pub(crate) mod hash;
pub(crate) mod keys;
pub(crate) mod model;
pub(crate) mod paths;
pub(crate) mod span;
pub(crate) mod spec;
pub(crate) mod step;
pub(crate) mod types;
pub(crate) mod values;

use serde_json::Value;

use crate::message::Codec;
pub use keys::Set;
pub use model::{PipelineOptions, StepOptions};
pub use paths::StepPath;
pub use step::{Python, Route, Step};
pub use values::{OnError, WorkerRange};

/// The checked graph: every route leads to a step, every step is reachable
/// from a producer, every loop is declared, the types of every edge agree.
#[derive(Clone)]
pub struct Plan {
    /// Producers first, then in topological order without the feedback edges.
    pub steps: Vec<Step>,
    /// The options of the pipeline as a whole.
    pub options: PipelineOptions,
    /// Whether the configuration asks for one step after the other.
    pub sequential: bool,
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

impl Plan {
    /// Whether any step has workers in processes.
    pub fn has_processes(&self) -> bool {
        self.steps.iter().any(|step| step.processes() > 0)
    }

    /// Whether any step can do its work in a process only.
    pub(crate) fn needs_processes(&self) -> bool {
        self.steps.iter().any(Step::needs_processes)
    }

    /// Leaves each step one worker, in a process only where it has to be.
    pub(crate) fn give_each_one_worker(&mut self) {
        for step in &mut self.steps {
            let processes = usize::from(step.needs_processes());
            step.options.nb_process.value = WorkerRange::exactly(processes);
            step.options.nb_thread.value = WorkerRange::exactly(1 - processes);
        }
    }

    /// Whether what step `index` emits may go to a worker in a process.
    pub fn leads_to_processes(&self, index: usize) -> bool {
        self.steps[index].routes.iter().any(|route| self.steps[route.to].processes() > 0)
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
