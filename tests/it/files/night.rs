//! A night of real and broken frames.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::data::{collection, installed};
use crate::support::program::{
    assert_balanced, count, drpipe, files, finish, json as read_json, step,
};

const FOLDERS: [&str; 7] = ["keck", "ccd", "sprat", "sep", "lacosmic", "compressed", "broken"];

/// Every frame of the collection to FITS and PNG.
fn config(data: &Path) -> Value {
    let stager = |name: &str, class: &str, params: Value| json!({ "name": name, "class": class, "nb_thread": 2, "queue_limit": 4, "params": params });
    json!({
        "version": 1,
        "producer": {
            "name": "FRAMES",
            "class": "FitsFiles",
            "params": { "directory": data, "pattern": format!("{{{}}}/*", FOLDERS.join(",")) }
        },
        "stagers": [
            stager("READ", "ReadFits", json!({})),
            stager("WRITE", "WriteFits", json!({ "directory": "fits" })),
            stager("CLEAN", "NoiseRemoval", json!({})),
            stager("EQUALIZE", "HistogramEqualization", json!({})),
        ],
        "consumer": stager("SAVE", "SavePng", json!({ "directory": "png" })),
    })
}

fn reduce(data: &Path, args: &[&str]) -> (tempfile::TempDir, Value) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pipeline.json"), config(data).to_string()).unwrap();
    let mut command = drpipe(directory.path());
    command.args(["--summary", "summary.json", "--quiet"]).args(args);
    finish(&mut command).expect_code(1);
    let summary = read_json(&directory.path().join("summary.json"));
    assert_balanced(&summary);
    (directory, summary)
}

/// The inputs in quarantine: path to reason.
fn quarantined(directory: &Path, summary: &Value) -> BTreeMap<PathBuf, String> {
    let kept = directory.join(summary["quarantine"].as_str().unwrap());
    let entries = fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|entry| {
            let reason = read_json(&entry.join("reason.json"));
            let origin = PathBuf::from(reason["origin"].as_str().unwrap());
            (origin, reason["reason"].to_string())
        })
        .collect()
}

#[test]
fn every_good_frame_has_its_product_and_every_bad_one_a_reason() {
    let Some(data) = collection("every_good_frame_has_its_product") else { return };
    let (directory, summary) = reduce(&data, &[]);
    let inputs: BTreeSet<PathBuf> = FOLDERS
        .iter()
        .flat_map(|folder| fs::read_dir(data.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(count(step(&summary, "FRAMES"), "emitted"), inputs.len() as u64);

    let bad = quarantined(directory.path(), &summary);
    for (path, reason) in &bad {
        assert!(path.starts_with(data.join("broken")), "{path:?} failed: {reason}");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(reason.contains(name), "the reason does not name {name}: {reason}");
    }
    let expected_bad = ["all_nan", "cube", "empty", "no_data", "one_d", "text", "truncated_data"];
    let bad_names: Vec<_> = bad.keys().map(|path| path.file_stem().unwrap()).collect();
    assert_eq!(bad_names, expected_bad);
    let pictures = files(&directory.path().join("png"));
    assert_eq!(pictures.len() + bad.len(), inputs.len());
    assert_eq!(count(step(&summary, "SAVE"), "done"), pictures.len() as u64);
}

#[test]
fn every_mode_and_thread_count_makes_the_same_files() {
    let Some(data) = collection("every_mode_and_thread_count_makes_the_same_files") else {
        return;
    };
    let products = |args: &[&str]| {
        let (directory, _) = reduce(&data, args);
        ["fits", "png"].map(|folder| files(&directory.path().join(folder)))
    };
    let expected = products(&["--mode", "sequential"]);
    for threads in ["1", "2", "8"] {
        let names = ["READ", "WRITE", "CLEAN", "EQUALIZE", "SAVE"];
        let settings = names.map(|name| format!("{name}.nb_thread={threads}"));
        let args: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        assert!(products(&args) == expected, "other files with {threads} threads");
    }
}

#[test]
fn every_fits_product_satisfies_fitsverify() {
    let Some(data) = collection("every_fits_product_satisfies_fitsverify") else { return };
    if !installed("every_fits_product_satisfies_fitsverify", "fitsverify") {
        return;
    }
    let (directory, _) = reduce(&data, &[]);
    for product in files(&directory.path().join("fits")).keys() {
        let path = directory.path().join("fits").join(product);
        let verified = Command::new("fitsverify").arg("-q").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stdout);
        assert!(said.contains("0 errors") || said.contains("OK"), "{said}");
    }
}
