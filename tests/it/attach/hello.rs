//! Who may attach, and to what.

use std::os::unix::net::UnixStream;
use std::process::Stdio;

use serde_json::{Value, json};

use super::caller::{Caller, Frame, squares};
use crate::support::program::{drpipe, finish};

/// Waits for the refusal and returns its reason.
#[track_caller]
fn refusal(mut caller: Caller) -> String {
    let reason = match caller.receive() {
        Frame::Refused(reason) => reason,
        other => panic!("{other:?}\n{}", caller.errors()),
    };
    assert!(matches!(caller.receive(), Frame::End));
    assert_eq!(caller.run.wait().unwrap().code(), Some(2));
    assert!(caller.errors().contains(&reason), "{reason} in {}", caller.errors());
    reason
}

#[test]
fn hello_of_another_version_is_refused() {
    let caller = Caller::silent(&squares(1, &json!({})), &[]);
    caller.hello(2, std::process::id());
    let reason = refusal(caller);
    let release = env!("CARGO_PKG_VERSION");
    let versions = format!("version 2 of the protocol, and drpipe {release} speaks version 3");
    assert!(reason.contains(&versions), "{reason}");
}

#[test]
fn nobody_else_can_attach() {
    let caller = Caller::silent(&squares(1, &json!({})), &[]);
    let other = caller.run.id();
    caller.hello(3, other);
    let reason = refusal(caller);
    assert!(reason.contains(&format!("process {other} says HELLO, but process")), "{reason}");
    // Another kind of socket, and a file.
    let (socket, _ours) = UnixStream::pair().unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("pipeline.json"), squares(1, &json!({})).to_string())
        .unwrap();
    for input in [Stdio::from(std::os::fd::OwnedFd::from(socket)), Stdio::null()] {
        let run = finish(drpipe(directory.path()).args(["run", "--attach"]).stdin(input));
        let run = run.expect_code(2);
        assert!(
            run.err.contains("standard input cannot be used as the caller's socket"),
            "{}",
            run.err
        );
    }
}

#[test]
fn what_is_not_hello_is_refused() {
    for frame in [&[99][..], &[1, 3], &[2, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]] {
        let caller = Caller::silent(&squares(1, &json!({})), &[]);
        caller.send(frame);
        refusal(caller);
    }
}

#[test]
fn a_wrong_configuration_is_refused_with_place_and_reason() {
    let mut two_kinds = squares(1, &json!({}));
    two_kinds["stagers"][0]["nb_thread"] = json!(1);
    let mut ordinary = squares(1, &json!({}));
    ordinary["stagers"][0]["class"] = json!("Square");
    let cases: [(&Value, &[&str], &str); 4] = [
        (&two_kinds, &[], "pipeline.json:1:"),
        (&two_kinds, &[], "the caller's workers are no threads of this program"),
        (&ordinary, &[], "no step has the class \"Caller\""),
        (&squares(1, &json!({})), &["--mode", "sequential"], "cannot run in this mode"),
    ];
    for (config, options, part) in cases {
        let caller = Caller::silent(config, options);
        caller.hello(3, std::process::id());
        let reason = refusal(caller);
        assert!(reason.contains(part), "{part} in {reason}");
    }
}

#[test]
fn a_run_without_a_caller_says_which_step_needs_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = serde_json::to_string_pretty(&squares(1, &json!({}))).unwrap();
    std::fs::write(directory.path().join("pipeline.json"), config).unwrap();
    let run = finish(drpipe(directory.path()).arg("run")).expect_code(2);
    let place = run.err.lines().any(|line| {
        line.starts_with("pipeline.json:") && line.contains("no program is attached to this run")
    });
    assert!(place, "{}", run.err);
    // To check it no caller is needed.
    finish(drpipe(directory.path()).arg("check")).expect_code(0);
}
