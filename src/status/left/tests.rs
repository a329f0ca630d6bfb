//! Runs that are played through in a time of their own, and what is said of them meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::config::plan::OnError;
use crate::event::{
    Event, NextStep, Opened, Snapshot, StepPlan, StepStatus, Told, WorkerState, WorkerStatus,
};
use crate::ledger::Counts;
use crate::registry::Kind;
use crate::status::{State, Status, View};

/// The length of one turn of the game, in milliseconds.
const TURN: u64 = 10;

/// A step, all in milliseconds.
struct Step {
    workers: usize,
    limit: usize,
    /// How long the message of this number takes.
    cost: Box<dyn Fn(u64) -> u64>,
    /// How many the message of this number makes.
    makes: Box<dyn Fn(u64) -> u64>,
    /// Where they go, in turn.
    next: Vec<usize>,
    /// Which attempt of so many ends its worker, which is then started for so long.
    kills: Option<(u64, u64)>,
    /// Whether what it takes is waiting, not work.
    idles: bool,
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

fn step(workers: usize, limit: usize, cost: u64, next: &[usize]) -> Step {
    let (cost, makes) = (Box::new(move |_| cost), Box::new(|_| 1));
    Step { workers, limit, cost, makes, next: next.to_vec(), kills: None, idles: false }
}

/// A run: its first step is the producer, which emits `total` messages, of which the first
/// `skipped` were done by an earlier run.
struct Game {
    steps: Vec<Step>,
    total: u64,
    skipped: u64,
    sequential: bool,
    /// At this time the step gets so many workers.
    change: Option<(u64, usize, usize)>,
    /// From when to when the run is paused.
    pause: Option<(u64, u64)>,
}

impl Game {
    fn of(total: u64, steps: Vec<Step>) -> Self {
        Self { steps, total, skipped: 0, sequential: false, change: None, pause: None }
    }

    fn plan(&self) -> Vec<StepPlan> {
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
    fn play(&mut self) -> (Vec<(f64, View)>, f64) {
        let mut status = Status::default();
        let mut number = 0;
        let mut tell = |status: &mut Status, at: u64, event| {
            number += 1;
            status.apply(&Told { number, at: Duration::from_millis(at), event });
        };
        let (plan, sequential) = (self.plan(), self.sequential);
        let opened = Opened { plan, sequential, ..Opened::default() };
        tell(&mut status, 0, Event::Opened(Box::new(opened)));
        tell(&mut status, 0, Event::Started);
        tell(&mut status, 0, Event::Expected { step: name(0), total: self.total });
        for number in 0..self.skipped {
            let (origin, why) = (number.to_string().into(), String::new());
            tell(&mut status, 0, Event::Decided { origin, skipped: true, why });
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
                tell(&mut status, now, Event::Progress(snapshot));
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
            counts: played.counts,
            queued: played.queue as usize,
            queued_bytes: 0,
            high_water: played.most as usize,
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

fn name(index: usize) -> Arc<str> {
    format!("S{index}").into()
}

/// From a part of the run on, the time left is right to a fifth, or to `step` seconds.
#[track_caller]
fn is_right(mut game: Game, from: f64, step: f64) {
    let (views, end) = game.play();
    let late = views.iter().filter(|(at, _)| *at >= end * from);
    for (at, view) in late.filter(|(_, view)| !view.paused) {
        let left = end - at;
        let said = view.eta_s.unwrap_or_else(|| panic!("nothing is said at {at} of {end} s"));
        let wrong = (said - left).abs();
        assert!(
            wrong <= (0.2 * left).max(step),
            "at {at} of {end} s: {said:.2} s left, not {left:.2}"
        );
    }
}

const THIRD: f64 = 1.0 / 3.0;

#[test]
fn what_waits_before_the_bottleneck_counts_at_its_pace() {
    let steps = vec![
        step(1, 100, 10, &[1]),
        step(1, 100, 10, &[2]),
        step(2, 16, 500, &[3]),
        step(1, 100, 10, &[]),
    ];
    is_right(Game::of(60, steps), 0.1, 0.5);
}

#[test]
fn a_slow_consumer_is_the_bottleneck_and_queues_fill_before_it() {
    for limit in [1, 4, 100] {
        let steps =
            vec![step(1, 100, 20, &[1]), step(4, limit, 300, &[2]), step(1, limit, 200, &[])];
        is_right(Game::of(150, steps), THIRD, 0.6);
    }
}

#[test]
fn a_slow_producer_sets_the_pace() {
    let steps = vec![step(1, 100, 700, &[1]), step(2, 100, 400, &[2]), step(1, 100, 50, &[])];
    is_right(Game::of(40, steps), 0.2, 1.0);
}

#[test]
fn one_that_makes_several_loads_those_behind_it() {
    let mut split = step(1, 100, 100, &[2]);
    split.makes = Box::new(|_| 5);
    let steps = vec![step(1, 100, 10, &[1]), split, step(2, 8, 120, &[3]), step(1, 100, 10, &[])];
    is_right(Game::of(60, steps), THIRD, 0.5);
}

#[test]
fn one_that_passes_few_on_spares_those_behind_it() {
    let mut filter = step(2, 100, 100, &[2]);
    filter.makes = Box::new(|number| u64::from(number.is_multiple_of(4)));
    let steps = vec![step(1, 100, 10, &[1]), filter, step(1, 100, 350, &[])];
    is_right(Game::of(200, steps), THIRD, 0.8);
}

/// One that was held back most of the time seemed to be slow between its bursts.
#[test]
fn bursts_of_a_step_that_is_held_back_are_not_its_pace() {
    let mut bursts = step(1, 100, 10, &[2]);
    bursts.makes = Box::new(|number| if number.is_multiple_of(100) { 100 } else { 0 });
    let steps = vec![step(1, 100, 10, &[1]), bursts, step(1, 20, 50, &[])];
    is_right(Game::of(2000, steps), THIRD, 7.0);
}

#[test]
fn branches_and_loops_are_followed() {
    // S1 sends half its messages to each of two steps; S3 sends half of its own back.
    let steps = vec![
        step(1, 100, 10, &[1]),
        step(1, 100, 20, &[2, 3]),
        step(1, 100, 300, &[]),
        step(1, 100, 100, &[3, 4]),
        step(1, 100, 10, &[]),
    ];
    is_right(Game::of(80, steps), THIRD, 0.8);
}

#[test]
fn the_bottleneck_may_change_with_the_number_of_workers() {
    let steps = vec![step(1, 100, 10, &[1]), step(1, 20, 400, &[2]), step(1, 20, 150, &[])];
    let change = Some((20_000, 1, 8));
    let mut game = Game { change, ..Game::of(150, steps) };
    let (views, end) = game.play();
    assert!((30.0..45.0).contains(&end), "{end}");
    for (at, view) in views.iter().filter(|(at, _)| *at > 23.0) {
        let (said, left) = (view.eta_s.unwrap(), end - at);
        assert!(
            (said - left).abs() <= (0.2 * left).max(0.6),
            "at {at} of {end}: {said} for {left}"
        );
    }
}

#[test]
fn messages_may_become_dearer() {
    let mut slower = step(1, 20, 0, &[]);
    slower.cost = Box::new(|number| if number < 40 { 100 } else { 300 });
    let mut game = Game::of(200, vec![step(1, 100, 10, &[1]), slower]);
    let (views, end) = game.play();
    // It is known once what was cheap is half of the time ago.
    for (at, view) in views.iter().filter(|(at, _)| *at > 10.0) {
        let (said, left) = (view.eta_s.unwrap(), end - at);
        assert!(
            (said - left).abs() <= (0.2 * left).max(0.6),
            "at {at} of {end}: {said} for {left}"
        );
    }
}

#[test]
fn workers_that_are_lost_are_missed_while_others_are_started() {
    let mut deadly = step(2, 100, 500, &[]);
    deadly.kills = Some((4, 1500));
    is_right(Game::of(60, vec![step(1, 100, 10, &[1]), deadly]), THIRD, 2.0);
}

#[test]
fn what_earlier_runs_have_done_is_not_waited_for() {
    let steps = vec![step(1, 100, 10, &[1]), step(2, 16, 500, &[])];
    let mut game = Game { skipped: 40, ..Game::of(100, steps) };
    let (views, _) = game.play();
    let (_, last) = views.last().unwrap();
    assert_eq!((last.expected, last.skipped), (Some(60), 40));
    let steps = vec![step(1, 100, 10, &[1]), step(2, 16, 500, &[])];
    is_right(Game { skipped: 40, ..Game::of(100, steps) }, THIRD, 0.5);
}

#[test]
fn in_one_thread_the_steps_take_turns() {
    let steps = vec![step(1, 100, 50, &[1]), step(1, 100, 100, &[2]), step(1, 100, 100, &[])];
    is_right(Game { sequential: true, ..Game::of(60, steps) }, THIRD, 0.5);
}

#[test]
fn a_pause_is_no_slowness() {
    let steps = vec![step(1, 5, 10, &[1]), step(2, 5, 300, &[])];
    let pause = Some((4_000, 30_000));
    let mut game = Game { pause, ..Game::of(80, steps) };
    let (views, end) = game.play();
    for (at, view) in views.iter().filter(|(at, _)| *at > 2.0) {
        let left = end - at;
        match view.eta_s {
            None => assert!(view.paused, "nothing is said at {at}"),
            Some(said) if *at > 30.0 => {
                assert!((said - left).abs() <= (0.2 * left).max(0.5), "at {at}: {said} for {left}");
            }
            Some(_) => {}
        }
    }
}

#[test]
fn few_long_messages_take_whole_rounds() {
    let steps = vec![step(1, 100, 10, &[1]), step(8, 100, 30_000, &[])];
    let mut game = Game::of(18, steps);
    let (views, end) = game.play();
    assert!((90.0..91.0).contains(&end), "{end}");
    let at = |time: f64| views.iter().find(|(at, _)| *at >= time).unwrap().1.eta_s;
    assert_eq!(at(20.0), None, "nothing has ended yet");
    for time in [35.0, 55.0, 70.0, 85.0] {
        let said = at(time).unwrap();
        assert!((said - (end - time)).abs() < 2.0, "at {time}: {said}");
    }
}

#[test]
fn what_is_finished_is_what_is_done_with() {
    let steps = vec![step(1, 100, 10, &[1]), step(1, 100, 10, &[2]), step(2, 16, 500, &[])];
    let mut game = Game::of(60, steps);
    let (views, _) = game.play();
    let mut before = 0;
    for (at, view) in &views {
        let (first, last) = (&view.steps[0], &view.steps[2]);
        assert_eq!(view.finished, last.counts.done, "at {at}");
        assert!(view.finished >= before && view.emitted == first.counts.emitted);
        before = view.finished;
        // Nothing is between the numbers.
        for pair in view.steps.windows(2) {
            let sent = pair[0].next_steps[0].sent;
            assert_eq!(sent, pair[1].counts.received + pair[0].next_steps[0].held, "at {at}");
            let open = pair[1].queued + pair[1].in_hand;
            assert_eq!(pair[1].counts.open(), open as u64, "at {at}");
        }
    }
    assert_eq!(before, 60);
}

#[test]
fn a_part_of_an_input_is_not_a_finished_input() {
    let mut split = step(1, 100, 50, &[2]);
    split.makes = Box::new(|_| 10);
    let mut game = Game::of(20, vec![step(1, 100, 10, &[1]), split, step(1, 100, 40, &[])]);
    let (views, _) = game.play();
    for (at, view) in &views {
        let parts = view.steps[2].counts.done;
        assert!((parts / 10).abs_diff(view.finished) <= 1, "at {at}: {parts} {}", view.finished);
    }
    assert_eq!(views.last().unwrap().1.state, State::Running);
}

#[test]
fn nothing_is_said_where_nobody_knows_how_much_there_is() {
    let mut game = Game::of(30, vec![step(1, 100, 10, &[1]), step(1, 100, 100, &[])]);
    let (views, _) = game.play();
    assert!(views[10].1.eta_s.is_some());
    let mut status = Status { state: State::Running, ..Status::default() };
    status.opened.plan = game.plan();
    assert_eq!((status.view().eta_s, status.view().expected), (None, None));
}

#[test]
fn who_limits_the_pace_is_told_in_a_sentence_with_whom_it_holds_back() {
    let steps = || vec![step(1, 2, 10, &[1]), step(1, 2, 20, &[2]), step(1, 2, 200, &[])];
    let (views, _) = Game::of(100, steps()).play();
    let (_, view) = &views[50];
    assert_eq!(view.bottleneck.as_deref(), Some("S2"));
    assert!(
        view.says[0].starts_with("S2 is the bottleneck: its worker is busy"),
        "{:?}",
        view.says
    );
    assert_eq!(view.says[1], "Its full queue holds back S0 and S1.");
    let held_by: Vec<_> = view.steps.iter().map(|step| step.held_by.first().cloned()).collect();
    assert_eq!(held_by, [Some("S1".into()), Some("S2".into()), None]);
}

#[test]
fn below_half_busy_nothing_is_called_a_bottleneck() {
    // Two workers of four are busy at most: the producer gives no more, and is idle itself.
    let mut idle = step(1, 100, 500, &[1]);
    idle.idles = true;
    let (views, _) = Game::of(40, vec![idle, step(4, 100, 600, &[])]).play();
    let (_, view) = &views[100];
    assert_eq!(view.bottleneck, None);
    assert_eq!(view.says[0], "No step is a bottleneck: none is busy half of the time.");
    assert!(view.eta_s.is_some());
}
