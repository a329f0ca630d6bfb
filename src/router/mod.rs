//! Every queue and every decision of a run, as a state machine without
//! sockets, clocks or threads: a driver feeds it inputs and carries out its
//! actions. The same router drives thread workers, the sequential mode and
//! the simulator of its tests.
//!
//! - `queue`: the bounded queue of a step
//! - `flow`: how messages move: commitment, backpressure, dispatch, grants
//! - `failure`: what becomes of failed attempts
//! - `ending`: how steps and runs end, by counting

mod ending;
mod failure;
mod flow;
mod queue;
#[cfg(test)]
mod simulator;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::config::plan::{OnError, Plan, Route};
use crate::error::{Failure, Result};
use crate::event::{Cause, Event, Snapshot, StepStatus};
use crate::ledger::{Counts, Times};
use crate::message::{Origin, Payload};
use crate::parcel::{Output, Parcel};
use crate::stage::Next;

use ending::Groups;
use queue::Queue;

/// What a driver tells the router.
#[derive(Debug)]
pub(crate) enum Input {
    /// The worker has built and initialised its stage.
    Ready { worker: usize },
    /// The worker could not.
    InitFailed { worker: usize, failure: Failure },
    /// The worker has processed the oldest messages that it had in hand, in
    /// order; `outputs` holds what those that are done emitted, in order.
    Done { worker: usize, completions: Vec<Completion>, outputs: Vec<Output> },
    /// The producer has used its grant.
    Produced { worker: usize, production: Production, outputs: Vec<Output> },
    /// The worker has finished, and emitted `outputs` in doing so.
    Finished { worker: usize, result: Result<()>, outputs: Vec<Output> },
    /// The worker has died.
    Lost { worker: usize, reason: String },
    /// The worker does not keep to the protocol.
    Broken { worker: usize, reason: String },
    /// The run shall end before its inputs do.
    Stop(Stop),
}

/// What became of successive messages in a worker's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completion {
    /// The first message's number.
    pub(crate) first: u64,
    /// How many messages; one unless they are done.
    pub(crate) count: u32,
    /// How the attempts ended.
    pub(crate) outcome: Outcome,
    /// How many of the messages emitted nothing.
    pub(crate) silent: u32,
    /// The running time of the stage, summed.
    pub(crate) busy: Duration,
}

/// How one attempt on a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Failed(Failure),
    Panicked(Failure),
}

/// What a producer has to say after a grant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Production {
    /// What the last call returned.
    pub(crate) result: Result<Next>,
    /// How often `next` was called.
    pub(crate) calls: u32,
    /// The running time of the calls together.
    pub(crate) busy: Duration,
}

/// How a run is made to end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nothing more is produced; what was produced is processed to its end.
    Drain,
    /// What waits is dropped; what is in hand is awaited no longer.
    Now,
}

/// What the router wants done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Let the producer emit `count` items, or fewer.
    Grant { worker: usize, count: u32 },
    /// Hand the messages to the worker, in this order.
    Work { worker: usize, parcels: Vec<Parcel> },
    /// Let the worker's stage finish.
    Finish { worker: usize },
    /// Let the worker end; nothing more is heard of it.
    Stop { worker: usize },
    /// Start a worker anew in this place.
    Spawn { worker: usize },
    /// Keep a failed input.
    Quarantine(Box<Casualty>),
    /// Tell the observers.
    Tell(Event),
}

/// A failed input on its way to quarantine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Casualty {
    /// The name of its quarantine entry.
    pub(crate) entry: String,
    pub(crate) step: Arc<str>,
    pub(crate) worker: Option<usize>,
    pub(crate) origin: Origin,
    /// From 1.
    pub(crate) attempt: u32,
    pub(crate) cause: Cause,
    pub(crate) failure: Failure,
    pub(crate) payload: Payload,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "reason")]
pub enum Verdict {
    /// Every input was processed.
    Done,
    /// The run reached its end, but some inputs failed.
    SomeFailed,
    /// A failure under the policy `stop`, of the producer, of an `init`, or of
    /// drpipe itself ended the run.
    Stopped(String),
    /// A signal ended the run.
    Interrupted,
}

/// How much work a worker may have in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batches {
    /// As much as it does in a short time, by the running times so far.
    Adaptive,
    /// One message: the order of events does not depend on running times.
    Single,
}

struct Step {
    name: Arc<str>,
    group: usize,
    is_producer: bool,
    routes: Vec<Route>,
    on_error: OnError,
    retries: u32,
    backoff: Duration,
    workers: Vec<usize>,
    queue: Queue,
    /// Workers whose next output waits for room in this queue, the longest
    /// waiting first.
    waiting: VecDeque<usize>,
    counts: Counts,
    times: Times,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// `finish` is running on its workers.
    Finishing,
    Finished,
}

struct Worker {
    step: usize,
    /// Its number within the step.
    number: usize,
    state: State,
    /// What it has in hand, the oldest first.
    in_hand: VecDeque<Parcel>,
    /// How many messages that is.
    in_hand_count: usize,
    /// What it has emitted and no queue has admitted yet, in order.
    held: VecDeque<Held>,
    /// Grows with each use: the smallest is the least recently used.
    last_used: u64,
    /// When it was given what it has in hand, or last reported on it.
    since: Duration,
    producer: ProducerState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    /// Its stage is finishing.
    Finishing,
    /// Told to stop, dead, or never able to start.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProducerState {
    /// May be granted from this instant on.
    Idle(Duration),
    /// Using a grant.
    Granted,
    /// Has said that there is no more.
    Exhausted,
}

struct Held {
    to: usize,
    feedback: bool,
    parcel: Parcel,
}

/// See the module's documentation.
pub(crate) struct Router {
    batches: Batches,
    steps: Vec<Step>,
    workers: Vec<Worker>,
    groups: Groups,
    actions: Vec<Action>,
    /// Steps whose queue or workers have changed since the last settling.
    touched: Vec<usize>,
    /// Initial workers that are not ready yet; no work begins before.
    starting: usize,
    started: bool,
    draining: bool,
    /// Why what waits is dropped, once it is.
    abandoned: Option<String>,
    interrupted: bool,
    over: bool,
    /// The instant of the last settling.
    settled: Duration,
    uses: u64,
    next_id: u64,
    casualties: u64,
    finish_failures: Vec<String>,
    consecutive_producer_failures: u32,
    /// Why production ended early, if it did.
    producer_failure: Option<String>,
}

impl Router {
    pub(crate) fn new(plan: &Plan, batches: Batches) -> Self {
        let groups = Groups::of(plan);
        let mut workers = Vec::new();
        let steps = plan.steps.iter().enumerate().map(|(index, step)| {
            let first = workers.len();
            workers.extend((0..step.workers).map(|number| Worker::new(index, number)));
            Step {
                name: step.name.as_str().into(),
                group: groups.group_of(index),
                is_producer: step.kind == crate::registry::Kind::Producer,
                routes: step.routes.clone(),
                on_error: step.on_error,
                retries: step.retries,
                backoff: step.backoff,
                workers: (first..workers.len()).collect(),
                queue: Queue::new(step.queue_limit, step.queue_bytes),
                waiting: VecDeque::new(),
                counts: Counts::default(),
                times: Times::new(),
                phase: Phase::Running,
            }
        });
        let steps: Vec<Step> = steps.collect();
        Self {
            batches,
            groups,
            starting: workers.len(),
            touched: (0..steps.len()).collect(),
            steps,
            workers,
            actions: Vec::new(),
            started: false,
            draining: false,
            abandoned: None,
            interrupted: false,
            over: false,
            settled: Duration::ZERO,
            uses: 0,
            next_id: 1,
            casualties: 0,
            finish_failures: Vec::new(),
            consecutive_producer_failures: 0,
            producer_failure: None,
        }
    }

    /// Takes one input in. What follows from it is decided by [`Router::settle`],
    /// so that a driver may hand in whatever has arrived first.
    pub(crate) fn handle(&mut self, input: Input, now: Duration) {
        if self.over {
            return;
        }
        match input {
            Input::Ready { worker } => self.ready(worker),
            Input::InitFailed { worker, failure } => self.init_failed(worker, failure),
            Input::Done { worker, completions, outputs } => {
                self.done(worker, completions, outputs, now);
            }
            Input::Produced { worker, production, outputs } => {
                self.produced(worker, production, outputs, now);
            }
            Input::Finished { worker, result, outputs } => self.finished(worker, result, outputs),
            Input::Lost { worker, reason } => self.lost(worker, reason, now),
            Input::Broken { worker, reason } => self.dismiss(worker, reason, now),
            Input::Stop(Stop::Drain) => {
                self.interrupted = true;
                self.drain("interrupted: no more input is taken, what was taken is processed");
            }
            Input::Stop(Stop::Now) => self.stop_now(now),
        }
    }

    /// Decides what follows from the inputs since the last call.
    pub(crate) fn settle(&mut self, now: Duration) -> Vec<Action> {
        self.settled = now;
        if !self.over && self.starting == 0 {
            self.start();
            while self.move_messages(now) || self.end_steps() {}
        }
        std::mem::take(&mut self.actions)
    }

    /// The instant at which [`Router::settle`] is to be called though nothing
    /// has happened.
    pub(crate) fn next_wake(&self) -> Option<Duration> {
        let retries = self.steps.iter().filter_map(|step| step.queue.next_due());
        let idlers = self.workers.iter().filter_map(|worker| match worker.producer {
            ProducerState::Idle(until) if worker.may_be_granted() && !self.draining => Some(until),
            _ => None,
        });
        // What was due at the last settling waits for a worker or for room instead.
        retries.chain(idlers).filter(|due| *due > self.settled).min()
    }

    /// Whether the run is over: nothing more is to be handed in.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// How the run ended, or would if it ended now.
    pub(crate) fn verdict(&self) -> Verdict {
        let unbalanced = self.steps.iter().find(|step| self.over && step.counts.open() != 0);
        if let Some(step) = unbalanced {
            let reason = format!(
                "internal error: the ledger of \"{}\" does not balance: {:?}",
                step.name, step.counts
            );
            return Verdict::Stopped(reason);
        }
        if self.interrupted {
            return Verdict::Interrupted;
        }
        if let Some(reason) = self.abandoned.as_ref().or(self.producer_failure.as_ref()) {
            return Verdict::Stopped(reason.clone());
        }
        let failed = self.steps.iter().any(|s| s.counts.failed + s.counts.dropped > 0);
        if failed || !self.finish_failures.is_empty() { Verdict::SomeFailed } else { Verdict::Done }
    }

    /// Where the run stands.
    pub(crate) fn snapshot(&self, now: Duration) -> Snapshot {
        let steps = self.steps.iter().map(|step| {
            let alive = step.workers.iter().map(|index| &self.workers[*index]);
            StepStatus {
                name: Arc::clone(&step.name),
                counts: step.counts,
                queued: step.queue.len(),
                queued_bytes: step.queue.bytes(),
                high_water: step.queue.high_water(),
                busy: alive.filter(|worker| worker.is_busy()).count(),
                workers: step.workers.len(),
                busy_time: step.times.total,
                mean: step.times.mean(),
                p99: step.times.p99(),
                finished: step.phase == Phase::Finished,
            }
        });
        Snapshot { elapsed: now, steps: steps.collect() }
    }

    /// What failed in `finish`, in words.
    pub(crate) fn finish_failures(&self) -> &[String] {
        &self.finish_failures
    }

    /// The step and the number within it of a worker.
    pub(crate) fn place_of(&self, worker: usize) -> (usize, usize) {
        (self.workers[worker].step, self.workers[worker].number)
    }

    pub(crate) fn worker_count(&self) -> usize {
        self.workers.len()
    }

    fn ready(&mut self, worker: usize) {
        if self.workers[worker].state != State::Starting {
            return;
        }
        self.workers[worker].state = State::Ready;
        self.used(worker);
        self.worker_has_started();
        self.touch(self.workers[worker].step);
        let phase = self.steps[self.workers[worker].step].phase;
        match phase {
            Phase::Running => {}
            // It was started anew and its step has begun to finish meanwhile.
            Phase::Finishing => self.finish_worker(worker),
            Phase::Finished => self.stop_worker(worker),
        }
    }

    fn init_failed(&mut self, worker: usize, failure: Failure) {
        if self.workers[worker].state != State::Starting {
            return;
        }
        let Worker { step, number, .. } = self.workers[worker];
        let name = Arc::clone(&self.steps[step].name);
        self.tell(Event::InitFailed {
            step: Arc::clone(&name),
            worker: number,
            failure: failure.clone(),
        });
        self.worker_has_started();
        self.stop_worker(worker);
        self.abandon(format!("init of \"{name}\" failed: {failure}"));
    }

    fn worker_has_started(&mut self) {
        self.starting = self.starting.saturating_sub(1);
    }

    /// Once every initial worker has reported: work begins, unless one failed.
    fn start(&mut self) {
        if self.started {
            return;
        }
        self.started = true;
        if self.abandoned.is_some() {
            self.end_without_work();
        } else {
            self.tell(Event::Started);
        }
    }

    fn touch(&mut self, step: usize) {
        if !self.touched.contains(&step) {
            self.touched.push(step);
        }
    }

    fn tell(&mut self, event: Event) {
        self.actions.push(Action::Tell(event));
    }
}

impl Worker {
    fn new(step: usize, number: usize) -> Self {
        Self {
            step,
            number,
            state: State::Starting,
            in_hand: VecDeque::new(),
            in_hand_count: 0,
            held: VecDeque::new(),
            last_used: 0,
            since: Duration::ZERO,
            producer: ProducerState::Idle(Duration::ZERO),
        }
    }

    fn is_busy(&self) -> bool {
        !self.in_hand.is_empty()
            || self.state == State::Finishing
            || self.producer == ProducerState::Granted
    }

    fn may_be_granted(&self) -> bool {
        self.state == State::Ready && self.held.is_empty()
    }
}
