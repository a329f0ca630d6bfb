//! Which step limits the pace of a run: the one whose workers are busy for the largest part of
//! their time, if that is at least half of it.

use super::pace::StepPace;
use crate::event::StepStatus;

/// How busy the workers of a step must be at least for it to be a bottleneck: below half of
/// their time, the run waits for something else.
pub(super) const BUSY_ENOUGH: f64 = 0.5;
/// The part of the time that workers wait for room from which on a step is held back.
pub(super) const HELD_BACK: f64 = 0.3;

/// Finds the bottleneck of a run under way, by its place in the plan. A step that a full queue
/// holds back never is one.
pub(super) fn now<'s>(
    steps: impl Iterator<Item = (&'s StepStatus, &'s StepPace)>,
) -> Option<usize> {
    let candidates = steps
        .enumerate()
        .filter(|(_, (step, pace))| pace.held < HELD_BACK && !step.finished && !step.paused);
    busiest(candidates.map(|(index, (_, pace))| (index, pace.utilisation)))
}

/// Finds the bottleneck of a run that has ended. `utilisations` are the parts of their time that
/// the workers of each step were busy, 0 to 1.
pub(crate) fn of_whole_run(utilisations: impl Iterator<Item = f64>) -> Option<usize> {
    busiest(utilisations.enumerate())
}

fn busiest(candidates: impl Iterator<Item = (usize, f64)>) -> Option<usize> {
    candidates
        .filter(|(_, utilisation)| *utilisation >= BUSY_ENOUGH)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(index, _)| index)
}
