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
    let Some(interpreter) = python::interpreter(test, &["zmq", "msgpack", "numpy"]) else { return };
    play_all(&Language::Python(interpreter));
}

#[test]
fn every_transcript_has_a_name_of_its_own() {
    let mut names: Vec<String> = transcript::all().into_iter().map(|t| t.name).collect();
    names.sort();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}
