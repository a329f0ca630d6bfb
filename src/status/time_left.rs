//! How far a run is, and the time that is left.
//!
//! What is left for a step is what waits for it or is in its hands, what other steps will
//! send it of what they have left, and what the producer has not produced yet, in the
//! proportions in which messages have gone so far. Each message takes a worker of the step
//! as long as messages have taken so far. The step that needs the longest is the one that
//! the run waits for, and then for the last message's way through the steps behind it.

use super::pace::Pace;
use super::state::{State, Status};
use crate::event::{StepPlan, StepStatus};
use crate::stage::registry::Kind;

/// A rate of so many messages is as good as what single messages cost, and counts what is
/// between the messages too.
const MANY: u64 = 30;
/// From here on it does not matter that a step's last round may not be a full one.
const ROUNDS: f64 = 10.0;

/// A step as far as the time left depends on it.
#[derive(Debug, Default)]
struct Flow {
    /// Messages that are its own to do, or to produce.
    own: f64,
    /// Where they go: the step, messages sent for each that has ended, and whether it
    /// closes a loop.
    edges: Vec<(usize, f64, bool)>,
}

/// The messages that wait for room in the step's queue.
fn held_before(status: &Status, to: &StepPlan) -> u64 {
    let steps = status.opened.plan.iter().zip(&status.snapshot.steps);
    let of = |(plan, step): (&StepPlan, &StepStatus)| -> u64 {
        let edges = plan.next_steps.iter().zip(&step.held);
        edges.filter(|(next, _)| next.name == to.name).map(|(_, held)| held).sum()
    };
    steps.map(of).sum()
}

/// How many of a producer's messages have ended, of which it has emitted `emitted`; a
/// step's, of which it has.
fn ended(plan: &StepPlan, step: &StepStatus) -> u64 {
    match plan.kind {
        Kind::Producer => step.counts.emitted,
        _ => step.counts.done + step.counts.failed + step.counts.dropped,
    }
}

/// How many messages the producers expect to emit in this run, if all know it.
pub(crate) fn expected(status: &Status) -> Option<u64> {
    let producers = status.opened.plan.iter().filter(|step| step.kind == Kind::Producer);
    let mut all = producers.map(|step| status.expected.get(&step.name).copied()).peekable();
    all.peek()?;
    let all: u64 = all.sum::<Option<u64>>()?;
    Some(all.saturating_sub(status.skipped).max(emitted(status)))
}

/// How many messages the producers have emitted.
pub(crate) fn emitted(status: &Status) -> u64 {
    let steps = status.opened.plan.iter().zip(&status.snapshot.steps);
    let producers = steps.filter(|(plan, _)| plan.kind == Kind::Producer);
    producers.map(|(_, step)| step.counts.emitted).sum()
}

/// How many of the messages emitted are done with: nothing that descends from them waits,
/// or is in hand. Where a step makes several out of one, each of them is a part of it.
pub(crate) fn finished(status: &Status) -> u64 {
    let plan = &status.opened.plan;
    let steps = &status.snapshot.steps;
    let mut pieces = vec![1.0_f64; plan.len()];
    let mut open = 0.0;
    for (index, (step, now)) in plan.iter().zip(steps).enumerate() {
        if step.kind != Kind::Producer {
            let waiting = now.counts.open() + held_before(status, step);
            open += waiting as f64 / pieces[index];
        }
        let done = if step.kind == Kind::Producer { 0 } else { now.counts.done };
        let each = if done > 0 { now.counts.emitted as f64 / done as f64 } else { 1.0 };
        for next in step.next_steps.iter().filter(|next| !next.feedback) {
            if let Some(to) = plan.iter().position(|other| other.name == next.name) {
                pieces[to] = pieces[to].max(pieces[index] * each.max(1.0));
            }
        }
    }
    let emitted = emitted(status);
    (emitted as f64 - open + 1e-6).max(0.0) as u64
}

/// How long the run will go on, in seconds, if that can be told.
pub(crate) fn time_left(status: &Status, pace: &Pace) -> Option<f64> {
    let Status { state, snapshot, .. } = status;
    let stands = matches!(state, State::Ended | State::Starting) || snapshot.paused;
    if stands || snapshot.steps.is_empty() {
        return None;
    }
    let flows = flows(status)?;
    let loads = loads(&flows);
    let mut longest = 0.0_f64;
    let mut all = 0.0;
    // From a step's end to that of the run: the last message's way.
    let mut ways = vec![0.0_f64; flows.len()];
    let rows = status.opened.plan.iter().zip(&status.snapshot.steps).enumerate();
    for (index, (plan, step)) in rows.rev() {
        let edges = flows[index].edges.iter();
        let ahead = edges.filter(|(_, ratio, loop_)| *ratio > 0.0 && !loop_);
        let on = plan.kind == Kind::Producer && !status.opened.sequential;
        let cost = pace.cost(index, on);
        let way = ahead.map(|(to, ..)| ways[*to]).fold(0.0, f64::max);
        ways[index] = way + cost.unwrap_or(0.0);
        if loads[index] < 1e-3 {
            continue;
        }
        if step.paused {
            return None;
        }
        let cost = cost?;
        all += loads[index] * cost;
        let time = time_of(loads[index], cost, step).max(by_rate(index, &loads, pace));
        longest = longest.max(time + way);
    }
    Some(if status.opened.sequential { all } else { longest })
}

/// What each step has to do, and where it goes from there; none if nobody knows how much
/// there will be.
fn flows(status: &Status) -> Option<Vec<Flow>> {
    let plan = &status.opened.plan;
    let flow = |(this, step): (&StepPlan, &StepStatus)| {
        let own = match this.kind {
            Kind::Producer if step.finished || status.state == State::Draining => 0,
            Kind::Producer => {
                let expected = *status.expected.get(&step.name)?;
                expected.saturating_sub(step.counts.emitted + status.skipped)
            }
            _ => step.counts.open() + held_before(status, this),
        };
        let ended = ended(this, step);
        let edges = this.next_steps.iter().enumerate().filter_map(|(route, next)| {
            let to = plan.iter().position(|other| other.name == next.name)?;
            let sent = step.sent.get(route).copied().unwrap_or_default();
            let ratio = match ended {
                // Nothing is known yet: most pass on what they get.
                0 => f64::from(u8::from(route == 0)),
                _ => sent as f64 / ended as f64,
            };
            Some((to, ratio, next.feedback))
        });
        Some(Flow { own: own as f64, edges: edges.collect() })
    };
    plan.iter().zip(&status.snapshot.steps).map(flow).collect()
}

/// How many messages each step has to do to the end.
fn loads(flows: &[Flow]) -> Vec<f64> {
    let mut moving: Vec<f64> = flows.iter().map(|flow| flow.own).collect();
    let mut loads = moving.clone();
    // On a loop there is less each time round.
    for _ in 0..flows.len() + 64 {
        let mut next = vec![0.0; flows.len()];
        for (flow, moving) in flows.iter().zip(&moving) {
            for (to, ratio, _) in &flow.edges {
                next[*to] += moving * ratio;
            }
        }
        loads.iter_mut().zip(&next).for_each(|(load, more)| *load += more);
        moving = next;
        if moving.iter().sum::<f64>() < 1e-3 {
            break;
        }
    }
    loads
}

/// How long the step's workers need for so many messages.
fn time_of(load: f64, cost: f64, step: &StepStatus) -> f64 {
    let workers = step.workers.max(1) as f64;
    let rounds = load / workers;
    let rounds = if rounds < ROUNDS { (rounds - 1e-3).ceil().max(0.0) } else { rounds };
    let at_work = workers.min(load.ceil()).max(1.0);
    let begun = (step.running.as_secs_f64() / at_work).min(cost);
    (rounds * cost - begun).max(0.0)
}

/// The same at the rate at which messages have gone, the time in which it was held back left
/// out, where that is made of enough messages. They may come in bursts: what counts is the
/// better one of the last seconds and of the time before.
fn by_rate(index: usize, loads: &[f64], pace: &Pace) -> f64 {
    let now = pace.of(index);
    let before = pace.cost(index, true).unwrap_or(0.0);
    match now.count {
        0..MANY => 0.0,
        _ => loads[index] * ((1.0 - now.held) / now.rate).min(before),
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
