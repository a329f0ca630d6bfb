//! What is said of runs while they go on, against what then became of them.

use super::testing::{Game, step};
use crate::status::{State, Status};

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
