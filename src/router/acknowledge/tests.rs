//! Tests of what a producer is told.

use super::*;
use crate::base::ids::{RouteId, WorkerId};
use crate::message::Priority;
use crate::plan::Route;
use crate::protocol::report::{Completion, Outcome};
use crate::router::testing::{plan_of, planned};
use crate::router::{Batching, Input, Timing};
use crate::stage::registry::Kind;

const MINUTE: Duration = Duration::from_secs(60);

/// A run of a producer that is told of its items, or a feed, and a consumer.
struct Run {
    router: Router,
    producer: WorkerId,
    consumer: WorkerId,
    now: Duration,
}

impl Run {
    fn new(feed: bool, window: usize, window_bytes: u64) -> Self {
        let mut producer = planned("P", Kind::Producer, vec![Route { to: 1, feedback: false }]);
        (producer.acknowledges, producer.feed) = (true, feed);
        producer.options.window.value = window;
        producer.options.window_bytes.value = Some(window_bytes);
        let plan = plan_of(vec![producer, planned("END", Kind::Consumer, Vec::new())]);
        let mut router = Router::new(&plan, Batching::Adaptive, Timing::default());
        let workers = router.initial_workers();
        let (producer, consumer, now) = (workers[0], workers[1], Duration::ZERO);
        for worker in workers {
            router.handle(Input::Ready { worker }, now);
        }
        Self { router, producer, consumer, now }
    }

    fn poll(&mut self) -> Vec<Action> {
        self.now += Duration::from_millis(1);
        self.router.poll(self.now)
    }

    /// Lets the producer report items of this size.
    fn produce(&mut self, items: impl IntoIterator<Item = u64>, size: usize, next: Next) {
        let output = |item| Output::One {
            route: RouteId(0),
            priority: Priority::Normal,
            item,
            origin: None,
            payload: Payload { header: vec![0; size].into(), buffers: Vec::new() },
        };
        let outputs = items.into_iter().map(output).collect();
        let production = Production { result: Some(Ok(next)), calls: 1, busy: Duration::ZERO };
        let input = Input::Produced { worker: self.producer, production, outputs };
        self.router.handle(input, self.now);
    }

    /// Lets the consumer report the oldest messages that it has in hand.
    fn consume(&mut self, batches: &[Batch]) {
        let (outcome, busy) = (Outcome::Done, Duration::ZERO);
        let first = batches[0].first();
        let count = batches.iter().map(Batch::count).sum::<usize>() as u32;
        let completions = vec![Completion { first, count, outcome, silent: 0, busy }];
        let input = Input::Done { worker: self.consumer, completions, outputs: Vec::new() };
        self.router.handle(input, self.now);
    }

    /// What is lost, if the router has taken a worker for lost.
    fn dismissed(&mut self) -> Option<String> {
        self.poll().into_iter().find_map(|action| match action {
            Action::Publish(crate::event::Event::WorkerLost { reason, .. }) => Some(reason),
            _ => None,
        })
    }
}

fn given(actions: &[Action]) -> Vec<Batch> {
    let of = |action: &Action| match action {
        Action::Work { batches, .. } => batches.clone(),
        _ => Vec::new(),
    };
    actions.iter().flat_map(of).collect()
}

fn is_granted(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Grant { .. }))
}

#[test]
fn a_producer_that_waits_is_asked_again_when_it_is_told_also_of_what_ended_in_its_grant() {
    let mut run = Run::new(false, 4, 1000);
    assert!(is_granted(&run.poll()));
    run.produce([1], 1, Next::More);
    let actions = run.poll();
    assert!(is_granted(&actions));
    // The item ends while the producer uses its grant, and the producer does not know.
    run.consume(&given(&actions));
    assert!(!is_granted(&run.poll()));
    run.produce([2], 1, Next::Idle(MINUTE));
    let actions = run.poll();
    assert!(is_granted(&actions), "it was told of item 1");
    run.produce([], 1, Next::Idle(MINUTE));
    assert!(!is_granted(&run.poll()), "there is no news");
    run.consume(&given(&actions));
    assert!(is_granted(&run.poll()), "it was told of item 2");
}

#[test]
fn a_granted_producer_is_not_asked_while_its_window_is_full() {
    for (window, bytes) in [(2, 1000), (1000, 2)] {
        let mut run = Run::new(false, window, bytes);
        assert!(is_granted(&run.poll()));
        run.produce([1, 2], 1, Next::More);
        let actions = run.poll();
        assert!(!is_granted(&actions), "{window}, {bytes}");
        run.consume(&given(&actions)[..1]);
        assert!(is_granted(&run.poll()), "{window}, {bytes}");
    }
}

#[test]
fn a_feed_that_breaks_its_promises_is_lost() {
    let beyond = "it emitted more than its window allows";
    let order = "it emitted items that are not numbered in order";
    let cases: [(&[u64], usize, Option<&str>); 6] = [
        (&[1, 2, 5], 3, None),
        (&[1], 50, None),
        (&[1, 2, 3, 4], 1, Some(beyond)),
        (&[1, 2], 6, Some(beyond)),
        (&[2, 2], 1, Some(order)),
        (&[0], 1, Some(order)),
    ];
    for (items, size, expected) in cases {
        let mut run = Run::new(true, 3, 10);
        run.produce(items.iter().copied(), size, Next::More);
        assert_eq!(run.dismissed().as_deref(), expected, "{items:?} of {size} bytes");
    }
    let mut run = Run::new(true, 3, 10);
    run.produce([], 0, Next::Idle(MINUTE));
    assert_eq!(run.dismissed().unwrap(), "a feed must say that there is more, or no more");
    let mut run = Run::new(true, 3, 10);
    run.produce([1], 1, Next::Done);
    run.produce([2], 1, Next::More);
    let after = "it brought items after it had said that there were no more";
    assert_eq!(run.dismissed().unwrap(), after);
    let mut run = Run::new(true, 3, 10);
    let input = Input::Released { worker: run.producer, bytes: 1 };
    run.router.handle(input, run.now);
    assert_eq!(run.dismissed().unwrap(), "it handed on more results than it was given");
}

#[test]
fn outputs_descend_from_messages_that_are_done_in_the_same_order() {
    let of = |items: &[u64]| -> Vec<Output> {
        let payload = Payload::default;
        let one = |item| Output::One {
            route: RouteId(0),
            priority: Priority::Normal,
            item,
            origin: None,
            payload: payload(),
        };
        items.iter().map(|item| one(*item)).collect()
    };
    let done = [4, 9, 0, 7];
    for (items, expected) in [
        (&[][..], true),
        (&[4, 4, 9, 7, 7], true),
        (&[9, 0], true),
        (&[9, 4], false),
        (&[5], false),
        (&[7, 8], false),
    ] {
        assert_eq!(descend(&of(items), done.into_iter()), expected, "{items:?}");
    }
}
