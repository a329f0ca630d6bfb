//! Products appear whole or not at all, and never one in another's place,
//! whatever dies and in however many processes they are made.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use crate::support::program::{
    assert_balanced, count, drpipe, files, finish, json as read_json, make_frames, step,
};

/// Whether this file system has files without a name.
fn has_nameless_files(directory: &Path) -> bool {
    let flags = OFlags::TMPFILE | OFlags::WRONLY;
    rustix::fs::open(directory, flags, Mode::from_raw_mode(0o600)).is_ok()
}

fn write_config(directory: &Path, config: &Value) {
    fs::write(directory.join("pipeline.json"), config.to_string()).unwrap();
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Frames without end, each a file.
fn endless(workers: &str) -> Value {
    let mut write =
        json!({ "name": "WRITE", "class": "WriteFits", "params": { "directory": "out" } });
    write[workers] = json!(2);
    json!({
        "version": 1,
        "producer": { "name": "SYNTH", "class": "SynthFrames",
            "params": { "count": 1_000_000_000, "width": 16, "height": 16 } },
        "stagers": [write],
        "consumer": { "name": "END", "class": "Discard" }
    })
}

#[test]
fn a_killed_program_leaves_whole_products_and_nothing_else() {
    let kills = std::env::var("DRPIPE_KILLS").ok().map_or(8, |kills| kills.parse().unwrap());
    for kill in 0..kills {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        write_config(directory.path(), &endless(["nb_thread", "nb_process"][kill % 2]));
        let mut child = drpipe(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env("TMPDIR", directory.path())
            .spawn()
            .unwrap();
        // Each time at another moment.
        while names(&out).len() <= kill {
            assert_eq!(child.try_wait().unwrap(), None);
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // It closes when the last worker process has ended.
        std::io::copy(&mut child.stderr.take().unwrap(), &mut std::io::sink()).unwrap();
        let products = files(&out);
        let sizes: BTreeSet<usize> = products.values().map(Vec::len).collect();
        assert_eq!(sizes.len(), 1, "some are not whole: {sizes:?}");
        if has_nameless_files(&out) {
            let strange = names(&out).into_iter().find(|name| !name.ends_with(".fits"));
            assert_eq!(strange, None, "kill {kill}");
        }
    }
}

/// Pairs of files whose products have one name: a backslash cannot stand in it.
fn make_pairs(directory: &Path, pairs: usize) {
    make_frames(directory, &json!({ "count": 1, "width": 16, "height": 16 }), "one");
    let frame = files(&directory.join("one")).into_values().next().unwrap();
    fs::create_dir(directory.join("raw")).unwrap();
    for pair in 0..pairs {
        for name in [format!("n_{pair}"), format!("n\\{pair}")] {
            fs::write(directory.join(format!("raw/{name}.fits")), &frame).unwrap();
        }
    }
}

/// Of each pair one input has its product and the other is kept, with both
/// named in the reason.
fn one_of_each_pair_is_refused(workers: &Value) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let pairs = 12;
    make_pairs(directory, pairs);
    let mut write =
        json!({ "name": "WRITE", "class": "WriteFits", "params": { "directory": "out" } });
    write.as_object_mut().unwrap().extend(workers.as_object().unwrap().clone());
    let config = json!({
        "version": 1,
        "producer": { "name": "FILES", "class": "FitsFiles", "params": { "directory": "raw" } },
        "stagers": [{ "name": "READ", "class": "ReadFits" }, write],
        "consumer": { "name": "END", "class": "Discard" }
    });
    write_config(directory, &config);
    finish(drpipe(directory).args(["--summary", "s.json"])).expect_code(1);
    let summary = read_json(&directory.join("s.json"));
    assert_balanced(&summary);
    assert_eq!(count(step(&summary, "WRITE"), "failed"), pairs as u64);
    let expected: BTreeSet<String> = (0..pairs).map(|pair| format!("n_{pair}.fits")).collect();
    assert_eq!(names(&directory.join("out")).into_iter().collect::<BTreeSet<_>>(), expected);
    let kept = directory.join(summary["quarantine"].as_str().unwrap());
    let mut refused = BTreeSet::new();
    for entry in names(&kept) {
        let reason = read_json(&kept.join(entry).join("reason.json"));
        let text = reason["reason"].to_string();
        let pair = (0..pairs).find(|pair| text.contains(&format!("n_{pair}.fits was already")));
        let pair = pair.unwrap_or_else(|| panic!("{text}"));
        // As JSON the backslash is doubled.
        for source in [format!("raw/n_{pair}.fits"), format!(r"raw/n\\{pair}.fits")] {
            assert!(text.contains(&source), "{source} is not in {text}");
        }
        refused.insert(pair);
    }
    assert_eq!(refused.len(), pairs);
}

#[test]
fn two_inputs_never_share_a_file_in_processes() {
    one_of_each_pair_is_refused(&json!({ "nb_process": 2 }));
}

#[test]
fn two_inputs_never_share_a_file_on_threads_and_in_processes_of_one_step() {
    one_of_each_pair_is_refused(&json!({ "nb_thread": 1, "nb_process": 2 }));
}

#[test]
fn two_steps_never_share_a_file_in_processes() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let config = json!({
        "version": 1,
        "producer": { "name": "SYNTH", "class": "SynthFrames",
            "params": { "count": 6, "width": 16, "height": 16 } },
        "stagers": [
            { "name": "WRITE", "class": "WriteFits", "nb_process": 2,
              "params": { "directory": "out" } },
            { "name": "AGAIN", "class": "WriteFits", "nb_process": 1,
              "params": { "directory": "out" } }
        ],
        "consumer": { "name": "END", "class": "Discard" }
    });
    write_config(directory, &config);
    finish(drpipe(directory).args(["--summary", "s.json"])).expect_code(1);
    let summary = read_json(&directory.join("s.json"));
    assert_balanced(&summary);
    assert_eq!(count(step(&summary, "WRITE"), "done"), 6);
    assert_eq!(count(step(&summary, "AGAIN"), "failed"), 6);
}
