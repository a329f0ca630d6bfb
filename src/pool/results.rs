//! The results of a pool in the order in which its tasks end.

use std::marker::PhantomData;
use std::sync::Arc;

use super::TaskError;
use super::task::Submitted;
use crate::pipeline::Intake;
use crate::stage::data::Data;

/// A task that has ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Finished<Out> {
    /// The name of the task, if it has one.
    pub name: Option<Arc<str>>,
    /// What its function has returned, or why there is no result.
    pub result: Result<Out, TaskError>,
}

/// The tasks of a pool in the order in which they end, each of them once.
///
/// The iterator waits for the next task that ends. It is over when the pool takes no more and all
/// tasks have ended. A task whose result was not read keeps its place among those that may be
/// submitted, and results of many bytes hold the workers up: a program that submits and reads on
/// one thread submits with [`Pool::try_submit`](super::Pool::try_submit), or no more tasks at a
/// time than the pool takes. Dropping this lets go of what was not read.
pub struct Results<Out> {
    intake: Arc<Intake<Submitted>>,
    marker: PhantomData<fn() -> Out>,
}

impl<Out> Results<Out> {
    pub(super) fn new(intake: Arc<Intake<Submitted>>) -> Self {
        Self { intake, marker: PhantomData }
    }
}

impl<Out: Data> Iterator for Results<Out> {
    type Item = Finished<Out>;

    fn next(&mut self) -> Option<Finished<Out>> {
        let task = self.intake.read()?;
        let result = task.result().unwrap_or(Err(TaskError::Dropped));
        Some(Finished { name: task.name.clone(), result })
    }
}

impl<Out> Drop for Results<Out> {
    fn drop(&mut self) {
        self.intake.read_no_more();
    }
}
