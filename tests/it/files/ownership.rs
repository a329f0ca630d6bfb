//! A product replaces what earlier runs of its pipeline made, and nothing else; what a
//! pipeline has made is not its input.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::program::{Finished, drpipe, files, finish, make_frames};

struct Place(tempfile::TempDir);

fn step(name: &str, class: &str, params: Value) -> Value {
    json!({ "name": name, "class": class, "params": params })
}

impl Place {
    /// Frames in `raw/sub`, made by another pipeline, and `copy.json`, which copies what is
    /// in one directory to another.
    fn new(from: &str, to: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let size = json!({ "count": 3, "width": 16, "height": 16 });
        make_frames(place.0.path(), &size, "raw/sub");
        let frames = step("FRAMES", "FitsFiles", json!({ "directory": from }));
        place.write("copy.json", &frames, &[step("READ", "ReadFits", json!({}))], to);
        place
    }

    fn write(&self, name: &str, producer: &Value, stagers: &[Value], to: &str) {
        let write = step("WRITE", "WriteFits", json!({ "directory": to }));
        let config =
            json!({ "version": 1, "producer": producer, "stagers": stagers, "consumer": write });
        fs::write(self.at(name), config.to_string()).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, config: &str, settings: &[&str]) -> Finished {
        let mut command = drpipe(self.0.path());
        command.args(["--config", config, "-q"]);
        settings.iter().for_each(|setting| {
            command.args(["--set", setting]);
        });
        finish(&mut command)
    }

    fn frame(&self) -> PathBuf {
        let names = fs::read_dir(self.at("raw/sub")).unwrap();
        names.map(|entry| PathBuf::from(entry.unwrap().file_name())).min().unwrap()
    }
}

#[test]
fn a_file_that_no_run_of_the_pipeline_made_is_not_replaced() {
    let place = Place::new("raw/sub", "raw");
    // A raw frame of another pipeline, and no frame at all.
    let precious = place.at("raw").join(place.frame());
    for contents in [fs::read(place.at("raw/sub").join(place.frame())).unwrap(), b"mine".to_vec()] {
        fs::write(&precious, &contents).unwrap();
        let refused = place.run("copy.json", &[]).expect_code(1);
        assert!(refused.err.contains("so it is not replaced"), "{}", refused.err);
        assert_eq!(fs::read(&precious).unwrap(), contents);
    }
    place.run("copy.json", &["WRITE.overwrite=always"]).expect_code(0);
    assert_ne!(fs::read(&precious).unwrap(), b"mine");
    place.run("copy.json", &["WRITE.overwrite=never"]).expect_code(1);
}

#[test]
fn a_run_replaces_its_own_products_whatever_its_parameters_are() {
    let place = Place::new("raw/sub", "out");
    place.run("copy.json", &[]).expect_code(0);
    let first = files(&place.at("out"));
    place.run("copy.json", &[]).expect_code(0);
    assert_eq!(files(&place.at("out")), first);
    place.run("copy.json", &["READ.precision=f64", "WRITE.nb_process=2"]).expect_code(0);
    assert_ne!(files(&place.at("out")), first);
    // The same steps in another file are another pipeline, unless it has the same name.
    fs::copy(place.at("copy.json"), place.at("other.json")).unwrap();
    let refused = place.run("other.json", &[]).expect_code(1);
    assert!(refused.err.contains("was made by another pipeline"), "{}", refused.err);
}

#[test]
fn products_in_the_directory_of_the_inputs_are_no_inputs() {
    for to in ["raw/out", "raw", "raw/sub"] {
        let place = Place::new("raw", to);
        let suffix = ["WRITE.suffix=_copy.fits"];
        let check = finish(drpipe(place.0.path()).args(["check", "--config", "copy.json"]));
        assert!(check.expect_code(0).err.contains("the search leaves out"));
        for _ in 0..3 {
            let run = place.run("copy.json", &suffix).expect_code(0);
            assert!(run.err.contains("FRAMES looks for inputs in raw"), "{}", run.err);
        }
        assert_eq!(files(&place.at("raw")).len(), 6, "{to}");
    }
    let place = Place::new("raw", "out");
    let check = finish(drpipe(place.0.path()).args(["check", "--config", "copy.json"]));
    assert!(!check.expect_code(0).err.contains("left out"));
}

/// A pipeline that writes numbers into a file.
fn numbers(directory: &Path, file: &str) {
    let config = json!({
        "version": 1,
        "producer": step("NUMBERS", "Integers", json!({ "last": 3 })),
        "stagers": [step("TEXT", "FormatNumber", json!({}))],
        "consumer": step("LINES", "WriteLines", json!({ "file": file })),
    });
    fs::write(directory.join("pipeline.json"), config.to_string()).unwrap();
}

#[test]
fn a_text_replaces_its_own_predecessor_only() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let run = |settings: &[&str]| finish(drpipe(directory).arg("-q").args(settings));
    // Its own configuration, for one.
    numbers(directory, "pipeline.json");
    let before = files(directory);
    let refused = run(&[]).expect_code(3);
    assert!(refused.err.contains("no earlier run of this pipeline"), "{}", refused.err);
    assert_eq!(files(directory), before);
    numbers(directory, "out.txt");
    run(&[]).expect_code(0);
    run(&["--set", "NUMBERS.last=5"]).expect_code(0);
    fs::write(directory.join("out.txt"), "notes of mine").unwrap();
    run(&[]).expect_code(3);
    assert_eq!(fs::read_to_string(directory.join("out.txt")).unwrap(), "notes of mine");
    run(&["--set", "LINES.overwrite=always"]).expect_code(0);
    run(&[]).expect_code(0);
}

#[test]
fn pictures_and_pages_replace_their_own_predecessors_only() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let config = json!({
        "version": 1,
        "producer": step("FRAMES", "SynthFrames", json!({ "count": 1, "width": 16, "height": 16 })),
        "stagers": [
            step("GREY", "HistogramEqualization", json!({})),
            step("SAVE", "SavePng", json!({ "directory": "png" })),
        ],
        "consumer": step("SHEET", "ContactSheet", json!({ "file": "sheet.html" })),
    });
    fs::write(directory.join("pipeline.json"), config.to_string()).unwrap();
    let run = || finish(drpipe(directory).arg("-q"));
    run().expect_code(0);
    let products = files(directory);
    run().expect_code(0);
    assert_eq!(files(directory), products);
    let png = directory.join(products.keys().find(|path| path.starts_with("png")).unwrap());
    fs::write(&png, "a picture of mine").unwrap();
    run().expect_code(1);
    assert_eq!(fs::read_to_string(&png).unwrap(), "a picture of mine");
    fs::write(directory.join("sheet.html"), "a page of mine").unwrap();
    run().expect_code(3);
    assert_eq!(fs::read_to_string(directory.join("sheet.html")).unwrap(), "a page of mine");
}
