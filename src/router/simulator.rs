//! Drives the router through random graphs with random delays, failures,
//! worker deaths and stops, on a virtual clock, and checks the invariants
//! after every step. A failing case prints its seed;
//! `DRPIPE_SIMULATOR_SEED=n` repeats it alone; `DRPIPE_SIMULATOR_RUNS=n` makes each
//! test try so many.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::event::Cause;
use crate::message::batch::{Batch, Output};
use crate::message::output::OutputBuffer;
use crate::message::{ItemKey, Message, Payload};
use crate::plan::{OnError, PipelineOptions, Step as PlanStep, StepOptions, WorkerRange};
use crate::protocol::report::{Blame, Completion, Loss, Outcome, Production, Suspect};
use crate::stage::Next;
use crate::stage::registry::Kind;

/// A payload of the simulator: who it is and how many hops it may still make.
#[derive(Clone, Copy)]
struct Token {
    id: u64,
    hops: u64,
}

impl Token {
    fn payload(self, size: usize) -> Payload {
        let mut header = Vec::with_capacity(16 + size);
        header.extend(self.id.to_le_bytes());
        header.extend(self.hops.to_le_bytes());
        header.resize(16 + size, 0);
        Payload { header: header.into(), buffers: Vec::new() }
    }

    fn of(payload: &Payload) -> Self {
        let word = |at: usize| {
            u64::from_le_bytes(payload.header[at..at + 8].try_into().expect("eight bytes"))
        };
        Self { id: word(0), hops: word(8) }
    }
}

/// What is on its way to the router, by the instant of its arrival.
struct Pending {
    at: Duration,
    order: u64,
    /// The worker that has sent it, perhaps before its end.
    sender: Option<WorkerId>,
    input: Input,
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Pending {}
impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// How often, of 1000, things go wrong in one simulation.
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
}

struct Simulator {
    rng: ChaCha8Rng,
    plan: Plan,
    router: Router,
    now: Duration,
    pending: BinaryHeap<Reverse<Pending>>,
    order: u64,
    faults: Faults,
    /// What each worker's stage sees.
    workers: Vec<Incarnation>,
    to_produce: u64,
    next_token: u64,
    /// Every token that was committed, and how often a stage completed it.
    committed: BTreeMap<u64, u32>,
    quarantined: u64,
    stopped_now: bool,
    instant_tasks: bool,
    /// What the producer has emitted, by item, and is not told as closed.
    items: BTreeMap<Arc<str>, u32>,
    /// Items of which a message was given up since they were last closed.
    failed_items: BTreeSet<Arc<str>>,
    /// The workers that had nothing to do before the latest poll.
    free: Vec<bool>,
    /// In order: where each token comes from, as the numbers of its ancestors' emissions.
    paths: BTreeMap<u64, Vec<u64>>,
    /// In order: what each step was given last.
    given: Vec<Vec<u64>>,
    roots: u64,
    /// Failed inputs that can be tried again.
    failed_inputs: Vec<FailedInput>,
    /// The steps of those that were.
    requeued: Vec<String>,
    /// Operators that have not acted yet.
    orders: Vec<Duration>,
    /// What was told of the messages' times.
    spans: Vec<Span>,
    /// Reports of workers that had been lost or told to stop.
    stale: u64,
}

#[derive(Default)]
struct Incarnation {
    /// As the router numbers it, from 1; 0 in a slot that never had a worker.
    epoch: u32,
    alive: bool,
    finished: bool,
    /// It will be lost and reports nothing more.
    doomed: bool,
    /// When its current work will be done.
    busy_until: Duration,
    in_hand: usize,
    idle_since: u64,
    /// The tokens in hand.
    tokens: Vec<u64>,
    /// It died when the router had already decided to stop it.
    crossed: bool,
}

fn random_plan(rng: &mut ChaCha8Rng) -> Plan {
    let stagers = rng.random_range(0..6);
    let last = stagers + 1;
    let steps = (0..=last).map(|index| {
        let mut routes = Vec::new();
        if index < last {
            // A chain keeps every step reachable; extra edges branch and join.
            routes.push(plan::Route { to: index + 1, feedback: false });
            for to in index + 2..=last {
                if rng.random_ratio(1, 4) {
                    routes.push(plan::Route { to, feedback: false });
                }
            }
            for to in 1..=index {
                if index > 0 && rng.random_ratio(1, 8) {
                    routes.push(plan::Route { to, feedback: true });
                }
            }
        }
        let kind = match index {
            0 => Kind::Producer,
            _ if index == last => Kind::Consumer,
            _ => Kind::Stage,
        };
        let policies = [OnError::Quarantine, OnError::Quarantine, OnError::Skip, OnError::Stop];
        let workers = if index == 0 { 1 } else { rng.random_range(1..5) };
        let mut options = StepOptions::default();
        options.nb_thread.value = WorkerRange { min: rng.random_range(1..=workers), max: workers };
        options.queue_limit.value = Some([1, 1, 2, 5, 100][rng.random_range(0..5)]);
        options.queue_bytes.value = [Some(64), Some(100_000), None][rng.random_range(0..3)];
        options.on_error.value = policies[rng.random_range(0..policies.len())];
        options.retries.value = rng.random_range(0..3);
        options.lost_retries.value = rng.random_range(0..3);
        options.backoff.value = Duration::from_millis(rng.random_range(0..50));
        PlanStep {
            single: false,
            name: format!("S{index}"),
            class: "Simulated".into(),
            kind,
            options,
            params: serde_json::Value::Null,
            routes,
            gathers: index > 0 && rng.random_ratio(1, 4),
            codec: Default::default(),
            takes_objects: false,
            python: None,
            build: Arc::new(|| Err(Failure::permanent("simulated"))),
            input: None,
        }
    });
    Plan {
        sequential: false,
        identity: String::new(),
        reads: Vec::new(),
        writes: Vec::new(),
        options: PipelineOptions::default(),
        config: serde_json::Value::Null,
        steps: steps.collect(),
        config_hash: String::new(),
        work_hash: String::new(),
    }
}

impl Simulator {
    fn new(seed: u64, faults: Faults) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut plan = random_plan(&mut rng);
        plan.options.ordered.value = faults.ordered;
        let batching = if faults.one_by_one { Batching::OneByOne } else { Batching::Adaptive };
        let mut router = Router::new(&plan, batching);
        router.track_items(&plan);
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
            orders: Vec::new(),
            spans: Vec::new(),
            stale: 0,
        };
        if simulator.chance(faults.steering) {
            let count = simulator.rng.random_range(1..20);
            simulator.orders = (0..count).map(|_| simulator.delay() * 100).collect();
            simulator.orders.sort_unstable_by(|a, b| b.cmp(a));
        }
        for worker in simulator.router.initial_workers() {
            simulator.spawn(worker);
        }
        if simulator.chance(faults.stops) {
            simulator.after_delay(None, Input::Stop(Stop::Drain));
            if simulator.rng.random() {
                simulator.after_delay(None, Input::Stop(Stop::Now));
            }
        }
        simulator
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

    fn spawn(&mut self, worker: WorkerId) {
        let WorkerId { slot, epoch } = worker;
        assert!(epoch > self.workers[slot.index()].epoch, "two workers of one epoch");
        self.workers[slot.index()] = Incarnation { epoch, alive: true, ..Incarnation::default() };
        if self.chance(self.faults.deaths) {
            return self.die(worker);
        }
        let input = if self.chance(self.faults.init_failures) {
            Input::InitFailed { worker, failure: Failure::permanent("simulated") }
        } else {
            Input::Ready { worker }
        };
        self.after_delay(Some(worker), input);
    }

    fn run(&mut self) {
        let mut steps = 0_u64;
        while !self.router.is_over() {
            steps += 1;
            assert!(steps < 1_000_000, "the run does not end");
            let wake = self.router.next_wake();
            let next = self.pending.peek().map(|Reverse(pending)| pending.at);
            let at = [wake, next, self.orders.last().copied()].into_iter().flatten().min();
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
            let free = |worker: &Worker| {
                worker.state == State::Ready && worker.held.is_empty() && worker.in_hand.is_empty()
            };
            self.free = self.router.workers.iter().map(free).collect();
            let actions = self.router.poll(self.now);
            for action in actions {
                self.act(action);
            }
            self.check_running();
        }
        self.check_ended();
    }

    /// Does something that an operator may do. The last order makes everything go on.
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
            if let Some(item) = item {
                self.items.entry(item).or_default();
            }
            let payload = Token { id: 0, hops: 0 }.payload(0);
            let again = ControlRequest::Requeue { step, entry, origin: None, payload };
            assert!(self.router.control(again, self.now).is_err(), "one entry was taken up twice");
        }
    }

    /// In order: notes where the outputs of a report come from.
    fn note_paths(&mut self, worker: WorkerId, outputs: &[Output]) {
        let parent = self.workers[worker.slot.index()]
            .tokens
            .first()
            .and_then(|token| self.paths.get(token));
        let parent = parent.cloned();
        let batches = outputs.iter().map(|output| Batch::new(MessageId(0), output.clone()));
        for (index, message) in (0..).zip(batches.flat_map(Batch::into_messages)) {
            let path = match &parent {
                Some(parent) => parent.iter().copied().chain([index]).collect(),
                None => {
                    self.roots += 1;
                    vec![self.roots]
                }
            };
            self.paths.insert(Token::of(&message.payload).id, path);
        }
    }

    /// In order: a step at the end is given what comes next, or the same again.
    fn check_order(&mut self, worker: WorkerId, messages: &[Message]) {
        let step = self.router.position(worker).0;
        if self.router.ordered.is_none() || !self.plan.steps[step.index()].routes.is_empty() {
            return;
        }
        for message in messages {
            let path = &self.paths[&Token::of(&message.payload).id];
            assert!(
                self.given[step.index()] <= *path,
                "{:?} then {path:?}",
                self.given[step.index()]
            );
            self.given[step.index()].clone_from(path);
        }
    }

    fn state(&self) -> String {
        let mut text = String::new();
        for (index, step) in self.router.steps.iter().enumerate() {
            let routes = &self.plan.steps[index].routes;
            text += &format!(
                "{} {:?} queue {} waiting {:?} {:?} routes {routes:?}\n",
                step.name,
                step.phase,
                step.queue.len(),
                step.waiting,
                step.counts
            );
        }
        for (index, worker) in self.router.workers.iter().enumerate() {
            let held: Vec<StepId> = worker.held.iter().map(|held| held.to).collect();
            text += &format!(
                "worker {index} of {:?} {:?} {:?} in hand {} held for {held:?}\n",
                worker.step,
                worker.state,
                worker.producer,
                worker.in_hand.len()
            );
        }
        text
    }

    fn deliver(&mut self, pending: Pending) {
        if let Some(worker) = pending.sender {
            let Incarnation { epoch, alive, .. } = self.workers[worker.slot.index()];
            if epoch == worker.epoch && alive {
                self.observe(worker, &pending.input);
            } else {
                // The router gets it all the same, and must not take it for another's.
                assert!(!self.router.is_heard(worker), "a stale report is heard");
                self.stale += 1;
            }
        }
        self.stopped_now |= matches!(pending.input, Input::Stop(Stop::Now));
        let lost = match &pending.input {
            Input::Lost { worker, .. } => Some(*worker),
            _ => None,
        };
        self.router.handle(pending.input, self.now);
        if let Some(worker) = lost {
            // A dead worker's last word may come late: it revives nobody.
            self.router.handle(Input::Ready { worker }, self.now);
        }
    }

    /// Notes what a report commits, at the instant when the router has it.
    fn observe(&mut self, worker: WorkerId, input: &Input) {
        self.order += 1;
        match input {
            Input::Ready { .. } => self.workers[worker.slot.index()].idle_since = self.order,
            Input::Done { completions, outputs, .. } => {
                self.workers[worker.slot.index()].idle_since = self.order;
                let count: u32 = completions.iter().map(|completion| completion.count).sum();
                self.workers[worker.slot.index()].in_hand -= count as usize;
                if self.faults.ordered {
                    self.note_paths(worker, outputs);
                    self.workers[worker.slot.index()].tokens.drain(..count as usize);
                }
                self.commit(outputs);
            }
            Input::Produced { outputs, .. } => {
                self.note_paths(worker, outputs);
                self.commit(outputs);
                self.count_items(outputs);
            }
            Input::Finished { outputs, .. } => {
                self.workers[worker.slot.index()].finished = true;
                self.note_paths(worker, outputs);
                self.commit(outputs);
                if self.router.is_producer(worker) {
                    self.count_items(outputs);
                }
            }
            Input::Lost { .. } => {
                self.workers[worker.slot.index()].alive = false;
                self.workers[worker.slot.index()].crossed =
                    self.router.workers[worker.slot].state == State::Gone;
            }
            Input::InitFailed { .. } | Input::Broken { .. } => {}
            Input::Stop(_) | Input::Halt { .. } => {}
        }
    }

    fn count_items(&mut self, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::One { origin: Some(origin), .. } if !self.router.is_over() => {
                    *self.items.entry(Arc::clone(origin)).or_default() += 1;
                }
                _ => {}
            }
        }
    }

    /// Whenever an item is closed, it is closed for what the producer has emitted
    /// of it since; at the end nothing is left.
    fn check_record(&mut self, record: Record) {
        match record {
            Record::Attempt { origin, outcome, .. } => {
                assert!(self.items.contains_key(&origin), "an attempt on a closed item");
                if matches!(outcome, AttemptOutcome::Failed(_)) {
                    self.failed_items.insert(origin);
                }
            }
            Record::Closed { origin, occurrences, end } => {
                // The producer may have emitted more of it since.
                let open = self.items.get_mut(&origin).expect("a closed item is closed again");
                *open = open.checked_sub(occurrences).expect("closed too early");
                if *open == 0 {
                    self.items.remove(&origin);
                }
                let failed = self.failed_items.remove(&origin);
                assert_eq!(failed, matches!(end, End::Failed { .. }), "{origin}: {end:?}");
                if end == End::Dropped {
                    assert_ne!(self.router.verdict(), Verdict::Done);
                }
            }
        }
    }

    /// Every attempt on every message was told once, and each worker did one thing at a time.
    fn check_spans(&self) {
        assert_eq!(self.router.marked(), 0, "messages are left that wait for their end");
        let mut busy_until = BTreeMap::new();
        let mut told = BTreeSet::new();
        for span in &self.spans {
            assert!(span.queued_at <= span.given_at && span.given_at <= span.begun_at, "{span:?}");
            if let Some(message) = span.message {
                assert!(told.insert((message, span.attempt)), "told twice: {span:?}");
            }
            if let Some(worker) = span.worker {
                let until = busy_until.entry((span.step.clone(), worker)).or_insert(Duration::ZERO);
                assert!(*until <= span.begun_at, "{span:?} overlaps {until:?}");
                *until = span.begun_at + span.busy;
            }
        }
        for step in self.router.steps.iter() {
            let count = |outcome| {
                let of_it = |span: &&Span| span.step == step.name && span.outcome == outcome;
                self.spans.iter().filter(of_it).count() as u64
            };
            let Counts { done, failed, dropped, .. } = step.counts;
            // What was tried again had failed before.
            let again = self.requeued.iter().filter(|name| **name == *step.name).count() as u64;
            assert_eq!(count("done"), done, "{}", step.name);
            assert_eq!(
                count("failed") + count("dropped"),
                failed + dropped + again,
                "{}",
                step.name
            );
        }
    }

    fn commit(&mut self, outputs: &[Output]) {
        let batches = outputs.iter().map(|output| Batch::new(MessageId(0), output.clone()));
        for message in batches.flat_map(Batch::into_messages) {
            let before = self.committed.insert(Token::of(&message.payload).id, 0);
            assert_eq!(before, None, "I2: an output was committed twice");
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
                let mut outputs = OutputBuffer::default();
                // In `finish` only a producer can name an origin.
                let origin = self.router.is_producer(worker).then(|| self.new_origin()).flatten();
                self.emit(worker, 3, &origin, &mut outputs);
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
            Action::Spawn { worker } => self.spawn(worker),
            Action::Quarantine(failed_input) => {
                self.quarantined += 1;
                self.check_attempts(&failed_input);
                self.failed_inputs.push(*failed_input);
            }
            Action::Tell(_) => {}
            Action::Record(record) => self.check_record(record),
            Action::Spans(spans) => self.spans.extend(spans),
        }
    }

    /// No message is tried more often than its step says.
    fn check_attempts(&self, failed_input: &FailedInput) {
        let step = self.plan.index(&failed_input.step).expect("the step of a failed input");
        let step = &self.plan.steps[step];
        let options = &step.options;
        let most = 1 + *options.retries + (*options.lost_retries).max(1);
        assert!((1..=most).contains(&failed_input.attempt), "{failed_input:?}");
        let deaths_only = self.faults.failures + self.faults.stops + self.faults.steering == 0;
        if deaths_only && self.router.abandoned.is_none() && failed_input.cause != Cause::Late {
            assert!(
                failed_input.attempt > *options.retries,
                "given up too early: {failed_input:?}"
            );
        }
    }

    fn die(&mut self, worker: WorkerId) {
        self.workers[worker.slot.index()].doomed = true;
        let in_hand = self.router.workers[worker.slot].in_hand.iter();
        let known = in_hand.map(Batch::first).last();
        let suspect = match (self.rng.random_range(0..4), known) {
            (0, _) => Suspect::None,
            (1, Some(number)) => Suspect::Message(number),
            _ => Suspect::Oldest,
        };
        let cause = [Cause::Lost, Cause::TimedOut][self.rng.random_range(0..2)];
        let blame = [Blame::Limit, Blame::Death, Blame::Request][self.rng.random_range(0..3)];
        let loss = Loss { reason: "simulated".into(), cause, suspect, blame };
        let at = self.now + self.delay() * 50;
        self.send_at(at, Some(worker), Input::Lost { worker, loss });
        self.report_late(worker, at);
    }

    /// A report that is still on its way when its worker has died, perhaps until another
    /// one has taken the slot and works on the same message.
    fn report_late(&mut self, worker: WorkerId, death: Duration) {
        if self.router.position(worker).0.index() + 1 == self.plan.steps.len() {
            return;
        }
        let mut outputs = OutputBuffer::default();
        self.output(worker, 0, &None, &mut outputs);
        let (outputs, busy) = (outputs.take(), Duration::ZERO);
        let input = match self.router.workers[worker.slot].in_hand.front() {
            Some(batch) => {
                let (outcome, silent) = (Outcome::Done, 0);
                let first = batch.first();
                let completions = vec![Completion { first, count: 1, outcome, silent, busy }];
                Input::Done { worker, completions, outputs }
            }
            None if self.router.is_producer(worker) => {
                let production = Production { result: Some(Ok(Next::More)), calls: 1, busy };
                Input::Produced { worker, production, outputs }
            }
            None => Input::Finished { worker, result: Ok(()), outputs },
        };
        let at = death + self.delay() * 50;
        self.send_at(at, Some(worker), input);
    }

    fn produce(&mut self, worker: WorkerId, count: u32) {
        assert!(
            self.workers[worker.slot.index()].alive && !self.workers[worker.slot.index()].finished
        );
        assert!(count > 0);
        if self.chance(self.faults.deaths / 4) {
            return self.die(worker);
        }
        let mut outputs = OutputBuffer::default();
        let made = u64::from(self.rng.random_range(1..=count)).min(self.to_produce);
        let early = if self.rng.random_ratio(1, 3) { self.rng.random_range(0..=made) } else { 0 };
        for number in 0..made {
            if number == early && early > 0 {
                // The next call takes long: what was made before goes on.
                self.hand_over(worker, outputs.take(), early);
                if self.chance(self.faults.deaths) {
                    return self.die(worker);
                }
            }
            let hops = self.rng.random_range(3..12);
            let origin = self.new_origin();
            self.output(worker, hops, &origin, &mut outputs);
        }
        let outputs = outputs.take();
        self.to_produce -= if early < made { made - early } else { made };
        let result = if self.chance(self.faults.failures / 10) {
            Err(Failure::retryable("simulated"))
        } else if self.to_produce == 0 {
            Ok(Next::Done)
        } else if self.rng.random_ratio(1, 5) {
            Ok(Next::Idle(self.delay()))
        } else {
            Ok(Next::More)
        };
        let busy = self.delay();
        let result = Some(result);
        let production = Production { result, calls: 1, busy };
        self.send_at(
            self.now + busy,
            Some(worker),
            Input::Produced { worker, production, outputs },
        );
    }

    /// A producer reports a part of what it makes with a grant.
    fn hand_over(&mut self, worker: WorkerId, outputs: Vec<Output>, made: u64) {
        self.to_produce -= made;
        let production = Production { result: None, calls: 1, busy: Duration::ZERO };
        let input = Input::Produced { worker, production, outputs };
        self.send_at(self.now, Some(worker), input);
    }

    /// Some items have no origin, and some the same as others.
    fn new_origin(&mut self) -> ItemKey {
        let item = self.rng.random_range(0..100);
        (item < 40).then(|| format!("item {item}").into())
    }

    /// An output with a random route and size; the last hop goes nowhere new.
    fn output(
        &mut self,
        worker: WorkerId,
        hops: u64,
        origin: &ItemKey,
        outputs: &mut OutputBuffer,
    ) {
        let routes = self.plan.steps[self.router.position(worker).0.index()].routes.len();
        let token = Token { id: self.next_token, hops };
        self.next_token += 1;
        let size = [0, 10, 200][self.rng.random_range(0..3)];
        let route = self.rng.random_range(0..routes) as u32;
        // Messages with an origin travel alone, the others in packs.
        outputs.push_payload(route, origin.clone(), token.payload(size));
    }

    fn emit(
        &mut self,
        worker: WorkerId,
        hops: u64,
        origin: &ItemKey,
        outputs: &mut OutputBuffer,
    ) -> usize {
        let step = &self.plan.steps[self.router.position(worker).0.index()];
        if step.routes.is_empty() || hops == 0 {
            return 0;
        }
        let most = if step.routes.iter().any(|route| route.feedback) { 2 } else { 4 };
        let count = self.rng.random_range(0..most);
        (0..count).for_each(|_| self.output(worker, hops - 1, origin, outputs));
        count
    }

    fn work(&mut self, worker: WorkerId, batches: Vec<Batch>) {
        let messages: Vec<Message> = batches.into_iter().flat_map(Batch::into_messages).collect();
        assert!(
            self.workers[worker.slot.index()].alive && !self.workers[worker.slot.index()].finished
        );
        self.check_least_recently_used(worker, messages.len());
        self.check_order(worker, &messages);
        self.workers[worker.slot.index()]
            .tokens
            .extend(messages.iter().map(|m| Token::of(&m.payload).id));
        self.order += 1;
        self.workers[worker.slot.index()].idle_since = self.order;
        self.workers[worker.slot.index()].in_hand += messages.len();
        if self.workers[worker.slot.index()].doomed {
            return;
        }
        if self.chance(self.faults.deaths) {
            return self.die(worker);
        }
        let mut outputs = OutputBuffer::default();
        let mut completions: Vec<Completion> = Vec::new();
        let mut at = self.workers[worker.slot.index()].busy_until.max(self.now);
        for message in messages {
            if !completions.is_empty() && self.rng.random_ratio(1, 20) {
                // This call takes long: what is done before it is told.
                let (completions, outputs) = (std::mem::take(&mut completions), outputs.take());
                self.send_at(at, Some(worker), Input::Done { worker, completions, outputs });
            }
            let token = Token::of(&message.payload);
            let outcome = match self.chance(self.faults.failures) {
                false => Outcome::Done,
                true if self.rng.random() => Outcome::Failed(Failure::retryable("simulated")),
                true => Outcome::Panicked(Failure::permanent("simulated")),
            };
            let busy = self.delay();
            at += busy;
            let mut emitted = 0;
            if outcome == Outcome::Done {
                let times = self.committed.get_mut(&token.id).expect("I2: it was never committed");
                *times += 1;
                emitted = self.emit(worker, token.hops, &message.origin, &mut outputs);
            }
            let silent = u32::from(emitted == 0);
            let one = Completion { first: message.id, count: 1, outcome, silent, busy };
            let last = completions.last_mut().filter(|last| {
                let follows = last.first.plus(last.count as usize) == one.first;
                follows && last.outcome == Outcome::Done && one.outcome == Outcome::Done
            });
            match last {
                Some(last) if self.rng.random() => {
                    last.count += 1;
                    last.silent += silent;
                    last.busy += busy;
                }
                _ => completions.push(one),
            }
        }
        let outputs = outputs.take();
        self.workers[worker.slot.index()].busy_until = at;
        self.send_at(at, Some(worker), Input::Done { worker, completions, outputs });
    }

    /// No idle worker of the step has waited longer than the one that is served.
    fn check_least_recently_used(&self, worker: WorkerId, count: usize) {
        let step = self.router.position(worker).0;
        let served = &self.workers[worker.slot.index()];
        for (slot, other) in self.router.workers.slots().zip(&self.workers) {
            let known = &self.router.workers[slot];
            let other_is_free = known.step == step
                && slot != worker.slot
                && self.free[slot.index()]
                && other.alive
                && known.state == State::Ready
                && known.in_hand.is_empty();
            if other_is_free {
                assert_eq!(served.in_hand, 0, "a free worker was passed over ({count} messages)");
                assert!(served.idle_since < other.idle_since, "not the least recently used");
            }
        }
    }

    fn check_running(&self) {
        for (index, step) in self.router.steps.iter().enumerate() {
            let routes = self.plan.steps.iter().flat_map(|step| &step.routes);
            let on_loop = routes.clone().any(|route| route.to == index && route.feedback);
            let limit = self.plan.steps[index].options.queue_limit.unwrap_or(usize::MAX);
            let is_end = self.faults.ordered && self.plan.steps[index].routes.is_empty();
            if !on_loop && !is_end {
                assert!(step.queue.high_water() <= limit, "I3: a queue beyond its limit");
            }
            assert!(step.counts.received >= step.counts.done, "I1");
            if self.router.draining {
                let due = step.queue.next_due();
                assert!(due.is_none_or(|due| due <= self.now), "a backoff outlives a drain");
            }
        }
        if self.faults.one_by_one {
            let busy = self.router.workers.iter().filter(|worker| worker.is_busy());
            let finishing = busy.clone().filter(|worker| worker.state == State::Finishing);
            assert!(finishing.count() > 0 || busy.count() <= 1, "{}", self.state());
        }
        self.check_shown();
        for worker in self.router.workers.iter() {
            assert!(worker.in_hand_count <= 1024, "I3: too much in hand");
            let in_hand: usize = worker.in_hand.iter().map(Batch::count).sum();
            assert_eq!(worker.in_hand_count, in_hand);
        }
    }

    /// The numbers that are shown add up at every moment.
    fn check_shown(&self) {
        let Router { steps, workers, .. } = &self.router;
        let sent: u64 = steps.iter().flat_map(|step| &step.sent).sum();
        let received: u64 = steps.iter().map(|step| step.counts.received).sum();
        let held = workers.iter().flat_map(|worker| &worker.held).map(|held| held.batch.count());
        assert_eq!(sent, received + held.sum::<usize>() as u64, "sent = received + held");
        for step in steps.iter() {
            let hands = step.workers.iter().map(|worker| workers[*worker].in_hand_count);
            let open = step.queue.len() + hands.sum::<usize>();
            assert_eq!(step.counts.open(), open as u64, "{}", step.name);
        }
    }

    fn check_ended(&self) {
        let left = self.workers.iter().position(|worker| worker.alive);
        assert_eq!(left, None, "I5: a worker is left over\n{}", self.state());
        let verdict = self.router.verdict();
        let snapshot = self.router.snapshot(self.now);
        let mut arrived = 0;
        for step in &snapshot.steps {
            assert_eq!(step.counts.open(), 0, "I1: {step:?}");
            arrived += step.counts.received;
        }
        let emitted: u64 = snapshot.steps.iter().map(|step| step.counts.emitted).sum();
        assert_eq!(emitted, arrived, "I1: what is emitted arrives");
        let failed: u64 = snapshot.steps.iter().map(|step| step.counts.failed).sum();
        assert_eq!(failed, self.quarantined, "I1: what fails is in quarantine");
        assert!(self.items.is_empty(), "items are open: {:?}", self.items);
        assert_eq!(self.router.items.as_ref().map(Items::open_count), Some(0));
        self.check_spans();
        let twice: BTreeSet<_> = self.committed.iter().filter(|(_, times)| **times > 1).collect();
        if self.faults.deaths == 0 {
            assert!(twice.is_empty(), "I2: completed twice: {twice:?}");
        }
        if self.faults.failures == 0 && !matches!(verdict, Verdict::Stopped(_)) {
            // Whoever dies while it finishes is replaced, unless it is a producer.
            let failures = self.router.finish_failures().len();
            let producers = self.plan.steps.iter().filter(|step| step.kind == Kind::Producer);
            assert!(failures <= producers.count(), "{:?}", self.router.finish_failures());
        }
        if verdict == Verdict::Done {
            assert_eq!(self.committed.values().filter(|times| **times == 0).count(), 0, "I1");
            assert_eq!((failed, self.to_produce), (0, 0));
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
    let mut stale = 0;
    for seed in 0..count {
        let case = std::panic::AssertUnwindSafe(|| run(seed, faults));
        stale += std::panic::catch_unwind(case).unwrap_or_else(|panic| {
            eprintln!("{name}: seed {seed} failed; repeat with DRPIPE_SIMULATOR_SEED={seed}");
            std::panic::resume_unwind(panic);
        });
    }
    let some = faults.deaths > 0 && count > 100;
    assert!(stale > 0 || !some, "{name}: no worker's report came after its end");
}

/// Returns how many reports came after their workers' ends.
fn run(seed: u64, faults: Faults) -> u64 {
    let mut simulator = Simulator::new(seed, faults);
    simulator.run();
    simulator.stale
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
