//! What comes next at the end of a group of steps that ends together. The run is over when the
//! last group is (`router/groups`).

use crate::base::ids::{Slot, StepId};
use crate::router::step::{Phase, Step, Steps};
use crate::router::worker::{ProducerState, State};
use crate::router::workers::Workers;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::router) enum Decision {
    /// Let the step's workers finish.
    Finish(StepId),
    /// The step's last worker has finished.
    Finished(StepId),
    /// All steps of the group have finished.
    GroupOver,
    /// Something is still to be done or awaited.
    Wait,
}

/// What follows in a group for which nothing is queued, held or in hand, and nothing more
/// can come from before it. Its steps finish one after the other, in the order of the plan.
pub(in crate::router) fn next(
    group: &[StepId],
    steps: &Steps,
    workers: &Workers,
    is_draining: bool,
) -> Decision {
    let Some(step) = group.iter().copied().find(|step| steps[*step].phase != Phase::Finished)
    else {
        return Decision::GroupOver;
    };
    let is_gone = |slot: &Slot| workers[*slot].state == State::Gone;
    match steps[step].phase {
        Phase::Running if is_producing(&steps[step], workers, is_draining) => Decision::Wait,
        Phase::Running => Decision::Finish(step),
        Phase::Finishing if steps[step].workers.iter().all(is_gone) => Decision::Finished(step),
        Phase::Finishing | Phase::Finished => Decision::Wait,
    }
}

/// Whether the step is a producer that may emit more.
fn is_producing(step: &Step, workers: &Workers, is_draining: bool) -> bool {
    step.is_producer()
        && !is_draining
        && step.workers.iter().any(|slot| {
            let worker = &workers[*slot];
            worker.state != State::Gone && worker.producer != ProducerState::Exhausted
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::testing::{step_of, workers_of};

    const STEP: StepId = StepId(0);

    #[test]
    fn a_step_finishes_then_has_finished_then_its_group_is_over() {
        use Phase::{Finished, Finishing, Running};
        use State::{Gone, Ready};
        let cases = [
            (Running, Ready, Decision::Finish(STEP)),
            (Finishing, Ready, Decision::Wait),
            (Finishing, Gone, Decision::Finished(STEP)),
            (Finished, Gone, Decision::GroupOver),
        ];
        for (phase, state, expected) in cases {
            let mut step = step_of(1);
            step.phase = phase;
            let found = next(&[STEP], &Steps::new(vec![step]), &workers_of(&[state]), false);
            assert_eq!(found, expected, "{phase:?}, {state:?}");
        }
    }

    #[test]
    fn a_producer_finishes_once_it_is_exhausted_or_gone_or_the_run_takes_no_more() {
        let (idle, exhausted) =
            (ProducerState::Idle(std::time::Duration::ZERO), ProducerState::Exhausted);
        let cases = [
            (idle, State::Ready, false, Decision::Wait),
            (idle, State::Ready, true, Decision::Finish(STEP)),
            (idle, State::Gone, false, Decision::Finish(STEP)),
            (exhausted, State::Ready, false, Decision::Finish(STEP)),
        ];
        for (producer, state, is_draining, expected) in cases {
            let (mut step, mut workers) = (step_of(1), workers_of(&[state]));
            step.plan.kind = crate::stage::registry::Kind::Producer;
            workers[Slot(0)].producer = producer;
            let found = next(&[STEP], &Steps::new(vec![step]), &workers, is_draining);
            assert_eq!(found, expected, "{producer:?}, {state:?}, {is_draining}");
        }
    }

    #[test]
    fn steps_on_a_loop_finish_one_after_the_other() {
        let steps = || Steps::new(vec![step_of(0), step_of(0)]);
        let (group, workers) = ([StepId(0), StepId(1)], workers_of(&[]));
        let mut first_done = steps();
        first_done[StepId(0)].phase = Phase::Finished;
        assert_eq!(next(&group, &steps(), &workers, false), Decision::Finish(StepId(0)));
        assert_eq!(next(&group, &first_done, &workers, false), Decision::Finish(StepId(1)));
    }
}
