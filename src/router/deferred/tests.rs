//! Tests of deferred messages.

use super::*;
use crate::base::ids::{RouteId, WorkerId};
use crate::message::batch::Output;
use crate::message::{Payload, Priority};
use crate::plan::{OnError, Route, WorkerRange};
use crate::protocol::report::{Completion, Outcome, Production};
use crate::router::testing::{plan_of, planned};
use crate::router::{Action, Batching, ControlRequest, Input, Timing};
use crate::stage::Next;
use crate::stage::registry::Kind;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A run of a producer and a consumer with two workers.
struct Run {
    router: Router,
    workers: Vec<WorkerId>,
    /// Which worker has which message in hand.
    hands: HashMap<u64, WorkerId>,
    now: Duration,
    /// The number of the latest item of a feed.
    items: u64,
}

impl Run {
    fn new(is_feed: bool, queue_limit: usize) -> Self {
        let mut producer = planned("P", Kind::Producer, vec![Route { to: 1, feedback: false }]);
        (producer.acknowledges, producer.feed) = (is_feed, is_feed);
        producer.options.window.value = 3;
        let mut consumer = planned("END", Kind::Consumer, Vec::new());
        consumer.options.nb_thread.value = WorkerRange { min: 2, max: 2 };
        consumer.options.on_error.value = OnError::Skip;
        consumer.options.queue_limit.value = Some(queue_limit);
        let plan = plan_of(vec![producer, consumer]);
        let mut router = Router::new(&plan, Batching::Single, Timing::default());
        let workers = router.initial_workers();
        for worker in &workers {
            router.handle(Input::Ready { worker: *worker }, Duration::ZERO);
        }
        Self { router, workers, hands: HashMap::new(), now: Duration::ZERO, items: 0 }
    }

    /// Lets the producer report new messages.
    fn produce(&mut self, count: u64, next: Next) {
        self.poll();
        let is_feed = self.router.feed().is_some();
        let output = |number| Output::One {
            route: RouteId(0),
            priority: Priority::Normal,
            item: if is_feed { number } else { 0 },
            origin: Some(format!("m{number}").into()),
            payload: Payload::default(),
        };
        let outputs = (1..=count).map(|number| output(self.items + number)).collect();
        self.items += count;
        let production = Production { result: Some(Ok(next)), calls: 1, busy: Duration::ZERO };
        let input = Input::Produced { worker: self.workers[0], production, outputs };
        self.router.handle(input, self.now);
    }

    /// Returns the messages that are handed out, and the names of those that waited in vain.
    fn poll(&mut self) -> (Vec<u64>, Vec<String>) {
        let (mut given, mut in_vain) = (Vec::new(), Vec::new());
        let mut actions = self.router.poll(self.now);
        while let Some(at) = actions.iter().position(|a| matches!(a, Action::Finish { .. })) {
            let Action::Finish { worker } = actions.remove(at) else { unreachable!() };
            let (result, outputs) = (Ok(()), Vec::new());
            self.router.handle(Input::Finished { worker, result, outputs }, self.now);
            actions.extend(self.router.poll(self.now));
        }
        for action in actions {
            match action {
                Action::Work { worker, batches } => {
                    for batch in batches {
                        given.push(batch.first().0);
                        self.hands.insert(batch.first().0, worker);
                    }
                }
                Action::Publish(Event::Failed {
                    origin, cause: Cause::InVain, failure, ..
                }) => {
                    assert_eq!(failure.chain()[0], "waited in vain");
                    in_vain.push(origin.unwrap().to_string());
                }
                _ => {}
            }
        }
        given.sort_unstable();
        (given, in_vain)
    }

    fn report(&mut self, message: u64, outcome: Outcome) {
        let (worker, first) = (self.hands[&message], MessageId(message));
        let completion =
            Completion { first, count: 1, outcome, silent: 1, busy: Duration::from_micros(1) };
        let (completions, outputs) = (vec![completion], Vec::new());
        self.router.handle(Input::Done { worker, completions, outputs }, self.now);
    }

    fn defer(&mut self, message: u64) {
        self.defer_for(message, Duration::ZERO);
    }

    fn defer_for(&mut self, message: u64, wait: Duration) {
        let why = Failure::retryable("no flat yet");
        self.report(message, Outcome::Deferred { wait, why });
    }

    fn done(&mut self, message: u64) {
        self.report(message, Outcome::Done);
    }

    /// Lets time pass until the router wakes. Returns how long that was.
    fn wake(&mut self) -> Duration {
        let before = self.now;
        self.now = self.router.next_wake().unwrap();
        self.now - before
    }

    fn is_over(&mut self) -> bool {
        let counts = self.router.steps[StepId(1)].counts;
        assert_eq!(counts.open() as usize, self.router.steps[StepId(1)].queue.len());
        counts.open() == 0
    }
}

const NONE: (Vec<u64>, Vec<String>) = (Vec::new(), Vec::new());

fn vain(names: &[&str]) -> (Vec<u64>, Vec<String>) {
    (Vec::new(), names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn the_wait_doubles_up_to_a_minute_or_the_first_one_if_that_is_longer() {
    let cases = [
        (100, 1, 100),
        (100, 2, 200),
        (100, 10, 51_200),
        (100, 11, 60_000),
        (100, u32::MAX, 60_000),
        (5000, 1, 5000),
        (5000, 5, 60_000),
        (90_000, 7, 90_000),
    ];
    for (first, round, expected) in cases {
        assert_eq!(wait(ms(first), round), ms(expected), "{first} ms, round {round}");
    }
}

#[test]
fn waits_double_while_nothing_ends_and_begin_anew_when_something_does() {
    let mut run = Run::new(false, 9);
    // The producer may bring more after a day.
    run.produce(2, Next::Idle(ms(86_400_000)));
    assert_eq!(run.poll().0, [1, 2]);
    // Message 1 is in hand all the time.
    let mut waits = Vec::new();
    for _ in 0..12 {
        run.defer(2);
        assert_eq!(run.poll(), NONE);
        waits.push(run.wake().as_millis());
        assert_eq!(run.poll().0, [2]);
    }
    assert_eq!(waits[..4], [100, 200, 400, 800]);
    assert_eq!(waits[9..], [51_200, 60_000, 60_000]);
    run.defer(2);
    run.now += ms(5000);
    run.done(1);
    assert_eq!(run.poll(), NONE);
    assert_eq!(run.wake(), ms(100), "something has ended");
    assert_eq!(run.poll().0, [2]);
    run.defer(2);
    run.poll();
    assert_eq!(run.wake(), ms(100), "the first wait since then");
}

#[test]
fn a_stage_may_name_its_own_first_wait() {
    let mut run = Run::new(false, 9);
    run.produce(2, Next::Idle(ms(86_400_000)));
    run.poll();
    for expected in [2000, 4000] {
        run.defer_for(2, ms(2000));
        run.poll();
        assert_eq!(run.wake(), ms(expected));
        assert_eq!(run.poll().0, [2]);
    }
    run.defer_for(2, ms(2000));
    run.now += ms(500);
    run.done(1);
    assert_eq!(run.poll(), NONE);
    while run.poll().0.is_empty() {
        run.wake();
    }
    assert_eq!(run.now, ms(6000 + 500 + 2000), "its wait began anew");
}

#[test]
fn two_that_wait_for_each_other_end_in_vain() {
    let mut run = Run::new(false, 9);
    run.produce(2, Next::Done);
    assert_eq!(run.poll().0, [1, 2]);
    run.defer(2);
    assert_eq!(run.poll(), NONE, "message 1 may bring it");
    run.defer(1);
    // No time passes.
    assert_eq!(run.poll(), vain(&["m2", "m1"]), "the one that was deferred first goes first");
    assert!(run.is_over());
}

#[test]
fn one_that_waits_for_the_result_of_another_goes_on() {
    let mut run = Run::new(false, 9);
    run.produce(2, Next::Done);
    run.poll();
    run.defer(1);
    assert_eq!(run.poll(), NONE);
    run.done(2);
    assert_eq!(run.poll().0, [1], "at once, for nothing else can happen");
    run.done(1);
    assert_eq!(run.poll(), NONE);
    assert!(run.is_over());
    assert_eq!(run.router.steps[StepId(1)].counts.deferred, 1);
}

#[test]
fn what_ended_while_it_was_at_work_is_news_to_it() {
    let mut run = Run::new(false, 9);
    run.produce(2, Next::Done);
    run.poll();
    run.done(2);
    // It looked before that.
    run.defer(1);
    assert_eq!(run.poll().0, [1]);
    run.defer(1);
    assert_eq!(run.poll(), vain(&["m1"]));
}

#[test]
fn the_failure_of_another_is_news_too() {
    let mut run = Run::new(false, 9);
    run.produce(2, Next::Done);
    run.poll();
    run.defer(1);
    run.report(2, Outcome::Failed(Failure::permanent("clouds")));
    assert_eq!(run.poll().0, [1], "it may have waited for what the other one held");
    run.done(1);
    run.poll();
    assert!(run.is_over());
}

#[test]
fn a_feed_that_could_bring_more_keeps_it_waiting() {
    let mut run = Run::new(true, 9);
    run.produce(1, Next::More);
    assert_eq!(run.poll().0, [1]);
    for _ in 0..5 {
        run.defer(1);
        assert_eq!(run.poll(), NONE);
        run.wake();
        assert_eq!(run.poll().0, [1]);
    }
    run.defer(1);
    run.produce(1, Next::More);
    assert_eq!(run.poll().0, [2]);
    run.defer(2);
    assert_eq!(run.poll(), NONE);
    // With the third its window is full: it can bring nothing before one of them has ended.
    run.produce(1, Next::More);
    assert_eq!(run.poll().0, [3]);
    run.defer(3);
    assert_eq!(run.poll(), vain(&["m1"]), "then it can bring something again");
    run.produce(0, Next::Done);
    assert_eq!(run.poll(), vain(&["m2", "m3"]));
}

#[test]
fn a_producer_that_waits_keeps_it_waiting_and_one_at_a_barrier_does_not() {
    let mut run = Run::new(false, 9);
    run.produce(1, Next::Idle(ms(50)));
    run.poll();
    run.defer(1);
    assert_eq!(run.poll(), NONE);
    run.now += ms(50);
    run.produce(0, Next::Barrier);
    assert_eq!(run.poll(), vain(&["m1"]));
}

#[test]
fn a_pause_keeps_it_waiting() {
    for step in [None, Some(StepId(1))] {
        let mut run = Run::new(false, 9);
        run.produce(1, Next::Done);
        run.poll();
        run.router.control(ControlRequest::Pause { step }, run.now).unwrap();
        run.defer(1);
        assert_eq!(run.poll(), NONE);
        run.router.control(ControlRequest::Resume { step }, run.now).unwrap();
        assert_eq!(run.poll(), vain(&["m1"]));
    }
}

#[test]
fn those_that_fill_the_queue_and_hold_the_producer_back_wait_in_vain() {
    let mut run = Run::new(false, 2);
    run.produce(2, Next::More);
    assert_eq!(run.poll().0, [1, 2]);
    run.produce(2, Next::More);
    assert_eq!(run.poll(), NONE, "both workers are busy");
    for (message, next) in [(1, 3), (2, 4)] {
        run.defer(message);
        assert_eq!(run.poll().0, [next]);
    }
    run.defer(3);
    assert_eq!(run.poll(), NONE);
    run.defer(4);
    assert_eq!(run.poll(), vain(&["m1", "m2", "m3"]), "until there is room for another one");
    run.produce(1, Next::Done);
    assert_eq!(run.poll().0, [5]);
    run.done(5);
    assert_eq!(run.poll().0, [4], "the producer has brought what it waited for");
}

#[test]
fn it_goes_to_the_end_of_its_queue() {
    let mut run = Run::new(false, 9);
    run.produce(5, Next::Done);
    assert_eq!(run.poll().0, [1, 2]);
    run.defer(1);
    assert_eq!(run.poll().0, [3]);
    run.now += ms(100);
    assert_eq!(run.poll(), NONE);
    for (done, next) in [(2, 4), (3, 5), (4, 1)] {
        run.done(done);
        assert_eq!(run.poll().0, [next]);
    }
}

#[test]
fn a_run_that_is_stopped_or_drained_does_not_wait() {
    let mut run = Run::new(true, 9);
    run.produce(2, Next::More);
    run.poll();
    run.defer(1);
    run.router.handle(Input::Stop(crate::router::Stop::Drain), run.now);
    assert_eq!(run.poll(), NONE, "message 2 may bring it");
    run.router.abandon("as asked for".to_owned());
    run.poll();
    run.defer(2);
    run.poll();
    let counts = run.router.steps[StepId(1)].counts;
    assert_eq!((counts.open(), counts.dropped, counts.deferred), (0, 2, 1));
}

#[test]
fn not_all_deferrals_of_a_step_are_published() {
    let mut run = Run::new(false, 9);
    run.produce(2, Next::Idle(ms(86_400_000)));
    run.poll();
    let mut published = 0;
    for _ in 0..100 {
        run.defer_for(1, ms(10));
        run.done_is_news();
        let is_event = |action: &Action| matches!(action, Action::Publish(Event::Deferred { .. }));
        published += run.router.poll(run.now).iter().filter(|a| is_event(a)).count();
        run.now += ms(10);
        run.poll();
    }
    assert_eq!(published, 10, "ten in a second");
}

impl Run {
    /// Lets something end elsewhere.
    fn done_is_news(&mut self) {
        self.router.bring_news();
    }
}
