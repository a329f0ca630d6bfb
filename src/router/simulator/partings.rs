//! Runs whose caller goes.

use super::*;

impl Simulator {
    /// The caller goes: the run ends in order if nothing is lost by that, and else at once.
    pub(super) fn part(&mut self) {
        let is_something_open = !self.router.groups.are_empty();
        let request = ControlRequest::CallerGone { reason: "simulated".into() };
        match self.router.control(request, self.now) {
            Ok(_) => {
                assert!(!is_something_open);
                self.seen.partings += 1;
                if self.plan.steps[0].is_open {
                    self.producer_is_lost();
                }
            }
            Err(_) => {
                self.stopped_now = true;
                self.router.handle(Input::Abandon { reason: "simulated".into() }, self.now);
            }
        }
    }
}

#[test]
fn a_run_whose_caller_goes_while_nothing_is_open_ends_in_order() {
    let partings = Faults { partings: 1000, ..Faults::default() };
    simulate("left", 3000, partings);
    let fed = Faults { told: true, fed: true, ..partings };
    simulate("left, fed", 3000, fed);
    let faults = Faults { failures: 100, deaths: 50, stops: 200, steering: 500, ..partings };
    simulate("left, with faults", 3000, faults);
    let faults = Faults { told: true, fed: true, init_failures: 20, ..faults };
    simulate("left, fed, with faults", 3000, faults);
    simulate("left, one by one", 1000, Faults { one_by_one: true, ..faults });
}
