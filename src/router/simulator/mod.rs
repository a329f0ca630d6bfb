//! Drives the router through random graphs with random delays, failures,
//! worker deaths and stops, on a virtual clock, and checks the invariants
//! after every step. A failing case prints its seed;
//! `DRPIPE_SIMULATOR_SEED=n` repeats it alone; `DRPIPE_SIMULATOR_RUNS=n` makes each
//! test run that many seeds.

mod cancels;
mod checks;
mod deferred;
mod items;
mod partings;
mod pending;
mod plans;
mod priorities;
mod seen;
mod workers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use items::Told;
use line::Line;
use pending::Pending;
use plans::{Token, random_plan};
use priorities::Priorities;
use seen::Seen;
use workers::Incarnation;

use super::*;
use crate::base::ids::{MessageId, RouteId};
use crate::event::Cause;
use crate::message::batch::{Batch, Output};
use crate::message::output::OutputBuffer;
use crate::message::{ItemKey, Message, Priority};
use crate::plan::OnError;
use crate::protocol::report::Loss;
use crate::stage::registry::Kind;

/// Simulated runs are short.
const TIMING: Timing = Timing {
    scaling: scaling::Delays {
        grow_after: Duration::from_millis(2),
        shrink_after: Duration::from_millis(20),
    },
    respawn_after: Duration::from_millis(50),
};

/// How often in 1000 each kind of fault occurs in a simulation.
#[derive(Clone, Copy, Default)]
struct Faults {
    failures: u32,
    deaths: u32,
    init_failures: u32,
    stops: u32,
    one_by_one: bool,
    /// Results are to come in order.
    ordered: bool,
    /// Operators pause, resume, set workers and try failed inputs again.
    steering: u32,
    /// The producer is told what became of its items.
    told: bool,
    /// Such a producer is a feed.
    fed: bool,
    /// It cancels some of them; so do operators, if there are any.
    cancels: u32,
    /// The caller, which provides the workers of some steps, goes.
    partings: u32,
    /// Stages put messages off.
    deferrals: u32,
}

struct Simulator {
    rng: ChaCha8Rng,
    plan: Plan,
    router: Router,
    now: Duration,
    pending: BinaryHeap<Reverse<Pending>>,
    order: u64,
    faults: Faults,
    /// The workers as their stages see them.
    workers: Vec<Incarnation>,
    to_produce: u64,
    next_token: u64,
    /// Every token that was committed, and how often a stage completed it.
    committed: BTreeMap<u64, u32>,
    quarantined: u64,
    stopped_now: bool,
    instant_tasks: bool,
    /// How often the producer has emitted each item that is not closed.
    items: BTreeMap<Arc<str>, u32>,
    /// Items of which a message was given up since they were last closed.
    failed_items: BTreeSet<Arc<str>>,
    /// The workers that had nothing to do before the latest poll.
    free: Vec<bool>,
    /// In ordered runs, the origin of each token: the numbers of its ancestors' emissions.
    paths: BTreeMap<u64, Vec<u64>>,
    /// In ordered runs, the origin of what each step was given last.
    given: Vec<Vec<u64>>,
    roots: u64,
    /// Failed inputs that can be tried again.
    failed_inputs: Vec<FailedInput>,
    /// The steps of those that were tried again, and their origins.
    requeued: Vec<String>,
    again: BTreeSet<Arc<str>>,
    /// Operators that have not acted yet.
    orders: Vec<Duration>,
    /// When the caller goes.
    parting: Option<Duration>,
    /// The spans that the router has recorded.
    spans: Vec<Span>,
    /// The tokens that an operator has cancelled.
    given_up: BTreeSet<u64>,
    seen: Seen,
    /// Whether the producer is at a barrier.
    at_barrier: bool,
    /// The number of messages that the latest poll has given up in vain.
    in_vain: usize,
    told: Told,
    priorities: Priorities,
}

impl Simulator {
    fn new(seed: u64, faults: Faults) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut plan = random_plan(&mut rng);
        plan.options.ordered.value = faults.ordered;
        plans::tell(&mut plan, faults, &mut rng);
        plans::open(&mut plan, faults, &mut rng);
        let priorities = Priorities::drawn(&mut plan, &mut rng);
        let batching = if faults.one_by_one { Batching::OneByOne } else { Batching::Adaptive };
        let mut router = Router::new(&plan, batching, TIMING);
        router.track_items();
        router.trace();
        let workers = (0..router.slot_count()).map(|_| Incarnation::default()).collect();
        let steps = plan.steps.len();
        let mut simulator = Self {
            to_produce: rng.random_range(0..60),
            instant_tasks: rng.random_ratio(1, 2),
            rng,
            plan,
            router,
            now: Duration::ZERO,
            pending: BinaryHeap::new(),
            order: 0,
            faults,
            workers,
            next_token: 0,
            committed: BTreeMap::new(),
            quarantined: 0,
            stopped_now: false,
            items: BTreeMap::new(),
            failed_items: BTreeSet::new(),
            free: Vec::new(),
            paths: BTreeMap::new(),
            given: vec![Vec::new(); steps],
            roots: 0,
            failed_inputs: Vec::new(),
            requeued: Vec::new(),
            again: BTreeSet::new(),
            orders: Vec::new(),
            parting: None,
            spans: Vec::new(),
            given_up: BTreeSet::new(),
            seen: Seen::default(),
            at_barrier: false,
            in_vain: 0,
            told: Told::default(),
            priorities,
        };
        simulator.begin();
        simulator
    }

    /// Starts the workers, and decides when others intervene.
    fn begin(&mut self) {
        let faults = self.faults;
        if self.chance(faults.steering) {
            let count = self.rng.random_range(1..20);
            self.orders = (0..count).map(|_| self.delay() * 100).collect();
            self.orders.sort_unstable_by(|a, b| b.cmp(a));
        }
        if self.chance(faults.partings) {
            self.parting = Some(self.delay() * 100);
        }
        for worker in self.router.initial_workers() {
            self.spawn(worker);
        }
        if self.chance(faults.stops) {
            self.after_delay(None, Input::Stop(Stop::Drain));
            if self.rng.random() {
                let stop = match self.rng.random() {
                    true => Input::Stop(Stop::Now),
                    false => Input::Abandon { reason: "the caller is gone".into() },
                };
                self.after_delay(None, stop);
            }
        }
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        self.rng.random_ratio(per_mille, 1000)
    }

    fn delay(&mut self) -> Duration {
        let most = if self.instant_tasks { 20 } else { 20_000 };
        Duration::from_micros(self.rng.random_range(0..most))
    }

    fn after_delay(&mut self, sender: Option<WorkerId>, input: Input) {
        let at = self.now + self.delay() * 50;
        self.send_at(at, sender, input);
    }

    fn send_at(&mut self, at: Duration, sender: Option<WorkerId>, input: Input) {
        self.order += 1;
        self.pending.push(Reverse(Pending { at, order: self.order, sender, input }));
    }

    fn run(&mut self) {
        let mut steps = 0_u64;
        while !self.router.is_over() {
            steps += 1;
            assert!(steps < 1_000_000, "the run does not end");
            let wake = self.router.next_wake();
            let next = self.pending.peek().map(|Reverse(pending)| pending.at);
            let orders = self.orders.last().copied();
            let at = [wake, next, orders, self.parting].into_iter().flatten().min();
            let at = at.unwrap_or_else(|| {
                panic!("I5: nothing is under way and the run is not over\n{}", self.state())
            });
            self.now = self.now.max(at);
            // Whatever has arrived by then goes in at once, as in the hub.
            while self.pending.peek().is_some_and(|Reverse(p)| p.at <= self.now) {
                let Some(Reverse(pending)) = self.pending.pop() else { break };
                self.deliver(pending);
            }
            while self.orders.last().is_some_and(|at| *at <= self.now) {
                self.orders.pop();
                self.steer();
            }
            if self.parting.take_if(|at| *at <= self.now).is_some() {
                self.part();
            }
            let free = |worker: &Worker| worker.state == State::Ready && worker.is_empty();
            self.free = self.router.workers.iter().map(free).collect();
            self.note_waiting();
            let actions = self.router.poll(self.now);
            let is_in_vain = |action: &&Action| {
                matches!(action, Action::Publish(Event::Failed { cause: Cause::InVain, .. }))
            };
            self.in_vain = actions.iter().filter(is_in_vain).count();
            for action in actions {
                self.act(action);
            }
            self.check_running();
        }
        self.check_ended();
    }

    /// Does something that an operator may do. The last order ends all pauses.
    fn steer(&mut self) {
        let step = StepId::at(self.rng.random_range(0..self.plan.steps.len()));
        let some = self.rng.random_ratio(2, 3).then_some(step);
        let steer = match self.rng.random_range(0..5) {
            0 => ControlRequest::Pause { step: some },
            1 => ControlRequest::Resume { step: some },
            2 | 3 => ControlRequest::SetWorkers { step, workers: self.rng.random_range(0..7) },
            _ => ControlRequest::Pause { step: None },
        };
        match self.failed_inputs.pop() {
            Some(failed_input) if self.rng.random() => self.requeue(failed_input),
            _ if self.chance(self.faults.cancels) => self.cancel_origin(),
            _ => drop(self.router.control(steer, self.now)),
        }
        if self.orders.is_empty() {
            for step in std::iter::once(None).chain(self.router.steps.ids().map(Some)) {
                let _ = self.router.control(ControlRequest::Resume { step }, self.now);
            }
        }
        self.workers.resize_with(self.router.slot_count(), Incarnation::default);
    }

    fn requeue(&mut self, failed_input: FailedInput) {
        // The journal hears of what was before.
        for action in std::mem::take(&mut self.router.actions) {
            self.act(action);
        }
        let FailedInput { entry, step, origin, payload, .. } = failed_input;
        let step = self.plan.index(&step).map(StepId::at).expect("the step of a failed input");
        let token = Token::of(&payload).id;
        let item = origin.clone();
        let steer = ControlRequest::Requeue { step, entry: entry.clone(), origin, payload };
        if self.router.control(steer, self.now).is_ok() {
            self.quarantined -= 1;
            self.requeued.push(self.plan.steps[step.index()].name.clone());
            self.roots += 1;
            self.paths.insert(token, vec![self.roots]);
            self.note_requeued(token);
            if let Some(item) = item {
                self.items.entry(Arc::clone(&item)).or_default();
                self.again.insert(item);
            }
            let payload = Token { id: 0, hops: 0 }.payload(0);
            let again = ControlRequest::Requeue { step, entry, origin: None, payload };
            assert!(self.router.control(again, self.now).is_err(), "one entry was taken up twice");
        }
    }

    fn deliver(&mut self, mut pending: Pending) {
        self.skip(&mut pending.input);
        if let Some(worker) = pending.sender {
            let Incarnation { epoch, alive, .. } = self.workers[worker.slot.index()];
            if epoch == worker.epoch && alive {
                self.observe(worker, &pending.input);
            } else {
                // The router still receives it, and must not attribute it to another worker.
                assert!(!self.router.is_heard(worker), "a stale report is heard");
                self.seen.stale += 1;
            }
        }
        self.stopped_now |= matches!(pending.input, Input::Stop(Stop::Now) | Input::Abandon { .. });
        let lost = match &pending.input {
            Input::Lost { worker, .. } => Some(*worker),
            _ => None,
        };
        let was_over = self.router.is_over();
        self.router.handle(pending.input, self.now);
        if let Some(worker) = lost {
            if self.router.is_producer(worker) && !was_over {
                self.producer_is_lost();
            }
            // A dead worker's last word may come late: it revives nobody.
            self.router.handle(Input::Ready { worker }, self.now);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Grant { worker, count } => self.produce(worker, count),
            Action::Work { worker, batches } => self.work(worker, batches),
            Action::Finish { worker } => {
                assert!(
                    self.workers[worker.slot.index()].alive
                        && !self.workers[worker.slot.index()].finished
                );
                assert_eq!(
                    self.workers[worker.slot.index()].in_hand,
                    0,
                    "finish before the last run"
                );
                if self.router.is_producer(worker) {
                    self.check_told();
                    if self.faults.fed {
                        return self.ask_feed(worker);
                    }
                }
                let mut outputs = OutputBuffer::default();
                // In `finish` only a producer can name an origin.
                let origin = self.router.is_producer(worker).then(|| self.new_origin()).flatten();
                self.emit(worker, 3, 0, &origin, &mut outputs);
                let outputs = outputs.take();
                let failed = self.chance(self.faults.failures / 4);
                let result = if failed { Err(Failure::permanent("simulated")) } else { Ok(()) };
                if self.chance(self.faults.deaths) {
                    return self.die(worker);
                }
                self.after_delay(Some(worker), Input::Finished { worker, result, outputs });
            }
            Action::Stop { worker } => {
                let Incarnation { alive, crossed, .. } = self.workers[worker.slot.index()];
                assert!(alive || crossed, "a dead worker is told to stop");
                self.workers[worker.slot.index()].alive = false;
            }
            Action::Acknowledge { worker, items } => self.acknowledged(worker, items),
            Action::NotCancelled { number, .. } => self.not_cancelled(number),
            Action::End { worker, message } => self.end_worker(worker, message),
            Action::Spawn { worker } => self.spawn(worker),
            Action::Quarantine(failed_input) => {
                self.quarantined += 1;
                self.check_attempts(&failed_input);
                self.failed_inputs.push(*failed_input);
            }
            Action::Publish(Event::Failed { policy, cause, .. }) => {
                self.quarantined += u64::from(policy == OnError::Tell);
                if cause == Cause::InVain {
                    self.check_in_vain(self.in_vain);
                }
            }
            Action::Publish(Event::WorkerLost { reason, .. }) => {
                assert_eq!(reason, "simulated", "a worker that keeps the protocol is dismissed");
            }
            Action::Publish(_) => {}
            Action::Record(record) => self.check_record(record),
            Action::Spans(spans) => self.spans.extend(spans),
        }
    }
}

fn simulate(name: &str, count: u64, faults: Faults) {
    if let Ok(seed) = std::env::var("DRPIPE_SIMULATOR_SEED") {
        let seed = seed.parse().expect("DRPIPE_SIMULATOR_SEED is a number");
        run(seed, faults);
        return;
    }
    let more = std::env::var("DRPIPE_SIMULATOR_RUNS").ok();
    let count = more.map_or(count, |count| count.parse().expect("a number of runs"));
    let mut seen = Seen::default();
    for seed in 0..count {
        let case = std::panic::AssertUnwindSafe(|| run(seed, faults));
        seen += std::panic::catch_unwind(case).unwrap_or_else(|panic| {
            eprintln!("{name}: seed {seed} failed; repeat with DRPIPE_SIMULATOR_SEED={seed}");
            std::panic::resume_unwind(panic);
        });
    }
    if count > 100 {
        seen.check(name, faults);
    }
}

fn run(seed: u64, faults: Faults) -> Seen {
    let mut simulator = Simulator::new(seed, faults);
    simulator.run();
    simulator.seen
}

#[test]
fn undisturbed_runs_lose_nothing_and_end() {
    simulate("undisturbed", 3000, Faults::default());
}

#[test]
fn results_come_in_order_whatever_happens() {
    simulate("in order", 2000, Faults { ordered: true, ..Faults::default() });
    let faults = Faults { failures: 150, deaths: 60, ordered: true, ..Faults::default() };
    simulate("in order, with faults", 2000, faults);
    let faults = Faults { failures: 50, stops: 300, steering: 900, ..faults };
    simulate("in order, steered and stopped", 2000, faults);
}

#[test]
fn runs_that_are_steered_account_for_every_message() {
    simulate("steered", 3000, Faults { steering: 1000, ..Faults::default() });
    let faults =
        Faults { failures: 150, deaths: 50, stops: 200, steering: 1000, ..Faults::default() };
    simulate("steered, with faults", 3000, faults);
}

#[test]
fn runs_with_failing_stages_account_for_every_message() {
    let faults = Faults { failures: 150, ..Faults::default() };
    simulate("failures", 3000, faults);
}

#[test]
fn runs_with_dying_workers_account_for_every_message() {
    let faults = Faults { failures: 50, deaths: 100, ..Faults::default() };
    simulate("deaths", 3000, faults);
}

#[test]
fn a_worker_killed_while_it_starts_or_finishes_is_replaced() {
    let faults = Faults { deaths: 100, ..Faults::default() };
    simulate("kills", 3000, faults);
}

#[test]
fn one_by_one_nothing_is_done_beside_something_else() {
    simulate("one by one", 1000, Faults { one_by_one: true, ..Faults::default() });
    let faults = Faults {
        failures: 100,
        deaths: 50,
        stops: 100,
        one_by_one: true,
        init_failures: 10,
        ..Faults::default()
    };
    simulate("one by one, with faults", 1000, faults);
}

#[test]
fn stopped_runs_account_for_every_message() {
    let faults = Faults { failures: 50, deaths: 30, stops: 1000, ..Faults::default() };
    simulate("stops", 3000, faults);
}

#[test]
fn runs_with_failing_inits_end() {
    let faults =
        Faults { failures: 50, deaths: 100, stops: 200, init_failures: 100, ..Faults::default() };
    simulate("inits", 3000, faults);
}
