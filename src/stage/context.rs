//! The place of a worker in a run.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::failure::{Failure, Result};
use crate::base::nearest::nearest;
use crate::codec::CodecId;
use crate::message::Priority;

/// The place of a worker in a run: its step, its number, the names of the next steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    pub(crate) run: String,
    pub(crate) step: String,
    pub(crate) worker: usize,
    pub(crate) next_steps: Vec<String>,
    /// The codec of what it takes.
    pub(crate) codec: CodecId,
    /// The codec of what each next step takes.
    pub(crate) next_codecs: Vec<CodecId>,
    /// The codec of what it hands back to the producer, if it does.
    #[serde(default)]
    pub(crate) results: Option<CodecId>,
    /// Whether what it takes begins with the time limit of that message alone.
    #[serde(default)]
    pub(crate) limits_tasks: bool,
    /// The priority of what it emits without an input.
    #[serde(default)]
    pub(crate) priority: Priority,
    /// The run's private directory, if it has worker processes.
    pub(crate) private: Option<PathBuf>,
    /// The pipeline's identity: see [`Self::pipeline`].
    pub(crate) pipeline: String,
    /// The directories that the pipeline's steps write files to.
    pub(crate) written: Vec<PathBuf>,
}

impl Context {
    /// The name of the run, unique on this machine.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// The name of the step in the configuration.
    pub fn step(&self) -> &str {
        &self.step
    }

    /// The number of this worker within its step, from 0.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The names of the next steps; the first is the default. Empty at the end.
    pub fn next_steps(&self) -> &[String] {
        &self.next_steps
    }

    /// Checks that the value `name` of a parameter is the name of a next step.
    ///
    /// # Errors
    /// A permanent failure that contains the parameter, its value and the nearest name.
    pub fn expect_next_step(&self, parameter: &str, name: &str) -> Result<()> {
        if self.next_steps.iter().any(|step| step == name) {
            return Ok(());
        }
        let message = format!("{parameter:?} says {}", unknown_next_step(self, name));
        Err(Failure::permanent(message))
    }

    /// The place of a step that is only checked.
    pub(crate) fn planned(step: &str, next_steps: Vec<String>) -> Self {
        Self {
            run: String::new(),
            step: step.to_owned(),
            worker: 0,
            next_codecs: vec![CodecId::Bincode; next_steps.len()],
            next_steps,
            codec: CodecId::Bincode,
            results: None,
            limits_tasks: false,
            priority: Priority::Normal,
            private: None,
            pipeline: String::new(),
            written: Vec::new(),
        }
    }

    /// The pipeline's identity, the same in all its runs whatever the parameters: a hash of
    /// its name (or else its file's) and its producers' classes.
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// The directories that the pipeline's steps write files to, as far as their classes
    /// declare it: with `#[schemars(extend("writes" = "directory"))]` on a parameter, or
    /// `"file"`.
    pub fn written_directories(&self) -> &[PathBuf] {
        &self.written
    }

    /// A directory that the workers of this run share, if some of them are processes. It is
    /// removed at the end of the run.
    pub fn private_directory(&self) -> Option<&Path> {
        self.private.as_deref()
    }
}

pub(super) fn unknown_next_step(context: &Context, step: &str) -> String {
    let names = context.next_steps.join(", ");
    let hint = match nearest(step, context.next_steps.iter().map(String::as_str)) {
        Some(name) => format!("; did you mean \"{name}\"?"),
        None => format!("; add it to the next_steps of \"{}\" in the configuration", context.step),
    };
    let known = if names.is_empty() { "it has none".into() } else { format!("they are {names}") };
    format!("\"{step}\" is not among the next steps of \"{}\": {known}{hint}", context.step)
}
