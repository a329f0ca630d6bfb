//! Tests of priorities on the way from queue to queue.

use std::time::Duration;

use crate::base::ids::{RouteId, WorkerId};
use crate::message::batch::{Batch, Output};
use crate::message::{Payload, Priority};
use crate::plan::Route;
use crate::protocol::report::{Completion, Outcome, Production};
use crate::router::testing::{plan_of, planned};
use crate::router::{Action, Batching, Input, Router, Timing};
use crate::stage::Next;
use crate::stage::registry::Kind;
use Priority::{High, Normal};

const NOW: Duration = Duration::from_secs(1);

/// A run of a producer and a consumer, each with one worker, and room for two messages between
/// them.
struct Run {
    router: Router,
    producer: WorkerId,
    consumer: WorkerId,
    /// The numbers of the messages that the consumer has in hand.
    in_hand: Vec<u64>,
    grants: u32,
}

impl Run {
    fn new(priority: Priority) -> Self {
        let mut producer = planned("A", Kind::Producer, vec![Route { to: 1, feedback: false }]);
        producer.options.priority.value = priority;
        let mut consumer = planned("END", Kind::Consumer, Vec::new());
        consumer.options.queue_limit.value = Some(2);
        let plan = plan_of(vec![producer, consumer]);
        let router = Router::new(&plan, Batching::Single, Timing::default());
        let workers = router.initial_workers();
        let (producer, consumer, in_hand) = (workers[0], workers[1], Vec::new());
        let mut run = Self { router, producer, consumer, in_hand, grants: 0 };
        workers.into_iter().for_each(|worker| run.router.handle(Input::Ready { worker }, NOW));
        run.poll();
        run
    }

    fn poll(&mut self) {
        for action in self.router.poll(NOW) {
            match action {
                Action::Grant { .. } => self.grants += 1,
                Action::Work { batches, .. } => {
                    let messages = batches.into_iter().flat_map(Batch::into_messages);
                    self.in_hand.extend(messages.map(|message| message.id.0));
                }
                _ => {}
            }
        }
    }

    /// Lets the producer emit messages with these priorities.
    fn produce(&mut self, priorities: &[Priority]) {
        let output = |priority: &Priority| Output::One {
            route: RouteId(0),
            priority: *priority,
            item: 0,
            origin: None,
            payload: Payload::default(),
        };
        let outputs = priorities.iter().map(output).collect();
        let result = Some(Ok(Next::More));
        let production = Production { result, calls: 1, busy: Duration::ZERO };
        let worker = self.producer;
        self.router.handle(Input::Produced { worker, production, outputs }, NOW);
        self.grants -= 1;
        self.poll();
    }

    /// Lets the consumer do the message that it has in hand. Returns its number.
    fn consume(&mut self) -> u64 {
        let first = self.in_hand.remove(0);
        let (outcome, busy) = (Outcome::Done, Duration::ZERO);
        let first_id = crate::base::ids::MessageId(first);
        let completions = vec![Completion { first: first_id, count: 1, outcome, silent: 0, busy }];
        let (worker, outputs) = (self.consumer, Vec::new());
        self.router.handle(Input::Done { worker, completions, outputs }, NOW);
        self.poll();
        first
    }

    /// What waits in a line, and what the producer holds for it.
    fn waiting(&self, priority: Priority) -> (usize, usize) {
        let line = self.router.steps[crate::base::ids::StepId(1)].queue.line(priority);
        (line.len(), self.router.workers[self.producer.slot].held[priority].len())
    }
}

#[test]
fn held_normal_messages_hold_no_high_ones_back() {
    let mut run = Run::new(Normal);
    run.produce(&[Normal, Normal, Normal, Normal, High, High, High]);
    // One of high priority is in the consumer's hands.
    assert_eq!((run.waiting(Normal), run.waiting(High)), ((2, 2), (2, 0)));
    let served: Vec<u64> = (0..7).map(|_| run.consume()).collect();
    assert_eq!(served, [5, 6, 7, 1, 2, 3, 4]);
}

#[test]
fn a_producer_is_granted_when_nothing_of_it_is_held_whatever_its_priority() {
    for priority in [Normal, High] {
        let mut run = Run::new(priority);
        run.produce(&[Normal, Normal, Normal, Normal]);
        assert_eq!((run.waiting(Normal), run.grants), ((2, 1), 0));
        run.consume();
        assert_eq!((run.waiting(Normal), run.grants), ((2, 0), u32::from(priority == High)));
        run.consume();
        assert_eq!(run.grants, 1, "there is room now");
    }
}

#[test]
fn the_snapshot_says_how_long_the_first_normal_message_has_waited() {
    let mut run = Run::new(Normal);
    let oldest = |run: &Run| run.router.snapshot(NOW * 9).steps[1].oldest_normal;
    run.produce(&[High, High, Normal]);
    assert_eq!(oldest(&run), Duration::ZERO, "nobody has looked yet");
    run.router.note_time(NOW * 2);
    run.router.note_time(NOW * 8);
    assert_eq!(oldest(&run), NOW * 7);
    assert_eq!([run.consume(), run.consume()], [1, 2]);
    assert_eq!(oldest(&run), Duration::ZERO, "it is in hand");
}
