//! What simulated workers do, fail at, and die of.

use std::time::Duration;

use rand::RngExt;

use super::plans::Token;
use super::*;
use crate::protocol::report::{Blame, Completion, Outcome, Production, Suspect};
use crate::stage::Next;

#[derive(Default)]
pub(super) struct Incarnation {
    /// As the router numbers it, from 1; 0 in a slot that never had a worker.
    pub(super) epoch: u32,
    pub(super) alive: bool,
    pub(super) finished: bool,
    /// Whether it will be lost, and reports nothing more.
    pub(super) doomed: bool,
    /// When its current work will be done.
    pub(super) busy_until: Duration,
    pub(super) in_hand: usize,
    pub(super) idle_since: u64,
    /// The tokens in hand.
    pub(super) tokens: Vec<u64>,
    /// It died when the router had already decided to stop it.
    pub(super) crossed: bool,
}

impl Simulator {
    pub(super) fn spawn(&mut self, worker: WorkerId) {
        let WorkerId { slot, epoch } = worker;
        assert!(epoch > self.workers[slot.index()].epoch, "two workers of one epoch");
        self.workers[slot.index()] = Incarnation { epoch, alive: true, ..Incarnation::default() };
        if self.chance(self.faults.deaths) {
            return self.die(worker);
        }
        let is_fed = self.faults.fed && self.router.is_producer(worker);
        let input = if self.chance(self.faults.init_failures) {
            Input::InitFailed { worker, failure: Failure::permanent("simulated") }
        } else {
            Input::Ready { worker }
        };
        let (at, is_ready) = (self.now + self.delay(), matches!(input, Input::Ready { .. }));
        self.workers[slot.index()].busy_until = at;
        self.send_at(at, Some(worker), input);
        if is_fed && is_ready {
            self.feed(worker);
        }
    }

    pub(super) fn die(&mut self, worker: WorkerId) {
        self.workers[worker.slot.index()].doomed = true;
        let in_hand = self.router.workers[worker.slot].in_hand.iter();
        let known = in_hand.map(Batch::first).last();
        let suspect = match (self.rng.random_range(0..4), known) {
            (0, _) => Suspect::None,
            (1, Some(number)) => Suspect::Message(number),
            _ => Suspect::Oldest,
        };
        let cause = [Cause::Lost, Cause::TimedOut][self.rng.random_range(0..2)];
        let blame = match suspect {
            Suspect::None if self.rng.random_bool(0.5) => Blame::Plan,
            _ => [Blame::Limit, Blame::Death, Blame::Request][self.rng.random_range(0..3)],
        };
        let loss = Loss { reason: "simulated".into(), cause, suspect, blame };
        let at = self.now + self.delay() * 50;
        self.send_at(at, Some(worker), Input::Lost { worker, loss });
        self.report_late(worker, at);
    }

    /// Sends a report that arrives after its worker's death, perhaps when another worker has
    /// taken the slot and works on the same message.
    pub(super) fn report_late(&mut self, worker: WorkerId, death: Duration) {
        if self.router.position(worker).0.index() + 1 == self.plan.steps.len() {
            return;
        }
        let mut outputs = OutputBuffer::default();
        self.output(worker, 0, 0, &None, &mut outputs);
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

    pub(super) fn produce(&mut self, worker: WorkerId, count: u32) {
        assert!(
            self.workers[worker.slot.index()].alive && !self.workers[worker.slot.index()].finished
        );
        assert!(count > 0);
        self.check_barrier();
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
            let (origin, item) = (self.new_origin(), self.new_item());
            self.draw_priority(&mut outputs);
            self.output(worker, hops, item, &origin, &mut outputs);
        }
        let outputs = outputs.take();
        self.to_produce -= if early < made { made - early } else { made };
        let result = if self.chance(self.faults.failures / 10) {
            Err(Failure::retryable("simulated"))
        } else if self.to_produce == 0 {
            Ok(Next::Done)
        } else if self.rng.random_ratio(1, 5) {
            Ok(Next::Idle(self.delay()))
        } else if self.rng.random_ratio(1, 5) {
            Ok(Next::Barrier)
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

    /// Has a producer report a part of what it makes with a grant.
    pub(super) fn hand_over(&mut self, worker: WorkerId, outputs: Vec<Output>, made: u64) {
        self.to_produce -= made;
        let production = Production { result: None, calls: 1, busy: Duration::ZERO };
        let input = Input::Produced { worker, production, outputs };
        self.send_at(self.now, Some(worker), input);
    }

    /// Makes an origin: sometimes none, and sometimes one that others have too.
    pub(super) fn new_origin(&mut self) -> ItemKey {
        let item = self.rng.random_range(0..100);
        (item < 40).then(|| format!("item {item}").into())
    }

    /// Emits an output with a random route and size.
    pub(super) fn output(
        &mut self,
        worker: WorkerId,
        hops: u64,
        item: u64,
        origin: &ItemKey,
        outputs: &mut OutputBuffer,
    ) {
        let routes = self.plan.steps[self.router.position(worker).0.index()].routes.len();
        let token = Token { id: self.next_token, hops };
        self.next_token += 1;
        let size = [0, 10, 200][self.rng.random_range(0..3)];
        let route = self.rng.random_range(0..routes) as u32;
        // Messages with an origin travel alone, the others in packs.
        outputs.push_item(route, item, origin.clone(), token.payload(size));
    }

    pub(super) fn emit(
        &mut self,
        worker: WorkerId,
        hops: u64,
        item: u64,
        origin: &ItemKey,
        outputs: &mut OutputBuffer,
    ) -> usize {
        let step = &self.plan.steps[self.router.position(worker).0.index()];
        if *step.options.results && item != 0 {
            self.hand_back(item, outputs);
            return 0;
        }
        if step.routes.is_empty() || hops == 0 {
            return 0;
        }
        let most = if step.routes.iter().any(|route| route.feedback) { 2 } else { 4 };
        let count = self.rng.random_range(0..most);
        (0..count).for_each(|_| self.output(worker, hops - 1, item, origin, outputs));
        count
    }

    pub(super) fn work(&mut self, worker: WorkerId, batches: Vec<Batch>) {
        let messages: Vec<Message> = batches.into_iter().flat_map(Batch::into_messages).collect();
        assert!(
            self.workers[worker.slot.index()].alive && !self.workers[worker.slot.index()].finished
        );
        self.check_least_recently_used(worker, messages.len());
        self.check_order(worker, &messages);
        self.check_given(worker, &messages);
        self.check_priorities(worker, &messages);
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
        let mut messages = messages.into_iter().peekable();
        while let Some(message) = messages.next() {
            if !completions.is_empty() && self.rng.random_ratio(1, 20) {
                // This call takes long: the worker reports what is done before it.
                let (completions, outputs) = (std::mem::take(&mut completions), outputs.take());
                self.send_at(at, Some(worker), Input::Done { worker, completions, outputs });
            }
            let one = self.call(worker, &message, &mut outputs);
            if let Some(first) = messages.peek().map(|next| next.id)
                && self.rng.random_ratio(1, 20)
            {
                // This call takes long: the worker gives back what is behind it.
                let count = messages.by_ref().count() as u32;
                let input = Input::Returned { worker, first, count };
                self.send_at(at + one.busy / 2, Some(worker), input);
            }
            at += one.busy;
            self.complete(&mut completions, one);
        }
        let outputs = outputs.take();
        self.workers[worker.slot.index()].busy_until = at;
        self.send_at(at, Some(worker), Input::Done { worker, completions, outputs });
    }

    /// Lets the worker's stage process one message.
    fn call(
        &mut self,
        worker: WorkerId,
        message: &Message,
        outputs: &mut OutputBuffer,
    ) -> Completion {
        let token = Token::of(&message.payload);
        let outcome = match self.chance(self.faults.failures) {
            false if self.chance(self.faults.deferrals) => self.put_off(),
            false => Outcome::Done,
            true if self.rng.random() => Outcome::Failed(Failure::retryable("simulated")),
            true => Outcome::Panicked(Failure::permanent("simulated")),
        };
        let busy = self.delay();
        let mut emitted = 0;
        if outcome == Outcome::Done {
            let times = self.committed.get_mut(&token.id).expect("I2: it was never committed");
            *times += 1;
            self.inherit(message, outputs);
            emitted = self.emit(worker, token.hops, message.item, &message.origin, outputs);
        }
        let silent = u32::from(emitted == 0);
        Completion { first: message.id, count: 1, outcome, silent, busy }
    }

    /// Adds a completion to those before it, sometimes as a part of the last one.
    fn complete(&mut self, completions: &mut Vec<Completion>, one: Completion) {
        let last = completions.last_mut().filter(|last| {
            let follows = last.first.plus(last.count as usize) == one.first;
            follows && last.outcome == Outcome::Done && one.outcome == Outcome::Done
        });
        match last {
            Some(last) if self.rng.random() => {
                last.count += 1;
                last.silent += one.silent;
                last.busy += one.busy;
            }
            _ => completions.push(one),
        }
    }

    /// Notes what a report commits when the router receives it.
    pub(super) fn observe(&mut self, worker: WorkerId, input: &Input) {
        self.order += 1;
        match input {
            Input::Ready { .. } => self.workers[worker.slot.index()].idle_since = self.order,
            Input::Done { completions, outputs, .. } => {
                self.workers[worker.slot.index()].idle_since = self.order;
                let count: u32 = completions.iter().map(|completion| completion.count).sum();
                self.workers[worker.slot.index()].in_hand -= count as usize;
                self.count_deferred(completions);
                if self.faults.ordered {
                    self.note_paths(worker, outputs);
                    self.workers[worker.slot.index()].tokens.drain(..count as usize);
                }
                let taken = self.without_given_up(outputs);
                self.commit(worker, &taken);
            }
            Input::Returned { count, .. } => {
                self.workers[worker.slot.index()].in_hand -= *count as usize;
            }
            Input::Released { bytes, .. } => self.released(*bytes),
            Input::Cancelled { number, running, .. } => self.cancels(*number, *running),
            Input::Produced { production, outputs, .. } => {
                self.at_barrier = matches!(production.result, Some(Ok(Next::Barrier)));
                if !self.take_items(outputs) {
                    return;
                }
                self.note_paths(worker, outputs);
                self.commit(worker, outputs);
                self.count_items(outputs);
            }
            Input::Finished { outputs, .. } => {
                self.workers[worker.slot.index()].finished = true;
                self.note_paths(worker, outputs);
                self.commit(worker, outputs);
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
            Input::Stop(_) | Input::Halt { .. } | Input::Abandon { .. } => {}
        }
    }

    pub(super) fn count_items(&mut self, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::One { origin: Some(origin), .. } if !self.router.is_over() => {
                    *self.items.entry(Arc::clone(origin)).or_default() += 1;
                }
                _ => {}
            }
        }
    }

    /// Notes where the outputs of a report come from, for ordered runs.
    pub(super) fn note_paths(&mut self, worker: WorkerId, outputs: &[Output]) {
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

    pub(super) fn commit(&mut self, worker: WorkerId, outputs: &[Output]) {
        self.note_priorities(worker, outputs);
        let messages: Vec<&Output> = outputs.iter().filter(|o| self.descends(o)).collect();
        let batches = messages.into_iter().map(|o| Batch::new(MessageId(0), o.clone()));
        for message in batches.flat_map(Batch::into_messages) {
            let before = self.committed.insert(Token::of(&message.payload).id, 0);
            assert_eq!(before, None, "I2: an output was committed twice");
        }
    }
}
