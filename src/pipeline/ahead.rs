//! Interpreters that were started before the run, to be asked about classes, and that become
//! workers of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::scratch;
use crate::plan::{Plan, Python, Step};
use crate::python::Ready;
use crate::worker::supervisor::Origin;

/// The interpreters of one configuration, before its run.
pub(super) struct Ahead {
    /// The name of the run's private directory, which they have in their environment.
    private: PathBuf,
    pub(super) ready: Vec<Ready>,
}

impl Ahead {
    pub(super) fn new() -> Self {
        Self { private: scratch::new_name(), ready: Vec::new() }
    }

    pub(super) fn private(&self) -> &Path {
        &self.private
    }

    /// The interpreters that the run of a plan in this private directory can use.
    pub(super) fn into_interpreters(self, private: Option<&Path>, plan: &Plan) -> Interpreters {
        let ready = if private == Some(self.private()) { self.ready } else { Vec::new() };
        let of = |ready: Ready| Interpreter { missing: workers_of(&ready, plan), ready };
        Interpreters(ready.into_iter().map(of).collect())
    }
}

/// The number of workers that a run begins with and that the interpreter can be.
fn workers_of(ready: &Ready, plan: &Plan) -> usize {
    let suits = |step: &&Step| step.python.as_ref().is_some_and(|python| ready.suits(python));
    plan.steps.iter().filter(suits).map(|step| step.options.nb_process.min).sum()
}

/// The interpreters that have not yet become workers.
pub(crate) struct Interpreters(Vec<Interpreter>);

struct Interpreter {
    ready: Ready,
    /// The number of workers that have not been started.
    missing: usize,
}

impl Interpreters {
    /// Where a worker comes from. An interpreter becomes the last of the workers that the run begins
    /// with; the others of these are forked from it. All others start afresh, unless the interpreter
    /// is a fork of the program that drives the run.
    pub(crate) fn origin(&mut self, python: &Python, is_initial: bool) -> Origin {
        let Some(place) = self.0.iter().position(|one| one.ready.suits(python)) else {
            return Origin::New;
        };
        let found = &mut self.0[place];
        if found.ready.is_drivers_fork {
            return Origin::ForkOf(Arc::clone(&found.ready.process));
        }
        if !is_initial {
            return Origin::New;
        }
        found.missing = found.missing.saturating_sub(1);
        let process = Arc::clone(&found.ready.process);
        let is_last = found.missing == 0;
        if is_last {
            self.0.swap_remove(place);
        }
        match process.is_up_to_date() {
            true if is_last => Origin::Is(process),
            true => Origin::ForkOf(process),
            false => Origin::New,
        }
    }
}
