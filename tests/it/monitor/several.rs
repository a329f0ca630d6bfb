//! `drpipe monitor`: the runs of other programs.

use super::*;
use crate::support::odd_directory;

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
    }
}

#[test]
fn all_runs_are_shown_steered_and_remembered() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let monitor = monitor(place.path(), &[]);
    let client = monitor.client();
    let mut one = run(place.path(), &["--summary", "one.json"]);
    let two = run(place.path(), &["--summary", "two.json"]);
    let (name, other) = (one.name(), two.name());
    // Other runs of this user may be there too.
    let of = |rows: &[Value], name: &str| rows.iter().find(|row| row["run"] == name).cloned();
    let is = |rows: &[Value], name: &str, state: &str| {
        of(rows, name).is_some_and(|row| row["state"] == state)
    };
    rows(&client, |rows| is(rows, &name, "running") && is(rows, &other, "running"));
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
    let rows = rows(&client, |rows| is(rows, &other, "ended"));
    assert_eq!(of(&rows, &other).unwrap()["verdict"], "lost");
}

#[test]
fn a_run_elsewhere_is_shown_by_its_address() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let run = run(place.path(), &[]);
    let elsewhere = tempfile::tempdir().unwrap();
    let monitor = monitor(elsewhere.path(), &["--run", &format!("http://{}/", run.address)]);
    let client = monitor.client();
    let name = run.name();
    rows(&client, |rows| rows.iter().any(|row| row["run"] == name.as_str()));
    let path = format!("/runs/{name}/api/pause");
    post_ok(&client, &path, json!({}));
    assert_eq!(get(&run.client(), &run.path("view"))["paused"], true);
}

#[test]
fn a_run_finds_the_monitor_that_shows_it_already() {
    let place = tempfile::tempdir().unwrap();
    // The run lasts until the test drains it, for another thread prints the line.
    slow(place.path());
    let monitor = monitor(place.path(), &[]);
    let client = monitor.client();
    let mut command = command(place.path());
    command.args(["run", "-q", "--monitor", &monitor.address]);
    let mut serving = serve(command, place.path());
    assert_eq!(serving.address, monitor.address);
    let rows = rows(&client, |rows| rows.iter().any(|row| row["state"] == "running"));
    post_ok(&client, &format!("/runs/{}/api/drain", rows[0]["run"].as_str().unwrap()), json!({}));
    let said = serving.said.recv_timeout(LIMIT).unwrap();
    assert!(said.contains("shows this run"), "{said}");
    assert_eq!(serving.child.wait().unwrap().code(), Some(130));
}

/// A monitor elsewhere that shows a run of this name, and answers all else with a page.
fn liar(name: &str, view: &Value) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let list = json!([{"run": name, "state": "running"}]).to_string();
    let snapshot = json!({"view": view, "history": {}, "may_steer": true});
    let stream = format!("event: snapshot\ndata: {snapshot}\n\n");
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, list, stream) =
                (connection.unwrap(), list.clone(), stream.clone());
            std::thread::spawn(move || {
                let mut asked = String::new();
                BufReader::new(&connection).read_line(&mut asked).unwrap();
                let path = asked.split(' ').nth(1).unwrap_or_default();
                let (kind, body, more) = match path {
                    "/api/runs" => ("application/json", list, 0),
                    path if path.ends_with("/api/stream") => {
                        ("text/event-stream", stream, 1_000_000)
                    }
                    path if path.ends_with("/api/view") => ("text/html", "no view".to_owned(), 0),
                    _ => ("text/html", "<script>hostile()</script>".to_owned(), 0),
                };
                let length = body.len() + more;
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
                );
                let _ = connection.write_all((head + &body).as_bytes());
                // The stream stays open for as long as it is read.
                let _ = connection.read_to_end(&mut Vec::new());
            });
        }
    });
    address
}

#[test]
fn a_run_elsewhere_can_send_no_page_and_take_no_name() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let run = run(place.path(), &[]);
    let local = run.name();
    let mut view = get(&run.client(), &run.path("view"));
    let name = "20260101T000000Z-bnk3qx";
    view["run"] = json!(name);
    view["host"] = json!("elsewhere");
    let elsewhere = liar(name, &view);
    // This one says that its run is the local one, which is known first or later.
    view["run"] = json!(local);
    let namesake = liar(&local, &view);
    let urls = [elsewhere, namesake].map(|address| format!("http://{address}/"));
    let monitor = monitor(place.path(), &["--run", &urls[1], "--run", &urls[0]]);
    let client = monitor.client();
    let host_of = |rows: &[Value], name: &str| {
        rows.iter().find(|row| row["run"] == name).map(|row| row["host"].clone())
    };
    let real = view_host(&run);
    rows(&client, |rows| {
        host_of(rows, name) == Some(json!("elsewhere"))
            && host_of(rows, &local) == Some(real.clone())
    });
    let ask = |path: &str| {
        let host = &monitor.address;
        let ask = format!(
            "GET /runs/{name}/api/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        );
        raw(host, &ask)
    };
    for (path, kind) in [("quarantine/000001-S", "json"), ("events?after=0", "x-ndjson")] {
        let (status, answer) = ask(path);
        let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
        assert_eq!(status, 200, "{answer}");
        assert!(head.contains(&format!("content-type: application/{kind}")), "{head}");
        assert!(head.contains("nosniff") && head.contains("default-src 'none'"), "{head}");
    }
    assert_eq!(ask("pictures/1").0, 404);
    post_ok(&client, &format!("/runs/{local}/api/pause"), json!({}));
    assert_eq!(get(&run.client(), &run.path("view"))["paused"], true);
}

fn view_host(run: &Serving) -> Value {
    get(&run.client(), &run.path("view"))["host"].clone()
}

#[test]
fn a_run_in_a_directory_whose_name_is_not_utf_8_is_shown() {
    let place = tempfile::tempdir().unwrap();
    let test = "a_run_in_a_directory_whose_name_is_not_utf_8_is_shown";
    let Some(directory) = odd_directory(test, place.path()) else { return };
    slow(&directory);
    let run = run(&directory, &[]);
    let client = run.client();
    let shown = |value: &Value| value["directory"].as_str().unwrap().ends_with(r"/n\xE9");
    assert!(shown(&get(&client, "/api/runs")[0]));
    assert!(shown(&get(&client, &format!("/runs/{}/api/view", run.name()))));
}
