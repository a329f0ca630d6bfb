//! Every queue and every decision of a run, as a state machine without
//! sockets, clocks or threads: a driver feeds it inputs and carries out its
//! actions. The same router drives thread workers, the sequential mode and
//! the simulator of its tests.
//!
//! - `interface`: what goes in and what comes out
//! - `state`: where the run stands, and why it ends
//! - `step`, `worker`: what is known of each
//! - `queue`: what waits for a step, in a `line` for each priority
//! - `workers`: all of them, and by step in the order in which they are served
//! - `acknowledge`: what a producer is told of its items, and how many may be under way
//! - `bad_report`: why a worker that reports is taken for lost
//! - `caller`: the end of a run whose caller has gone
//! - `cancel`: items that their producer, or an operator, no longer wants
//! - `commit`: checks a report, takes it in, commits its outputs, gives messages to workers
//! - `deferred`: puts messages off whose stages say so, and gives up those that wait in vain
//! - `loss`: handles failed attempts and lost workers
//! - `ending`: how steps and runs end, by counting
//! - `pool`: workers that are added and let go
//! - `control`: what an operator changes while the run goes on
//! - `policy`: pure functions that answer what to do
//! - `observe`: the observers of the run

mod acknowledge;
mod bad_report;
mod caller;
mod cancel;
mod commit;
mod control;
mod deferred;
mod groups;
mod interface;
mod line;
mod loss;
mod observe;
mod policy;
mod pool;
mod queue;
#[cfg(test)]
mod simulator;
mod state;
mod step;
#[cfg(test)]
mod testing;
mod worker;
mod workers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::base::failure::Failure;
use crate::base::ids::{Slot, StepId, WorkerId};
use crate::event::{Event, Verdict};
use crate::plan::Plan;

pub(crate) use observe::items::{End, Record};
pub(crate) use observe::spans::{Ran, Span};

use acknowledge::Acknowledging;
use cancel::CancelledOrigins;
use deferred::Deferrals;
use groups::Groups;
use loss::{Attempted, Failures};
use observe::Observers;
use observe::ages::Ages;
use policy::scaling;
use state::{Alarm, Clock, Ending, RunState};
use step::{Phase, Step, Steps};
use worker::{Held, ProducerState, State, Worker};
use workers::Workers;

pub(crate) use interface::*;
pub use interface::{Cancelled, Refusal};

/// How much work a worker may have in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batching {
    /// As much as it does in a short time, by the running times so far.
    Adaptive,
    /// One message: the order of events does not depend on running times, if a
    /// driver does one thing after the other.
    Single,
    /// One message in the whole run: the order of events does not depend on
    /// running times.
    OneByOne,
}

/// How long the router waits before it acts by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) scaling: scaling::Delays,
    /// The wait before a worker that did no work is replaced for the second time; it
    /// doubles each further time.
    pub(crate) respawn_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let grow_after = Duration::from_millis(100);
        let scaling = scaling::Delays { grow_after, shrink_after: Duration::from_secs(5) };
        Self { scaling, respawn_after: Duration::from_millis(50) }
    }
}

/// What the driver has chosen for a run.
#[derive(Debug, Clone, Copy)]
struct Options {
    batching: Batching,
    timing: Timing,
}

/// See the module's documentation.
pub(crate) struct Router {
    options: Options,
    steps: Steps,
    workers: Workers,
    groups: Groups,
    failures: Failures,
    deferrals: Deferrals,
    state: RunState,
    ending: Ending,
    observers: Observers,
    ages: Ages,
    /// None unless the producer is told what became of its items, and still works.
    acknowledging: Option<Acknowledging>,
    cancelled_origins: CancelledOrigins,
    clock: Clock,
    actions: Vec<Action>,
}

impl Router {
    pub(crate) fn new(plan: &Plan, batching: Batching, timing: Timing) -> Self {
        let mut workers = Vec::new();
        let steps = plan.steps.iter().enumerate().map(|(index, step)| {
            let (first, index) = (workers.len(), StepId::at(index));
            workers.extend((0..step.workers()).map(|number| {
                let state = if step.is_initial(number) { State::Starting } else { State::Spare };
                let mut worker = Worker::new(index, number, state);
                if step.feed {
                    worker.producer = ProducerState::Feeding;
                }
                worker
            }));
            let slots = (first..workers.len()).map(Slot::at).collect();
            Step::new(step, slots)
        });
        let steps: Vec<Step> = steps.collect();
        let told = steps.iter().find(|step| step.plan.acknowledges);
        let acknowledging = told
            .and_then(|step| Some(Acknowledging::new(*step.workers.first()?, &step.plan.options)));
        let missing = workers.iter().filter(|w| w.state == State::Starting).count();
        Self {
            options: Options { batching, timing },
            steps: Steps::new(steps),
            workers: Workers::new(workers),
            groups: Groups::of(plan),
            failures: Failures::default(),
            deferrals: Deferrals::default(),
            state: RunState::Starting { missing },
            ending: Ending::new(),
            observers: Observers::new(plan),
            ages: Ages::default(),
            acknowledging,
            cancelled_origins: CancelledOrigins::default(),
            clock: Clock::default(),
            actions: Vec::new(),
        }
    }

    /// Takes one input in. What follows from it is decided by [`Router::poll`],
    /// so that a driver may hand in whatever has arrived first.
    pub(crate) fn handle(&mut self, input: Input, now: Duration) {
        self.clock.now = now;
        if self.is_over() || input.worker().is_some_and(|worker| !self.is_heard(worker)) {
            return;
        }
        match input {
            Input::Ready { worker } => self.ready(worker.slot, now),
            Input::InitFailed { worker, failure } => self.init_failed(worker.slot, failure),
            Input::Done { worker, completions, outputs } => {
                self.done(worker.slot, completions, outputs, now);
            }
            Input::Returned { worker, first, count } => {
                self.returned(worker.slot, first, count, now);
            }
            Input::Produced { worker, production, outputs } => {
                self.produced(worker.slot, production, outputs, now);
            }
            Input::Released { worker, bytes } => self.released(worker.slot, bytes, now),
            Input::Cancelled { worker, number, running } => {
                self.cancelled(worker.slot, number, running);
            }
            Input::Finished { worker, result, outputs } => {
                self.finished(worker.slot, result, outputs, now);
            }
            Input::Lost { worker, loss } => self.lost(worker.slot, loss, now),
            Input::Broken { worker, reason } => self.dismiss(worker.slot, reason, now),
            Input::Stop(Stop::Drain) => {
                self.ending.interrupt();
                self.drain(
                    "interrupted: the run takes no more input and finishes what it has taken",
                );
            }
            Input::Stop(Stop::Now) => self.stop_now(now),
            Input::Halt { reason } => self.halt(reason),
            Input::Abandon { reason } => self.abandon_now(reason, now),
        }
    }

    /// Decides what follows from the inputs since the last call.
    pub(crate) fn poll(&mut self, now: Duration) -> Vec<Action> {
        (self.clock.polled, self.clock.now) = (now, now);
        if !self.is_over() {
            while let Some(alarm) = self.clock.pop() {
                match alarm {
                    Alarm::Step(step) => self.steps.mark_dirty(step),
                    Alarm::Respawn(worker) => self.respawn(worker, now),
                    Alarm::Deferred => self.try_deferred(now),
                }
            }
            self.acknowledge();
            self.start();
        }
        if self.state == RunState::Running {
            self.retire();
            while self.acknowledge()
                || self.move_messages(now)
                || self.end_steps()
                || self.has_to_acknowledge()
                || self.end_waits(now)
            {}
            self.resize(now);
        }
        let spans = self.observers.take_spans();
        if !spans.is_empty() {
            self.actions.push(Action::Spans(spans));
        }
        std::mem::take(&mut self.actions)
    }

    /// Takes back the emptied list of actions, so that the next poll needs no new one.
    pub(crate) fn reuse(&mut self, actions: Vec<Action>) {
        if self.actions.is_empty() {
            self.actions = actions;
        }
    }

    /// Returns the number of workers that have messages in hand.
    pub(crate) fn at_work(&self) -> usize {
        self.workers.at_work()
    }

    /// Returns when to call [`Router::poll`] next, even if nothing has happened by then.
    pub(crate) fn next_wake(&self) -> Option<Duration> {
        let elastic = self.steps.elastic();
        let resizes = elastic.iter().filter_map(|step| self.next_resize(*step));
        // What was due at the last poll waits for a worker.
        let resizes = resizes.filter(|due| *due > self.clock.polled);
        resizes.chain(self.clock.next()).min()
    }

    /// Whether the run is over: nothing more is to be handed in.
    pub(crate) fn is_over(&self) -> bool {
        self.state == RunState::Over
    }

    /// How the run ended, or would if it ended now.
    pub(crate) fn verdict(&self) -> Verdict {
        let unbalanced = self.steps.iter().find(|step| self.is_over() && step.counts.open() != 0);
        if let Some(step) = unbalanced {
            let reason = format!(
                "internal error: the ledger of \"{}\" does not balance: {:?}",
                step.name, step.counts
            );
            return Verdict::Stopped(reason);
        }
        self.ending.verdict(self.steps.iter().any(|s| s.counts.failed + s.counts.dropped > 0))
    }

    /// The quarantine entries whose inputs were tried again.
    pub(crate) fn requeued(&self) -> &BTreeSet<String> {
        &self.failures.requeued
    }

    /// What failed in `finish`, in words.
    pub(crate) fn finish_failures(&self) -> &[String] {
        &self.ending.finish_failures
    }

    /// The step of a worker, and the worker's number within it.
    pub(crate) fn position(&self, worker: WorkerId) -> (StepId, usize) {
        let worker = &self.workers[worker.slot];
        (worker.step, worker.number)
    }

    /// The name of a worker's step.
    pub(crate) fn step_name(&self, worker: WorkerId) -> Arc<str> {
        Arc::clone(&self.steps[self.workers[worker.slot].step].name)
    }

    /// Whether the worker's stage is a producer.
    pub(crate) fn is_producer(&self, worker: WorkerId) -> bool {
        self.steps[self.workers[worker.slot].step].is_producer()
    }

    /// The workers to start at the beginning.
    pub(crate) fn initial_workers(&self) -> Vec<WorkerId> {
        let initial = |slot: &Slot| self.workers[*slot].state == State::Starting;
        self.workers.slots().filter(initial).map(|slot| self.workers.id(slot)).collect()
    }

    /// The number of places for workers.
    pub(crate) fn slot_count(&self) -> usize {
        self.workers.count()
    }

    /// Whether reports of this worker count: it was started, was not asked to stop, and is not
    /// lost. Reports of a predecessor in its slot never count.
    pub(crate) fn is_heard(&self, worker: WorkerId) -> bool {
        self.workers.get(worker.slot).is_some_and(|present| {
            present.epoch == worker.epoch
                && !matches!(present.state, State::Gone | State::Spare)
                && present.respawn_at.is_none()
        })
    }

    fn ready(&mut self, worker: Slot, now: Duration) {
        if !self.workers[worker].is_starting() {
            return;
        }
        self.workers[worker].state = State::Ready;
        self.workers[worker].since = now;
        self.workers.used(worker);
        self.state.worker_has_started();
        self.steps.mark_dirty(self.workers[worker].step);
        let phase = self.steps[self.workers[worker].step].phase;
        match phase {
            Phase::Running => {}
            // It was started anew and its step has begun to finish meanwhile.
            Phase::Finishing => self.finish_worker(worker),
            Phase::Finished => self.stop_worker(worker),
        }
    }

    fn init_failed(&mut self, worker: Slot, failure: Failure) {
        if !self.workers[worker].is_starting() {
            return;
        }
        let Worker { step, number, .. } = self.workers[worker];
        let name = Arc::clone(&self.steps[step].name);
        self.publish(Event::InitFailed {
            step: Arc::clone(&name),
            worker: number,
            failure: failure.clone(),
        });
        self.state.worker_has_started();
        self.stop_worker(worker);
        self.abandon(format!("init of \"{name}\" failed: {failure}"));
    }

    /// Whether another worker may be given something to do.
    fn may_begin(&self) -> bool {
        self.options.batching != Batching::OneByOne || !self.workers.iter().any(Worker::is_busy)
    }

    /// Lets work begin once every initial worker has reported, unless one failed.
    fn start(&mut self) {
        if self.state != (RunState::Starting { missing: 0 }) {
            return;
        }
        self.state = RunState::Running;
        if self.ending.is_abandoned() {
            self.stop_ready_workers();
        } else {
            self.publish(Event::Started);
        }
    }

    fn publish(&mut self, event: Event) {
        self.actions.push(Action::Publish(event));
    }
}
