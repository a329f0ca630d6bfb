//! Items that their producer or an operator cancels.

use rand::RngExt;

use super::items::Taken;
use super::plans::Token;
use super::*;
use crate::protocol::report::{Blame, Suspect};

impl Simulator {
    /// Has the producer cancel some item, now and then.
    pub(super) fn cancel_one(&mut self, worker: WorkerId) {
        if self.chance(self.faults.cancels) {
            let number = self.rng.random_range(0..=self.told.latest + 1);
            let (at, running) = (self.now + self.delay() * 3, self.rng.random());
            self.send_at(at, Some(worker), Input::Cancelled { worker, number, running });
        }
    }

    /// Notes what the router must do about a request to cancel.
    pub(super) fn cancels(&mut self, number: u64, running: bool) {
        let is_open = |item: &Taken| !item.is_skipped && !item.is_late;
        let is_open = self.told.taken.get(&number).is_some_and(is_open);
        let mut in_hand = self.router.workers.iter().flat_map(|worker| &worker.in_hand);
        let is_ended =
            self.router.acknowledging.as_ref().is_none_or(|all| {
                self.router.workers.slots().all(|slot| !all.is_open(slot, number))
            });
        if !is_open || is_ended || (!running && in_hand.any(|batch| batch.item() == number)) {
            *self.told.refused.entry(number).or_default() += 1;
        } else {
            self.told.cancelled.insert(number);
        }
    }

    pub(super) fn not_cancelled(&mut self, number: u64) {
        let refused = self.told.refused.get_mut(&number).expect("I16: it should be cancelled");
        *refused = refused.checked_sub(1).expect("I16: it should be cancelled");
    }

    /// Ends a worker that is a process, when it is at a message of a cancelled item.
    pub(super) fn end_worker(&mut self, worker: WorkerId, message: MessageId) {
        if self.workers[worker.slot.index()].doomed || self.rng.random() {
            return;
        }
        self.workers[worker.slot.index()].doomed = true;
        let (suspect, blame) = (Suspect::Message(message), Blame::Request);
        let loss = Loss { reason: "simulated".into(), cause: Cause::Cancelled, suspect, blame };
        let at = self.now + self.delay();
        self.send_at(at, Some(worker), Input::Lost { worker, loss });
    }

    /// Has an operator cancel what descends from some origin.
    pub(super) fn cancel_origin(&mut self) {
        let origin: Arc<str> = format!("item {}", self.rng.random_range(0..40)).into();
        let running = self.rng.random();
        let UnderWay { waiting, in_hand, items } = self.under_way(&origin);
        let request = ControlRequest::Cancel { origin: origin.to_string(), running };
        match self.router.control(request, self.now) {
            Ok(cancelled) => {
                let expected =
                    Cancelled { waiting: waiting.len() as u64, in_hand: in_hand.len() as u64 };
                assert_eq!(cancelled, Some(expected), "I16: {origin}");
                assert!(running || in_hand.is_empty(), "I16: {origin} is running");
                assert!(self.under_way(&origin).waiting.is_empty(), "I16: {origin} waits");
                self.seen.cancelled += 1;
                self.given_up.extend(waiting.into_iter().chain(in_hand));
                if self.router.acknowledging.is_some() {
                    self.told.cancelled.extend(items);
                }
            }
            Err(Refusal::InHand(..)) => assert!(!running && !in_hand.is_empty(), "I16: {origin}"),
            Err(Refusal::NotUnderWay { .. }) => {
                assert!(waiting.is_empty() && in_hand.is_empty(), "I16: {origin}");
            }
            Err(refusal) => assert_eq!(refusal, Refusal::Over),
        }
    }

    fn under_way(&self, origin: &str) -> UnderWay {
        let mut found = UnderWay::default();
        let is_of_it = |message: &&Message| message.origin.as_deref() == Some(origin);
        let queued = self.router.steps.iter().flat_map(|step| step.queue.messages());
        let deferred = self.router.deferrals.messages().map(|(_, message)| message);
        let queued = queued.chain(deferred);
        let workers = self.router.workers.iter();
        let held = workers.clone().flat_map(Worker::all_held);
        let held = held.filter_map(|held| held.batch.alone());
        let hands = workers.flat_map(|worker| &worker.in_hand).filter_map(Batch::alone);
        let token = |message: &Message| Token::of(&message.payload).id;
        for message in queued.chain(held).filter(is_of_it) {
            found.waiting.insert(token(message));
            found.items.insert(message.item);
        }
        for message in hands.filter(is_of_it) {
            found.in_hand.insert(token(message));
            found.items.insert(message.item);
        }
        found
    }

    /// What the router takes of a report: nothing that descends from what an operator has cancelled
    /// while it was in a worker's hands.
    pub(super) fn without_given_up(&self, outputs: &[Output]) -> Vec<Output> {
        let is_cancelled = |output: &&Output| {
            output.origin().is_some_and(|origin| self.router.cancelled_origins.has(origin))
        };
        outputs.iter().filter(|output| !is_cancelled(output)).cloned().collect()
    }
}

/// The tokens that descend from an origin, and their items.
#[derive(Default)]
struct UnderWay {
    waiting: BTreeSet<u64>,
    in_hand: BTreeSet<u64>,
    items: BTreeSet<u64>,
}

#[test]
fn nothing_more_is_done_for_what_an_operator_has_cancelled() {
    let cancels = Faults { cancels: 700, steering: 1000, ..Faults::default() };
    simulate("cancelled by origin", 3000, cancels);
    let faults = Faults { failures: 100, deaths: 50, ..cancels };
    simulate("cancelled by origin, with faults", 2000, faults);
    simulate("cancelled by origin, stopped", 2000, Faults { stops: 300, ..faults });
    simulate("cancelled by origin, deferred", 1000, Faults { deferrals: 300, ..faults });
    simulate("cancelled by origin, in order", 1000, Faults { ordered: true, ..faults });
    let told = Faults { told: true, ..faults };
    simulate("cancelled by origin, told", 2000, told);
    simulate("cancelled by origin, fed", 2000, Faults { fed: true, stops: 300, ..told });
    simulate("cancelled by origin, one by one", 1000, Faults { one_by_one: true, ..told });
}

#[test]
fn nothing_more_is_done_for_an_item_that_was_cancelled() {
    let cancels = Faults { told: true, fed: true, cancels: 500, ..Faults::default() };
    simulate("cancelled", 3000, cancels);
    let faults = Faults { failures: 100, deaths: 50, ..cancels };
    simulate("cancelled, with faults", 2000, faults);
    let stops = Faults { stops: 300, steering: 500, ..faults };
    simulate("cancelled, stopped", 2000, stops);
    simulate("cancelled, in order", 1000, Faults { ordered: true, ..faults });
    simulate("cancelled, one by one", 1000, Faults { one_by_one: true, ..stops });
}
