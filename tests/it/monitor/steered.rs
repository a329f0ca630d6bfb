//! Runs that are steered over HTTP.

use super::*;
use crate::support::processes::eventually;

#[test]
fn every_post_does_what_it_says() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let mut run = run(place.path(), &[]);
    let (client, name) = (run.client(), run.name());
    let path = |rest: &str| format!("/runs/{name}/api/{rest}");
    let view = || get(&client, &path("view"));
    Page::open(&client, &path("stream")).until(|view| view["state"] == "running");
    post_ok(&client, &path("pause"), json!({}));
    assert_eq!(view()["paused"], true);
    post_ok(&client, &path("resume"), json!({}));
    assert_eq!(view()["paused"], false);
    post_ok(&client, &path("pause"), json!({"step": "SLOW"}));
    Page::open(&client, &path("stream")).until(|view| view["steps"][2]["paused"] == true);
    post_ok(&client, &path("resume"), json!({"step": "SLOW"}));
    post_ok(&client, &path("workers"), json!({"step": "SLOW", "workers": 4}));
    Page::open(&client, &path("stream")).until(|view| view["steps"][2]["workers"] == 4);
    for (action, body, status, words) in [
        ("pause", json!({"step": "SLWO"}), 404, "did you mean \"SLOW\"?"),
        ("pause", json!({"stpe": "SLOW"}), 400, "unknown field"),
        ("workers", json!({"step": "SLOW", "workers": 0}), 409, "pause it"),
        ("workers", json!({"step": "SLOW", "workers": -1}), 400, "-1"),
        ("workers", json!({"step": "NUMBERS", "workers": 2}), 409, "is a producer"),
        ("retry", json!({"entry": "000001-SLOW"}), 404, "no failed input"),
        ("retry", json!({"entry": "../../x"}), 404, "no failed input"),
        ("halt", json!({}), 404, "expected pause"),
    ] {
        let (found, said) = post(&client, &path(action), body);
        assert_eq!(found, status, "{action}: {said}");
        assert!(said.contains(words), "{action}: {said}");
    }
    assert_eq!(post(&client, "/runs/other/api/pause", json!({})).0, 404);
    let mut page = Page::open(&client, &path("stream"));
    post_ok(&client, &path("drain"), json!({}));
    let last = page.until(|view| view["state"] == "ended");
    let summary = run.summary();
    assert_eq!(counts(&last["steps"]), counts(&summary["steps"]));
    program::assert_balanced(&summary);
    assert!(program::count(program::step(&summary, "NUMBERS"), "emitted") < 6000);
}

#[test]
fn a_run_is_stopped_at_once() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let mut run = run(place.path(), &[]);
    let path = run.path("stop");
    Page::open(&run.client(), &run.path("stream")).until(|view| view["state"] == "running");
    post_ok(&run.client(), &path, json!({}));
    let summary = run.summary();
    program::assert_balanced(&summary);
}

#[test]
fn a_failed_input_is_looked_at_and_tried_again() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let file = place.path().join("pipeline.json");
    let mut config = program::json(&file);
    // The third message fails, and only once.
    config["stagers"][0]["class"] = json!("Fault");
    config["stagers"][0]["params"] = json!({"fault": "fail", "nth": 3});
    std::fs::write(&file, config.to_string()).unwrap();
    let mut run = run(place.path(), &[]);
    let (client, name) = (run.client(), run.name());
    let path = |rest: &str| format!("/runs/{name}/api/{rest}");
    let mut page = Page::open(&client, &path("stream"));
    let view = page.until(|view| view["failures"].as_array().is_some_and(|all| !all.is_empty()));
    let failure = &view["failures"][0];
    assert_eq!((&failure["step"], &failure["requeued"]), (&json!("PASS"), &json!(false)));
    let entry = failure["entry"].as_str().unwrap();
    // The event may arrive before its entry is on disk.
    let entry_path = path(&format!("quarantine/{entry}"));
    eventually("the entry is kept", || (client.get(&entry_path).unwrap().0 == 200).then_some(()));
    assert_eq!(get(&client, &entry_path)["step"], "PASS");
    post_ok(&client, &path("retry"), json!({"entry": entry}));
    let (status, said) = post(&client, &path("retry"), json!({"entry": entry}));
    assert!(status == 409 && said.contains("already"), "{status} {said}");
    page.until(|view| view["failures"][0]["requeued"] == true);
    post_ok(&client, &path("workers"), json!({"step": "SLOW", "workers": 200}));
    let summary = run.summary();
    assert_eq!(program::count(program::step(&summary, "END"), "done"), 6000);
}

#[test]
fn the_socket_of_the_user_needs_no_name_and_no_port() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let mut run = run(place.path(), &[]);
    let name = run.name();
    let socket = place.path().join("sockets/drpipe").join(format!("{name}.sock"));
    let client = Client::socket(&socket);
    assert_eq!(get(&client, "/api/runs")[0]["may_steer"], true);
    post_ok(&client, &format!("/runs/{name}/api/stop"), json!({}));
    run.summary();
    assert!(!socket.exists());
}
