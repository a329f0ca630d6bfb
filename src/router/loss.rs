//! Handles failed attempts, lost workers and failing producers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::line::Failed;
use super::observe::{Change, Hand};
use super::policy::retry::{self, FATAL_CRASHES, Retry};
use super::{Action, Alarm, FailedInput, Phase, ProducerState, Router, State, Worker};
use crate::base::failure::Failure;
use crate::base::ids::{MessageId, Slot, StepId, WorkerId};
use crate::event::{Cause, Event};
use crate::message::Message;
use crate::message::batch::Batch;
use crate::plan::OnError;
use crate::protocol::report::{Blame, Loss, Suspect};

const SENT_LATE: &str = "its threads tried to send values after their call had returned, or a \
                         process that it forked did, and drpipe refused them: see the log";

/// The failure of an attempt in a worker's hands.
pub(super) struct Attempted {
    pub(super) cause: Cause,
    pub(super) failure: Failure,
    /// How many attempts on one message may be forgiven, given how this one ended.
    pub(super) forgivable: u32,
}

/// The reason for giving up an input whose retry would have to wait.
const NOT_AWAITED: &str = "it was not tried again, because the run takes no more input and does \
                           not wait for a retry that is due later";

impl Failed {
    fn not_awaited(self) -> Self {
        Self { failure: self.failure.wrap(NOT_AWAITED), ..self }
    }
}

/// The failures of a run so far.
#[derive(Default)]
pub(super) struct Failures {
    /// How many attempts on a message ended with its worker and count for nothing.
    forgiven: BTreeMap<MessageId, u32>,
    /// How many failed inputs went to quarantine.
    quarantined: u64,
    /// Quarantine entries that an operator had tried again.
    pub(super) requeued: BTreeSet<String>,
}

impl Failures {
    fn forgiven(&self, message: MessageId) -> u32 {
        self.forgiven.get(&message).copied().unwrap_or(0)
    }

    fn forgive(&mut self, message: MessageId) {
        *self.forgiven.entry(message).or_default() += 1;
    }

    /// Forgets the losses of messages that are done.
    pub(super) fn forget(&mut self, done: &[Batch]) {
        if !self.forgiven.is_empty() {
            // One that was tried before travels alone.
            for batch in done {
                self.forgiven.remove(&batch.first());
            }
        }
    }

    /// The name of the next quarantine entry.
    fn next_entry(&mut self, step: &str) -> String {
        self.quarantined += 1;
        format!("{:06}-{step}", self.quarantined)
    }
}

impl Router {
    /// Repeats an attempt that failed in a worker's hands, or gives the message up.
    pub(super) fn attempt_failed(
        &mut self,
        hand: Hand,
        mut message: Message,
        attempted: Attempted,
        now: Duration,
    ) {
        let Worker { step: index, number, .. } = self.workers[hand.worker];
        if self.is_cancelled_message(&message) {
            return self.drop_cancelled(index, Some(hand.worker), Batch::One(message));
        }
        let Attempted { cause, failure, forgivable } = attempted;
        let attempt = retry::Attempt {
            number: message.attempt,
            is_retryable: failure.is_retryable(),
            forgiven: self.failures.forgiven(message.id),
            forgivable,
        };
        let failed = Failed { attempt: message.attempt + 1, worker: Some(number), cause, failure };
        let retry = retry::after(self.steps[index].retries(), attempt, self.ending.patience());
        let (wait, is_forgiven) = match retry {
            Retry::After { wait, is_forgiven } => (wait, is_forgiven),
            Retry::GiveUp => return self.give_up(index, Some(hand), message, failed),
            Retry::NotAwaited => {
                return self.give_up(index, Some(hand), message, failed.not_awaited());
            }
        };
        if is_forgiven {
            self.failures.forgive(message.id);
        }
        let change = Change::Retried { step: index, hand, message: &message, failed: &failed };
        self.observe(change);
        let step = &mut self.steps[index];
        step.counts.retried += 1;
        message.attempt += 1;
        let event = Event::Retrying {
            step: Arc::clone(&step.name),
            origin: message.origin.clone(),
            attempt: failed.attempt,
            cause,
            failure: failed.failure.clone(),
            wait,
        };
        let due = now.saturating_add(wait);
        step.queue.delay(message, due, Some(failed));
        self.clock.set(due, Alarm::Step(index));
        self.publish(event);
        self.steps.mark_dirty(index);
    }

    /// Fails the inputs whose retries are due later: a run that takes no more input does not
    /// wait for them.
    pub(super) fn end_backoffs(&mut self) {
        for step in self.steps.ids() {
            for (message, failed) in self.steps[step].queue.take_delayed(self.clock.now) {
                self.give_up(step, None, message, failed.not_awaited());
            }
            self.steps.mark_dirty(step);
        }
    }

    /// Fails the message for good, as the step's policy says. It was in a worker's hands, or
    /// waited.
    pub(super) fn give_up(
        &mut self,
        index: StepId,
        hand: Option<Hand>,
        message: Message,
        failed: Failed,
    ) {
        let step = &mut self.steps[index];
        let policy = *step.plan.options.on_error;
        let name = Arc::clone(&step.name);
        match policy {
            OnError::Skip => step.counts.dropped += 1,
            OnError::Stop | OnError::Quarantine | OnError::Tell => step.counts.failed += 1,
        }
        self.complete(index, 1);
        self.failures.forgiven.remove(&message.id);
        self.deferrals.forget_one(message.id);
        if failed.cause != Cause::InVain {
            self.bring_news();
        }
        // The input that stops the run is kept too: it is the one to look at.
        let kept = matches!(policy, OnError::Stop | OnError::Quarantine);
        let entry = kept.then(|| self.failures.next_entry(&name));
        self.observe(Change::Failed {
            step: index,
            hand,
            message: &message,
            failed: &failed,
            entry: entry.as_deref(),
        });
        self.mark_ordered_ends_dirty();
        let Failed { attempt, worker, cause, failure } = failed;
        self.publish(Event::Failed {
            step: Arc::clone(&name),
            worker,
            message: message.id.0,
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
            self.actions.push(Action::Quarantine(Box::new(FailedInput {
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

    /// Repeats a producer's failed call, or ends production.
    pub(super) fn production_failed(
        &mut self,
        worker: Slot,
        failure: Failure,
        now: Duration,
    ) -> ProducerState {
        let index = self.workers[worker].step;
        let step = &mut self.steps[index];
        let failures = self.workers[worker].consecutive_failures;
        if let Some(wait) = retry::of_producer(step.retries(), failures, failure.is_retryable()) {
            self.workers[worker].consecutive_failures += 1;
            step.counts.retried += 1;
            let step = Arc::clone(&step.name);
            let (cause, attempt) = (Cause::Failed, failures + 1);
            self.publish(Event::Retrying { step, origin: None, attempt, cause, failure, wait });
            return ProducerState::Idle(now.saturating_add(wait));
        }
        self.end_production(index, failure);
        ProducerState::Exhausted
    }

    /// Stops a worker that violated the protocol, and treats it as lost.
    pub(super) fn dismiss(&mut self, worker: Slot, reason: String, now: Duration) {
        self.actions.push(Action::Stop { worker: self.workers.id(worker) });
        self.lost(worker, Loss::unexplained(reason), now);
    }

    /// Gives what a dead worker had in hand to others, and has another worker take its
    /// place.
    pub(super) fn lost(&mut self, worker: Slot, loss: Loss, now: Duration) {
        let Worker { step: index, number, .. } = self.workers[worker];
        // From here on its reports are ignored.
        self.workers[worker].epoch += 1;
        self.workers[worker].is_slow = false;
        let name = Arc::clone(&self.steps[index].name);
        if loss.blame != Blame::Plan {
            let reason = loss.reason.clone();
            self.publish(Event::WorkerLost { step: name, worker: number, reason });
        }
        self.spend(worker, now);
        let in_vain = !self.empty_hands(worker, &loss, now);
        self.steps.mark_dirty(index);
        let kept = std::mem::take(&mut self.workers[worker].kept);
        if kept > 0 {
            let name = &self.steps[index].name;
            self.abandon(format!(
                "\"{name}\" has lost what it had gathered from {kept} messages, because its \
                 worker was lost: {}; run it on a thread, or start the run again",
                loss.reason
            ));
        }
        // A feed has nothing that another one could bring.
        let is_feed = self.steps[index].plan.feed;
        if is_feed && self.workers[worker].is_starting() && !self.state.has_started() {
            self.state.worker_has_started();
        }
        let has_worked = is_feed || (self.state.has_started() && self.steps[index].is_producer());
        if has_worked {
            self.producer_lost(worker, loss.reason);
        } else if !self.ending.is_abandoned() && self.steps[index].phase != Phase::Finished {
            self.replace(worker, in_vain, &loss.reason, now);
        } else {
            self.leave_place(worker, loss.reason);
        }
    }

    /// Counts the time since the worker's last report as work: no report will tell how long
    /// this work took.
    pub(super) fn spend(&mut self, worker: Slot, now: Duration) {
        let worker = &mut self.workers[worker];
        if worker.is_busy() && worker.state != State::Gone {
            let spent = now.saturating_sub(worker.since);
            worker.since = now;
            worker.busy += spent;
            self.steps[worker.step].times.spend(spent);
        }
    }

    /// Leaves the place of a lost worker empty.
    fn leave_place(&mut self, worker: Slot, reason: String) {
        let Worker { step, state, .. } = self.workers[worker];
        self.workers[worker].state = State::Gone;
        match state {
            State::Finishing => self.finish_failed(worker, Failure::permanent(reason)),
            State::Starting if !self.state.has_started() => self.state.worker_has_started(),
            _ => self.step_without_workers(step),
        }
    }

    /// Takes everything out of a lost worker's hands: the attempt on the suspect has failed,
    /// the rest goes back to its queue. Returns false if there was no suspect.
    fn empty_hands(&mut self, worker: Slot, loss: &Loss, now: Duration) -> bool {
        let lost_retries = *self.steps[self.workers[worker].step].plan.options.lost_retries;
        let forgivable = match loss.blame {
            Blame::Limit | Blame::Plan => 0,
            Blame::Death => lost_retries,
            Blame::Request => lost_retries.max(1),
        };
        let in_hand = &self.workers[worker].in_hand;
        let mut numbers = in_hand.iter().flat_map(|batch| batch.first().successive(batch.count()));
        let place = match loss.suspect {
            Suspect::Oldest => numbers.next().map(|_| 0),
            // A worker killed in a stopped run does not put the blame on its message.
            Suspect::Message(_) if loss.blame == Blame::Request && self.ending.is_abandoned() => {
                None
            }
            Suspect::Message(id) => numbers.position(|number| number == id),
            Suspect::None => None,
        };
        let before = self.workers[worker].take_from_hand(place.unwrap_or(usize::MAX));
        let suspect = self.workers[worker].take_from_hand(usize::from(place.is_some()));
        let after = self.workers[worker].take_from_hand(usize::MAX);
        self.give_back(worker, before.into_iter().chain(after).collect());
        for message in suspect.into_iter().flat_map(Batch::into_messages) {
            let failure = match loss.cause {
                Cause::TimedOut => Failure::retryable(loss.reason.clone()),
                _ => Failure::retryable(format!("its worker was lost: {}", loss.reason)),
            };
            let failed = Attempted { cause: loss.cause, failure, forgivable };
            self.attempt_failed(Hand { worker, busy: None }, message, failed, now);
        }
        place.is_some()
    }

    /// Puts messages that were not begun back at the head of their queue, in order.
    pub(super) fn give_back(&mut self, worker: Slot, batches: Vec<Batch>) {
        let index = self.workers[worker].step;
        let abandoned = self.ending.is_abandoned();
        for batch in batches.into_iter().rev() {
            if self.is_cancelled(&batch) {
                self.drop_cancelled(index, None, batch);
                continue;
            }
            let step = &mut self.steps[index];
            if abandoned {
                step.counts.dropped += batch.count() as u64;
                self.complete(index, batch.count());
                self.observe(Change::Dropped { step: index, worker: None, batches: &[batch] });
            } else {
                step.queue.give_back(batch);
            }
        }
    }

    /// Replaces a lost worker: at once, or after a wait if the workers before it did no work.
    /// If that happens too often, the run ends. A worker that was lost while it finished had
    /// kept nothing, so the new one finishes in its place.
    fn replace(&mut self, worker: Slot, in_vain: bool, reason: &str, now: Duration) {
        let index = self.workers[worker].step;
        let step = &mut self.steps[index];
        let crashes = if in_vain { step.pool.consecutive_crashes + 1 } else { 0 };
        step.pool.consecutive_crashes = crashes;
        let respawn_after = self.options.timing.respawn_after;
        let Some(wait) = retry::of_worker(crashes, step.workers.len(), respawn_after) else {
            let finishing = self.workers[worker].state == State::Finishing;
            self.leave_place(worker, reason.to_owned());
            if !finishing {
                self.abandon(format!(
                    "the workers of \"{}\" ended {FATAL_CRASHES} times in a row before they did \
                     any work: {reason}",
                    self.steps[index].name
                ));
            }
            return;
        };
        self.workers[worker].state = State::Starting;
        let due = now.saturating_add(wait);
        self.workers[worker].respawn_at = Some(due);
        self.clock.set(due, Alarm::Respawn(worker));
    }

    /// Starts the worker's replacement, if it is due.
    pub(super) fn respawn(&mut self, worker: Slot, now: Duration) {
        if self.workers[worker].respawn_at.is_some_and(|at| at <= now) {
            self.workers[worker].respawn_at = None;
            self.actions.push(Action::Spawn { worker: self.workers.id(worker) });
        }
    }

    /// Ends production: a new producer would produce everything again.
    fn producer_lost(&mut self, worker: Slot, reason: String) {
        let index = self.workers[worker].step;
        if self.workers[worker].producer == ProducerState::Granted {
            self.complete(index, 1);
        }
        if self.steps[index].plan.acknowledges {
            self.end_acknowledging();
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

    fn end_production(&mut self, index: StepId, failure: Failure) {
        let step = Arc::clone(&self.steps[index].name);
        self.ending.end_production(format!("\"{step}\" failed: {failure}"));
        self.publish(Event::ProducerFailed { step, failure });
    }

    /// Ends the run if the step has lost its last worker.
    pub(super) fn step_without_workers(&mut self, index: StepId) {
        let step = &self.steps[index];
        let gone = step.workers.iter().all(|worker| self.workers[*worker].state == State::Gone);
        if gone && step.phase == Phase::Running {
            let reason = format!("\"{}\" has no workers left", step.name);
            self.abandon(reason);
        }
    }

    /// Reports that threads of an ended worker tried to send after their call had returned:
    /// those values are not in the pipeline.
    pub(crate) fn sent_late(&mut self, worker: WorkerId) {
        self.finish_failed(worker.slot, Failure::permanent(SENT_LATE));
    }

    pub(super) fn finish_failed(&mut self, worker: Slot, failure: Failure) {
        let Worker { step, number, .. } = self.workers[worker];
        let step = Arc::clone(&self.steps[step].name);
        self.ending.finish_failures.push(format!("finish of \"{step}\" failed: {failure}"));
        self.publish(Event::FinishFailed { step, worker: number, failure });
    }
}

#[cfg(test)]
mod tests;
