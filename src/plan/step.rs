//! One step of a plan.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::options::StepOptions;
use crate::codec::CodecId;
use crate::stage::registry::{Build, Kind};

/// Messages below this time are so short that a worker in Python gets many at a time.
const VERY_SHORT: Duration = Duration::from_micros(50);

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// The index of the step that it leads to.
    pub to: usize,
    /// Whether it closes a loop: such an edge is exempt from the limit of the queue that it leads
    /// to, so that a full loop cannot deadlock.
    pub feedback: bool,
}

/// Where a class written in Python is found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Python {
    /// The interpreter.
    pub interpreter: PathBuf,
    /// The module that has the class.
    pub module: String,
    /// Directories where modules are looked for before all others.
    pub paths: Vec<PathBuf>,
    /// The whole configuration if the class takes it, otherwise null: `sections` of classes,
    /// the `rest` of the file, and the command line's `settings` of classes.
    pub configuration: Value,
}

/// One step of the plan.
#[derive(Clone)]
#[non_exhaustive]
pub struct Step {
    /// Its name, unique in the plan.
    pub name: String,
    /// The name of its class.
    pub class: String,
    /// The kind of its class.
    pub kind: Kind,
    /// How it runs. The numbers of workers are those that it really gets: a class that runs on
    /// one worker gets one, and a class in Python gets processes only.
    pub options: StepOptions,
    /// The edges to its next steps; the first is the default.
    pub routes: Vec<Route>,
    /// The parameters of its class; null where a program made the step.
    pub(crate) params: Value,
    /// Whether it emits in `finish` what it has accumulated from its messages.
    pub stateful: bool,
    /// Whether it is a producer that is told what became of its items.
    pub acknowledges: bool,
    /// Whether it is a producer that brings its items unasked: the program that runs the
    /// pipeline feeds it. Then it acknowledges too.
    pub(crate) feed: bool,
    /// Whether what it is sent begins with the time limit of that message alone: its senders are
    /// in this program, and its workers processes.
    pub(crate) limits_tasks: bool,
    /// Whether it can have only one worker.
    pub singleton: bool,
    /// Makes its instances.
    pub(crate) build: Build,
    /// The name of the type of its input; none for a producer.
    pub input: Option<&'static str>,
    /// The name of the type of what it emits; none if it emits nothing.
    pub(crate) output: Option<&'static str>,
    /// How its input is serialized.
    pub codec: CodecId,
    /// Whether steps in Python may send it any value that can be pickled.
    pub(crate) takes_objects: bool,
    /// Where its class is found if that is written in Python. Then all of its workers are
    /// processes.
    pub python: Option<Python>,
    /// Whether the caller, the program that has started the run, provides its workers.
    pub is_open: bool,
}

impl Step {
    /// The most workers, threads and processes together: 1 or more. Those in processes have
    /// the highest numbers.
    pub fn workers(&self) -> usize {
        self.options.nb_thread.max + self.processes()
    }

    /// The most workers in processes.
    pub fn processes(&self) -> usize {
        self.options.nb_process.max
    }

    /// The number of workers at the start, and while there is little to do.
    pub fn min_workers(&self) -> usize {
        self.options.nb_thread.min + self.options.nb_process.min
    }

    /// Whether its workers may be written in another language.
    pub(crate) fn is_foreign(&self) -> bool {
        self.python.is_some() || self.is_open
    }

    /// Whether the step must have its workers in processes: they are not workers of this program,
    /// or have a limit of time or memory.
    pub(crate) fn needs_processes(&self) -> bool {
        self.is_foreign() || self.options.timeout.is_some() || self.options.memory_limit.is_some()
    }

    /// Whether the worker of this number within the step is a process.
    pub(crate) fn is_process(&self, worker: usize) -> bool {
        self.processes() > 0 && worker >= self.options.nb_thread.max
    }

    /// Whether workers of the step run on threads.
    pub(crate) fn has_threads(&self) -> bool {
        !self.is_open && !self.is_process(0)
    }

    /// Whether the worker of this number is there from the start.
    pub(crate) fn is_initial(&self, worker: usize) -> bool {
        match worker.checked_sub(self.options.nb_thread.max) {
            Some(process) => process < self.options.nb_process.min,
            None => worker < self.options.nb_thread.min,
        }
    }

    /// The least work worth waking an idle worker for, if a message takes `mean`. A wake-up costs
    /// tens of microseconds; a worker in Python takes about 200 to receive a batch and report on it.
    pub(crate) fn worth_waking(&self, mean: Duration) -> Duration {
        match self.is_foreign() {
            true if mean < VERY_SHORT => Duration::from_millis(1),
            _ => Duration::from_micros(100),
        }
    }

    /// How much work a worker gets in advance, if a message takes `mean`: the time that these
    /// messages take together. A worker in Python, or of a caller, may be unable to give back what
    /// waits behind a long call, so it gets less, unless its messages are very short: a delivery
    /// costs it many times what it costs a worker in Rust.
    pub(crate) fn batch_ahead(&self, mean: Duration) -> Duration {
        match self.is_foreign() {
            false => Duration::from_millis(4),
            true if mean < VERY_SHORT => Duration::from_millis(3),
            true => Duration::from_micros(200),
        }
    }
}
