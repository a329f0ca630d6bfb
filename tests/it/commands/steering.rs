//! `drpipe ctl` steers a run of another process, over the run's socket.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

use serde_json::{Value, json};

use crate::support::live::{Live, Place, long, step as seen};
use crate::support::processes::{children, eventually};
use crate::support::program::{assert_balanced, count, files, finish, json as read_json, step};

/// Waits for the end of a run that was drained; returns its summary.
#[track_caller]
fn drained(place: &Place, run: Live) -> Value {
    assert_eq!(run.end(), Some(130));
    let summary = read_json(&place.path("run.json"));
    assert_balanced(&summary);
    let emitted = count(step(&summary, "NUMBERS"), "emitted");
    assert_eq!(count(step(&summary, "END"), "done"), emitted, "what was taken is done");
    summary
}

#[test]
fn a_run_is_found_paused_resumed_and_drained() {
    let place = Place::with(&long());
    let run = place.start();
    let listed = place.ctl(&[]).expect_code(0);
    assert!(listed.out.contains("bottleneck") && listed.out.contains("running"), "{}", listed.out);
    let said = place.ctl(&["pause"]).expect_code(0);
    assert!(said.out.contains("is paused"), "{}", said.out);
    place.until("it is paused", |view| {
        view["paused"] == true
            && view["steps"].as_array().unwrap().iter().all(|step| step["busy"] == 0)
    });
    let text = place.ctl(&["status"]).expect_code(0).out;
    assert!(text.contains("The run is paused") && text.contains("SLOW"), "{text}");
    place.ctl(&["resume"]).expect_code(0);
    let so_far = place.until("it goes on", |view| view["paused"] == false);
    let done = seen(&so_far, "SLOW")["done"].as_u64().unwrap();
    place.until("more is done", |view| seen(view, "SLOW")["done"].as_u64().unwrap() > done);
    place.ctl(&["pause", "SLOW"]).expect_code(0);
    place.until("the step is paused", |view| seen(view, "SLOW")["standing"] == "paused");
    let said = place.ctl(&["drain"]).expect_code(0);
    assert!(said.out.contains("takes no more input"), "{}", said.out);
    drained(&place, run);
    assert!(fs::read_dir(place.sockets().join("drpipe")).unwrap().next().is_none());
}

#[test]
fn workers_are_set_while_messages_move() {
    let place = Place::with(&long());
    let run = place.start();
    for workers in [6, 2, 3] {
        place.ctl(&["workers", "SLOW", &workers.to_string()]).expect_code(0);
        place.until("there are so many", |view| seen(view, "SLOW")["workers"] == workers);
    }
    place.ctl(&["drain"]).expect_code(0);
    let summary = drained(&place, run);
    assert_eq!(count(step(&summary, "SLOW"), "workers"), 6);
}

#[test]
fn worker_processes_are_set_too_and_none_is_left() {
    let mut config = long();
    config["stagers"][1]["nb_process"] = json!(1);
    config["stagers"][1].as_object_mut().unwrap().remove("nb_thread");
    let place = Place::with(&config);
    let run = place.start();
    assert_eq!(children(run.pid()).len(), 1);
    place.ctl(&["workers", "SLOW", "3"]).expect_code(0);
    let three = |view: &Value| {
        let workers = seen(view, "SLOW")["each_worker"].as_array().unwrap();
        workers.len() == 3 && workers.iter().all(|worker| worker["state"] != "starting")
    };
    place.until("there are three", three);
    assert_eq!(children(run.pid()).len(), 3);
    place.ctl(&["workers", "SLOW", "1"]).expect_code(0);
    eventually("two processes end", || (children(run.pid()).len() == 1).then_some(()));
    place.ctl(&["pause", "SLOW"]).expect_code(0);
    place.ctl(&["resume", "SLOW"]).expect_code(0);
    place.ctl(&["drain"]).expect_code(0);
    drained(&place, run);
}

#[test]
fn what_failed_is_tried_again_while_the_run_goes_on() {
    let config = json!({
        "version": 1,
        "producer": {"name": "NUMBERS", "class": "Integers", "params": {"last": 1999}},
        "stagers": [
            // The number 4 fails the first time.
            {"name": "PICKY", "class": "Fault", "params": {"fault": "fail", "nth": 5}},
            {"name": "HOLD", "class": "Sleep", "params": {"seconds": 0.01}},
            {"name": "FORMAT", "class": "FormatNumber"},
        ],
        "consumer": {"name": "END", "class": "WriteLines", "params": {"file": "out.txt"}},
    });
    let place = Place::with(&config);
    let run = place.start();
    place.until("a number fails", |view| view["failure_count"] == 1);
    place.ctl(&["pause"]).expect_code(0);
    let text = place.ctl(&["status"]).expect_code(0).out;
    assert!(text.contains("000001-PICKY  PICKY: this message fails as requested"), "{text}");
    let said = place.ctl(&["retry", "000001-PICKY"]).expect_code(0);
    assert!(said.out.contains("is tried again"), "{}", said.out);
    let twice = place.ctl(&["retry", "000001-PICKY"]).expect_code(3);
    assert!(twice.err.contains("was tried again already"), "{}", twice.err);
    place.ctl(&["resume"]).expect_code(0);
    // So that it ends soon.
    place.ctl(&["workers", "HOLD", "32"]).expect_code(0);
    assert_eq!(run.end(), Some(0));
    let lines = fs::read_to_string(place.path("out.txt")).unwrap();
    let lines: BTreeSet<u64> = lines.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(lines, (0..2000).collect());
    let summary = read_json(&place.path("run.json"));
    assert_balanced(&summary);
    assert_eq!(count(step(&summary, "PICKY"), "failed"), 0);
    assert!(files(&place.path("quarantine")).is_empty(), "nothing is kept");
}

#[test]
fn what_cannot_be_done_is_refused_and_what_is_not_there_is_wrong() {
    let place = Place::with(&long());
    let none = place.ctl(&["pause"]).expect_code(2);
    assert!(none.err.contains("no run"), "{}", none.err);
    let _run = place.start();
    for (args, code, part) in [
        (&["pause", "SLO"][..], 2, "did you mean \"SLOW\"?"),
        (&["workers", "NUMBERS", "2"], 3, "is a producer"),
        (&["workers", "SLOW", "0"], 3, "pause it"),
        (&["workers", "SLOW", "many"], 2, "invalid value"),
        (&["retry", "000009-SLOW"], 2, "no failed input"),
        (&["--run", "nothing-of-that-name", "pause"], 2, "there is no run"),
        (&["pausse"], 2, "pause"),
        (&["--run", "http://localhost:1/", "status"], 3, "cannot reach"),
        (&["--run", "https://localhost/", "status"], 2, "only http"),
    ] {
        let refused = place.ctl(args).expect_code(code);
        assert!(refused.err.contains(part), "{args:?}: {}", refused.err);
        assert!(refused.out.is_empty());
    }
    place.ctl(&["pause"]).expect_code(0);
    let refused = place.ctl(&["resume", "SLOW"]).expect_code(3);
    assert!(refused.err.contains("the whole run is paused"), "{}", refused.err);
    place.ctl(&["stop"]).expect_code(0);
}

#[test]
fn of_several_runs_one_is_named() {
    let place = Place::with(&long());
    let (first, second) = (place.start(), place.start_with(&["--summary", "other.json"]));
    let names = eventually("both are listed", || {
        let listed: Value = serde_json::from_str(&place.ctl(&["list", "--json"]).out).unwrap();
        let runs = listed.as_array().unwrap();
        let name = |run: &Value| (run["pid"].as_u64(), run["run"].as_str().unwrap().to_owned());
        (runs.len() == 2).then(|| runs.iter().map(name).collect::<BTreeMap<_, _>>())
    });
    assert!(names.contains_key(&Some(first.pid().into())), "{names:?}");
    let which = place.ctl(&["pause"]).expect_code(2);
    assert!(which.err.contains("2 runs are under way"), "{}", which.err);
    let name = &names[&Some(second.pid().into())];
    let (_, part) = name.split_once('-').unwrap();
    place.ctl(&["stop", "--run", part]).expect_code(0);
    assert_eq!(second.end(), Some(130));
    place.until("the first goes on", |view| view["state"] == "running");
    place.ctl(&["stop"]).expect_code(0);
    assert_eq!(first.end(), Some(130));
}

/// The system removes the directory of a session with its last login; runs survive it.
#[test]
fn a_run_whose_runtime_directory_is_removed_is_found_again() {
    let place = Place::with(&long());
    let run = place.start();
    // At no moment is there none.
    let (old, new) = (place.path("old"), place.path("new"));
    fs::DirBuilder::new().mode(0o700).create(&new).unwrap();
    let swap = rustix::fs::RenameFlags::EXCHANGE;
    let here = rustix::fs::CWD;
    rustix::fs::renameat_with(here, &new, here, place.sockets(), swap).unwrap();
    fs::rename(&new, &old).unwrap();
    fs::remove_dir_all(&old).unwrap();
    place.until("it is found again", |view| view["state"] == "running");
    place.ctl(&["drain"]).expect_code(0);
    assert_eq!(run.end(), Some(130));
    assert!(fs::read_dir(place.sockets().join("drpipe")).unwrap().next().is_none());
}

#[test]
fn a_place_for_sockets_that_lets_others_in_is_said() {
    let place = Place::with(&long());
    let sockets = place.sockets().join("drpipe");
    fs::DirBuilder::new().create(&sockets).unwrap();
    fs::set_permissions(&sockets, fs::Permissions::from_mode(0o777)).unwrap();
    let listed = place.ctl(&[]).expect_code(0);
    let expected = "found the mode 777, which gives other users access; expected 700";
    assert!(listed.err.contains("does not look for runs in"), "{}", listed.err);
    assert!(listed.err.contains(expected), "{}", listed.err);
}

#[test]
fn the_next_run_removes_what_killed_ones_have_left() {
    let mut config = long();
    config["producer"]["params"]["last"] = json!(5);
    let place = Place::with(&config);
    let sockets = place.sockets().join("drpipe");
    fs::DirBuilder::new().mode(0o700).create(&sockets).unwrap();
    let socket = sockets.join("20260101T000000Z-bnk3qx.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let temporary = place.path("tmp");
    let left = temporary.join("drpipe-run-dead");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("lock"), "").unwrap();
    let mut program = place.drpipe();
    finish(program.env("TMPDIR", &temporary).arg("--quiet")).expect_code(0);
    assert!(!socket.exists() && !left.exists());
}

/// Three frames, of which the first is under way for longer than any test waits.
fn three_frames() -> Value {
    json!({
        "version": 1,
        "producer": {"name": "FRAMES", "class": "SynthFrames", "params": {"count": 3, "width": 16, "height": 16}},
        "stagers": [
            {"name": "SLOW", "class": "Sleep", "params": {"seconds": 3600}, "nb_process": 1},
        ],
        "consumer": {"name": "END", "class": "Discard"},
    })
}

#[test]
fn what_descends_from_an_item_is_cancelled() {
    let place = Place::with(&three_frames());
    let run = place.start_with(&["--summary", "run.json", "--events", "events.jsonl"]);
    let view = place.until("one is under way, two wait", |view| {
        view["state"] == "running"
            && seen(view, "SLOW")["queued"] == 2
            && seen(view, "SLOW")["in_hand"] == 1
    });
    let first = seen(&view, "SLOW")["each_worker"][0]["origin"].as_str().unwrap();
    let (stem, of_first) = first.rsplit_once(' ').unwrap();
    let of_first: u32 = of_first.parse().unwrap();
    let origin = |place: u32| format!("{stem} {}", of_first + place - 1);
    let slip = place.ctl(&["cancel", &origin(9)]).expect_code(2);
    assert!(slip.err.contains("it has ended, or has not come; did you mean"), "{}", slip.err);
    let said = place.ctl(&["cancel", &origin(2)]).expect_code(0);
    let expected = format!("{} is cancelled: 1 message that waited is dropped\n", origin(2));
    assert_eq!(said.out, expected);
    place.ctl(&["cancel", &origin(2)]).expect_code(2);
    place.ctl(&["cancel", &origin(3), "--running"]).expect_code(0);
    let refused = place.ctl(&["cancel", first]).expect_code(3);
    assert!(refused.err.contains("\"SLOW\" has \"") && refused.err.contains("--running"));
    let said = place.ctl(&["cancel", first, "--running"]).expect_code(0);
    assert!(said.out.contains("what workers make of 1 in hand is not taken"), "{}", said.out);
    // Nothing is left to do.
    assert_eq!(run.end(), Some(1));
    let summary = read_json(&place.path("run.json"));
    assert_balanced(&summary);
    assert_eq!(count(step(&summary, "SLOW"), "dropped"), 3);
    assert_eq!(count(step(&summary, "SLOW"), "retried"), 0, "nobody is charged");
    assert_eq!(count(step(&summary, "END"), "received"), 0);
    let events = fs::read_to_string(place.path("events.jsonl")).unwrap();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let cancelled = events.filter(|event| event["event"] == "cancelled");
    let cancelled: Vec<Value> = cancelled
        .map(|event| json!([event["step"], event["origin"], event["waiting"], event["in_hand"]]))
        .collect();
    let expected = [
        json!(["SLOW", origin(2), 1, 0]),
        json!(["SLOW", origin(3), 1, 0]),
        json!(["SLOW", first, 0, 1]),
    ];
    assert_eq!(cancelled, expected);
}
