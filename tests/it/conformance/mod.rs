//! The conformance suite: every transcript of tests/conformance is played with a worker process in
//! Rust and one in Python, over the sockets that a run uses. `DRPIPE_TRANSCRIPT=name` plays only one.

mod document;
mod play;
mod process;
mod refused;
mod transcript;
mod values;
mod wire;

use std::thread;

use crate::support::python;
use process::Language;

/// Plays all, and says at the end which ones failed.
fn play_all(language: &Language) {
    let failed = |transcript: &transcript::Transcript| {
        // A thread of its own: the worker in Python ends with the thread that has started it.
        let played = thread::scope(|scope| scope.spawn(|| play::play(transcript, language)).join());
        played.is_err()
    };
    let mut all = transcript::all();
    assert!(all.len() > 40, "the transcripts were not found");
    if let Ok(name) = std::env::var("DRPIPE_TRANSCRIPT") {
        all.retain(|transcript| transcript.name == name);
        assert!(!all.is_empty(), "no transcript is named {name}");
    }
    let failed = all.iter().filter(|transcript| failed(transcript));
    let failed: Vec<String> = failed.map(|t| format!("{}: {}", t.name, t.about)).collect();
    assert!(failed.is_empty(), "{language:?} does not keep to:\n{}", failed.join("\n"));
}

#[test]
fn a_worker_in_rust_keeps_to_every_transcript() {
    play_all(&Language::Rust);
}

#[test]
fn a_worker_in_python_keeps_to_every_transcript() {
    let test = "a_worker_in_python_keeps_to_every_transcript";
    let Some(interpreter) = python::interpreter(test, &["msgpack", "numpy"]) else { return };
    play_all(&Language::Python(interpreter));
}

/// In Rust a thread of its own has no call that an announcement could belong to.
#[test]
fn an_announcement_on_another_thread_is_lost_and_the_log_says_so() {
    let transcript = serde_json::from_value(serde_json::json!({
        "name": "another-thread",
        "about": "An announcement of another thread",
        "steps": [
            {"worker": "READY", "version": 3},
            {"router": "WORK", "messages": [{"number": 1, "does": [{"announce_on_a_thread": "out/a.png"}]}]},
            {"worker": "DONE", "completions": [{"messages": [1, 1], "outcome": "DONE"}], "silent": 1, "outputs": []},
            {"router": "STOP"},
            {"worker": "ends", "code": 0},
        ],
    }));
    let printed = play::play(&transcript.unwrap(), &Language::Rust);
    let record = printed.lines().find_map(|line| line.strip_prefix('\u{1e}'));
    let record: serde_json::Value = serde_json::from_str(record.unwrap()).unwrap();
    assert_eq!(record["level"], "warning");
    let message = record["message"].as_str().unwrap();
    assert!(
        message.contains("out/a.png was announced on a thread that runs no stage"),
        "{message}"
    );
}

#[test]
fn every_transcript_has_a_name_of_its_own() {
    let mut names: Vec<String> = transcript::all().into_iter().map(|t| t.name).collect();
    names.sort();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}
