//! `drpipe monitor`: the runs of other programs.

use super::*;

fn monitor(directory: &Path, more: &[&str]) -> Serving {
    let mut command = command(directory);
    command.args(["monitor", "localhost:0"]).args(more);
    serve(command, directory)
}

/// The rows of the list once `wanted` takes them.
fn rows(client: &Client, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let begun = std::time::Instant::now();
    loop {
        let runs = get(client, "/api/runs");
        let runs = runs.as_array().unwrap();
        if wanted(runs) {
            return runs.clone();
        }
        assert!(begun.elapsed() < LIMIT, "{runs:?}");
        std::thread::yield_now();
    }
}

#[test]
fn all_runs_are_shown_steered_and_remembered() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let monitor = monitor(place.path(), &[]);
    let client = monitor.client();
    assert_eq!(get(&client, "/api/runs"), json!([]));
    let mut one = run(place.path(), &["--summary", "one.json"]);
    let two = run(place.path(), &["--summary", "two.json"]);
    let (name, other) = (one.name(), two.name());
    rows(&client, |rows| rows.len() == 2 && rows.iter().all(|row| row["state"] == "running"));
    let path = |rest: &str| format!("/runs/{name}/api/{rest}");
    let mut page = Page::open(&client, &path("stream"));
    let (event, snapshot) = page.next().unwrap();
    assert_eq!((event.as_str(), &snapshot["may_steer"]), ("snapshot", &json!(true)));
    post_ok(&client, &path("pause"), json!({}));
    assert_eq!(get(&client, &path("view"))["paused"], true);
    assert_eq!(get(&client, &format!("/runs/{other}/api/view"))["paused"], false);
    let (status, said) = post(&client, &path("pause"), json!({"step": "SLWO"}));
    assert!(status == 404 && said.contains("did you mean"), "{said}");
    // The monitor keeps the door itself: to the run it is one who may steer.
    let ask = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nOrigin: http://evil.example\r\nX-Drpipe: 1\r\n\
         Content-Type: application/json\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}",
        path("stop"),
        monitor.address
    );
    assert_eq!(raw(&monitor.address, &ask).0, 403);
    let (_, mut events) = client.lines(&path("events?after=0")).unwrap();
    next_line(&mut events, |line| line.contains("\"event\":\"paused\""));
    post_ok(&client, &path("drain"), json!({}));
    let last = page.until(|view| view["state"] == "ended");
    one.child.wait().unwrap();
    let summary = program::json(&place.path().join("one.json"));
    assert_eq!(counts(&last["steps"]), counts(&summary["steps"]));
    // What is over is still to be seen, but not to be steered.
    let view = get(&client, &path("view"));
    assert_eq!((&view["state"], &view["may_steer"]), (&json!("ended"), &json!(false)));
    assert_eq!(counts(&view["steps"]), counts(&summary["steps"]));
    let history = get(&client, &path("history"));
    assert_eq!(
        history["steps"][2]["done"].as_array().unwrap().last(),
        Some(&program::step(&summary, "SLOW")["done"])
    );
    assert_eq!(post(&client, &path("pause"), json!({})).0, 409);
    // A run that was killed is not taken for one that goes on.
    drop(two);
    let of = |rows: &[Value]| rows.iter().find(|row| row["run"] == other.as_str()).cloned();
    let rows = rows(&client, |rows| of(rows).is_some_and(|row| row["state"] == "ended"));
    assert_eq!(of(&rows).unwrap()["verdict"], "lost");
}

#[test]
fn a_run_elsewhere_is_shown_by_its_address() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let run = run(place.path(), &[]);
    let elsewhere = tempfile::tempdir().unwrap();
    let monitor = monitor(elsewhere.path(), &["--run", &format!("http://{}/", run.address)]);
    let client = monitor.client();
    rows(&client, |rows| rows.len() == 1);
    let path = format!("/runs/{}/api/pause", run.name());
    post_ok(&client, &path, json!({}));
    assert_eq!(get(&run.client(), &run.path("view"))["paused"], true);
}

#[test]
fn a_run_finds_the_monitor_that_shows_it_already() {
    let place = tempfile::tempdir().unwrap();
    config(place.path(), 5, json!({"class": "Pass"}));
    let monitor = monitor(place.path(), &[]);
    let mut command = command(place.path());
    command.args(["run", "-q", "--monitor", &monitor.address]);
    let mut serving = serve(command, place.path());
    assert_eq!(serving.address, monitor.address);
    let said = serving.said.recv_timeout(LIMIT).unwrap();
    assert!(said.contains("shows this run"), "{said}");
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
}
