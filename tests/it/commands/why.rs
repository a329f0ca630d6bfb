//! `drpipe why`: what became of an input, and where a product came from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::processes::eventually;
use crate::support::program::{Finished, drpipe, finish, make_frames};

/// Frames and a pipeline that makes two products of each.
pub struct Night(tempfile::TempDir);

pub const FRAMES: usize = 4;

impl Night {
    pub fn new() -> Self {
        let night = Self(tempfile::tempdir().unwrap());
        let size = json!({ "count": FRAMES, "width": 32, "height": 24, "stars": 2 });
        make_frames(night.path(), &size, "raw");
        let step = |name: &str, class: &str, params: Value| json!({ "name": name, "class": class, "params": params });
        let reduce = json!({
            "version": 1,
            "producer": step("FRAMES", "FitsFiles", json!({ "directory": "raw" })),
            "stagers": [
                step("READ", "ReadFits", json!({})),
                step("SLOW", "Sleep", json!({ "seconds": 0.0 })),
                step("KEEP", "WriteFits", json!({ "directory": "out/fits" })),
                step("EQUALIZE", "HistogramEqualization", json!({})),
                step("SAVE", "SavePng", json!({ "directory": "out/png" })),
            ],
            "consumer": step("END", "Discard", json!({})),
        });
        fs::write(night.at("reduce.json"), reduce.to_string()).unwrap();
        night
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn run(&self, args: &[&str], code: i32) -> Finished {
        let mut command = drpipe(self.path());
        command.args(["--config", "reduce.json", "--journal", "reduce.journal", "-q"]).args(args);
        finish(&mut command).expect_code(code)
    }

    /// Starts a slow run and kills it when products are there.
    pub fn kill(&self, args: &[&str]) {
        let mut command = drpipe(self.path());
        command.args(["--config", "reduce.json", "--journal", "reduce.journal", "-q"]);
        command.args(["--Sleep.seconds=0.3"]).args(args);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The journal is behind: once the second product is in its log, all of the first is.
        let (log, second) = (self.at("reduce.journal-wal"), b"synth_0001.png");
        eventually("the second product", || {
            let bytes = fs::read(&log).unwrap_or_default();
            bytes.windows(second.len()).any(|window| window == second).then_some(())
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn why(&self, path: &str, code: i32) -> Finished {
        finish(drpipe(self.path()).args(["why", path])).expect_code(code)
    }

    fn story(&self, path: &str) -> Value {
        let found = finish(drpipe(self.path()).args(["why", path, "--json"])).expect_code(0);
        serde_json::from_str(&found.out).unwrap()
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().unwrap()
}

#[test]
fn an_input_is_told_step_by_step_with_all_its_products() {
    let night = Night::new();
    night.run(&[], 0);
    let story = night.story("raw/synth_0001.fits");
    let [input] = &list(&story, "inputs")[..] else { panic!("{story}") };
    assert_eq!(
        (&input["origin"], &input["state"]),
        (&json!("raw/synth_0001.fits"), &json!("done"))
    );
    let [run] = &list(input, "runs")[..] else { panic!("{input}") };
    let steps: Vec<_> = list(run, "attempts").iter().map(|attempt| &attempt["step"]).collect();
    assert_eq!(steps, ["READ", "SLOW", "KEEP", "EQUALIZE", "SAVE", "END"]);
    for attempt in list(run, "attempts") {
        assert_eq!((&attempt["outcome"], &attempt["worker"]), (&json!("done"), &json!(0)));
        assert!(
            attempt["busy_s"].as_f64().unwrap() > 0.0 && attempt["waited_s"].is_f64(),
            "{attempt}"
        );
    }
    let products: Vec<_> =
        list(run, "products").iter().map(|p| p["path"].as_str().unwrap()).collect();
    let real = night.path().canonicalize().unwrap();
    let expected = ["out/fits/synth_0001.fits", "out/png/synth_0001.png"].map(|p| real.join(p));
    assert_eq!(products, expected.each_ref().map(|path| path.to_str().unwrap()));

    let text = night.why("raw/synth_0001.fits", 0).out;
    for part in ["raw/synth_0001.fits: done in run", "EQUALIZE  done, worker 0, waited", "(SAVE)"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_product_leads_to_its_input_however_it_is_written() {
    let night = Night::new();
    night.run(&[], 0);
    let absolute = night.at("out/png/synth_0002.png");
    for path in
        ["out/png/synth_0002.png", "./out/../out/fits/synth_0002.fits", absolute.to_str().unwrap()]
    {
        let story = night.story(path);
        assert_eq!(story["inputs"][0]["origin"], "raw/synth_0002.fits", "{path}");
        assert!(story["inputs"][0]["product"].is_string());
    }
    let text = night.why("out/png/synth_0002.png", 0).out;
    assert!(text.contains("out/png/synth_0002.png was made from raw/synth_0002.fits"), "{text}");
}

#[test]
fn what_is_not_there_is_said_with_what_is_near() {
    let night = Night::new();
    let none = night.why("x", 2);
    assert!(none.err.contains("there is no journal here"), "{}", none.err);
    night.run(&[], 0);
    let found = night.why("elsewhere/synth_0003.fits", 1);
    assert!(found.err.contains("raw/synth_0003.fits"), "{}", found.err);
    let found = night.why("raw/synth_0O02.fits", 1);
    assert!(found.err.contains("near are:\n  raw/synth_000"), "{}", found.err);
    fs::write(
        night.at("other.journal"),
        "something else, and longer than the header of a database is",
    )
    .unwrap();
    let several = night.why("x", 2);
    assert!(several.err.contains("other.journal, reduce.journal"), "{}", several.err);
    let foreign = finish(drpipe(night.path()).args(["why", "x", "--journal", "other.journal"]))
        .expect_code(2);
    assert!(foreign.err.contains("not a drpipe journal"), "{}", foreign.err);
}

#[test]
fn a_failed_input_is_told_with_its_reason_and_its_quarantine_entry_and_then_its_success() {
    let night = Night::new();
    let bad = "raw/bad.fits";
    fs::write(night.at(bad), "no frame").unwrap();
    night.run(&[], 1);
    let story = night.story(bad);
    let input = &story["inputs"][0];
    assert_eq!((&input["state"], &input["step"]), (&json!("failed"), &json!("READ")));
    let attempt = &input["runs"][0]["attempts"][0];
    assert_eq!(attempt["outcome"], "failed");
    assert!(attempt["reason"].as_str().unwrap().contains("not a FITS file"));
    let entry = PathBuf::from(input["runs"][0]["quarantine"][0].as_str().unwrap());
    assert!(entry.join("reason.json").is_file(), "{}", entry.display());
    assert!(night.why(bad, 0).out.contains("kept in "));

    // Mended and resumed: both runs are told.
    fs::copy(night.at("raw/synth_0000.fits"), night.at(bad)).unwrap();
    night.run(&["--resume"], 0);
    let story = night.story(bad);
    let input = &story["inputs"][0];
    assert_eq!((&input["state"], list(input, "runs").len()), (&json!("done"), 2));
    assert_eq!(list(&input["runs"][1], "products").len(), 2);
    let other = night.story("raw/synth_0001.fits");
    assert_eq!(list(&other["inputs"][0], "runs").len(), 1, "it was skipped in the second run");
}

#[test]
fn a_killed_run_tells_how_far_it_came() {
    let night = Night::new();
    night.kill(&[]);
    let first = night.story("raw/synth_0000.fits");
    let run = &first["inputs"][0]["runs"][0];
    assert!(run["ended"].is_null() && !list(run, "attempts").is_empty(), "{run}");
    let product = night.story("out/png/synth_0000.png");
    assert_eq!(product["inputs"][0]["origin"], "raw/synth_0000.fits");
    let last = night.why("raw/synth_0003.fits", 0).out;
    assert!(last.contains("under way when run") && last.contains("killed"), "{last}");
    night.run(&["--resume"], 0);
    assert_eq!(night.story("raw/synth_0003.fits")["inputs"][0]["state"], "done");
}

#[test]
fn a_product_of_many_inputs_names_them() {
    let night = Night::new();
    let mut config: Value =
        serde_json::from_slice(&fs::read(night.at("reduce.json")).unwrap()).unwrap();
    config["consumer"] =
        json!({ "name": "SHEET", "class": "ContactSheet", "params": { "file": "out/sheet.html" } });
    fs::write(night.at("reduce.json"), config.to_string()).unwrap();
    night.run(&[], 0);
    let story = night.story("out/sheet.html");
    let gathered = &list(&story, "gathered")[0];
    assert_eq!((&gathered["step"], list(gathered, "made_from").len()), (&json!("SHEET"), FRAMES));
    assert!(night.why("raw/synth_0000.fits", 0).out.contains("gathered by SHEET"));
}

#[test]
fn a_journal_in_use_is_said_to_be_so() {
    let night = Night::new();
    let mut command = drpipe(night.path());
    command.args([
        "--config",
        "reduce.json",
        "--journal",
        "reduce.journal",
        "-q",
        "--Sleep.seconds=60",
    ]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the journal", || night.at("reduce.journal-wal").exists().then_some(()));
    let busy = night.why("raw/synth_0000.fits", 2);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(busy.err.contains("a run is writing into reduce.journal"), "{}", busy.err);
}
