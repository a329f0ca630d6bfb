//! Stages that put messages off.

use std::time::Duration;

use rand::RngExt;

use super::*;
use crate::protocol::report::{Completion, Outcome};

impl Simulator {
    /// Puts a message off; sometimes for a time that the stage names.
    pub(super) fn put_off(&mut self) -> Outcome {
        let wait = if self.rng.random() { Duration::ZERO } else { self.delay() * 1000 };
        Outcome::Deferred { wait, why: Failure::retryable("simulated") }
    }

    pub(super) fn count_deferred(&mut self, completions: &[Completion]) {
        let is_deferred = |one: &&Completion| matches!(one.outcome, Outcome::Deferred { .. });
        self.seen.deferred += completions.iter().filter(is_deferred).count() as u64;
    }

    /// I13: a message is given up in vain only if nothing is under way or awaited, and the producer
    /// can bring nothing. `others` are given up in the same poll.
    pub(super) fn check_in_vain(&mut self, others: usize) {
        self.seen.in_vain += 1;
        let under_way = self.pending.iter().find(|Reverse(pending)| self.could_help(pending));
        let input = under_way.map(|Reverse(pending)| &pending.input);
        assert!(input.is_none(), "I13: {input:?}\n{}", self.state());
        let Router { steps, workers, .. } = &self.router;
        for (id, step) in steps.ids().zip(steps.iter()) {
            assert!(!steps.is_paused(id), "I13: {} is paused", step.name);
            assert!(!step.queue.has_later_retry(self.now), "I13: a retry of {}", step.name);
        }
        let producer = &workers[Slot(0)];
        let is_idle = matches!(producer.producer, ProducerState::Idle(_));
        if is_idle && producer.state == State::Ready && !self.router.ending.is_draining() {
            let routes = self.plan.steps[0].routes.iter().filter(|route| !route.feedback);
            // So it was before these were given up, too.
            let has_room = |to: usize| {
                let options = &self.plan.steps[to].options;
                steps[StepId::at(to)].queue.len() == 0
                    && options.queue_limit.is_none_or(|limit| limit > others)
                    && options.queue_bytes.is_none()
            };
            let has_room = routes.map(|route| route.to).all(has_room);
            let is_held_back = !has_room
                || producer.holds()
                || self.router.window_room(StepId(0)) == 0
                || self.router.observers.order.is_some();
            assert!(is_held_back, "I13: the producer could bring more\n{}", self.state());
        }
    }

    /// Whether an input that is under way could bring what a deferred message waits for.
    fn could_help(&self, pending: &Pending) -> bool {
        let Some(worker) = pending.sender else { return false };
        let Incarnation { epoch, alive, doomed, .. } = self.workers[worker.slot.index()];
        let is_heard = epoch == worker.epoch && alive;
        let is_lost_producer = doomed && self.router.is_producer(worker);
        is_heard
            && !is_lost_producer
            && match pending.input {
                Input::Released { .. } | Input::Cancelled { .. } => false,
                // What a feed sends when the run takes no more is no item.
                Input::Produced { ref outputs, .. } if self.faults.fed => {
                    !outputs.is_empty() && !self.router.ending.is_draining()
                }
                _ => true,
            }
    }
}

#[test]
fn a_run_with_deferred_messages_ends_and_gives_none_up_that_could_go_on() {
    let deferrals = Faults { deferrals: 300, ..Faults::default() };
    simulate("deferred", 3000, deferrals);
    let faults = Faults { failures: 100, deaths: 50, ..deferrals };
    simulate("deferred, with faults", 2000, faults);
    let stops = Faults { stops: 300, steering: 700, init_failures: 10, ..faults };
    simulate("deferred, stopped", 2000, stops);
    simulate("deferred, in order", 1000, Faults { ordered: true, ..deferrals });
    simulate("deferred, in order, with faults", 1000, Faults { ordered: true, ..stops });
    simulate("deferred, one by one", 1000, Faults { one_by_one: true, ..faults });
}

#[test]
fn items_with_deferred_messages_are_acknowledged_once() {
    let told = Faults { told: true, deferrals: 300, ..Faults::default() };
    simulate("deferred, told", 2000, told);
    let faults = Faults { failures: 100, deaths: 50, ..told };
    simulate("deferred, told, with faults", 1000, faults);
    let fed = Faults { fed: true, ..told };
    simulate("deferred, fed", 2000, fed);
    let stops = Faults { fed: true, stops: 300, steering: 500, cancels: 300, ..faults };
    simulate("deferred, fed, stopped and cancelled", 2000, stops);
    simulate("deferred, fed, in order", 1000, Faults { ordered: true, ..stops });
}
