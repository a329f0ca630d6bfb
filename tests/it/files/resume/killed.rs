//! Runs whose program is killed at any instant, and resumed until they are done.
//!
//! `DRPIPE_KILLS` says how many times, `DRPIPE_KILL_FRAMES` on how many frames,
//! `DRPIPE_KILL_SEED` at which instants.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::support::data::{collection, fits_files};
use crate::support::program::{
    assert_balanced, count, drpipe, files, finish, json as read_json, package, step,
};

/// A run is killed so many times at most before it may end.
const KILLS_OF_ONE: u32 = 3;

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// A folder with frames: copies of real ones, or synthetic ones where there are none.
fn frames(folder: &Path, count: usize) {
    fs::create_dir(folder).unwrap();
    let real = collection("killed").map(|data| fits_files(&data.join("keck")));
    let real = real.unwrap_or_else(|| {
        let made = folder.parent().unwrap().join("made");
        fs::create_dir(&made).unwrap();
        finish(drpipe(&made).arg("--config").arg(package().join("pipeline.json"))).expect_code(0);
        fits_files(&made.join("out/fits"))
    });
    for number in 0..count {
        fs::copy(&real[number % real.len()], folder.join(format!("{number:03}.fits"))).unwrap();
    }
}

/// One pipeline, on the same frames every time, in directories of its own.
struct Trial<'a> {
    config: PathBuf,
    args: Vec<&'a str>,
    frames: usize,
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

impl Trial<'_> {
    fn command(&self, directory: &Path) -> Command {
        let mut command = drpipe(directory);
        command.arg("--config").arg(&self.config).arg("-q");
        command.args(&self.args).stdout(Stdio::null());
        command
    }

    fn undisturbed(&self, directory: &Path) -> (Files, Duration) {
        let start = Instant::now();
        finish(&mut self.command(directory)).expect_code(0);
        (products(directory), start.elapsed())
    }

    /// Starts a run that resumes and kills it after `wait`; true if it was still at work.
    fn killed(&self, directory: &Path, wait: Duration) -> bool {
        let mut child =
            self.command(directory).arg("--resume").stderr(Stdio::null()).spawn().unwrap();
        // Whenever it comes, what follows must hold: nothing depends on the time.
        std::thread::sleep(wait);
        child.kill().unwrap();
        !child.wait().unwrap().success()
    }

    fn resumed(&self, directory: &Path) -> Value {
        let mut command = self.command(directory);
        finish(command.args(["--resume", "--summary", "summary.json"])).expect_code(0);
        let summary = read_json(&directory.join("summary.json"));
        assert_balanced(&summary);
        let emitted = count(step(&summary, "FRAMES"), "emitted");
        assert_eq!(count(&summary, "skipped") + emitted, self.frames as u64);
        summary
    }
}

/// Kills and resumes runs of `trial`; `check` looks at the summary of each that ended.
fn kill_and_resume(
    trial: &Trial,
    kills: u32,
    mut check: impl FnMut(&Trial, &Path, &Value, &Files),
) {
    let reference = tempfile::tempdir().unwrap();
    let (expected, time) = trial.undisturbed(reference.path());
    let mut rng = ChaCha8Rng::seed_from_u64(setting("DRPIPE_KILL_SEED", 1).into());
    let mut left = kills;
    while left > 0 {
        let directory = tempfile::tempdir().unwrap();
        let in_turn = left.min(rng.random_range(1..=KILLS_OF_ONE));
        for _ in 0..in_turn {
            trial.killed(directory.path(), time.mul_f64(rng.random_range(0.0..1.1)));
            for (path, contents) in products(directory.path()) {
                let hidden = path.file_name().unwrap().to_str().unwrap().starts_with('.');
                assert!(hidden || expected[&path] == contents, "{} is not whole", path.display());
            }
        }
        left -= in_turn;
        let summary = trial.resumed(directory.path());
        assert_same(&products(directory.path()), &expected);
        check(trial, directory.path(), &summary, &expected);
    }
}

/// None at all if the program was killed at its very beginning.
fn products(directory: &Path) -> Files {
    let out = directory.join("out");
    if out.exists() { files(&out) } else { Files::new() }
}

#[track_caller]
fn assert_same(found: &Files, expected: &Files) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(found == expected, "a product differs");
}

#[test]
fn a_killed_run_is_resumed_to_the_same_products() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    let frames_count = setting("DRPIPE_KILL_FRAMES", 24) as usize;
    frames(&raw, frames_count);
    let directory = format!("--FitsFiles.directory={}", raw.display());
    let config = package().join("examples/fits2png.json");
    let trial = Trial { config, args: vec![&directory], frames: frames_count };
    let mut skipped = 0;
    kill_and_resume(&trial, setting("DRPIPE_KILLS", 8), |trial, directory, summary, expected| {
        skipped += count(summary, "skipped");
        // Once it is done everything is skipped, and nothing is touched.
        let again = trial.resumed(directory);
        assert_eq!(count(&again, "skipped"), frames_count as u64);
        assert_same(&products(directory), expected);
        // The products, the journal and the summary: nothing else is left.
        assert!(directory.join("fits2png.journal").is_file());
        assert_eq!(fs::read_dir(directory).unwrap().count(), 3);
    });
    // Not asserted: all kills may have come before the first frame was done.
    eprintln!("{skipped} frames were skipped after kills");
}

#[test]
fn a_killed_run_that_gathers_is_resumed_to_the_same_page() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    frames(&raw, 6);
    let next = |name: &str, class: &str, params: Value| json!({ "name": name, "class": class, "nb_thread": 2, "params": params });
    let text = json!({
        "version": 1,
        "producer": { "name": "FRAMES", "class": "FitsFiles", "params": { "directory": raw } },
        "stagers": [
            next("READ", "ReadFits", json!({})),
            next("EQUALIZE", "HistogramEqualization", json!({})),
            next("SAVE", "SavePng", json!({ "directory": "out/png" })),
        ],
        "consumer": { "name": "SHEET", "class": "ContactSheet", "params": { "file": "out/sheet.html" } }
    });
    let config = folder.path().join("gather.json");
    fs::write(&config, text.to_string()).unwrap();
    let trial = Trial { config, args: Vec::new(), frames: 6 };
    let kills = setting("DRPIPE_KILLS", 8).div_ceil(2);
    kill_and_resume(&trial, kills, |_, _, summary, expected| {
        assert_eq!(count(summary, "skipped"), 0, "the page needs every frame");
        assert_eq!(expected.len(), 7);
    });
}
