//! Runs that are played through in a time of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{
    Counts, Event, EventRecord, NextStep, Opened, Snapshot, StepPlan, StepStatus, WorkerState,
    WorkerStatus,
};
use crate::plan::OnError;
use crate::stage::registry::Kind;
use crate::status::{Status, View};

/// The length of one turn of the game, in milliseconds.
const TURN: u64 = 10;

/// A step, all in milliseconds.
pub(crate) struct Step {
    pub(crate) workers: usize,
    pub(crate) limit: usize,
    /// How long the message of this number takes.
    pub(crate) cost: Box<dyn Fn(u64) -> u64>,
    /// How many messages the message of this number makes.
    pub(crate) makes: Box<dyn Fn(u64) -> u64>,
    /// Where they go, in turn.
    pub(crate) next: Vec<usize>,
    /// Every n-th attempt ends its worker, which then takes the given time to start again.
    pub(crate) kills: Option<(u64, u64)>,
    /// Whether what it takes is waiting, not work.
    pub(crate) idles: bool,
}

#[derive(Clone)]
enum Worker {
    Idle,
    Busy { left: u64, took: u64 },
    Held(VecDeque<usize>),
    Starting(u64),
}

#[derive(Default)]
struct Played {
    queue: u64,
    begun: u64,
    attempts: u64,
    busy: u64,
    counts: Counts,
    sent: Vec<u64>,
    workers: Vec<Worker>,
    most: u64,
}

pub(crate) fn step(workers: usize, limit: usize, cost: u64, next: &[usize]) -> Step {
    let (cost, makes) = (Box::new(move |_| cost), Box::new(|_| 1));
    Step { workers, limit, cost, makes, next: next.to_vec(), kills: None, idles: false }
}

/// A run: its first step is the producer, which emits `total` messages, of which the first
/// `skipped` were done by an earlier run.
pub(crate) struct Game {
    pub(crate) steps: Vec<Step>,
    pub(crate) total: u64,
    pub(crate) skipped: u64,
    pub(crate) sequential: bool,
    /// The time at which the step gets a new number of workers.
    pub(crate) change: Option<(u64, usize, usize)>,
    /// From when to when the run is paused.
    pub(crate) pause: Option<(u64, u64)>,
}

impl Game {
    pub(crate) fn of(total: u64, steps: Vec<Step>) -> Self {
        Self { steps, total, skipped: 0, sequential: false, change: None, pause: None }
    }

    pub(crate) fn plan(&self) -> Vec<StepPlan> {
        let plan = |(index, step): (usize, &Step)| StepPlan {
            name: name(index),
            class: "Pass".to_owned(),
            kind: if index == 0 { Kind::Producer } else { Kind::Stage },
            workers: step.workers,
            next_steps: step
                .next
                .iter()
                .map(|to| NextStep { name: name(*to), feedback: *to <= index })
                .collect(),
            queue_limit: Some(step.limit),
            queue_bytes: None,
            on_error: OnError::Quarantine,
            retries: 0,
        };
        self.steps.iter().enumerate().map(plan).collect()
    }

    /// Every view of the run with its time in seconds, and the time of its end.
    pub(crate) fn play(&mut self) -> (Vec<(f64, View)>, f64) {
        let mut status = Status::default();
        let mut number = 0;
        let mut apply = |status: &mut Status, at: u64, event| {
            number += 1;
            status.apply(&EventRecord { number, at: Duration::from_millis(at), event });
        };
        let (plan, sequential) = (self.plan(), self.sequential);
        let opened = Opened { plan, sequential, ..Opened::default() };
        apply(&mut status, 0, Event::Opened(Box::new(opened)));
        apply(&mut status, 0, Event::Started);
        apply(&mut status, 0, Event::Expected { step: name(0), total: self.total });
        for number in 0..self.skipped {
            let (origin, why) = (number.to_string().into(), String::new());
            apply(&mut status, 0, Event::Decided { origin, skipped: true, why });
        }
        let of = |step: &Step| Played {
            workers: vec![Worker::Idle; step.workers],
            sent: vec![0; step.next.len()],
            ..Played::default()
        };
        let mut all: Vec<Played> = self.steps.iter().map(of).collect();
        let mut views = Vec::new();
        for now in (0..).step_by(TURN as usize) {
            assert!(now < 100_000_000, "it goes on and on");
            if let Some((_, step, workers)) = self.change.filter(|(at, ..)| *at == now) {
                all[step].workers.resize(workers, Worker::Idle);
            }
            let paused = self.pause.is_some_and(|(from, to)| (from..to).contains(&now));
            self.turn(&mut all, paused);
            let idle = |played: &Played| {
                played.queue == 0 && played.workers.iter().all(|w| matches!(w, Worker::Idle))
            };
            let over = all[0].counts.emitted + self.skipped == self.total && all.iter().all(idle);
            if now % 100 == 0 || over {
                let elapsed = Duration::from_millis(now);
                let steps = all.iter().enumerate().map(|(i, p)| self.stands(i, p, &all)).collect();
                let snapshot = Snapshot { elapsed, paused, draining: false, steps };
                apply(&mut status, now, Event::Progress(snapshot));
                views.push((now as f64 / 1e3, status.view()));
            }
            if over {
                return (views, now as f64 / 1e3);
            }
        }
        unreachable!("the loop has no end")
    }

    fn turn(&self, all: &mut [Played], paused: bool) {
        for index in (0..self.steps.len()).rev() {
            for worker in 0..all[index].workers.len() {
                let state = all[index].workers[worker].clone();
                all[index].workers[worker] = match state {
                    Worker::Busy { left, took } if left > TURN => {
                        Worker::Busy { left: left - TURN, took }
                    }
                    Worker::Busy { took, .. } => self.ended(index, took, all),
                    Worker::Starting(left) if left > TURN => Worker::Starting(left - TURN),
                    Worker::Starting(_) => Worker::Idle,
                    other => other,
                };
            }
        }
        // What one begins may make room for another.
        while (0..self.steps.len()).rev().any(|index| self.moves(index, all, paused)) {}
    }

    fn moves(&self, index: usize, all: &mut [Played], paused: bool) -> bool {
        let mut moved = false;
        for worker in 0..all[index].workers.len() {
            if let Worker::Held(mut outputs) = all[index].workers[worker].clone() {
                while let Some(to) = outputs.front().copied() {
                    if all[to].queue >= self.steps[to].limit as u64 && to > index {
                        break;
                    }
                    outputs.pop_front();
                    all[to].queue += 1;
                    all[to].counts.received += 1;
                    moved = true;
                }
                let left = !outputs.is_empty();
                all[index].workers[worker] =
                    if left { Worker::Held(outputs) } else { Worker::Idle };
            }
            let busy =
                all.iter().flat_map(|p| &p.workers).any(|w| matches!(w, Worker::Busy { .. }));
            let idle = matches!(all[index].workers[worker], Worker::Idle);
            if !idle || paused || (self.sequential && busy) || !self.has_work(index, all) {
                continue;
            }
            let played = &mut all[index];
            played.queue -= u64::from(index > 0);
            let left = (self.steps[index].cost)(played.begun).max(TURN);
            played.begun += 1;
            played.workers[worker] = Worker::Busy { left, took: left };
            moved = true;
        }
        moved
    }

    fn has_work(&self, index: usize, all: &[Played]) -> bool {
        if index > 0 {
            return all[index].queue > 0;
        }
        let room = |to: &usize| all[*to].queue < self.steps[*to].limit as u64;
        all[0].begun + self.skipped < self.total && self.steps[0].next.iter().all(room)
    }

    /// An attempt has ended: what becomes of its worker.
    fn ended(&self, index: usize, took: u64, all: &mut [Played]) -> Worker {
        let step = &self.steps[index];
        let played = &mut all[index];
        played.busy += if step.idles { 0 } else { took };
        played.attempts += 1;
        if let Some((every, starting)) = step.kills
            && played.attempts.is_multiple_of(every)
        {
            played.counts.failed += 1;
            return Worker::Starting(starting);
        }
        let makes = if step.next.is_empty() { 0 } else { (step.makes)(played.attempts) };
        if index > 0 {
            played.counts.done += 1;
        }
        let mut outputs = VecDeque::new();
        for _ in 0..makes {
            let route = played.counts.emitted as usize % step.next.len();
            played.counts.emitted += 1;
            played.sent[route] += 1;
            outputs.push_back(step.next[route]);
        }
        if outputs.is_empty() { Worker::Idle } else { Worker::Held(outputs) }
    }

    fn stands(&self, index: usize, played: &Played, all: &[Played]) -> StepStatus {
        let step = &self.steps[index];
        let full = |to: &&usize| all[**to].queue >= self.steps[**to].limit as u64;
        let more = played.begun + self.skipped < self.total;
        let lacks_room = index == 0 && more && step.next.iter().any(|to| full(&to));
        let worker = |(worker, state): (usize, &Worker)| {
            let (state, since) = match state {
                Worker::Busy { .. } if step.idles => (WorkerState::Idle, 0),
                Worker::Busy { left, took } => (WorkerState::Busy, took - left),
                Worker::Held(_) => (WorkerState::Held, 0),
                Worker::Idle if lacks_room => (WorkerState::Held, 0),
                Worker::Idle => (WorkerState::Idle, 0),
                Worker::Starting(_) => (WorkerState::Starting, 0),
            };
            WorkerStatus {
                worker,
                state,
                since: Duration::from_millis(since),
                in_hand: usize::from(state == WorkerState::Busy && index > 0),
                message: None,
                origin: None,
                busy_time: Duration::ZERO,
            }
        };
        let each_worker: Vec<_> = played.workers.iter().enumerate().map(worker).collect();
        let at_work = each_worker.iter().filter(|w| w.state == WorkerState::Busy);
        let held = |to: &usize| {
            let outputs = played.workers.iter().filter_map(|worker| match worker {
                Worker::Held(outputs) => Some(outputs),
                _ => None,
            });
            outputs.flatten().filter(|held| *held == to).count() as u64
        };
        let held: Vec<u64> = step.next.iter().map(held).collect();
        let is_held = lacks_room || held.iter().any(|count| *count > 0);
        let waits_for = step.next.iter().filter(full).map(|to| name(*to)).filter(|_| is_held);
        StepStatus {
            name: name(index),
            actions: Vec::new(),
            counts: played.counts,
            queued: played.queue as usize,
            queued_bytes: 0,
            high_water: played.most as usize,
            oldest_normal: Duration::ZERO,
            busy: at_work.clone().count(),
            workers: each_worker.len(),
            busy_time: Duration::from_millis(played.busy),
            running: at_work.map(|worker| worker.since).sum(),
            median: Duration::ZERO,
            mean: Duration::ZERO,
            p99: Duration::ZERO,
            sent: played.sent.clone(),
            waits_for: waits_for.collect(),
            held,
            held_bytes: 0,
            requeued: 0,
            paused: false,
            finished: false,
            each_worker,
        }
    }
}

pub(crate) fn name(index: usize) -> Arc<str> {
    format!("S{index}").into()
}
