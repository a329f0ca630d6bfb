//! What it costs to be watched: the program runs the fastest pipeline with nobody looking,
//! with the streams of one dashboard and of ten, and with ten of which nobody reads.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Line, RUNS};

const MESSAGES: u64 = 20_000_000;

/// Who watches.
#[derive(Clone, Copy, PartialEq)]
enum Watchers {
    Nobody,
    Reading(usize),
    Stuck(usize),
}

pub(crate) fn watched() -> Vec<Line> {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({ "version": 1,
        "producer": { "name": "IN", "class": "Integers", "params": { "first": 1, "last": MESSAGES } },
        "stagers": [ { "name": "PASS", "class": "Pass", "queue_limit": 4096 } ],
        "consumer": { "name": "END", "class": "Discard", "queue_limit": 4096 } });
    std::fs::write(directory.path().join("tiny.json"), config.to_string()).unwrap();
    let cases = [
        ("dashboard served, nobody looks", Watchers::Reading(0), 0.99),
        ("one dashboard", Watchers::Reading(1), 0.95),
        ("ten dashboards", Watchers::Reading(10), 0.95),
        ("ten that are stuck", Watchers::Stuck(10), 0.95),
    ];
    let mut ratios: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    let mut alone = Vec::new();
    for _ in 0..RUNS {
        let before = seconds(&directory, Watchers::Nobody);
        for ((_, watchers, _), ratios) in cases.iter().zip(&mut ratios) {
            ratios.push(before / seconds(&directory, *watchers));
        }
        alone.push(MESSAGES as f64 / before);
    }
    let mut lines = vec![Line::new("8 bytes, nobody looks", median(&mut alone), "msg/s")];
    for ((name, _, bar), mut ratios) in cases.into_iter().zip(ratios) {
        lines.push(Line::new(format!("{name}, of that"), median(&mut ratios), "").at_least(bar));
    }
    lines
}

/// The time of one run by its own summary.
fn seconds(directory: &tempfile::TempDir, watchers: Watchers) -> f64 {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_drpipe"));
    command.current_dir(directory).args(["-c", "tiny.json", "-q", "--summary", "summary.json"]);
    command.args(["--log-level", "off"]).stdin(Stdio::null());
    if watchers != Watchers::Nobody {
        command.args(["--monitor", &free.to_string()]);
    }
    let mut child = command.spawn().unwrap();
    let clients = watch(free, watchers, &mut child);
    assert!(child.wait().unwrap().success());
    for client in clients {
        assert!(client.join().unwrap() > 0, "a dashboard saw nothing");
    }
    let summary = std::fs::read(directory.path().join("summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    summary["elapsed_s"].as_f64().unwrap()
}

/// Each gives how many bytes it has read.
fn watch(
    address: std::net::SocketAddr,
    watchers: Watchers,
    run: &mut Child,
) -> Vec<JoinHandle<usize>> {
    let (count, reads) = match watchers {
        Watchers::Nobody | Watchers::Reading(0) => return Vec::new(),
        Watchers::Reading(count) => (count, true),
        Watchers::Stuck(count) => (count, false),
    };
    let mut listed = String::new();
    while !listed.contains("\"run\"") {
        assert!(run.try_wait().unwrap().is_none(), "the run was over before it was seen");
        if let Ok(mut stream) = request(address, "/api/runs") {
            listed.clear();
            let _ = stream.read_to_string(&mut listed);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let name = listed.split("\"run\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let path = format!("/runs/{name}/api/stream");
    let client = |_| {
        let mut stream = request(address, &path).unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            let mut total = stream.read(&mut buffer).unwrap_or(0);
            if reads {
                loop {
                    match stream.read(&mut buffer) {
                        Ok(0) | Err(_) => break,
                        Ok(count) => total += count,
                    }
                }
            }
            if !reads {
                // It stays open, and nobody reads, until this program ends.
                std::mem::forget(stream);
            }
            total
        })
    };
    (0..count).map(client).collect()
}

fn request(address: std::net::SocketAddr, path: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    Ok(stream)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
