//! Producers that are told what became of their items, and feeds.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;

use super::plans::Token;
use super::*;
use crate::message::NO_ITEM;
use crate::protocol::report::Production;
use crate::stage::{Acknowledged, Acknowledgement, Next};

/// What a simulation knows of the items of a producer that is told what became of them.
#[derive(Default)]
pub(super) struct Told {
    /// The number of the latest item that was emitted.
    pub(super) latest: u64,
    /// The items that the router has taken and not acknowledged.
    pub(super) taken: BTreeMap<u64, Taken>,
    /// The items that a feed has sent and that are not acknowledged, and their bytes.
    sent: BTreeMap<u64, u64>,
    /// All tokens that descend from each item, and those of its results.
    tokens: BTreeMap<u64, Vec<u64>>,
    results: BTreeMap<u64, Vec<u64>>,
    /// The bytes of results that were delivered and not released.
    unreleased: u64,
    /// Whether a feed has said that there is no more.
    is_exhausted: bool,
    /// Whether a feed was asked to finish.
    is_asked: bool,
    /// The items that the router has given up, as the producer wanted.
    pub(super) cancelled: BTreeSet<u64>,
    /// A request of which the router has said, or is to say, that it does not.
    pub(super) refused: BTreeMap<u64, u32>,
}

pub(super) struct Taken {
    pub(super) origin: ItemKey,
    bytes: u64,
    /// An earlier run has done it.
    pub(super) is_skipped: bool,
    /// It came when the run took no more.
    pub(super) is_late: bool,
}

impl Simulator {
    fn is_told(&self) -> bool {
        self.plan.steps[0].acknowledges
    }

    /// The number of a new item.
    pub(super) fn new_item(&mut self) -> u64 {
        if !self.is_told() {
            return NO_ITEM;
        }
        self.told.latest += 1;
        self.told.latest
    }

    /// Has a feed bring what its window allows, now and then less.
    pub(super) fn feed(&mut self, worker: WorkerId) {
        while self.plan.steps[0].feed
            && self.workers[worker.slot.index()].alive
            && !self.workers[worker.slot.index()].doomed
            && !self.told.is_exhausted
            && !self.told.is_asked
        {
            if self.chance(self.faults.deaths / 4) {
                return self.die(worker);
            }
            let outputs = self.bring(worker);
            let is_last = self.to_produce == 0 && self.rng.random();
            let must_end = self.to_produce == 0 && self.told.sent.is_empty();
            if outputs.is_empty() && !is_last && !must_end {
                // Of the others it will be told.
                return;
            }
            self.told.is_exhausted = is_last || must_end;
            let next = if self.told.is_exhausted { Next::Done } else { Next::More };
            let production = Production { result: Some(Ok(next)), calls: 1, busy: Duration::ZERO };
            let at = self.workers[worker.slot.index()].busy_until.max(self.now) + self.delay();
            self.workers[worker.slot.index()].busy_until = at;
            self.send_at(at, Some(worker), Input::Produced { worker, production, outputs });
            self.cancel_one(worker);
            if self.rng.random_ratio(1, 3) && !self.told.sent.is_empty() {
                return;
            }
        }
    }

    fn bring(&mut self, worker: WorkerId) -> Vec<Output> {
        let options = &self.plan.steps[0].options;
        let (window, most_bytes) = (*options.window, options.window_bytes.unwrap_or(u64::MAX));
        let mut outputs = OutputBuffer::default();
        let wanted = self.rng.random_range(0..6).max(usize::from(self.told.sent.is_empty()));
        for _ in 0..(wanted as u64).min(self.to_produce) {
            let bytes: u64 = self.told.sent.values().sum();
            // None is longer than this.
            let fits = bytes + 216 <= most_bytes || self.told.sent.is_empty();
            if self.told.sent.len() >= window || !fits {
                break;
            }
            let hops = self.rng.random_range(3..12);
            let (origin, before) = (self.new_origin(), outputs.bytes());
            let item = self.new_item();
            self.draw_priority(&mut outputs);
            self.output(worker, hops, item, &origin, &mut outputs);
            self.told.sent.insert(item, (outputs.bytes() - before) as u64);
            self.to_produce -= 1;
        }
        outputs.take()
    }

    /// Emits results of an item.
    pub(super) fn hand_back(&mut self, item: u64, outputs: &mut OutputBuffer) {
        for _ in 0..self.rng.random_range(0..3) {
            let token = Token { id: self.next_token, hops: 0 };
            self.next_token += 1;
            let size = [0, 10, 200][self.rng.random_range(0..3)];
            outputs.push_item(RouteId::RESULTS.0, item, None, token.payload(size));
        }
    }

    /// Sometimes takes an item that an earlier run has done out of a report.
    pub(super) fn skip(&mut self, input: &mut Input) {
        if let Input::Produced { worker, outputs, .. } = input
            && self.is_told()
            && !outputs.is_empty()
            && self.router.is_heard(*worker)
            && !self.router.is_over()
            && self.rng.random_ratio(1, 20)
            && let Output::One { item, origin, .. } = outputs.remove(0)
        {
            self.router.skipped(*worker, vec![(item, origin.clone())]);
            let (is_skipped, is_late, bytes) = (true, false, 0);
            self.told.taken.insert(item, Taken { origin, bytes, is_skipped, is_late });
        }
    }

    /// Notes the items that a report of the producer brings. Returns whether they enter the run.
    pub(super) fn take_items(&mut self, outputs: &[Output]) -> bool {
        let is_late = self.plan.steps[0].feed && self.router.ending.is_draining();
        for output in outputs {
            if let Output::One { item, origin, payload, .. } = output
                && *item != NO_ITEM
                && !self.router.is_over()
            {
                let (origin, bytes) = (origin.clone(), payload.len() as u64);
                let taken = Taken { origin, bytes, is_skipped: false, is_late };
                assert!(self.told.taken.insert(*item, taken).is_none());
            }
        }
        !is_late
    }

    /// Notes which item a committed output descends from. Returns whether it is a message; what
    /// descends from a cancelled item is not taken.
    pub(super) fn descends(&mut self, output: &Output) -> bool {
        if let Output::One { route, item, payload, .. } = output
            && *item != NO_ITEM
        {
            if self.told.cancelled.contains(item) {
                return false;
            }
            let is_result = *route == RouteId::RESULTS;
            let of = if is_result { &mut self.told.results } else { &mut self.told.tokens };
            of.entry(*item).or_default().push(Token::of(payload).id);
            return !is_result;
        }
        true
    }

    /// I11, I15: no message of an acknowledged item is given out; none goes to a step with
    /// results while the producer has as many bytes of them as it may have.
    pub(super) fn check_given(&self, worker: WorkerId, messages: &[Message]) {
        let step = &self.plan.steps[self.router.position(worker).0.index()];
        let most = self.plan.steps[0].options.window_bytes.unwrap_or(u64::MAX);
        let has_producer = self.router.acknowledging.is_some();
        if *step.options.results && has_producer {
            assert!(self.told.unreleased < most, "I15: the results that were given are many");
        }
        for message in messages {
            let token = Token::of(&message.payload).id;
            assert!(!self.given_up.contains(&token), "I16: an operator has cancelled {token}");
        }
        for message in messages.iter().filter(|message| message.item != NO_ITEM && has_producer) {
            assert!(self.told.taken.contains_key(&message.item), "I11: {}", message.item);
            assert!(!self.told.cancelled.contains(&message.item), "I16: {}", message.item);
        }
    }

    /// I15: the items that are under way fit into the window.
    pub(super) fn check_window(&self) {
        let options = &self.plan.steps[0].options;
        let counted = self.told.taken.values().filter(|item| !item.is_skipped && !item.is_late);
        let count = counted.clone().count();
        assert!(count <= *options.window, "I15: {count} items");
        if self.plan.steps[0].feed {
            let bytes: u64 = counted.map(|item| item.bytes).sum();
            let most = options.window_bytes.unwrap_or(u64::MAX);
            assert!(bytes <= most || count == 1, "I15: {bytes} bytes");
        }
    }

    pub(super) fn acknowledged(&mut self, worker: WorkerId, items: Vec<Acknowledgement>) {
        let mut bytes = 0;
        for item in items {
            bytes += item.result_bytes();
            self.check_outcome(&item);
            self.told.sent.remove(&item.number);
        }
        if bytes > 0 {
            self.told.unreleased += bytes;
            self.after_delay(Some(worker), Input::Released { worker, bytes });
        }
        self.cancel_one(worker);
        self.feed(worker);
        self.end_feed(worker);
    }

    pub(super) fn released(&mut self, bytes: u64) {
        self.told.unreleased -= bytes;
    }

    /// I11: each item is acknowledged once, with the outcome that its messages had.
    fn check_outcome(&mut self, item: &Acknowledgement) {
        let number = item.number;
        let taken = self.told.taken.remove(&number).expect("I11: acknowledged twice, or not taken");
        assert_eq!(taken.origin, item.origin);
        let ids = self.told.tokens.remove(&number).unwrap_or_default();
        let known = self.told.results.remove(&number).unwrap_or_default();
        let undone = ids.iter().filter(|id| self.committed[id] == 0).count();
        let was_cancelled = self.told.cancelled.contains(&number);
        let is_exact = self.faults.deaths + self.faults.cancels == 0 && !self.stopped_now;
        match &item.outcome {
            Acknowledged::Done { results } => {
                let ids = results.payloads.iter().map(|payload| Token::of(payload).id);
                assert_eq!(ids.collect::<BTreeSet<_>>(), BTreeSet::from_iter(known));
                assert_eq!(undone, 0, "I11: {number} is not done");
                assert!(!was_cancelled, "I16: {number}");
                self.seen.told[0] += 1;
            }
            Acknowledged::Failed { entry, attempts, .. } => {
                assert!(undone > 0 || !is_exact, "I11: {number} has not failed");
                assert!(*attempts > 0 && entry.as_ref().is_none_or(|name| name.contains('-')));
                self.seen.told[1] += 1;
            }
            Acknowledged::Dropped => {
                assert!(undone > 0 || !is_exact || taken.is_late, "I11: {number} was not dropped");
                assert!(self.router.ending.is_draining(), "I11: {number} was dropped");
                assert!(!was_cancelled, "I16: {number}");
                self.seen.told[2] += 1;
            }
            Acknowledged::Cancelled => {
                assert!(was_cancelled, "I16: nobody has cancelled {number}");
                self.seen.told[3] += 1;
            }
        }
        assert!(!taken.is_skipped || matches!(item.outcome, Acknowledged::Done { .. }));
    }

    /// Has a feed finish that was asked to, when it was told of all that it has sent.
    pub(super) fn end_feed(&mut self, worker: WorkerId) {
        let is_ready = self.told.is_asked && self.told.sent.is_empty();
        if !is_ready || self.workers[worker.slot.index()].doomed {
            return;
        }
        self.told.is_asked = false;
        if self.chance(self.faults.deaths) {
            return self.die(worker);
        }
        let at = self.workers[worker.slot.index()].busy_until.max(self.now) + self.delay();
        let input = Input::Finished { worker, result: Ok(()), outputs: Vec::new() };
        self.send_at(at, Some(worker), input);
        self.told.is_exhausted = true;
    }

    pub(super) fn ask_feed(&mut self, worker: WorkerId) {
        self.told.is_asked = true;
        self.end_feed(worker);
    }

    /// A producer that finishes was told of all its items.
    pub(super) fn check_told(&self) {
        let open = self.told.taken.keys().collect::<Vec<_>>();
        assert!(open.is_empty(), "I11: nobody was told of {open:?}\n{}", self.state());
    }

    /// Nobody is told what becomes of the items of a producer that is lost, and what it has
    /// cancelled while it was in a worker's hands counts like anything else.
    pub(super) fn producer_is_lost(&mut self) {
        self.told.cancelled.clear();
        self.told.taken.clear();
        self.told.sent.clear();
    }
}

#[test]
fn a_producer_is_told_once_what_became_of_each_item() {
    let told = Faults { told: true, ..Faults::default() };
    simulate("told", 2000, told);
    let faults = Faults { failures: 100, deaths: 50, ..told };
    simulate("told, with faults", 2000, faults);
    simulate("told, failures only", 1000, Faults { failures: 150, ..told });
    simulate("told, stopped", 2000, Faults { stops: 500, steering: 500, ..faults });
    simulate("told, in order", 1000, Faults { ordered: true, ..faults });
    simulate("told, one by one", 1000, Faults { one_by_one: true, ..faults });
}

#[test]
fn a_feed_brings_items_within_its_window_and_is_told_of_each() {
    let fed = Faults { told: true, fed: true, ..Faults::default() };
    simulate("fed", 3000, fed);
    let faults = Faults { failures: 100, deaths: 50, ..fed };
    simulate("fed, with faults", 3000, faults);
    simulate("fed, failures only", 1000, Faults { failures: 150, ..fed });
    let stops = Faults { stops: 500, steering: 500, init_failures: 20, ..faults };
    simulate("fed, stopped", 3000, stops);
    simulate("fed, in order", 1000, Faults { ordered: true, ..faults });
    simulate("fed, one by one", 1000, Faults { one_by_one: true, ..stops });
}
