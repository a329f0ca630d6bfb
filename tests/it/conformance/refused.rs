//! The other side of the protocol: a run whose worker says what is not of it.

use std::process::Command;

use serde_json::json;

use super::process::program;
use crate::support::program::finish;

/// What the run says of a worker whose first message has this head.
fn verdict(head: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pipeline.json");
    let pipeline = json!({
        "version": 1,
        "producer": {"name": "SCRIPT", "class": "ScriptedProducer", "nb_process": 1},
        "consumer": {"name": "END", "class": "Discard"},
    });
    std::fs::write(&file, pipeline.to_string()).unwrap();
    let digits: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut run = Command::new(program());
    finish(run.arg(&file).env("CONFORMANCE_SAYS", digits).current_dir(&directory))
        .expect_code(0)
        .out
}

#[test]
fn a_worker_of_another_version_is_refused() {
    let verdict = verdict(&[1, 2, 0]);
    assert!(verdict.contains("it speaks version 2 of the protocol, expected 3"), "{verdict}");
}

#[test]
fn a_worker_that_says_what_is_not_of_the_protocol_is_taken_as_lost() {
    for (head, reason) in [
        (&[99][..], "message kind 99 is not known"),
        (&[1, 3], "a message is cut short"),
        (&[1, 3, 0, 0], "1 bytes and 0 frames are left over"),
    ] {
        let verdict = verdict(head);
        assert!(verdict.contains(reason), "{verdict}");
    }
}
