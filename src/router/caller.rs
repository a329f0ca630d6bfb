//! The end of a run whose caller has gone: the program that has started it and provides workers.

use super::{Phase, ProducerState, Refusal, Router, State};
use crate::base::ids::{Slot, StepId};

impl Router {
    /// Ends the run as a drain does, for this reason: its caller has gone, and the workers of open
    /// steps with it. They have nothing to finish. What the other steps still send them fails.
    ///
    /// # Errors
    /// If the run loses something with them.
    pub(super) fn caller_gone(&mut self, reason: &str) -> Result<(), Refusal> {
        if !self.state.has_started() {
            return Err(Refusal::Starting);
        }
        let open: Vec<StepId> =
            self.steps.ids().filter(|step| self.steps[*step].plan.is_open).collect();
        let slots = |step: &StepId| self.steps[*step].workers.clone();
        let workers: Vec<Slot> = open.iter().flat_map(slots).collect();
        let have_gathered = workers.iter().any(|slot| self.workers[*slot].kept > 0);
        if !self.groups.are_empty() || have_gathered {
            return Err(Refusal::AtWork);
        }
        if self.may_produce() {
            self.ending.interrupt();
            self.drain(reason);
        }
        if self.feed().is_some() {
            self.end_acknowledging();
        }
        self.ending.caller_is_gone = true;
        for slot in workers {
            self.workers[slot].producer = ProducerState::Exhausted;
            match self.workers[slot].state {
                State::Gone => {}
                State::Spare => self.workers[slot].state = State::Gone,
                _ => self.stop_worker(slot),
            }
        }
        for step in open {
            if self.steps[step].phase != Phase::Finished {
                self.end_finish(step);
            }
        }
        Ok(())
    }

    /// Whether a producer may emit more.
    fn may_produce(&self) -> bool {
        let producers = self.steps.iter().filter(|step| step.is_producer());
        let mut workers = producers.flat_map(|step| &step.workers);
        workers.any(|slot| {
            let worker = &self.workers[*slot];
            worker.state != State::Gone && worker.producer != ProducerState::Exhausted
        })
    }
}
