//! The checked graph of a run.

mod acknowledged;
pub(crate) mod address;
pub(crate) mod assemble;
pub(crate) mod codecs;
pub(crate) mod diagnostic;
pub(crate) mod draw;
pub(crate) mod edges;
pub(crate) mod findings;
pub(crate) mod hash;
pub(crate) mod keys;
pub(crate) mod options;
pub(crate) mod paths;
pub(crate) mod span;
pub(crate) mod spec;
pub(crate) mod step;
pub(crate) mod types;
pub(crate) mod values;

use serde_json::Value;

use crate::codec::CodecId;
pub use keys::Set;
pub use options::{PipelineOptions, StepOptions};
pub(crate) use paths::StepPath;
pub use step::{Python, Route, Step};
pub use values::{OnError, WorkerRange};

/// A checked graph. Every route leads to a step, every step is reachable from a producer, every
/// loop is declared, and the types of every edge agree.
#[derive(Clone)]
#[non_exhaustive]
pub struct Plan {
    /// The steps: producers first, then the others in topological order without the feedback
    /// edges.
    pub steps: Vec<Step>,
    /// The options of the pipeline as a whole.
    pub options: PipelineOptions,
    /// Whether the configuration asks for the sequential mode.
    pub sequential: bool,
    /// The configuration with the command line's settings; null if a program made it.
    pub config: Value,
    /// A hash of the configuration with the command line's settings, in hexadecimal.
    pub config_hash: String,
    /// The identity of this pipeline in all of its runs: a hash of its name, or else of its file's
    /// name, and of its producers' classes.
    pub(crate) identity: String,
    /// Where its steps read files, as far as their classes declare it.
    pub(crate) reads: Vec<StepPath>,
    /// Where its steps write files, as far as their classes declare it.
    pub(crate) writes: Vec<StepPath>,
    /// A hash of the part that products depend on: the steps with their classes, parameters,
    /// and routes, but not how they run. Parameters are known only if there is a configuration.
    pub work_hash: String,
}

impl Plan {
    /// Whether any step has workers in processes.
    pub fn has_processes(&self) -> bool {
        self.steps.iter().any(|step| step.processes() > 0)
    }

    /// Whether any step has workers that the caller provides.
    pub fn is_open(&self) -> bool {
        self.steps.iter().any(|step| step.is_open)
    }

    /// Whether any step must have its workers in processes.
    pub(crate) fn needs_processes(&self) -> bool {
        self.steps.iter().any(Step::needs_processes)
    }

    /// The step that the program feeds, if it does.
    pub(crate) fn feed(&self) -> Option<usize> {
        self.steps.iter().position(|step| step.feed)
    }

    /// Makes the feed a part of this program: its worker is no process of a caller.
    pub(crate) fn feed_here(&mut self, feed: usize) {
        let step = &mut self.steps[feed];
        step.is_open = false;
        step.options.nb_process.value = WorkerRange::exactly(0);
        step.options.nb_thread.value = WorkerRange::exactly(1);
    }

    /// Gives each step one worker, in a process only if the step needs one.
    pub(crate) fn give_each_one_worker(&mut self) {
        for step in &mut self.steps {
            let processes = usize::from(step.needs_processes());
            step.options.nb_process.value = WorkerRange::exactly(processes);
            step.options.nb_thread.value = WorkerRange::exactly(1 - processes);
        }
    }

    /// Whether the outputs of step `index` may go to a worker in a process.
    pub(crate) fn leads_to_processes(&self, index: usize) -> bool {
        self.steps[index].routes.iter().any(|route| self.steps[route.to].processes() > 0)
    }

    /// Whether what step `index` emits begins with a time limit.
    pub(crate) fn limits_tasks(&self, index: usize) -> bool {
        self.steps[index].routes.iter().any(|route| self.steps[route.to].limits_tasks)
    }

    /// For each step, the steps that can be reached from it.
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

    /// The codecs of the next steps' inputs, the default's first.
    pub(crate) fn next_codecs(&self, index: usize) -> Vec<CodecId> {
        self.steps[index].routes.iter().map(|route| self.steps[route.to].codec).collect()
    }

    /// The codec of what the step hands back to the producer, if it does.
    pub(crate) fn results_codec(&self, index: usize) -> Option<CodecId> {
        let producer = self.results_go_to().filter(|_| *self.steps[index].options.results)?;
        Some(producer.codec)
    }

    /// The producer that is told what became of its items, if it asks for that.
    pub(crate) fn results_go_to(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.acknowledges)
    }

    /// The names of the steps that step `index` leads to, the default first.
    pub fn next_steps(&self, index: usize) -> Vec<String> {
        self.steps[index].routes.iter().map(|route| self.steps[route.to].name.clone()).collect()
    }
}
