//! The progress of a run, and the time left.
//!
//! The load of a step is what waits for it or is in its hands, what other steps will send it, and
//! what the producer will still produce, in the proportions of the messages so far. Each message
//! takes a worker as long as messages have taken so far. The run waits for the step that needs the
//! longest, and then for the last message to pass the steps after it.

use super::pace::Pace;
use super::state::{State, Status};
use crate::event::{StepPlan, StepStatus};
use crate::stage::registry::Kind;

/// The fewest messages whose rate is trusted: unlike the cost of single messages, it also counts
/// the time between them.
const MIN_FOR_RATE: u64 = 30;
/// From this number of rounds on, a last round with idle workers does not matter.
const MANY_ROUNDS: f64 = 10.0;

/// What a step still has to do, and where its messages go.
#[derive(Debug, Default)]
struct Flow {
    /// Messages that wait at the step or are in its hands, or that it will produce.
    own: f64,
    /// Its edges: the next step, messages sent for each message that ended, and whether the edge
    /// closes a loop.
    edges: Vec<(usize, f64, bool)>,
}

/// Messages that wait for room in the step's queue.
fn held_before(status: &Status, to: &StepPlan) -> u64 {
    let steps = status.opened.plan.iter().zip(&status.snapshot.steps);
    let of = |(plan, step): (&StepPlan, &StepStatus)| -> u64 {
        let edges = plan.next_steps.iter().zip(&step.held);
        edges.filter(|(next, _)| next.name == to.name).map(|(_, held)| held).sum()
    };
    steps.map(of).sum()
}

/// How many messages have ended at the step: a producer's end when it emits them.
fn ended(plan: &StepPlan, step: &StepStatus) -> u64 {
    match plan.kind {
        Kind::Producer => step.counts.emitted,
        _ => step.counts.done + step.counts.failed + step.counts.dropped,
    }
}

/// How many messages the producers expect to emit in this run, if all of them know.
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

/// How many of the emitted messages are finished: nothing that descends from them waits or is in
/// hand. Where a step makes several messages of one, each counts as a part of it.
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

/// The estimated time until the run ends, in seconds, if it is known.
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
    // The time of the last message from a step to the end of the run.
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

/// The flow of each step; none if a producer does not know how much it will emit.
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
                // Nothing is known yet; most steps pass on what they get.
                0 => f64::from(u8::from(route == 0)),
                _ => sent as f64 / ended as f64,
            };
            Some((to, ratio, next.feedback))
        });
        Some(Flow { own: own as f64, edges: edges.collect() })
    };
    plan.iter().zip(&status.snapshot.steps).map(flow).collect()
}

/// How many messages each step processes until the end.
fn loads(flows: &[Flow]) -> Vec<f64> {
    let mut moving: Vec<f64> = flows.iter().map(|flow| flow.own).collect();
    let mut loads = moving.clone();
    // On a loop there is less each time around.
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

/// How long the step's workers need for a load of messages.
fn time_of(load: f64, cost: f64, step: &StepStatus) -> f64 {
    let workers = step.workers.max(1) as f64;
    let rounds = load / workers;
    let rounds = if rounds < MANY_ROUNDS { (rounds - 1e-3).ceil().max(0.0) } else { rounds };
    let at_work = workers.min(load.ceil()).max(1.0);
    let begun = (step.running.as_secs_f64() / at_work).min(cost);
    (rounds * cost - begun).max(0.0)
}

/// The same by the rate of messages, without the time in which the step was held back; 0 if there
/// are too few. Messages may come in bursts, so the better of the last seconds and of the time
/// before counts.
fn by_rate(index: usize, loads: &[f64], pace: &Pace) -> f64 {
    let now = pace.of(index);
    let before = pace.cost(index, true).unwrap_or(0.0);
    match now.count {
        0..MIN_FOR_RATE => 0.0,
        _ => loads[index] * ((1.0 - now.held) / now.rate).min(before),
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
