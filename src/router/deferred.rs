//! Puts messages off whose stages say that what they need is not there yet, and gives up those that
//! wait in vain.
//!
//! A deferred message waits beside its queue and counts there. It is tried again after a wait that
//! doubles, and soon after *news*: any other message has ended, and may have brought what is awaited.
//! A message that waits is up to date if no news has come since it was last given to a worker. When
//! nothing else can happen in the run, those that are not up to date are tried at once; once all are,
//! the one that was deferred first waits in vain. So the end of a run depends on no clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::line::{Doomed, Failed};
use super::observe::{Change, Hand};
use super::{Alarm, ProducerState, Router, State, Worker};
use crate::base::failure::Failure;
use crate::base::ids::{MessageId, Slot, StepId};
use crate::event::{Cause, Event};
use crate::message::Message;
use crate::message::batch::Batch;

/// The first wait, unless the stage names one, and the longest to which doubling leads.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The least time between two events about deferred messages of one step. All are counted.
const EVENT_EVERY: Duration = Duration::from_millis(100);

/// How long a message waits that was deferred `round` times in a row without news.
fn wait(first: Duration, round: u32) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(round.saturating_sub(1)));
    doubled.min(LONGEST_WAIT.max(first))
}

/// The deferred messages of a run.
#[derive(Default)]
pub(super) struct Deferrals {
    /// The number of messages that have ended, and not in vain.
    news: u64,
    /// The messages that were deferred and have not ended.
    known: HashMap<MessageId, Known>,
    /// Those of them that wait, by the order in which they were first deferred.
    waiting: BTreeMap<u64, Waiting>,
    /// When they are due. An instant that differs from that in `waiting` is void.
    due: BinaryHeap<Reverse<(Duration, u64)>>,
    /// Those that are up to date.
    up_to_date: BTreeSet<u64>,
    /// Those that were up to date when some news came, together, with the instant of the news and
    /// its number.
    renewed: VecDeque<(Duration, u64, BTreeSet<u64>)>,
    /// The order of the next one that is deferred for the first time.
    next: u64,
    /// When the next event about each step may be published.
    next_event: HashMap<StepId, Duration>,
}

struct Known {
    order: u64,
    /// How often it was deferred in a row without news.
    round: u32,
    /// The news when it was last given to a worker.
    seen: u64,
}

struct Waiting {
    step: StepId,
    message: Message,
    /// Why it waits.
    why: Failed,
    first_wait: Duration,
    seen: u64,
    due: Duration,
}

/// What follows from a deferral.
#[derive(Debug, PartialEq, Eq)]
struct Deferral {
    round: u32,
    wait: Duration,
}

impl Deferrals {
    /// Whether no message waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn news(&self) -> u64 {
        self.news
    }

    /// Those that wait, with their steps.
    pub(super) fn messages(&self) -> impl Iterator<Item = (StepId, &Message)> {
        self.waiting.values().map(|waiting| (waiting.step, &waiting.message))
    }

    /// Puts a message off that was given to a worker when `seen` was the news.
    fn defer(
        &mut self,
        (step, message, why): (StepId, Message, Failed),
        first_wait: Duration,
        seen: u64,
        now: Duration,
    ) -> Deferral {
        let first_wait = if first_wait.is_zero() { FIRST_WAIT } else { first_wait };
        let (next, id) = (self.next, message.id);
        let known = self.known.entry(id).or_insert(Known { order: next, round: 0, seen });
        self.next += u64::from(known.order == next);
        known.round = if known.seen == seen { known.round.saturating_add(1) } else { 1 };
        known.seen = seen;
        let (order, is_up_to_date) = (known.order, seen == self.news);
        if is_up_to_date {
            self.up_to_date.insert(order);
        } else {
            known.round = 1;
        }
        let round = known.round;
        let wait = wait(first_wait, round);
        let due = now.saturating_add(wait);
        self.due.push(Reverse((due, order)));
        self.waiting.insert(order, Waiting { step, message, why, first_wait, seen, due });
        Deferral { round, wait }
    }

    /// A message has ended that may have brought what others wait for: their waits begin anew.
    /// Returns when the first of them are due, if that is new.
    #[inline]
    fn bring_news(&mut self, now: Duration) -> Option<Duration> {
        self.news += 1;
        (!self.up_to_date.is_empty()).then(|| self.begin_anew(now))
    }

    #[cold]
    fn begin_anew(&mut self, now: Duration) -> Duration {
        self.renewed.push_back((now, self.news, std::mem::take(&mut self.up_to_date)));
        now.saturating_add(FIRST_WAIT)
    }

    /// Takes out those that are due. Returns with them when others are due, if that is new.
    fn take_due(&mut self, now: Duration) -> (Vec<Waiting>, Option<Duration>) {
        let later = self.renew(now);
        let mut taken = Vec::new();
        while let Some(Reverse((due, order))) = self.due.peek().copied()
            && due <= now
        {
            self.due.pop();
            if self.waiting.get(&order).is_some_and(|waiting| waiting.due == due) {
                taken.extend(self.take(order));
            }
        }
        (taken, later)
    }

    /// Begins waits anew, the shortest of which are over. Returns when the first of the others is.
    fn renew(&mut self, now: Duration) -> Option<Duration> {
        let mut later = None;
        while let Some((since, news, _)) = self.renewed.front()
            && since.saturating_add(FIRST_WAIT) <= now
        {
            let (since, news) = (*since, *news);
            let (_, _, orders) = self.renewed.pop_front().unwrap_or_default();
            for order in orders {
                let Some(waiting) = self.waiting.get_mut(&order) else { continue };
                let due = since.saturating_add(waiting.first_wait);
                if waiting.seen < news && due < waiting.due {
                    waiting.due = due;
                    self.due.push(Reverse((due, order)));
                    later = later.into_iter().chain((due > now).then_some(due)).min();
                }
            }
        }
        later
    }

    /// Takes out those that are not up to date; if all are, the one that waits in vain.
    fn take_stuck(&mut self) -> Stuck {
        if self.waiting.len() > self.up_to_date.len() {
            let is_behind = |order: &u64| !self.up_to_date.contains(order);
            let behind: Vec<u64> = self.waiting.keys().copied().filter(is_behind).collect();
            return Stuck::Behind(behind.into_iter().filter_map(|o| self.take(o)).collect());
        }
        let first = self.waiting.keys().next().copied();
        Stuck::InVain(first.and_then(|order| self.take(order)))
    }

    fn take(&mut self, order: u64) -> Option<Waiting> {
        self.up_to_date.remove(&order);
        self.waiting.remove(&order)
    }

    /// Takes out those of which this holds.
    fn take_if(&mut self, holds: impl Fn(&Message) -> bool) -> Vec<Waiting> {
        let those = self.waiting.iter().filter(|(_, waiting)| holds(&waiting.message));
        let orders: Vec<u64> = those.map(|(order, _)| *order).collect();
        orders.into_iter().filter_map(|order| self.take(order)).collect()
    }

    /// Forgets messages that have ended.
    #[inline]
    pub(super) fn forget(&mut self, ended: &[Batch]) {
        if !self.known.is_empty() {
            self.forget_all(ended);
        }
    }

    #[cold]
    fn forget_all(&mut self, ended: &[Batch]) {
        // One that was tried before travels alone.
        for batch in ended {
            self.known.remove(&batch.first());
        }
    }

    pub(super) fn forget_one(&mut self, ended: MessageId) {
        self.known.remove(&ended);
    }

    fn may_publish(&mut self, step: StepId, now: Duration) -> bool {
        let next = self.next_event.entry(step).or_default();
        let may = now >= *next;
        if may {
            *next = now.saturating_add(EVENT_EVERY);
        }
        may
    }
}

/// What is done when nothing else can happen.
enum Stuck {
    /// These are tried once more.
    Behind(Vec<Waiting>),
    /// This one waits in vain.
    InVain(Option<Waiting>),
}

impl Router {
    /// Puts a message off, as its stage wants. The attempt is not charged.
    pub(super) fn deferred(
        &mut self,
        hand: Hand,
        message: Message,
        (first_wait, why): (Duration, Failure),
        now: Duration,
    ) {
        let Worker { step: index, number, seen, .. } = self.workers[hand.worker];
        if self.is_cancelled_message(&message) {
            return self.drop_cancelled(index, Some(hand.worker), Batch::One(message));
        }
        if self.ending.is_abandoned() {
            self.steps[index].counts.dropped += 1;
            self.complete(index, 1);
            let (worker, batches) = (Some(hand.worker), &[Batch::One(message)]);
            return self.observe(Change::Dropped { step: index, worker, batches });
        }
        let (attempt, worker, cause) = (message.attempt + 1, Some(number), Cause::InVain);
        let failed = Failed { attempt, worker, cause, failure: why };
        self.observe(Change::Deferred { step: index, hand, message: &message });
        let step = &mut self.steps[index];
        step.counts.deferred += 1;
        step.queue.keep_room(&message);
        let (origin, why) = (message.origin.clone(), failed.failure.to_string());
        let Deferral { round, wait } =
            self.deferrals.defer((index, message, failed), first_wait, seen, now);
        self.clock.set(now.saturating_add(wait), Alarm::Deferred);
        if self.deferrals.may_publish(index, now) {
            let step = Arc::clone(&self.steps[index].name);
            self.publish(Event::Deferred { step, origin, round, wait, why });
        }
        self.steps.mark_dirty(index);
    }

    /// Notes that a message has ended: others may have waited for that.
    #[inline]
    pub(super) fn bring_news(&mut self) {
        if let Some(due) = self.deferrals.bring_news(self.clock.now) {
            self.clock.set(due, Alarm::Deferred);
        }
    }

    /// Puts deferred messages that are due back into their queues.
    pub(super) fn try_deferred(&mut self, now: Duration) {
        let (due, later) = self.deferrals.take_due(now);
        if let Some(later) = later {
            self.clock.set(later, Alarm::Deferred);
        }
        due.into_iter().for_each(|waiting| self.try_again(waiting));
    }

    fn try_again(&mut self, Waiting { step, message, .. }: Waiting) {
        let place = self.order_in_queue(step, message.id);
        let queue = &mut self.steps[step].queue;
        queue.free_room(&message);
        match place {
            Some(place) => queue.insert(place, Batch::One(message)),
            None => queue.readmit(Batch::One(message)),
        }
        self.steps.mark_dirty(step);
    }

    /// Drops deferred messages that are given up.
    pub(super) fn drop_deferred(&mut self, doomed: Doomed<'_>) {
        for Waiting { step, message, .. } in self.deferrals.take_if(|message| doomed.is(message)) {
            self.steps[step].queue.free_room(&message);
            self.drop_cancelled(step, None, Batch::One(message));
        }
    }

    /// Puts all deferred messages back into their queues, from which they are dropped.
    pub(super) fn end_deferrals(&mut self) {
        for waiting in self.deferrals.take_if(|_| true) {
            self.try_again(waiting);
        }
        self.deferrals = Deferrals::default();
    }

    /// Ends waits when nothing else can happen. Returns false if something can, or nothing waits.
    pub(super) fn end_waits(&mut self, now: Duration) -> bool {
        if self.deferrals.is_empty() || self.could_go_on(now) {
            return false;
        }
        match self.deferrals.take_stuck() {
            Stuck::Behind(all) => all.into_iter().for_each(|waiting| self.try_again(waiting)),
            Stuck::InVain(None) => return false,
            Stuck::InVain(Some(Waiting { step, message, why, .. })) => {
                self.steps[step].queue.free_room(&message);
                let what = match self.ending.is_draining() {
                    true => "waited in vain, for the run takes no more input",
                    false => "waited in vain",
                };
                let failed = Failed { failure: why.failure.wrap(what), ..why };
                self.give_up(step, None, message, failed);
                self.steps.mark_dirty(step);
            }
        }
        true
    }

    /// Whether something is under way or may come, once everything is done that could be done now.
    /// What waits for room in a queue, or for its turn, waits for those that are deferred.
    fn could_go_on(&mut self, now: Duration) -> bool {
        let is_at_work = |worker: &Worker| worker.is_busy() || worker.state == State::Starting;
        self.workers.iter().any(is_at_work) || {
            self.workers.update_rosters();
            self.steps.ids().any(|step| self.awaits_something(step, now))
        }
    }

    fn awaits_something(&self, step: StepId, now: Duration) -> bool {
        self.steps.is_paused(step)
            || self.awaits_release(step)
            || self.steps[step].queue.has_later_retry(now)
            || self.will_grow(step, now)
            || (self.steps[step].is_producer() && self.could_bring(step))
    }

    /// Whether the step is a producer that may bring more before anything else happens.
    fn could_bring(&self, step: StepId) -> bool {
        if self.ending.is_draining() {
            return false;
        }
        let could = |slot: &Slot| match self.workers[*slot].producer {
            ProducerState::Idle(_) => {
                self.workers[*slot].may_be_granted()
                    && !self.is_behind_barrier()
                    && self.worth_granting(step) > 0
            }
            ProducerState::Feeding => self.window_room(step) > 0,
            ProducerState::Granted => true,
            ProducerState::AtBarrier | ProducerState::Exhausted => false,
        };
        self.steps[step].workers.iter().any(could)
    }
}

#[cfg(test)]
mod tests;
