//! The journal, and runs that go on where an earlier one ended.

mod hostile;
mod items;
mod killed;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use drpipe::pipeline::{JournalError, Mode, Pipeline, Report, RunError, Verdict};
use drpipe::prelude::*;
use serde_json::{Value, json};

use crate::support::program::{
    Finished, Logged, assert_balanced, count, drpipe, files, finish, json as read_json,
    make_frames, step,
};
use crate::support::skipped;

/// Small frames in `raw`, and a pipeline that copies them to `out`.
struct Night(tempfile::TempDir);

const FRAMES: usize = 5;

impl Night {
    fn new() -> Self {
        let night = Self(tempfile::tempdir().unwrap());
        let size = json!({ "count": FRAMES, "width": 32, "height": 24, "stars": 2 });
        make_frames(night.path(), &size, "raw");
        let step = |name: &str, class: &str, params: Value| json!({ "name": name, "class": class, "params": params });
        let copy = json!({
            "version": 1,
            "producer": step("FRAMES", "FitsFiles", json!({ "directory": "raw" })),
            "stagers": [step("READ", "ReadFits", json!({}))],
            "consumer": step("SAVE", "WriteFits", json!({ "directory": "out" })),
        });
        fs::write(night.at("copy.json"), copy.to_string()).unwrap();
        night
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.path().join(name)
    }

    fn frames(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.at("raw"))
            .unwrap()
            .map(|entry| format!("raw/{}", entry.unwrap().file_name().to_str().unwrap()))
            .collect();
        names.sort();
        names
    }

    fn run(&self, args: &[&str]) -> Run {
        let mut command = drpipe(self.path());
        command.args(["--config", "copy.json", "--summary", "summary.json", "-q"]).args(args);
        let finished = finish(&mut command);
        let summary = self.at("summary.json");
        let summary = if summary.exists() { read_json(&summary) } else { Value::Null };
        let _ = fs::remove_file(self.at("summary.json"));
        Run { finished, summary }
    }

    fn resume(&self, args: &[&str]) -> Run {
        self.run(&[&["--resume", "--explain"], args].concat())
    }
}

struct Run {
    finished: Finished,
    summary: Value,
}

impl Run {
    #[track_caller]
    fn expect(self, code: i32, skipped: usize, emitted: usize) -> Self {
        let Self { finished, summary } = self;
        let finished = finished.expect_code(code);
        assert_balanced(&summary);
        let found = (count(&summary, "skipped"), count(step(&summary, "FRAMES"), "emitted"));
        assert_eq!(found, (skipped as u64, emitted as u64), "{}", finished.out);
        Self { finished, summary }
    }

    fn name(&self) -> &str {
        self.summary["run"].as_str().unwrap()
    }

    /// What `--explain` printed for each item.
    fn explained(&self) -> Vec<(&str, &str, &str)> {
        let mut lines: Vec<_> = self
            .finished
            .out
            .lines()
            .map(|line| {
                let mut parts = line.split('\t');
                let mut part = || parts.next().unwrap();
                let line = (part(), part(), part());
                (line.1, line.0, line.2)
            })
            .collect();
        lines.sort_unstable();
        lines
    }

    #[track_caller]
    fn assert_explained(&self, origin: &str, decision: &str, why: &[&str]) {
        let lines = self.explained();
        let line = lines.iter().find(|line| line.0 == origin).unwrap();
        assert_eq!(line.1, decision, "{line:?}");
        for part in why {
            assert!(line.2.contains(part), "{part} in {line:?}");
        }
    }
}

#[test]
fn what_is_done_is_skipped_and_explained() {
    let night = Night::new();
    let first = night.resume(&[]).expect(0, 0, FRAMES);
    let expected: Vec<_> =
        night.frames().iter().map(|frame| format!("run\t{frame}\tnew\n")).collect();
    assert_eq!(first.finished.out, expected.concat());
    assert!(night.at("copy.journal").is_file(), "the default is named after the configuration");
    let products = files(&night.at("out"));
    let second = night.resume(&[]).expect(0, FRAMES, 0);
    for frame in night.frames() {
        second.assert_explained(&frame, "skip", &["done in run", first.name(), " at 2"]);
    }
    assert_eq!(files(&night.at("out")), products);
    // Without -q the ledger says it too.
    let shown = finish(drpipe(night.path()).args(["--config", "copy.json", "--resume"]));
    let line = format!("skipped: {FRAMES} done in earlier runs\n");
    assert!(shown.out.contains(&line), "{}", shown.out);
    // What a run without --resume does again stays done.
    night.run(&["--journal", "copy.journal"]).expect(0, 0, FRAMES);
    night.resume(&[]).expect(0, FRAMES, 0);
}

#[test]
fn without_the_options_there_is_no_journal() {
    let night = Night::new();
    let before = files(night.path()).len();
    night.run(&[]).expect(0, 0, FRAMES);
    assert_eq!(files(night.path()).len(), before + FRAMES);
}

#[test]
fn a_file_that_changed_is_done_again() {
    let night = Night::new();
    night.resume(&[]).expect(0, 0, FRAMES);
    let frames = night.frames();
    let frame = fs::File::options().append(true).open(night.at(&frames[1])).unwrap();
    let size = frame.metadata().unwrap().len();
    frame.set_len(size + 2880).unwrap();
    let touched = fs::File::options().append(true).open(night.at(&frames[3])).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    let run = night.resume(&[]).expect(0, FRAMES - 2, 2);
    let why = format!("size {size} -> {} bytes", size + 2880);
    run.assert_explained(&frames[1], "run", &["the file has changed since run", &why]);
    run.assert_explained(&frames[3], "run", &["modified", "-> 1970-01-01T00:00:00Z"]);
    night.resume(&[]).expect(0, FRAMES, 0);
}

#[test]
fn an_item_whose_product_is_gone_is_done_again() {
    let night = Night::new();
    night.resume(&[]).expect(0, 0, FRAMES);
    let frames = night.frames();
    let product =
        |frame: usize| night.at("out").join(Path::new(&frames[frame]).file_name().unwrap());
    let whole = files(&night.at("out"));
    fs::remove_file(product(1)).unwrap();
    fs::File::options().write(true).open(product(3)).unwrap().set_len(2880).unwrap();
    let why = finish(drpipe(night.path()).args(["why", &frames[1]])).expect_code(0);
    assert!(why.out.contains("(SAVE, no longer there)"), "{}", why.out);
    let again = night.resume(&[]).expect(0, FRAMES - 2, 2);
    again.assert_explained(&frames[1], "run", &["its product ", " is missing"]);
    again.assert_explained(&frames[3], "run", &["has another size: ", " -> 2880 bytes"]);
    assert_eq!(files(&night.at("out")), whole);
    night.resume(&[]).expect(0, FRAMES, 0);
}

#[test]
fn a_product_of_which_a_piece_is_left_is_made_again() {
    let night = Night::new();
    night.resume(&[]).expect(0, 0, FRAMES);
    let whole = files(&night.at("out"));
    let frames = night.frames();
    for (frame, left) in [(0, 100), (1, 0), (2, 2000)] {
        let product = night.at("out").join(Path::new(&frames[frame]).file_name().unwrap());
        fs::File::options().write(true).open(product).unwrap().set_len(left).unwrap();
    }
    let again = night.resume(&[]).expect(0, FRAMES - 3, 3);
    again.assert_explained(&frames[0], "run", &["has another size: ", " -> 100 bytes"]);
    assert_eq!(files(&night.at("out")), whole);
}

#[test]
fn products_of_an_older_version_of_a_frame_are_not_missed() {
    let night = Night::new();
    night.resume(&[]).expect(0, 0, FRAMES);
    // Done anew without --resume, with other products.
    fs::rename(night.at("out"), night.at("old")).unwrap();
    let elsewhere = ["--journal", "copy.journal", "--set", "SAVE.directory=other"];
    night.run(&elsewhere).expect(0, 0, FRAMES);
    night.resume(&["--set", "SAVE.directory=other"]).expect(0, FRAMES, 0);
}

/// A name that is not UTF-8; none where the file system takes no such name.
fn odd_name(night: &Night, frame: &str, byte: u8) -> Option<std::path::PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let name = [b"raw/t", &[byte][..], b".fits"].concat();
    let path = night.at("").join(std::ffi::OsStr::from_bytes(&name));
    fs::copy(night.at(frame), &path).ok().map(|_| path)
}

#[test]
fn names_that_are_not_utf_8_are_items_of_their_own_and_looked_at() {
    let night = Night::new();
    let known = night.frames();
    fs::copy(night.at(&known[0]), night.at(r"raw/t\xE9.fits")).unwrap();
    let odd = |byte| odd_name(&night, &known[0], byte);
    let (Some(odd), Some(_)) = (odd(0xe9), odd(0xe8)) else {
        let test = "names_that_are_not_utf_8_are_items_of_their_own_and_looked_at";
        return skipped(test, "a name that is not UTF-8 cannot be made");
    };
    let all = FRAMES + 3;
    let first = night.resume(&[]).expect(0, 0, all);
    let origins: Vec<&str> = first.explained().iter().map(|line| line.0).collect();
    for name in [r"raw/t\xE9.fits", r"raw/t\xE8.fits", r"raw/t\x5CxE9.fits"] {
        assert!(origins.contains(&name), "{name} in {origins:?}");
    }
    assert_eq!(files(&night.at("out")).len(), all);
    night.resume(&[]).expect(0, all, 0);
    let frame = fs::File::options().append(true).open(&odd).unwrap();
    frame.set_len(frame.metadata().unwrap().len() + 2880).unwrap();
    let again = night.resume(&[]).expect(0, all - 1, 1);
    again.assert_explained(r"raw/t\xE9.fits", "run", &["the file has changed since run", "size"]);
    let why = finish(drpipe(night.path()).args(["why".as_ref(), odd.as_os_str()])).expect_code(0);
    assert!(why.out.starts_with(r"raw/t\xE9.fits: done in run"), "{}", why.out);
}

#[test]
fn another_configuration_does_everything_again_also_on_the_way_back() {
    let night = Night::new();
    night.resume(&[]).expect(0, 0, FRAMES);
    let other = night.resume(&["--set", "READ.precision=f64"]).expect(0, 0, FRAMES);
    other.assert_explained(&night.frames()[0], "run", &["the configuration has changed since run"]);
    night.resume(&[]).expect(0, 0, FRAMES);
    night.resume(&[]).expect(0, FRAMES, 0);
    // The products have been those of this configuration ever since.
    night.resume(&["--set", "READ.precision=f64"]).expect(0, 0, FRAMES);
}

#[test]
fn how_the_steps_are_run_is_no_other_configuration() {
    let night = Night::new();
    night.resume(&[]).expect(0, 0, FRAMES);
    let settings = ["READ.nb_thread=3", "SAVE.queue_limit=1", "READ.retries=2", "quarantine=bad"];
    let args: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    night.resume(&args).expect(0, FRAMES, 0);
    night.resume(&["--mode", "sequential"]).expect(0, FRAMES, 0);
}

#[test]
fn what_failed_is_tried_again_and_only_that() {
    let night = Night::new();
    let bad = "raw/bad.fits";
    fs::write(night.at(bad), "no frame").unwrap();
    let first = night.resume(&[]).expect(1, 0, FRAMES + 1);
    let second = night.resume(&[]).expect(1, FRAMES, 1);
    second.assert_explained(bad, "run", &["failed in run", first.name(), " at READ: ", bad]);
    // With the policy `skip` it has failed as well.
    night.resume(&["--set", "READ.on_error=skip"]).expect(1, FRAMES, 1);
    night.resume(&[]).expect(1, FRAMES, 1);
    fs::copy(night.at(&night.frames()[1]), night.at(bad)).unwrap();
    night.resume(&[]).expect(0, FRAMES, 1);
    night.resume(&[]).expect(0, FRAMES + 1, 0);
}

#[test]
fn a_run_that_was_stopped_goes_on_where_it_ended() {
    let night = Night::new();
    // Sequentially one frame comes after the other; this one is among them.
    let bad = format!("{}0.fits", night.frames()[2].strip_suffix(".fits").unwrap());
    fs::write(night.at(&bad), "no frame").unwrap();
    let stop = ["--mode", "sequential", "--set", "READ.on_error=stop"];
    let stopped = night.resume(&stop);
    let done = count(step(&stopped.summary, "SAVE"), "done") as usize;
    let emitted = count(step(&stopped.summary, "FRAMES"), "emitted") as usize;
    assert!(done > 0 && done < FRAMES, "{done} of {FRAMES}");
    stopped.expect(3, 0, emitted);
    fs::remove_file(night.at(&bad)).unwrap();
    let resumed = night.resume(&stop).expect(0, done, FRAMES - done);
    let decided = resumed.explained();
    assert!(decided[..done].iter().all(|line| line.1 == "skip"), "{decided:?}");
    let left = |why: &str| why == "new" || why.starts_with("was dropped when run");
    assert!(decided[done..].iter().all(|line| left(line.2)), "{decided:?}");
    assert_eq!(files(&night.at("out")).len(), FRAMES);
}

#[test]
fn what_a_step_gathers_is_gathered_whole() {
    let night = Night::new();
    let text = fs::read_to_string(night.at("copy.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let stagers = config["stagers"].as_array_mut().unwrap();
    stagers.push(json!({ "name": "GREY", "class": "HistogramEqualization" }));
    config["consumer"] =
        json!({ "name": "SHEET", "class": "ContactSheet", "params": { "file": "out/sheet.html" } });
    fs::write(night.at("copy.json"), config.to_string()).unwrap();
    night.resume(&[]).expect(0, 0, FRAMES);
    let products = files(&night.at("out"));
    assert_eq!(products.len(), 1);
    let again = night.resume(&[]).expect(0, 0, FRAMES);
    again.assert_explained(&night.frames()[0], "run", &["gathered by SHEET in run", "all of its"]);
    assert_eq!(files(&night.at("out")), products);
}

#[test]
fn messages_without_an_origin_are_done_again_and_that_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({
        "version": 1,
        "producer": { "name": "NUMBERS", "class": "Integers", "params": { "first": 1, "last": 9 } },
        "consumer": { "name": "END", "class": "Discard" }
    });
    fs::write(directory.path().join("n.json"), config.to_string()).unwrap();
    for _ in 0..2 {
        let mut command = drpipe(directory.path());
        command.args(["--config", "n.json", "--resume", "--summary", "s.json"]);
        let run = finish(&mut command).expect_code(0);
        assert_eq!(run.err.matches("messages without an origin").count(), 1, "{}", run.err);
        let summary = read_json(&directory.path().join("s.json"));
        assert_eq!(count(step(&summary, "END"), "done"), 9);
    }
}

#[track_caller]
fn assert_refused(night: &Night, journal: &str, parts: &[&str]) {
    let run = night.run(&["--journal", journal]);
    let err = run.finished.expect_code(2).err;
    for part in parts {
        assert!(err.contains(part), "{part} in {err}");
    }
    assert!(!night.at("out").exists(), "something was run");
}

#[test]
fn what_is_no_journal_is_refused_and_left_alone() {
    let night = Night::new();
    fs::write(night.at("text"), "This is the observing log of the night.\n".repeat(100)).unwrap();
    let other = rusqlite::Connection::open(night.at("other.db")).unwrap();
    other.execute_batch("CREATE TABLE stars (name TEXT)").unwrap();
    drop(other);
    for foreign in ["text", "other.db"] {
        let before = fs::read(night.at(foreign)).unwrap();
        assert_refused(&night, foreign, &[foreign, "is not a drpipe journal", "--journal FILE"]);
        assert_eq!(fs::read(night.at(foreign)).unwrap(), before);
    }
    assert_refused(&night, "raw", &["cannot use raw as the journal: it is a directory"]);
    assert_refused(&night, "no/where", &["cannot use no/where as the journal", "directory"]);
    let explain = finish(drpipe(night.path()).args(["--config", "copy.json", "--explain"]));
    assert!(explain.expect_code(2).err.contains("--resume"));
}

#[test]
fn a_journal_of_a_newer_drpipe_is_refused() {
    let night = Night::new();
    night.run(&["--journal", "j"]).expect(0, 0, FRAMES);
    fs::remove_dir_all(night.at("out")).unwrap();
    let journal = rusqlite::Connection::open(night.at("j")).unwrap();
    journal.pragma_update(None, "user_version", 99).unwrap();
    drop(journal);
    assert_refused(&night, "j", &["version 99", "knows version 3", "newer drpipe"]);
}

#[test]
fn a_journal_has_one_run_at_a_time_and_a_killed_one_frees_it() {
    let night = Night::new();
    let endless = json!({
        "version": 1,
        "producer": { "name": "FRAMES", "class": "FitsFiles", "params": { "directory": "raw" } },
        "consumer": { "name": "WAIT", "class": "Sleep", "params": { "seconds": 3600 } }
    });
    fs::write(night.at("endless.json"), endless.to_string()).unwrap();
    let mut command = drpipe(night.path());
    let mut first = Logged::start(command.args(["--config", "endless.json", "--journal", "j"]));
    first.wait_for("every worker is ready");
    assert_refused(&night, "j", &["the journal j is in use by another run", "wait"]);
    first.kill();
    let last = night.run(&["--journal", "j"]).expect(0, 0, FRAMES);
    assert!(night.at("out").exists(), "{}", last.finished.err);
}

/// Every file beyond the limit of the system's file sizes is a full disk.
#[test]
fn a_journal_that_takes_no_more_ends_the_run_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("raw");
    fs::create_dir(&raw).unwrap();
    (0..3000).for_each(|n| fs::write(raw.join(format!("{n}.fits")), "").unwrap());
    let config = json!({
        "version": 1,
        "producer": { "name": "FRAMES", "class": "FitsFiles", "params": { "directory": "raw" } },
        "consumer": { "name": "END", "class": "Discard" }
    });
    fs::write(directory.path().join("c.json"), config.to_string()).unwrap();
    let program = env!("CARGO_BIN_EXE_drpipe");
    let limited = |limit: &str| {
        let script =
            format!("trap '' XFSZ; ulimit -f {limit}; exec {program} --config c.json --resume");
        let mut command = std::process::Command::new("sh");
        finish(command.current_dir(directory.path()).args(["-c", &script]))
    };
    let run = limited("300").expect_code(3);
    assert!(run.out.contains("stopped: the journal c.journal cannot be written: "), "{}", run.out);
    assert!(run.out.contains("continue with --resume"), "{}", run.out);
    limited("unlimited").expect_code(0);
}
