//! The steps of a run as the router sees them.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::Duration;

use super::control::WorkerTarget;
use super::policy::retry;
use super::queue::Queue;
use crate::base::ids::{Slot, StepId};
use crate::event::Counts;
use crate::event::times::Times;
use crate::plan::{self, OnError};
use crate::stage::registry::Kind;

/// Where one of a step's routes leads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) to: StepId,
    /// Whether the route closes a loop.
    pub(super) feedback: bool,
}

/// The steps in the order of the plan.
pub(super) struct Steps(pub(super) Vec<Step>);

impl Steps {
    pub(super) fn ids(&self) -> impl DoubleEndedIterator<Item = StepId> + Clone + use<> {
        (0..self.0.len()).map(StepId::at)
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Step> {
        self.0.iter()
    }
}

impl Index<StepId> for Steps {
    type Output = Step;

    fn index(&self, step: StepId) -> &Step {
        &self.0[step.index()]
    }
}

impl IndexMut<StepId> for Steps {
    fn index_mut(&mut self, step: StepId) -> &mut Step {
        &mut self.0[step.index()]
    }
}

/// A step: its options, its queue and its counts.
pub(super) struct Step {
    pub(super) name: Arc<str>,
    pub(super) group: usize,
    pub(super) is_producer: bool,
    pub(super) batch_ahead: Duration,
    pub(super) routes: Vec<Route>,
    pub(super) on_error: OnError,
    pub(super) retries: retry::Limits,
    pub(super) lost_retries: u32,
    pub(super) workers: Vec<Slot>,
    /// How many of them there are when there is little to do, and at most.
    pub(super) min_workers: usize,
    pub(super) max_workers: usize,
    /// Once somebody has set the number of its workers.
    pub(super) target: Option<WorkerTarget>,
    /// Whether its class allows one worker only.
    pub(super) single: bool,
    /// Whether it is paused by itself.
    pub(super) paused: bool,
    /// Messages sent along each of its routes.
    pub(super) sent: Vec<u64>,
    pub(super) queue: Queue,
    /// Workers whose next output waits for room in this queue, the longest
    /// waiting first.
    pub(super) waiting: VecDeque<Slot>,
    pub(super) counts: Counts,
    /// Failed messages that were taken up again.
    pub(super) requeued: u64,
    pub(super) times: Times,
    pub(super) phase: Phase,
    /// Workers lost one after the other without any work having been done.
    pub(super) consecutive_crashes: u32,
    /// Whether its workers keep something of their messages for their `finish`.
    pub(super) gathers: bool,
    /// Since when messages have waited though a worker could be added.
    pub(super) pressed_since: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// `finish` is running on its workers.
    Finishing,
    Finished,
}

impl Step {
    /// A step of the plan, in its group, with its workers.
    pub(super) fn new(step: &plan::Step, group: usize, workers: Vec<Slot>) -> Self {
        let route =
            |route: &plan::Route| Route { to: StepId::at(route.to), feedback: route.feedback };
        let options = &step.options;
        Self {
            name: step.name.as_str().into(),
            group,
            is_producer: step.kind == Kind::Producer,
            batch_ahead: step.batch_ahead(),
            routes: step.routes.iter().map(route).collect(),
            on_error: *options.on_error,
            retries: retry::Limits { retries: *options.retries, backoff: *options.backoff },
            lost_retries: *options.lost_retries,
            workers,
            min_workers: step.min_workers(),
            max_workers: step.workers(),
            target: None,
            single: step.single,
            paused: false,
            sent: vec![0; step.routes.len()],
            queue: Queue::new(*options.queue_limit, *options.queue_bytes),
            waiting: VecDeque::new(),
            counts: Counts::default(),
            requeued: 0,
            times: Times::new(),
            phase: Phase::Running,
            consecutive_crashes: 0,
            gathers: step.gathers,
            pressed_since: None,
        }
    }
}
