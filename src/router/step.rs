//! The steps of a run as the router sees them.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::Duration;

use super::policy::retry;
use super::queue::Queue;
use crate::base::ids::{MessageId, Slot, StepId};
use crate::event::Counts;
use crate::event::times::Times;
use crate::message::ByPriority;
use crate::plan;
use crate::stage::registry::Kind;

/// Where one of a step's routes leads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) to: StepId,
    /// Whether the route closes a loop.
    pub(super) feedback: bool,
    /// Messages sent along it.
    pub(super) sent: u64,
}

/// The steps in the order of the plan.
pub(super) struct Steps {
    all: Vec<Step>,
    /// Steps whose queue or workers have changed since the last poll.
    dirty: Vec<StepId>,
    /// By step, whether it is among those.
    is_dirty: Vec<bool>,
    producers: Vec<StepId>,
    /// The steps whose number of workers follows their load.
    elastic: Arc<[StepId]>,
    /// Whether an operator has paused the whole run.
    pub(super) paused: bool,
    /// The number of the next message that a step emits.
    next_message: MessageId,
}

impl Steps {
    pub(super) fn new(all: Vec<Step>) -> Self {
        let dirty: Vec<StepId> = (0..all.len()).map(StepId::at).collect();
        let those = |is: fn(&Step) -> bool| {
            let marked = dirty.iter().zip(&all).filter(|(_, step)| is(step));
            marked.map(|(id, _)| *id).collect::<Vec<_>>()
        };
        Self {
            producers: those(Step::is_producer),
            elastic: those(|step| step.pool.min < step.pool.max).into(),
            is_dirty: vec![true; all.len()],
            dirty,
            all,
            paused: false,
            next_message: MessageId(1),
        }
    }

    /// Numbers `count` new messages; returns the first number.
    pub(super) fn number(&mut self, count: usize) -> MessageId {
        let first = self.next_message;
        self.next_message = first.plus(count);
        first
    }

    /// Whether the step begins nothing new.
    pub(super) fn is_paused(&self, step: StepId) -> bool {
        self.paused || self[step].paused
    }

    pub(super) fn mark_dirty(&mut self, step: StepId) {
        if !std::mem::replace(&mut self.is_dirty[step.index()], true) {
            self.dirty.push(step);
        }
    }

    pub(super) fn pop_dirty(&mut self) -> Option<StepId> {
        let step = self.dirty.pop()?;
        self.is_dirty[step.index()] = false;
        Some(step)
    }

    /// Marks the producers: there may be room for what they make.
    pub(super) fn mark_producers_dirty(&mut self) {
        for place in 0..self.producers.len() {
            self.mark_dirty(self.producers[place]);
        }
    }

    pub(super) fn producers(&self) -> &[StepId] {
        &self.producers
    }

    /// Sorts the marked steps, so that the last one is popped first.
    pub(super) fn sort_dirty(&mut self) {
        self.dirty.sort_unstable();
    }

    /// The steps whose number of workers follows their load.
    pub(super) fn elastic(&self) -> Arc<[StepId]> {
        Arc::clone(&self.elastic)
    }

    pub(super) fn ids(&self) -> impl DoubleEndedIterator<Item = StepId> + Clone + use<> {
        (0..self.all.len()).map(StepId::at)
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Step> {
        self.all.iter()
    }
}

impl Index<StepId> for Steps {
    type Output = Step;

    fn index(&self, step: StepId) -> &Step {
        &self.all[step.index()]
    }
}

impl IndexMut<StepId> for Steps {
    fn index_mut(&mut self, step: StepId) -> &mut Step {
        &mut self.all[step.index()]
    }
}

/// A step: what the plan says of it, its queue and its counts.
pub(super) struct Step {
    pub(super) name: Arc<str>,
    pub(super) plan: plan::Step,
    pub(super) routes: Vec<Route>,
    pub(super) workers: Vec<Slot>,
    pub(super) pool: Pool,
    /// Whether an operator has paused this step alone.
    pub(super) paused: bool,
    pub(super) queue: Queue,
    /// For each line of the queue, the workers whose next output waits for room in it, the longest
    /// waiting first.
    pub(super) waiting: ByPriority<VecDeque<Slot>>,
    pub(super) counts: Counts,
    /// Failed messages that an operator had tried again.
    pub(super) requeued: u64,
    pub(super) times: Times,
    pub(super) phase: Phase,
}

/// The size of a step's pool of workers.
pub(super) struct Pool {
    /// How many workers the step keeps when there is little to do.
    pub(super) min: usize,
    pub(super) max: usize,
    /// None until an operator sets the number of workers.
    target: Option<WorkerTarget>,
    /// Since when messages have waited although a worker could be added.
    pub(super) pressed_since: Option<Duration>,
    /// Workers lost one after the other without any work done in between.
    pub(super) consecutive_crashes: u32,
}

/// The workers of a step whose number an operator has set.
#[derive(Debug, Clone, Copy)]
struct WorkerTarget {
    /// The time that all of them together had before `since`.
    before: Duration,
    since: Duration,
    /// The number since then.
    now: usize,
    /// The largest number so far.
    most: usize,
}

impl WorkerTarget {
    /// The time that all of them together had by `now`.
    fn time(self, now: Duration) -> Duration {
        self.before + now.saturating_sub(self.since) * self.now as u32
    }
}

impl Pool {
    /// Fixes the number of workers.
    pub(super) fn set(&mut self, workers: usize, now: Duration) {
        let before = self.target.unwrap_or(WorkerTarget {
            before: Duration::ZERO,
            since: Duration::ZERO,
            now: self.max,
            most: self.max,
        });
        self.target = Some(WorkerTarget {
            before: before.time(now),
            since: now,
            now: workers,
            most: before.most.max(workers),
        });
        (self.min, self.max) = (workers, workers);
        self.pressed_since = None;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// `finish` is running on its workers.
    Finishing,
    Finished,
}

impl Step {
    pub(super) fn new(plan: &plan::Step, workers: Vec<Slot>) -> Self {
        let route = |route: &plan::Route| Route {
            to: StepId::at(route.to),
            feedback: route.feedback,
            sent: 0,
        };
        Self {
            name: plan.name.as_str().into(),
            routes: plan.routes.iter().map(route).collect(),
            workers,
            pool: Pool {
                min: plan.min_workers(),
                max: plan.workers(),
                target: None,
                pressed_since: None,
                consecutive_crashes: 0,
            },
            paused: false,
            queue: Queue::new(*plan.options.queue_limit, *plan.options.queue_bytes),
            waiting: ByPriority::default(),
            counts: Counts::default(),
            requeued: 0,
            times: Times::new(),
            phase: Phase::Running,
            plan: plan.clone(),
        }
    }

    pub(super) fn is_producer(&self) -> bool {
        self.plan.kind == Kind::Producer
    }

    /// How often the step repeats a failed attempt.
    pub(super) fn retries(&self) -> retry::Limits {
        let options = &self.plan.options;
        retry::Limits { retries: *options.retries, backoff: *options.backoff }
    }

    /// Returns the most workers that the step had, or could have had, at one time, and their total
    /// time by `now`.
    pub(super) fn workforce(&self, now: Duration) -> (usize, Duration) {
        match self.pool.target {
            Some(target) => (target.most, target.time(now)),
            None => (self.workers.len(), now * self.workers.len() as u32),
        }
    }
}
