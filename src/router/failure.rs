//! What becomes of failed attempts, lost workers and failing producers.

use std::sync::Arc;
use std::time::Duration;

use super::{Action, Casualty, Phase, ProducerState, Router, State, Worker};
use crate::config::plan::OnError;
use crate::error::Failure;
use crate::event::{Cause, Event};
use crate::message::Message;
use crate::parcel::Parcel;

impl Router {
    /// An attempt in the worker's hands failed: repeat it or give it up.
    pub(super) fn attempt_failed(
        &mut self,
        worker: usize,
        mut message: Message,
        cause: Cause,
        failure: Failure,
        now: Duration,
    ) {
        let Worker { step: index, number, .. } = self.workers[worker];
        let step = &mut self.steps[index];
        let again = message.attempt < step.retries && failure.is_retryable();
        if !again || self.abandoned.is_some() {
            return self.give_up(index, Some(number), message, cause, failure);
        }
        let wait = backoff(step.backoff, message.attempt);
        step.counts.retried += 1;
        message.attempt += 1;
        let event = Event::Retrying {
            step: Arc::clone(&step.name),
            origin: message.origin.clone(),
            attempt: message.attempt,
            cause,
            failure,
            wait,
        };
        step.queue.delay(message, now.saturating_add(wait));
        self.tell(event);
        self.touch(index);
    }

    /// A message came to a step on a loop that finishes or has finished.
    pub(super) fn arrived_late(&mut self, step: usize, message: Message) {
        let failure = Failure::permanent(format!(
            "\"{}\" was already finishing when this message came: what a step on a loop emits in \
             finish can only go forward",
            self.steps[step].name
        ));
        self.give_up(step, None, message, Cause::Late, failure);
    }

    /// The message has failed for good: the step's policy decides.
    fn give_up(
        &mut self,
        index: usize,
        worker: Option<usize>,
        message: Message,
        cause: Cause,
        failure: Failure,
    ) {
        let step = &mut self.steps[index];
        let policy = step.on_error;
        let name = Arc::clone(&step.name);
        match policy {
            OnError::Skip => step.counts.dropped += 1,
            OnError::Stop | OnError::Quarantine => step.counts.failed += 1,
        }
        self.leave(index, 1);
        let attempt = message.attempt + 1;
        // Also the input that stops the run is kept: it is the one to look at.
        let entry = (policy != OnError::Skip).then(|| {
            self.casualties += 1;
            format!("{:06}-{name}", self.casualties)
        });
        self.tell(Event::Failed {
            step: Arc::clone(&name),
            worker,
            origin: message.origin.clone(),
            attempt,
            cause,
            failure: failure.clone(),
            policy,
            entry: entry.clone(),
        });
        let what = message.origin.as_deref().map(|o| format!(" on {o}")).unwrap_or_default();
        let reason = format!("\"{name}\" failed{what}: {failure}");
        if let Some(entry) = entry {
            self.actions.push(Action::Quarantine(Box::new(Casualty {
                entry,
                step: name,
                worker,
                origin: message.origin,
                attempt,
                cause,
                failure,
                payload: message.payload,
            })));
        }
        if policy == OnError::Stop {
            self.abandon(reason);
        }
    }

    /// A producer's call failed: repeat it, or end production.
    pub(super) fn production_failed(
        &mut self,
        worker: usize,
        failure: Failure,
        now: Duration,
    ) -> ProducerState {
        let index = self.workers[worker].step;
        let step = &mut self.steps[index];
        let failures = self.consecutive_producer_failures;
        if failures < step.retries && failure.is_retryable() {
            self.consecutive_producer_failures += 1;
            step.counts.retried += 1;
            let wait = backoff(step.backoff, failures);
            let step = Arc::clone(&step.name);
            let (cause, attempt) = (Cause::Failed, failures + 1);
            self.tell(Event::Retrying { step, origin: None, attempt, cause, failure, wait });
            return ProducerState::Idle(now.saturating_add(wait));
        }
        self.end_production(index, failure);
        ProducerState::Exhausted
    }

    /// A worker broke the protocol: it is not trusted any longer.
    pub(super) fn dismiss(&mut self, worker: usize, reason: String, now: Duration) {
        if self.workers[worker].state != State::Gone {
            self.actions.push(Action::Stop { worker });
            self.lost(worker, reason, now);
        }
    }

    /// A worker died: what it had in hand is given to others, and another
    /// worker takes its place.
    pub(super) fn lost(&mut self, worker: usize, reason: String, now: Duration) {
        let Worker { step: index, number, state, .. } = self.workers[worker];
        if state == State::Gone {
            return;
        }
        let name = Arc::clone(&self.steps[index].name);
        self.tell(Event::WorkerLost { step: name, worker: number, reason: reason.clone() });
        if state == State::Starting {
            self.worker_has_started();
            if !self.started {
                let name = &self.steps[index].name;
                self.abandon(format!("a worker of \"{name}\" could not be started: {reason}"));
            }
        }
        self.workers[worker].in_hand_count = 0;
        let in_hand = std::mem::take(&mut self.workers[worker].in_hand);
        for message in in_hand.into_iter().flat_map(Parcel::into_messages) {
            let failure = Failure::retryable(format!("its worker was lost: {reason}"));
            self.attempt_failed(worker, message, Cause::Lost, failure, now);
        }
        self.touch(index);
        if self.steps[index].is_producer {
            self.producer_lost(worker, reason);
        } else if state == State::Ready
            && self.steps[index].phase == Phase::Running
            && self.abandoned.is_none()
        {
            self.workers[worker].state = State::Starting;
            self.actions.push(Action::Spawn { worker });
        } else {
            self.workers[worker].state = State::Gone;
            match state {
                State::Finishing => self.finish_failed(worker, Failure::permanent(reason)),
                _ => self.step_without_workers(index),
            }
        }
    }

    /// A producer cannot be started anew: it would produce everything again.
    fn producer_lost(&mut self, worker: usize, reason: String) {
        let index = self.workers[worker].step;
        if self.workers[worker].producer == ProducerState::Granted {
            self.leave(index, 1);
        }
        self.workers[worker].state = State::Gone;
        if self.workers[worker].producer != ProducerState::Exhausted {
            self.workers[worker].producer = ProducerState::Exhausted;
            self.end_production(
                index,
                Failure::permanent(format!("its worker was lost: {reason}")),
            );
        } else {
            self.finish_failed(worker, Failure::permanent(reason));
        }
    }

    fn end_production(&mut self, index: usize, failure: Failure) {
        let step = Arc::clone(&self.steps[index].name);
        self.producer_failure.get_or_insert_with(|| format!("\"{step}\" failed: {failure}"));
        self.tell(Event::ProducerFailed { step, failure });
    }

    /// A step that has lost its last worker cannot go on, nor can the run.
    pub(super) fn step_without_workers(&mut self, index: usize) {
        let step = &self.steps[index];
        let gone = step.workers.iter().all(|worker| self.workers[*worker].state == State::Gone);
        if gone && step.phase == Phase::Running {
            let reason = format!("\"{}\" has no workers left", step.name);
            self.abandon(reason);
        }
    }

    pub(super) fn finish_failed(&mut self, worker: usize, failure: Failure) {
        let Worker { step, number, .. } = self.workers[worker];
        let step = Arc::clone(&self.steps[step].name);
        self.finish_failures.push(format!("finish of \"{step}\" failed: {failure}"));
        self.tell(Event::FinishFailed { step, worker: number, failure });
    }
}

/// The wait before the retry that follows failed attempt `attempt` (from 0).
fn backoff(first: Duration, attempt: u32) -> Duration {
    /// Doubling ends here.
    const LONGEST: Duration = Duration::from_secs(300);
    first.saturating_mul(2_u32.saturating_pow(attempt)).min(LONGEST.max(first))
}
