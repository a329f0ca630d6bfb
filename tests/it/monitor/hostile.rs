//! Those who want what they may not, or nothing at all.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use super::*;

/// A POST as the page sends it, with one thing changed.
fn pause(run: &Serving, change: impl Fn(&str) -> String) -> (u16, String) {
    let path = run.path("pause");
    let host = &run.address;
    let good = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n\
         Content-Type: application/json\r\nX-Drpipe: 1\r\n\
         Authorization: Bearer correct-horse\r\nConnection: close\r\n\
         Content-Length: 2\r\n\r\n{{}}"
    );
    raw(&run.address, &change(&good))
}

#[test]
fn nobody_steers_who_may_not() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let run = run(place.path(), &["--monitor-token", "correct-horse"]);
    let host = run.address.clone();
    let replaced = |from: String, to: &str| {
        pause(&run, |good| {
            assert!(good.contains(&from), "{from}");
            good.replace(&from, to)
        })
    };
    let origin = format!("Origin: http://{host}");
    let key = || "Authorization: Bearer correct-horse".to_owned();
    for (from, to, status) in [
        (origin.clone(), "Origin: http://evil.example", 403),
        (origin.clone(), "Origin: null", 403),
        (origin.clone(), "Origin: http://localhost:1", 403),
        ("Sec-Fetch-Site: same-origin".to_owned(), "Sec-Fetch-Site: cross-site", 403),
        ("Sec-Fetch-Site: same-origin".to_owned(), "Sec-Fetch-Site: same-site", 403),
        (format!("Host: {host}"), "Host: rebound.example:5565", 403),
        (format!("Host: {host}"), "Host: localhost\r\nHost: rebound.example", 403),
        ("X-Drpipe: 1".to_owned(), "X-Other: 1", 403),
        // A proxy on this machine may say nothing of those for whom it asks.
        (key(), "X-Other: 1", 401),
        (key(), "X-Forwarded-For: 192.0.2.7", 401),
        (key(), "Via: 1.1 proxy", 401),
        (key(), "Authorization: Bearer wrong-horse", 401),
        (key(), "Authorization: Bearer correct-horse\r\nAuthorization: Bearer wrong-horse", 401),
        ("application/json".to_owned(), "text/plain", 415),
        ("application/json".to_owned(), "application/x-www-form-urlencoded", 415),
        ("Content-Length: 2\r\n\r\n{}".to_owned(), "Content-Length: 1\r\n\r\n{", 400),
        ("Content-Length: 2".to_owned(), "Content-Length: two", 400),
        ("POST".to_owned(), "PUT", 405),
    ] {
        assert_eq!(replaced(from, to).0, status, "{to}");
    }
    let long = format!("{{\"step\":\"{}\"}}", "x".repeat(5000));
    let length = format!("Content-Length: {}\r\n\r\n{long}", long.len());
    assert_eq!(replaced("Content-Length: 2\r\n\r\n{}".to_owned(), &length).0, 413);
    assert_eq!(get(&run.client(), &run.path("view"))["paused"], false);
    // So nothing but the change was wrong.
    assert_eq!(pause(&run, str::to_owned).0, 200);
    let passed_on = "X-Drpipe: 1\r\nVia: 1.1 proxy";
    assert_eq!(replaced("X-Drpipe: 1".to_owned(), passed_on).0, 200);
    assert_eq!(get(&run.client(), &run.path("view"))["paused"], true);
}

#[test]
fn who_is_refused_learns_why_also_if_the_body_comes_later() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let run = run(place.path(), &["--monitor-token", "correct-horse"]);
    let good = "Authorization: Bearer correct-horse\r\nX-Drpipe: 1\r\n\
                Content-Type: application/json\r\n";
    for (path, header, status) in [
        (run.path("pause"), good.replace("correct", "wrong"), "401"),
        (run.path("pause"), good.replace("X-Drpipe", "X-Other"), "403"),
        (run.path("pause"), good.replace("application/json", "text/plain"), "415"),
        ("/runs/other/api/pause".to_owned(), good.to_owned(), "404"),
    ] {
        let mut stream = TcpStream::connect(&run.address).unwrap();
        let host = &run.address;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\n{header}Connection: close\r\n\
             Content-Length: 2\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(b"{}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[test]
fn without_a_token_only_this_machine_steers() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let run = run(place.path(), &[]);
    let from_a_proxy = |header: &str| {
        pause(&run, |good| good.replace("X-Drpipe: 1", &format!("X-Drpipe: 1\r\n{header}: a"))).0
    };
    for header in ["X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "X-Real-IP", "Via"] {
        assert_eq!(from_a_proxy(header), 403, "{header}");
    }
    assert_eq!(pause(&run, str::to_owned).0, 200);
}

/// All that the program has left or tells, as one text.
fn told(run: &Serving) -> String {
    let files = program::files(&run.directory);
    let texts = files.values().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    texts.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_token_is_told_to_nobody() {
    for given in [&["--monitor-token", "correct-horse"][..], &["--monitor-token=correct-horse"]] {
        let place = tempfile::tempdir().unwrap();
        config(place.path(), 40, json!({"class": "Sleep", "params": {"seconds": 0.05}}));
        let left = ["--events", "e", "--journal", "j", "--report", "r", "--trace", "t"];
        let mut run = run(place.path(), &[&left[..], given].concat());
        let (client, path) = (run.client(), run.path("events?after=0"));
        let (_, mut events) = client.lines(&path).unwrap();
        let opened = next_line(&mut events, |line| line.contains("\"event\":\"opened\""));
        assert!(opened.contains("--journal") && !opened.contains("correct"), "{opened}");
        let view = get(&client, &run.path("view")).to_string();
        assert!(!view.contains("correct-horse"), "{view}");
        let process = std::path::PathBuf::from(format!("/proc/{}", run.child.id()));
        let command = std::fs::read(process.join("cmdline")).unwrap();
        let command = String::from_utf8_lossy(&command).into_owned();
        assert!(command.contains("--journal") && !command.contains("correct"), "{command}");
        assert_eq!(pause(&run, |good| good.replace("correct", "wrong")).0, 401);
        assert_eq!(run.summary()["verdict"], "done");
        let told = told(&run);
        assert!(told.contains("\"opened\"") && told.contains("<html"));
        assert!(!told.contains("correct-horse"));
    }
}

#[test]
fn nothing_beyond_the_run_can_be_read() {
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let run = run(place.path(), &[]);
    let (host, name) = (run.address.clone(), run.name());
    let ask = |path: &str, more: &str| {
        raw(
            &host,
            &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n"),
        )
    };
    for path in [
        "/../../etc/passwd",
        "/runs/../..",
        "/runs/%2e%2e/api/view",
        "/page/..%2f..%2fCargo.toml",
        "/page/%2e%2e/mod.rs",
        &format!("/runs/{name}/api/quarantine/..%2f..%2fpipeline.json"),
        &format!("/runs/{name}/api/quarantine/%2e%2e"),
        &format!("/runs/{name}/api/quarantine/.."),
        &format!("/runs/{name}/api/pictures/..%2f1"),
        &format!("/runs/{name}/api/pictures/1"),
        "/runs/other/api/view",
        "/nothing",
    ] {
        let (status, answer) = ask(path, "");
        assert_eq!(status, 404, "{path}: {answer}");
        assert!(!answer.contains("root:") && !answer.contains("Integers"), "{path}: {answer}");
    }
    let (status, answer) = ask("/", "");
    assert_eq!(status, 200);
    let answer = answer.to_lowercase();
    for header in ["content-security-policy: default-src 'self'", "x-content-type-options: nosniff"]
    {
        assert!(answer.contains(header), "{header}");
    }
    assert_eq!(ask(&format!("/runs/{name}/api/view"), "Origin: http://evil.example\r\n").0, 403);
    assert_eq!(ask("/", "Sec-Fetch-Site: cross-site\r\n").0, 403);
    let link =
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    assert_eq!(ask("/", link).0, 200);
    assert_eq!(ask(&format!("/runs/{name}/api/view"), link).0, 403);
}

#[test]
fn idle_connections_and_readers_that_never_read_do_not_matter() {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let place = tempfile::tempdir().unwrap();
    slow(place.path());
    let mut run = run(place.path(), &[]);
    let name = run.name();
    let mut silent = Vec::new();
    for _ in 0..3 {
        let mut stuck = TcpStream::connect(&run.address).unwrap();
        let host = &run.address;
        let ask = format!("GET /runs/{name}/api/stream HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stuck.write_all(ask.as_bytes()).unwrap();
        silent.push(stuck);
    }
    let socket = place.path().join("sockets/drpipe").join(format!("{name}.sock"));
    let idle: Vec<TcpStream> =
        (0..1000).map_while(|_| TcpStream::connect(&run.address).ok()).collect();
    assert_eq!(idle.len(), 1000);
    let others: Vec<UnixStream> =
        (0..100).map_while(|_| UnixStream::connect(&socket).ok()).collect();
    assert_eq!(others.len(), 100);
    // Whoever comes now is served, and the run goes on.
    let client = run.client();
    let path = format!("/runs/{name}/api/stream");
    let mut page = Page::open(&client, &path);
    let first = page.until(|view| view["steps"][2]["done"].as_u64() > Some(0));
    page.until(|view| view["steps"][2]["done"].as_u64() > first["steps"][2]["done"].as_u64());
    let more = json!({"step": "SLOW", "workers": 200});
    post_ok(&client, &format!("/runs/{name}/api/workers"), more);
    let summary = run.summary();
    program::assert_balanced(&summary);
    assert_eq!(program::count(program::step(&summary, "END"), "done"), 6000);
}
