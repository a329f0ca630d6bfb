//! Tells a producer that asks for it what became of each item that it has emitted, and limits
//! how many are under way.
//!
//! An item is open while any of its messages is held, queued or in hand. A worker's outputs are
//! held before its completions are counted, so the number of open messages falls to 0 only when
//! nothing of the item is left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::bad_report::BadReport;
use super::observe::{Change, RunView};
use super::{Action, ProducerState, Router, State};
use crate::base::ids::{Slot, StepId, WorkerId};
use crate::message::batch::{Batch, Output};
use crate::message::{ItemKey, NO_ITEM, Payload};
use crate::plan::StepOptions;
use crate::protocol::report::Production;
use crate::stage::{Acknowledged, Acknowledgement, Next, Results};

/// The items of a run whose producer is told what became of them.
pub(super) struct Acknowledging {
    producer: Slot,
    /// The most items that may be open, and the most bytes of them; a larger item passes alone.
    window: usize,
    window_bytes: u64,
    open: HashMap<u64, Item>,
    /// The bytes of the open items as the producer emitted them.
    open_bytes: u64,
    /// The number of open items that are given up.
    cancelled: usize,
    /// The number of the latest item that was taken.
    latest: u64,
    /// Items that have ended since the producer was told.
    ended: Vec<Acknowledgement>,
    /// Whether it was told of some since its latest grant: the calls of that grant do not know.
    is_news: bool,
    /// The bytes of results that the producer was given and has not handed on.
    unreleased: u64,
}

struct Item {
    /// Messages held, queued or in hand.
    messages: usize,
    bytes: u64,
    origin: ItemKey,
    /// What went worst so far.
    outcome: Acknowledged,
    is_cancelled: bool,
}

impl Acknowledging {
    pub(super) fn new(producer: Slot, options: &StepOptions) -> Self {
        Self {
            producer,
            window: *options.window,
            window_bytes: options.window_bytes.unwrap_or(u64::MAX),
            open: HashMap::new(),
            open_bytes: 0,
            cancelled: 0,
            latest: NO_ITEM,
            ended: Vec::new(),
            is_news: false,
            unreleased: 0,
        }
    }

    /// Takes a change in.
    pub(super) fn on(&mut self, change: Change<'_>, run: &RunView<'_>) {
        match change {
            Change::Emitted { worker, first } => {
                let emitted = run.workers[worker].held_from(first);
                let is_new = worker == self.producer;
                emitted.for_each(|held| self.enter(&held.batch, is_new));
            }
            Change::Done { batches, .. } => {
                self.leave_all(batches, || Acknowledged::Done { results: Results::default() })
            }
            Change::Dropped { batches, .. } => self.leave_all(batches, || Acknowledged::Dropped),
            Change::Failed { step, message, failed, entry, .. } => {
                let outcome = || Acknowledged::Failed {
                    step: Arc::clone(&run.steps[step].name),
                    cause: failed.cause,
                    failure: failed.failure.clone(),
                    attempts: failed.attempt,
                    entry: entry.map(str::to_owned),
                };
                self.leave(message.item, outcome);
            }
            _ => {}
        }
    }

    fn enter(&mut self, batch: &Batch, is_new: bool) {
        let number = batch.item();
        if number == NO_ITEM {
            return;
        }
        let item = self.open.entry(number).or_insert_with(|| Item {
            messages: 0,
            bytes: 0,
            origin: batch.origin().cloned(),
            outcome: Acknowledged::Done { results: Results::default() },
            is_cancelled: false,
        });
        item.messages += 1;
        if is_new {
            item.bytes += batch.len() as u64;
            self.open_bytes += batch.len() as u64;
            self.latest = number;
        }
    }

    fn leave_all(&mut self, batches: &[Batch], outcome: impl Fn() -> Acknowledged) {
        batches.iter().for_each(|batch| self.leave(batch.item(), &outcome));
    }

    /// Ends one message of an item, and the item with its last one.
    fn leave(&mut self, number: u64, outcome: impl FnOnce() -> Acknowledged) {
        let Some(item) = self.open.get_mut(&number) else { return };
        let outcome = outcome();
        if severity(&outcome) > severity(&item.outcome) {
            item.outcome = outcome;
        }
        item.messages -= 1;
        if item.messages > 0 {
            return;
        }
        let Some(item) = self.open.remove(&number) else { return };
        let Item { bytes, origin, outcome, is_cancelled, .. } = item;
        self.open_bytes -= bytes;
        self.cancelled -= usize::from(is_cancelled);
        let ended = Acknowledgement { number, origin, outcome };
        self.unreleased += ended.result_bytes();
        self.ended.push(ended);
    }

    /// Adds a result of an item; one that has failed has none.
    fn add_result(&mut self, number: u64, payload: Payload) {
        if let Some(item) = self.open.get_mut(&number)
            && let Acknowledged::Done { results } = &mut item.outcome
        {
            results.payloads.push(payload);
        }
    }

    /// Whether something of the item is left, for this producer.
    pub(super) fn is_open(&self, producer: Slot, number: u64) -> bool {
        self.producer == producer && self.open.contains_key(&number)
    }

    /// The origin of an open item.
    pub(super) fn origin_of(&self, number: u64) -> ItemKey {
        self.open.get(&number).and_then(|item| item.origin.clone())
    }

    /// Gives the item up: what is left of it is to be dropped.
    pub(super) fn cancel(&mut self, number: u64) {
        let Some(item) = self.open.get_mut(&number) else { return };
        self.cancelled += usize::from(!std::mem::replace(&mut item.is_cancelled, true));
        if severity(&item.outcome) < severity(&Acknowledged::Cancelled) {
            item.outcome = Acknowledged::Cancelled;
        }
    }

    pub(super) fn has_cancelled(&self) -> bool {
        self.cancelled > 0
    }

    pub(super) fn is_cancelled(&self, number: u64) -> bool {
        self.cancelled > 0 && self.open.get(&number).is_some_and(|item| item.is_cancelled)
    }

    /// How many items more may be emitted.
    fn room(&self) -> usize {
        if self.open_bytes >= self.window_bytes && !self.open.is_empty() {
            return 0;
        }
        self.window.saturating_sub(self.open.len())
    }

    /// Whether so many items of this size fit into the window.
    fn admits(&self, items: usize, bytes: u64) -> bool {
        let is_giant_alone = self.open.is_empty() && items == 1;
        let fit = self.open.len() + items <= self.window
            && (is_giant_alone || self.open_bytes + bytes <= self.window_bytes);
        items == 0 || fit
    }

    /// Whether the producer's outputs are numbered as they must be: each is an item of its own,
    /// and later than all before.
    fn are_new_items(&self, outputs: &[Output]) -> bool {
        let mut latest = self.latest;
        outputs.iter().all(|output| {
            let Output::One { item, .. } = output else { return false };
            let is_later = *item > latest;
            latest = *item;
            is_later
        })
    }

    /// The number of items that are open, or of whose end the producer was not told.
    pub(super) fn unacknowledged(&self) -> usize {
        self.open.len() + self.ended.len()
    }
}

/// The outcome of an item is that of the message that went worst.
fn severity(outcome: &Acknowledged) -> u8 {
    match outcome {
        Acknowledged::Done { .. } => 0,
        Acknowledged::Dropped => 1,
        Acknowledged::Cancelled => 2,
        Acknowledged::Failed { .. } => 3,
    }
}

/// Whether the outputs descend from items of the messages that are done, in the same order.
pub(super) fn descend(outputs: &[Output], mut done: impl Iterator<Item = u64>) -> bool {
    let mut latest = done.next();
    outputs.iter().all(|output| {
        let item = output.item();
        while latest.is_some_and(|latest| latest != item) {
            latest = done.next();
        }
        latest.is_some()
    })
}

impl Router {
    /// Tells the producer of the items that have ended. Returns false if there were none.
    pub(super) fn acknowledge(&mut self) -> bool {
        let Some(acknowledging) = &mut self.acknowledging else { return false };
        let items = std::mem::take(&mut acknowledging.ended);
        if items.is_empty() {
            return false;
        }
        let producer = acknowledging.producer;
        let worker = &mut self.workers[producer];
        // It may have waited for this, or be about to.
        match &mut worker.producer {
            ProducerState::Idle(until) => *until = (*until).min(self.clock.now),
            ProducerState::Granted => acknowledging.is_news = true,
            ProducerState::AtBarrier | ProducerState::Feeding | ProducerState::Exhausted => {}
        }
        if worker.state != State::Gone {
            let worker = self.workers.id(producer);
            self.actions.push(Action::Acknowledge { worker, items });
        }
        true
    }

    /// How long a producer waits that has used its grant and asks for this wait: not at all if it
    /// was told of items meanwhile, for it may have waited for that.
    pub(super) fn wait_of(&mut self, worker: Slot, wait: Duration) -> Duration {
        let mut told = self.acknowledging.iter_mut().filter(|all| all.producer == worker);
        let is_news = told.next().is_some_and(|all| std::mem::take(&mut all.is_news));
        if is_news { Duration::ZERO } else { wait }
    }

    /// Whether items have ended of which the producer was not told.
    pub(super) fn has_to_acknowledge(&self) -> bool {
        self.acknowledging.as_ref().is_some_and(|acknowledging| !acknowledging.ended.is_empty())
    }

    /// Whether the step is a producer that is still to be told of some of its items: only then
    /// does it finish.
    pub(super) fn awaits_acknowledgements(&self, step: StepId) -> bool {
        let is_told = self.steps[step].plan.acknowledges;
        is_told && self.acknowledging.as_ref().is_some_and(|all| all.unacknowledged() > 0)
    }

    /// Whether the step waits because the producer has not handed on the results that it has.
    pub(super) fn awaits_release(&self, step: StepId) -> bool {
        *self.steps[step].plan.options.results
            && self.acknowledging.as_ref().is_some_and(|all| all.unreleased >= all.window_bytes)
    }

    /// How many items more the step, a producer, may emit.
    pub(super) fn window_room(&self, step: StepId) -> usize {
        match &self.acknowledging {
            Some(acknowledging) if self.steps[step].plan.acknowledges => acknowledging.room(),
            _ => usize::MAX,
        }
    }

    /// Notes that the producer has handed on results of this size.
    pub(super) fn released(&mut self, worker: Slot, bytes: u64, now: Duration) {
        let Some(acknowledging) = self.acknowledging.as_mut().filter(|a| a.producer == worker)
        else {
            return;
        };
        let Some(unreleased) = acknowledging.unreleased.checked_sub(bytes) else {
            let reason = "it handed on more results than it was given".to_owned();
            return self.dismiss(worker, reason, now);
        };
        acknowledging.unreleased = unreleased;
        self.go_on_with_results();
    }

    /// Nobody is left to be told.
    pub(super) fn end_acknowledging(&mut self) {
        self.acknowledging = None;
        self.go_on_with_results();
    }

    /// Looks again at the steps that may have waited for the release of results.
    fn go_on_with_results(&mut self) {
        for step in self.steps.ids() {
            if *self.steps[step].plan.options.results {
                self.steps.mark_dirty(step);
            }
        }
    }

    /// Tells the producer that these items were done before this run. It has emitted them, and
    /// they are not in the report that follows.
    pub(crate) fn skipped(&mut self, worker: WorkerId, items: Vec<(u64, ItemKey)>) {
        let is_heard = self.is_heard(worker);
        let producer = self.acknowledging.as_mut().filter(|a| a.producer == worker.slot);
        let Some(acknowledging) = producer.filter(|_| is_heard) else {
            return;
        };
        acknowledging.ended.extend(items.into_iter().map(|(number, origin)| Acknowledgement {
            number,
            origin,
            outcome: Acknowledged::Done { results: Results::default() },
        }));
    }

    /// The worker that feeds the run, if one does.
    pub(crate) fn feed(&self) -> Option<WorkerId> {
        let worker = self.workers.id(self.acknowledging.as_ref()?.producer);
        let is_feed = self.steps[self.workers[worker.slot].step].plan.feed;
        (is_feed && self.is_heard(worker)).then_some(worker)
    }

    /// Adds what a step with `results` has made of an item.
    pub(super) fn take_result(&mut self, step: StepId, output: Output) {
        if let Some(acknowledging) = &mut self.acknowledging
            && let Output::One { item, payload, .. } = output
        {
            self.steps[step].counts.results += 1;
            acknowledging.add_result(item, payload);
        }
    }

    /// Checks the numbers of what a producer has emitted.
    pub(super) fn check_items(&self, worker: Slot, outputs: &[Output]) -> Result<(), BadReport> {
        let mut checking = self.acknowledging.iter().filter(|all| all.producer == worker);
        match checking.all(|acknowledging| acknowledging.are_new_items(outputs)) {
            true => Ok(()),
            false => Err(BadReport::NotNewItems),
        }
    }

    /// Takes in what a feed brings, whenever that is.
    pub(super) fn fed(
        &mut self,
        worker: Slot,
        production: Production,
        outputs: Vec<Output>,
        now: Duration,
    ) {
        let is_exhausted = match production.result {
            Some(Ok(Next::More)) => false,
            Some(Ok(Next::Done)) => true,
            _ => return self.dismiss(worker, BadReport::NotOfAFeed.to_string(), now),
        };
        let Some(acknowledging) = &mut self.acknowledging else { return };
        if self.ending.is_draining() {
            acknowledging.ended.extend(outputs.into_iter().filter_map(|output| match output {
                Output::One { item: number, origin, .. } => {
                    Some(Acknowledgement { number, origin, outcome: Acknowledged::Dropped })
                }
                Output::Many { .. } => None,
            }));
        } else {
            let bytes = outputs.iter().map(|output| output.len() as u64).sum();
            if !acknowledging.admits(outputs.len(), bytes) {
                return self.dismiss(worker, BadReport::BeyondWindow.to_string(), now);
            }
            self.stage_outputs(worker, outputs);
        }
        if is_exhausted {
            self.workers[worker].producer = ProducerState::Exhausted;
        }
        self.commit_outputs(worker);
        self.steps.mark_dirty(self.workers[worker].step);
    }
}

#[cfg(test)]
mod tests;
