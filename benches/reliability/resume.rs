//! The whole program is killed, and its run resumed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::{drpipe, frames, scaled, write};

/// SIGKILL at random instants of fits2png with 120 frames, each followed by
/// `--resume`; in turn with threads and with processes. The products must be
/// those of an undisturbed run every time.
pub fn resume() {
    let directory = tempfile::tempdir().unwrap();
    if !frames(&directory.path().join("raw"), 120) {
        return;
    }
    write(directory.path(), &fits2png("nb_thread"));
    assert!(run(directory.path()).status().unwrap().success());
    let undisturbed = products(directory.path());
    assert_eq!(undisturbed.len(), 240);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (mut killed, mut different, mut leftovers, mut skipped) = (0, 0, 0, 0);
    let count = scaled(50);
    for n in 0..count {
        clean(directory.path());
        let key = if n % 2 == 0 { "nb_thread" } else { "nb_process" };
        write(directory.path(), &fits2png(key));
        let mut program = run(directory.path()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(rng.random_range(5..700)));
        program.kill().unwrap();
        killed += usize::from(!program.wait().unwrap().success());
        let status = run(directory.path()).status().unwrap();
        assert!(status.success(), "{status}");
        let summary: Value =
            serde_json::from_slice(&std::fs::read(directory.path().join("run.json")).unwrap())
                .unwrap();
        skipped += summary["skipped"].as_u64().unwrap_or(0);
        let found = products(directory.path());
        leftovers += found.len().saturating_sub(undisturbed.len());
        different += usize::from(found != undisturbed);
    }
    println!(
        "  {count} SIGKILLs ({killed} before the end), each followed by --resume: {different} with \
         other products, {leftovers} files left over; {skipped} frames were not done again; {}",
        fitsverify(&directory.path().join("fits"))
    );
}

fn run(directory: &Path) -> Command {
    let mut command = drpipe(directory);
    command.args(["--quiet", "--log-level", "off", "--summary", "run.json", "--resume"]);
    command
}

fn clean(directory: &Path) {
    for name in ["png", "fits"] {
        let _ = std::fs::remove_dir_all(directory.join(name));
    }
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("pipeline.journal") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// Every file below the products' directories, hidden ones too.
fn products(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = ["png", "fits"].map(|name| directory.join(name));
    let entries =
        folders.iter().flat_map(|folder| walkdir::WalkDir::new(folder).into_iter().flatten());
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.map(|file| (file.path().to_owned(), std::fs::read(file.path()).unwrap())).collect()
}

fn fitsverify(directory: &Path) -> String {
    let files: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    match Command::new("fitsverify").arg("-q").args(&files).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let clean = text.lines().filter(|line| line.contains("OK")).count();
            format!("fitsverify: {clean} of {} clean", files.len())
        }
        Err(_) => "fitsverify is not installed".into(),
    }
}

fn fits2png(key: &str) -> Value {
    json!({
        "version": 1,
        "producer": {"name": "FILES", "class": "FitsFiles", "params": {"directory": "raw"},
                     "next_steps": "READ"},
        "stagers": [
            {"name": "READ", "class": "ReadFits", key: 2, "next_steps": "CLEAN"},
            {"name": "CLEAN", "class": "NoiseRemoval", key: 2, "next_steps": "SAVE"},
            {"name": "SAVE", "class": "WriteFits", key: 2, "params": {"directory": "fits"},
             "next_steps": "EQUALIZE"},
            {"name": "EQUALIZE", "class": "HistogramEqualization", key: 2, "next_steps": "PNG"},
        ],
        "consumer": {"name": "PNG", "class": "SavePng", key: 2, "params": {"directory": "png"}},
    })
}
