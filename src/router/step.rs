//! The steps of a run as the router sees them.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::Duration;

use super::queue::Queue;
use super::steer::WorkerTarget;
use crate::base::ids::{Slot, StepId};
use crate::event::Counts;
use crate::event::times::Times;
use crate::plan::OnError;

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
    pub(super) in_python: bool,
    pub(super) routes: Vec<Route>,
    pub(super) on_error: OnError,
    pub(super) retries: u32,
    pub(super) lost_retries: u32,
    pub(super) backoff: Duration,
    pub(super) workers: Vec<Slot>,
    /// How many of them there are when there is little to do, and at most.
    pub(super) least: usize,
    pub(super) most: usize,
    /// Once somebody has set the number of its workers.
    pub(super) staff: Option<WorkerTarget>,
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
    pub(super) lost_in_vain: u32,
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
