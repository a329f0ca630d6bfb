//! Order, what goes on while a step waits, threads of a step, and workers that are ended.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Night, first_model, of, with};
use crate::support::processes::{eventually, is_alive, signal};
use crate::support::program::{assert_balanced, count, drpipe, files, step};
use crate::support::python::plain;

fn numbers(last: u64) -> Value {
    json!({"name": "IN", "class": "Integers", "params": {"last": last}})
}

#[test]
fn ordered_holds_behind_a_step_in_python() {
    let Some(python) = plain("ordered_holds_behind_a_step_in_python") else { return };
    let split = with(of("waiting", "S", "SplitInTurns"), &json!({"next_steps": ["X", "Y"]}));
    let pass = |name: &str| json!({"name": name, "class": "Pass", "next_steps": "OUT"});
    let first = with(numbers(20), &json!({"next_steps": "S"}));
    let out = json!({"name": "OUT", "class": "WriteLines", "params": {"file": "lines.txt"}});
    let mut night = Night::new(&python, &json!([first, split, pass("X"), pass("Y"), out]));
    night.config["ordered"] = json!(true);
    night.run(&[]).expect_code(0);
    let text = fs::read_to_string(night.directory.path().join("lines.txt")).unwrap();
    let expected = (0..=20).flat_map(|n| ["a", "b", "c"].map(|part| format!("{n}-{part}")));
    assert!(text.lines().eq(expected), "{text}");
}

#[test]
fn what_a_producer_has_emitted_goes_on_while_it_waits() {
    let Some(python) = plain("what_a_producer_has_emitted_goes_on_while_it_waits") else { return };
    for class in ["Watch", "SendAndWatch"] {
        let steps = [of("waiting", "IN", class), of("waiting", "END", "OpenGate")];
        let night = Night::new(&python, &json!(steps));
        night.run(&[]).expect_code(0);
        assert_eq!(count(step(&night.summary(), "END"), "done"), 31, "{class}");
    }
}

#[test]
fn what_is_sent_after_its_call_has_returned_is_refused_and_the_run_says_so() {
    let test = "what_is_sent_after_its_call_has_returned_is_refused_and_the_run_says_so";
    let Some(python) = plain(test) else { return };
    let night = Night::new(
        &python,
        &json!([numbers(4), of("waiting", "S", "Late"), first_model("END", "Write")]),
    );
    let finished = night.run(&[]).expect_code(1);
    assert_eq!(night.lines(), [] as [Value; 0]);
    for part in ["send_msg of the thread late 3", "drpipe refused them", "RuntimeError"] {
        assert!(finished.err.contains(part), "{part} in {}", finished.err);
    }
}

#[test]
fn the_end_waits_for_the_threads_of_a_step() {
    let Some(python) = plain("the_end_waits_for_the_threads_of_a_step") else { return };
    let steps = json!([
        numbers(3),
        with(of("waiting", "S", "Upload"), &json!({"nb_process": 1})),
        {"name": "END", "class": "Discard"},
    ]);
    let night = Night::new(&python, &steps);
    night.run(&[]).expect_code(0);
    let made = (0..=3).all(|n| night.directory.path().join(format!("product-{n}")).exists());
    assert!(made, "{:?}", files(night.directory.path()).keys());
}

#[test]
fn threads_that_the_end_does_not_wait_for_are_named_with_their_step() {
    let test = "threads_that_the_end_does_not_wait_for_are_named_with_their_step";
    let Some(python) = plain(test) else { return };
    let steps = json!([
        numbers(3),
        with(of("waiting", "S", "Upload"), &json!({"params": {"endless": true}})),
        {"name": "END", "class": "Discard"},
    ]);
    let night = Night::new(&python, &steps);
    let args = ["--drain-limit", "0.2", "--log-format", "json"];
    let finished = night.run(&args).expect_code(0);
    let lines = finished.err.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut cut = lines.filter(|line| line.to_string().contains("are cut off"));
    let line = cut.next().unwrap_or_else(|| panic!("{}", finished.err));
    assert_eq!((&line["level"], &line["step"]), (&json!("WARN"), &json!("S")));
}

/// Numbers at which workers end themselves, what the step has of its own, and the steps.
fn ending(numbers_to_end_at: &[u64], more: &Value) -> Value {
    let mut bad = with(of("waiting", "BAD", "EndsItself"), &json!({"params": {}}));
    for (key, value) in more.as_object().unwrap() {
        let is_parameter = ["times", "number_of_signal"].contains(&key.as_str());
        let place = if is_parameter { &mut bad["params"] } else { &mut bad };
        place[key] = value.clone();
    }
    bad["params"]["numbers"] = json!(numbers_to_end_at);
    json!([numbers(19), bad, first_model("END", "Write")])
}

fn attempts_at(night: &Night, number: u64) -> u64 {
    fs::metadata(night.directory.path().join(format!("ended-{number}"))).unwrap().len()
}

#[test]
fn a_message_that_gets_its_worker_ended_by_sigterm_is_charged() {
    let Some(python) = plain("a_message_that_gets_its_worker_ended_by_sigterm_is_charged") else {
        return;
    };
    // More in a row than workers may end before they do any work.
    let bad: Vec<u64> = (3..12).collect();
    for lost_retries in [1, 0] {
        let night = Night::new(&python, &ending(&bad, &json!({"lost_retries": lost_retries})));
        let finished = night.run(&[]).expect_code(1);
        let summary = night.summary();
        assert_balanced(&summary);
        let bad_step = step(&summary, "BAD");
        assert_eq!((count(bad_step, "failed"), count(bad_step, "done")), (9, 11));
        assert!(bad.iter().all(|number| attempts_at(&night, *number) == 2));
        assert!(finished.err.contains("signal 15 (SIGTERM)"), "{}", finished.err);
    }
}

#[test]
fn a_message_whose_worker_was_killed_once_is_done_by_another() {
    let Some(python) = plain("a_message_whose_worker_was_killed_once_is_done_by_another") else {
        return;
    };
    let more = json!({"times": 1, "number_of_signal": 9, "nb_process": 2});
    let night = Night::new(&python, &ending(&[3, 7, 8], &more));
    night.run(&[]).expect_code(0);
    let summary = night.summary();
    assert_balanced(&summary);
    assert_eq!((night.lines().len(), count(step(&summary, "BAD"), "retried")), (20, 3));
}

#[test]
fn a_message_that_kills_its_workers_ends_in_quarantine_and_takes_no_other_along() {
    let test = "a_message_that_kills_its_workers_ends_in_quarantine_and_takes_no_other_along";
    let Some(python) = plain(test) else { return };
    for (lost_retries, attempts) in [(Value::Null, 2), (json!(0), 1), (json!(3), 4)] {
        let mut more = json!({"number_of_signal": 9, "nb_process": 2});
        if !lost_retries.is_null() {
            more["lost_retries"] = lost_retries;
        }
        let night = Night::new(&python, &ending(&[3], &more));
        let finished = night.run(&[]).expect_code(1);
        assert_eq!((night.lines().len(), attempts_at(&night, 3)), (19, attempts));
        assert!(finished.err.contains("memory"), "a hint at what kills: {}", finished.err);
    }
}

#[test]
fn a_signal_while_modules_are_imported_ends_the_program_and_the_interpreter() {
    let test = "a_signal_while_modules_are_imported_ends_the_program_and_the_interpreter";
    let Some(python) = plain(test) else { return };
    for sent in [Signal::INT, Signal::TERM, Signal::HUP] {
        let steps = [numbers(3), of("waits_at_import", "S", "Any"), first_model("END", "Write")];
        let night = Night::new(&python, &json!(steps));
        let path = night.directory.path();
        fs::write(path.join("pipeline.json"), night.config.to_string()).unwrap();
        let mut program = drpipe(path).stderr(Stdio::null()).spawn().unwrap();
        let interpreter: u32 = eventually("the import begins", || {
            fs::read_to_string(path.join("importing")).ok()?.parse().ok()
        });
        signal(program.id(), sent);
        let status = eventually("the program ends", || program.try_wait().unwrap());
        assert_eq!(status.code(), Some(130), "{sent:?}");
        eventually("the interpreter ends", || (!is_alive(interpreter)).then_some(()));
    }
}
