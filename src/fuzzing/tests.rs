//! Property tests with arbitrary bytes, and cases that they once found.

use proptest::prelude::*;

use super::*;
use crate::base::ids::Slot;

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_run_ends_and_balances_whatever_workers_report(data in any_bytes()) {
        reports(&data);
    }

    #[test]
    fn frames_are_refused_or_mean_the_same_when_sent_on(data in any_bytes()) {
        frames(&data);
    }

    #[test]
    fn bytes_are_refused_or_a_value_that_is_the_same_when_sent_on(data in any_bytes()) {
        values(&data);
    }
}

/// A run of the first plan whose workers are all ready and have been told
/// what to do; the first consumer's worker is the last.
fn begun() -> Game {
    let mut game = Game::new(0);
    while game.pending.iter().any(|action| matches!(action, Action::Spawn { .. })) {
        game.answer(0);
    }
    game.poll();
    game
}

/// One of the step A.
const WORKER: WorkerId = WorkerId { slot: Slot(1), epoch: 1 };

#[test]
fn a_worker_that_was_dismissed_cannot_make_itself_ready_again() {
    let mut game = begun();
    game.hand_in(Input::Broken { worker: WORKER, reason: "nonsense".into() });
    game.hand_in(Input::Ready { worker: WORKER });
    game.poll();
    let waits =
        |action: &Action| matches!(action, Action::Spawn { worker } if worker.slot == WORKER.slot);
    assert!(game.pending.iter().any(waits), "its successor is not started");
    game.answer(3);
    game.poll();
    let given = |action: &Action| matches!(action, Action::Work { worker, .. } if worker.slot == WORKER.slot);
    assert!(!game.pending.iter().any(given), "work went to one that is not ready");
    game.end();
}

#[test]
fn what_a_worker_emits_without_an_input_is_not_taken() {
    let mut game = begun();
    let (completions, outputs) = (Vec::new(), vec![one(0)]);
    game.hand_in(Input::Done { worker: WORKER, completions, outputs });
    game.poll();
    assert_eq!(game.router.snapshot(game.now).steps[1].counts.emitted, 0);
    game.end();
}

#[test]
fn what_a_worker_reports_after_its_end_changes_nothing() {
    let mut game = begun();
    game.hand_in(Input::InitFailed { worker: WORKER, failure: Failure::permanent("no") });
    while !game.router.is_over() {
        let outputs = vec![one(0)];
        let result = Ok(());
        game.hand_in(Input::Finished { worker: WORKER, result, outputs: outputs.clone() });
        game.hand_in(Input::Done { worker: WORKER, completions: Vec::new(), outputs });
        game.poll();
        game.answer(0);
    }
    game.end();
}

#[test]
fn an_output_of_finish_for_a_step_that_is_not_there_is_a_fault() {
    let mut game = begun();
    let mut reported = false;
    for _ in 0..1000 {
        if matches!(game.pending.front(), Some(Action::Finish { worker: WORKER })) {
            let (worker, result) = (WORKER, Ok(()));
            game.hand_in(Input::Finished { worker, result, outputs: vec![one(9)] });
            reported = true;
            game.pending.pop_front();
        }
        game.answer(0);
        game.poll();
    }
    assert!(reported);
    game.end();
}

#[test]
fn the_examples_keep_their_promises() {
    configuration(include_str!("../../pipeline.json"));
    PLANS.iter().for_each(|text| configuration(text));
}
