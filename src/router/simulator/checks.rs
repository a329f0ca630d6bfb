//! Checks the invariants after every step of a run, and at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::plans::Token;
use super::*;
use crate::event::Counts;

impl Simulator {
    /// In ordered runs, a step that ends the pipeline gets what comes next, or the same again.
    pub(super) fn check_order(&mut self, worker: WorkerId, messages: &[Message]) {
        let step = self.router.position(worker).0;
        if self.router.observers.order.is_none() || !self.plan.steps[step.index()].routes.is_empty()
        {
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

    /// A record closes an item for all that the producer has emitted of it since the last
    /// one; at the end no item is open.
    pub(super) fn check_record(&mut self, record: Record) {
        match record {
            Record::Attempt { origin, outcome, .. } => {
                // One that was tried again may have been closed since, for what came before.
                let is_open = self.items.contains_key(&origin) || self.again.contains(&origin);
                assert!(is_open, "an attempt on a closed item");
                if matches!(outcome, AttemptOutcome::Failed(_)) {
                    self.failed_items.insert(origin);
                }
            }
            Record::Closed { origin, occurrences, end } => {
                if self.again.contains(&origin) {
                    self.items.entry(Arc::clone(&origin)).or_default();
                }
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

    /// Every attempt has one span, and each worker did one thing at a time.
    pub(super) fn check_spans(&self) {
        assert_eq!(
            self.router.observers.spans.as_ref().map_or(0, observe::spans::Spans::open_count),
            0,
            "messages are left that wait for their end"
        );
        let mut busy_until = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for span in &self.spans {
            assert!(span.queued_at <= span.given_at && span.given_at <= span.begun_at, "{span:?}");
            if let Some(message) = span.message.filter(|_| span.outcome != "deferred") {
                assert!(seen.insert((message, span.attempt)), "two spans of one attempt: {span:?}");
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
            assert_eq!(count("deferred"), step.counts.deferred, "I19: {}", step.name);
            assert_eq!(
                count("failed") + count("dropped"),
                failed + dropped + again,
                "{}",
                step.name
            );
        }
    }

    /// No message is tried more often than its step allows.
    pub(super) fn check_attempts(&self, failed_input: &FailedInput) {
        let step = self.plan.index(&failed_input.step).expect("the step of a failed input");
        let step = &self.plan.steps[step];
        let options = &step.options;
        let most = 1 + *options.retries + (*options.lost_retries).max(1);
        assert!((1..=most).contains(&failed_input.attempt), "{failed_input:?}");
        let deaths_only = self.faults.failures + self.faults.stops + self.faults.steering == 0;
        let had_its_attempts = !matches!(failed_input.cause, Cause::Late | Cause::InVain);
        if deaths_only && !self.router.ending.is_abandoned() && had_its_attempts {
            assert!(
                failed_input.attempt > *options.retries,
                "given up too early: {failed_input:?}"
            );
        }
    }

    /// No idle worker of the step has waited longer than the one that is served.
    pub(super) fn check_least_recently_used(&self, worker: WorkerId, count: usize) {
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

    pub(super) fn check_running(&mut self) {
        for (index, step) in self.router.steps.iter().enumerate() {
            let routes = self.plan.steps.iter().flat_map(|step| &step.routes);
            let on_loop = routes.clone().any(|route| route.to == index && route.feedback);
            let limit = self.plan.steps[index].options.queue_limit.unwrap_or(usize::MAX);
            let is_end = self.faults.ordered && self.plan.steps[index].routes.is_empty();
            if !on_loop && !is_end {
                for line in Priority::ALL.map(|priority| step.queue.line(priority)) {
                    assert!(line.high_water() <= limit, "I3: a line beyond its limit");
                }
            }
            assert!(step.counts.received >= step.counts.done, "I1");
            if self.router.ending.is_draining() {
                for line in Priority::ALL.map(|priority| step.queue.line(priority)) {
                    let due = line.next_due();
                    assert!(due.is_none_or(|due| due <= self.now), "a backoff outlives a drain");
                }
            }
        }
        if self.faults.one_by_one {
            let busy = self.router.workers.iter().filter(|worker| worker.is_busy());
            let finishing = busy.clone().filter(|worker| worker.state == State::Finishing);
            assert!(finishing.count() > 0 || busy.count() <= 1, "{}", self.state());
        }
        self.check_shown();
        self.check_window();
        self.check_producer_goes_on();
        self.router.workers.update_rosters();
        let rosters = self.router.workers.new_rosters();
        for step in self.router.steps.ids() {
            assert_eq!(self.router.workers.roster(step), rosters.of_step(step));
        }
        let has_work =
            |worker: &&worker::Worker| worker.state == State::Ready && worker.in_hand_count > 0;
        let at_work = self.router.workers.iter().filter(has_work).count();
        assert_eq!(self.router.at_work(), at_work);
        for worker in self.router.workers.iter() {
            assert!(worker.in_hand_count <= 1024, "I3: too much in hand");
            let in_hand: usize = worker.in_hand.iter().map(Batch::count).sum();
            assert_eq!(worker.in_hand_count, in_hand);
        }
    }

    /// I17: behind a barrier a producer is asked when nothing is open, and it was told of all.
    pub(super) fn check_barrier(&mut self) {
        if std::mem::take(&mut self.at_barrier) {
            assert_eq!(self.open(), 0, "I17: it is asked too early\n{}", self.state());
            self.check_told();
            self.seen.barriers += 1;
        }
    }

    /// I17: a producer at a barrier is asked once nothing is open.
    fn check_producer_goes_on(&self) {
        let router = &self.router;
        let may_ask = self.at_barrier
            && !router.is_over()
            && !router.ending.is_draining()
            && !router.steps.is_paused(StepId(0))
            && router.may_begin()
            && router.workers[Slot(0)].may_be_granted();
        assert!(!may_ask || self.open() > 0, "I17: it is not asked\n{}", self.state());
    }

    /// The number of messages that are held, queued or in hand.
    fn open(&self) -> usize {
        let queued: usize = self.router.steps.iter().map(|step| step.queue.len()).sum();
        let of_worker = |worker: &Worker| {
            worker.in_hand_count + worker.all_held().map(|held| held.batch.count()).sum::<usize>()
        };
        queued + self.router.workers.iter().map(of_worker).sum::<usize>()
    }

    /// The numbers that are shown add up at every moment.
    pub(super) fn check_shown(&self) {
        let Router { steps, workers, .. } = &self.router;
        let sent: u64 = steps.iter().flat_map(|step| &step.routes).map(|route| route.sent).sum();
        let received: u64 = steps.iter().map(|step| step.counts.received).sum();
        let held = workers.iter().flat_map(Worker::all_held).map(|held| held.batch.count());
        assert_eq!(sent, received + held.sum::<usize>() as u64, "sent = received + held");
        for step in steps.iter() {
            let hands = step.workers.iter().map(|worker| workers[*worker].in_hand_count);
            let open = step.queue.len() + hands.sum::<usize>();
            assert_eq!(step.counts.open(), open as u64, "{}", step.name);
        }
    }

    pub(super) fn check_ended(&self) {
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
        self.check_told();
        let failed: u64 = snapshot.steps.iter().map(|step| step.counts.failed).sum();
        assert_eq!(failed, self.quarantined, "I1: what fails is in quarantine");
        assert!(self.items.is_empty(), "items are open: {:?}", self.items);
        assert_eq!(
            self.router.observers.items.as_ref().map(observe::items::Items::open_count),
            Some(0)
        );
        let is_left =
            (0..40).any(|item| self.router.cancelled_origins.has(&format!("item {item}")));
        assert!(!is_left || self.stopped_now, "I16: an origin stays cancelled");
        self.check_spans();
        let twice: BTreeSet<_> = self.committed.iter().filter(|(_, times)| **times > 1).collect();
        if self.faults.deaths + self.faults.cancels == 0 {
            assert!(twice.is_empty(), "I2: completed twice: {twice:?}");
        }
        if self.faults.failures == 0 && !matches!(verdict, Verdict::Stopped(_)) {
            // A worker that dies while it finishes is replaced, unless it is a producer.
            let failures = self.router.finish_failures().len();
            let producers = self.plan.steps.iter().filter(|step| step.kind == Kind::Producer);
            assert!(failures <= producers.count(), "{:?}", self.router.finish_failures());
        }
        if verdict == Verdict::Done {
            assert_eq!(self.committed.values().filter(|times| **times == 0).count(), 0, "I1");
            assert_eq!((failed, self.to_produce), (0, 0));
        }
    }

    pub(super) fn state(&self) -> String {
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
            let held: Vec<StepId> = worker.all_held().map(|held| held.to).collect();
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
}
