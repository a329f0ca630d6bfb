//! Tests of losses.

use super::*;
use crate::plan::{Route, Step};
use crate::protocol::report::Production;
use crate::router::testing::{plan_of, planned};
use crate::router::{Batching, Input, Timing};
use crate::stage::Next;
use crate::stage::registry::Kind;

#[test]
fn each_producer_has_its_own_count_of_failures_in_a_row() {
    let producer = |name| {
        let mut step = planned(name, Kind::Producer, vec![Route { to: 2, feedback: false }]);
        step.options.retries.value = 1;
        step.options.backoff.value = Duration::ZERO;
        step
    };
    let end: Step = planned("END", Kind::Consumer, Vec::new());
    let plan = plan_of(vec![producer("A"), producer("B"), end]);
    let mut router = Router::new(&plan, Batching::Adaptive, Timing::default());
    let workers = router.initial_workers();
    workers.iter().for_each(|worker| {
        router.handle(Input::Ready { worker: *worker }, Duration::ZERO);
    });
    let failure = || Err(Failure::retryable("busy"));
    let mut report = |worker: usize, result| {
        router.poll(Duration::ZERO);
        let production = Production { result: Some(result), calls: 1, busy: Duration::ZERO };
        let (worker, outputs) = (workers[worker], Vec::new());
        router.handle(Input::Produced { worker, production, outputs }, Duration::ZERO);
        let failed = |action| match action {
            Action::Publish(Event::ProducerFailed { step, .. }) => Some(step.to_string()),
            _ => None,
        };
        router.poll(Duration::ZERO).into_iter().find_map(failed)
    };
    assert_eq!(report(0, failure()), None);
    assert_eq!(report(1, failure()), None, "the first failure of B");
    assert_eq!(report(1, Ok(Next::More)), None);
    assert_eq!(report(0, failure()), Some("A".to_owned()), "B's success is not A's");
}

#[test]
fn a_run_that_ends_because_workers_die_says_how_often_they_did() {
    let producer = planned("A", Kind::Producer, vec![Route { to: 1, feedback: false }]);
    let plan = plan_of(vec![producer, planned("END", Kind::Consumer, Vec::new())]);
    let mut router = Router::new(&plan, Batching::Adaptive, Timing::default());
    let mut worker = router.initial_workers()[1];
    let mut stops = Vec::new();
    for death in 1..=7 {
        let loss = Loss::of_no_message("it died".into());
        router.handle(Input::Lost { worker, loss }, Duration::from_secs(death * 60));
        for action in router.poll(Duration::from_secs(death * 60 + 30)) {
            match action {
                Action::Spawn { worker: next } => worker = next,
                Action::Publish(Event::Stopping { reason }) => stops.push((death, reason)),
                _ => {}
            }
        }
    }
    let reason = "the workers of \"END\" ended 7 times in a row before they did any work: it died";
    assert_eq!(stops, [(7, reason.to_owned())]);
}

#[test]
fn a_worker_that_retires_is_replaced_at_once_and_no_loss() {
    let producer = planned("A", Kind::Producer, vec![Route { to: 1, feedback: false }]);
    let plan = plan_of(vec![producer, planned("END", Kind::Consumer, Vec::new())]);
    let mut router = Router::new(&plan, Batching::Adaptive, Timing::default());
    let worker = router.initial_workers()[1];
    let loss = Loss { blame: Blame::Plan, ..Loss::of_no_message("it retired".into()) };
    router.handle(Input::Lost { worker, loss }, Duration::ZERO);
    let actions = router.poll(Duration::ZERO);
    let is_spawned = |action: &Action| matches!(action, Action::Spawn { .. });
    let is_lost = |action: &Action| matches!(action, Action::Publish(Event::WorkerLost { .. }));
    assert!(actions.iter().any(is_spawned) && !actions.iter().any(is_lost));
}
