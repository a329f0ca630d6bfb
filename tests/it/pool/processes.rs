//! Pools in a program of their own: what each does stands in tests/pool/program.rs.

use crate::support::program::{example, finish};

#[track_caller]
fn passes(what: &str) {
    let directory = tempfile::tempdir().unwrap();
    finish(example("pool_program", directory.path()).arg(what)).expect_code(0);
}

#[test]
fn a_killed_worker_costs_its_own_task_only() {
    passes("killed");
}

#[test]
fn a_task_that_has_lost_its_worker_is_tried_again() {
    passes("retried");
}

#[test]
fn tasks_that_take_too_long_are_ended() {
    passes("limits");
}

#[test]
fn a_worker_with_too_much_memory_is_ended() {
    passes("memory");
}

#[test]
fn a_running_task_is_cancelled_with_its_process() {
    passes("cancelled");
}

#[test]
fn a_task_that_emits_no_value_or_several_has_failed() {
    passes("emitted");
}

#[test]
fn arrays_go_to_processes() {
    passes("arrays");
}

#[test]
fn a_stage_that_cannot_begin_ends_the_pool_with_its_reason() {
    passes("broken");
}

#[test]
fn twenty_thousand_tasks_under_random_kills_end_once_each() {
    passes("many");
}

#[test]
fn a_thousand_pools_leave_descriptors_threads_and_memory_flat() {
    passes("leaks");
}

#[test]
fn the_example_shows_threads_and_processes() {
    let directory = tempfile::tempdir().unwrap();
    let run = finish(&mut example("pool", directory.path())).expect_code(0);
    let expected = "n7_0001: 100\n\
                    n7_0002: the sum is -10000 ADU, expected 0 or more\n\
                    exit code 1\n\
                    n7_0001: 100\n\
                    n7_0002: its worker died\n\
                    n7_0003: 300\n";
    assert_eq!(run.out, expected);
}
