//! What is seen of a run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};

use drpipe::config::Address;
use drpipe::monitor::{Monitor, Options};
use drpipe::prelude::*;

use super::*;
use crate::support::{Call, Numbers};

#[test]
fn who_comes_late_sees_the_same_and_the_last_view_is_the_summary() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let mut run = run(place.path(), &[]);
    let (client, name) = (run.client(), run.name());
    let path = |rest: &str| format!("/runs/{name}/api/{rest}");
    let mut early = Page::open(&client, &path("stream"));
    let first = early.until(|view| view["steps"][2]["done"].as_u64() > Some(0));
    early.until(|view| view["bottleneck"] == "SLOW");
    drop(early);
    let (_, mut all) = client.lines(&path("events?after=0")).unwrap();
    post_ok(&client, &path("workers"), json!({"step": "SLOW", "workers": 200}));
    let mut late = Page::open(&client, &path("stream"));
    let (event, snapshot) = late.next().unwrap();
    assert_eq!((event.as_str(), &snapshot["may_steer"]), ("snapshot", &json!(true)));
    assert!(snapshot["view"]["number"].as_u64() >= first["number"].as_u64());
    let (mut last, mut history) = (snapshot["view"].clone(), Value::Null);
    while let Some((event, data)) = late.next() {
        if event == "history" { history = data } else { last = data }
    }
    let summary = run.summary();
    assert_eq!(last["state"], "ended");
    assert_eq!((&last["verdict"], &last["exit_code"]), (&json!("done"), &json!(0)));
    assert_eq!(counts(&last["steps"]), counts(&summary["steps"]));
    assert_eq!(history["steps"][2]["done"].as_array().unwrap().last(), Some(&json!(6000)));
    // Every event came, one after the other.
    let mut number = 0;
    let mut events = BTreeMap::<String, u64>::new();
    while let NextLine::Line(line) = all.next(LIMIT).unwrap() {
        let told: Value = serde_json::from_str(&line).unwrap();
        number += 1;
        assert_eq!(told["number"], number);
        *events.entry(told["event"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!((events["opened"], events["workers_set"], events["ended"]), (1, 1, 1));
    assert!(!place.path().join("sockets/drpipe").join(format!("{name}.sock")).exists());
}

#[test]
fn events_that_were_seen_are_not_sent_again() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let run = run(place.path(), &[]);
    let client = run.client();
    let (_, mut lines) = client.lines(&run.path("events?after=1")).unwrap();
    let first = next_line(&mut lines, |_| true);
    assert_eq!(serde_json::from_str::<Value>(&first).unwrap()["number"], 2);
    assert_eq!(client.get(&run.path("events?after=x")).unwrap().0, 400);
}

#[test]
fn the_metrics_are_those_of_the_view() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let run = run(place.path(), &[]);
    let client = run.client();
    Page::open(&client, &run.path("stream")).until(|view| view["state"] == "running");
    post_ok(&client, &run.path("pause"), json!({}));
    // What was in hand is done, then nothing moves.
    let settled = |view: &Value| view["steps"][2]["busy"] == 0 && view["steps"][1]["busy"] == 0;
    Page::open(&client, &run.path("stream")).until(settled);
    let view = get(&client, &run.path("view"));
    let name = run.name();
    for path in ["/metrics".to_owned(), format!("/runs/{name}/metrics")] {
        let (status, text) = client.get(&path).unwrap();
        assert_eq!(status, 200);
        let samples = parse(&String::from_utf8(text).unwrap());
        for step in view["steps"].as_array().unwrap() {
            let labels = format!("run=\"{name}\",step={}", step["name"]);
            for (metric, key) in [
                ("drpipe_messages_done_total", "done"),
                ("drpipe_messages_received_total", "received"),
                ("drpipe_messages_failed_total", "failed"),
                ("drpipe_queue_messages", "queued"),
                ("drpipe_workers", "workers"),
                ("drpipe_queue_oldest_normal_seconds", "oldest_normal_s"),
            ] {
                let found = samples[&format!("{metric}{{{labels}}}")];
                assert_eq!(Some(found), step[key].as_f64(), "{metric} of {labels}");
            }
        }
        assert_eq!(samples[&format!("drpipe_up{{run=\"{name}\"}}")], 1.0);
        assert_eq!(samples[&format!("drpipe_run_paused{{run=\"{name}\"}}")], 1.0);
    }
}

/// The samples of a text in the format of Prometheus, which is checked.
fn parse(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'));
    let (mut types, mut samples) = (BTreeMap::new(), BTreeMap::new());
    let mut current = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, about] => {
                assert!(!about.is_empty());
                current = name.to_owned();
            }
            ["#", "TYPE", name, kind] => {
                assert_eq!(name, current, "HELP stands before TYPE");
                assert!(["counter", "gauge"].contains(&kind));
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                assert!(types.insert(name.to_owned(), kind).is_none(), "{name} stands twice");
            }
            _ => {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').unwrap();
                assert_eq!(name, current, "samples stand together");
                assert!(labels.ends_with("\"}"), "{line}");
                assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none());
            }
        }
    }
    samples
}

#[test]
fn the_next_free_port_is_taken() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let other = tempfile::tempdir().unwrap();
    slow(other.path());
    let mut command = command(other.path());
    command.args(["run", "-q", "--monitor", &format!("127.0.0.1:{port}")]);
    let run = serve(command, other.path());
    let found: u16 = run.address.rsplit_once(':').unwrap().1.parse().unwrap();
    assert!(found > port && found <= port + 20, "{found} instead of {port}");
    assert!(!run.name().is_empty());
}

#[test]
fn the_configuration_may_ask_for_the_dashboard() {
    for (gui, keys) in [
        (true, json!({"gui": true, "gui_address": "tcp://localhost:0"})),
        (false, json!({"gui": false, "gui_address": "tcp://localhost:0"})),
    ] {
        let place = tempfile::tempdir().unwrap();
        let mut flow = json!({
            "producer_conf": {"name": "N", "class": "Integers", "params": {"last": 3}},
            "consumer_conf": {"name": "END", "class": "Discard"},
        });
        flow.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let file = place.path().join("pipeline.json");
        std::fs::write(file, json!({"Pipeline": flow}).to_string()).unwrap();
        let done = program::finish(command(place.path()).arg("run")).expect_code(0);
        // A short run may be over before its dashboard is there, but it says nothing else.
        assert!(gui || !done.err.contains("monitor at http://"), "{}", done.err);
        assert!(!done.err.contains("no effect"), "{}", done.err);
    }
}

/// Writes a picture for each number, and makes it known.
struct Pictures(std::path::PathBuf);

impl Consumer for Pictures {
    type In = i64;

    fn run(&mut self, number: i64) -> Result<()> {
        let path = self.0.join(format!("{number}.png"));
        image::DynamicImage::new_luma16(900, 600).save(&path).unwrap();
        announce_product(&path);
        Ok(())
    }
}

#[test]
fn pictures_that_were_made_known_are_shown_small_and_nothing_else_is() {
    let place = tempfile::tempdir().unwrap();
    let (directory, text) = (place.path().to_owned(), place.path().join("text.png"));
    std::fs::write(&text, "no picture").unwrap();
    let pipeline = Pipeline::builder()
        .producer("N", Numbers::below(1))
        .stage("TEXT", move || {
            let text = text.clone();
            Call(move |number, out: &mut Emitter<'_, i64>| {
                announce_product(&text);
                out.send(number)
            })
        })
        .consumer("SAVE", move || Pictures(directory.clone()))
        .build()
        .unwrap();
    let handle = pipeline.start(Mode::Threads).unwrap();
    let (sender, said) = mpsc::channel();
    let sender = Arc::new(Mutex::new(sender));
    let options = Options { address: Some("localhost:0".parse::<Address>().unwrap()), token: None };
    let say = move |_, text: &str| drop(sender.lock().unwrap().send(text.to_owned()));
    let monitor = Monitor::start(handle.stream().clone(), handle.control(), options, say).unwrap();
    let text = loop {
        let text = said.recv_timeout(LIMIT).unwrap();
        if text.contains("http://") {
            break text;
        }
    };
    let url = text.split(' ').find(|word| word.starts_with("http://")).unwrap();
    handle.wait().unwrap();
    let client = Client::address(url, None).unwrap();
    let name = get(&client, "/api/runs")[0]["run"].as_str().unwrap().to_owned();
    let view = get(&client, &format!("/runs/{name}/api/view"));
    let products = view["products"].as_array().unwrap();
    assert_eq!(products.len(), 2);
    for product in products {
        let path = format!("/runs/{name}/api/pictures/{}", product["number"]);
        let (status, body) = client.get(&path).unwrap();
        if product["path"].as_str().unwrap().ends_with("/0.png") {
            let picture = image::load_from_memory(&body).unwrap();
            assert_eq!((status, picture.width(), picture.height()), (200, 320, 213));
        } else {
            assert_eq!(status, 404);
        }
    }
    assert_eq!(client.get(&format!("/runs/{name}/api/pictures/1")).unwrap().0, 404);
    monitor.stop();
    assert!(client.get("/api/runs").is_err());
}
