//! Every example does what it says.

use std::fs;
use std::path::Path;

use crate::support::program::{
    assert_balanced, count, drpipe, example, files, finish, json, package, step,
};
use crate::support::python::{interpreter, plain};

/// The unit tests in examples run here: they need no program of their own.
#[expect(dead_code, reason = "its `main` is for the example")]
#[path = "../../../examples/custom_stage.rs"]
mod custom_stage;
#[expect(dead_code, reason = "its `main` is for the example")]
#[path = "../../../examples/products.rs"]
mod products;

fn config(name: &str) -> String {
    package().join("examples").join(name).display().to_string()
}

/// Every file under examples/ has a test here; a new one must get one.
#[test]
fn every_example_has_a_test() {
    let mut names: Vec<_> = fs::read_dir(package().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // What Python has compiled.
    names.retain(|name| name != "__pycache__");
    names.sort();
    let tested = [
        "builder.rs",
        "ctapipe.json",
        "custom_stage.json",
        "custom_stage.rs",
        "fits2png.json",
        // In `pool::processes`.
        "pool.rs",
        // In python/tests/test_examples.py, and so is python_drive.py.
        "pool_controller.py",
        "pool_dirac.py",
        "pool_executor.py",
        "products.rs",
        "python_astropy.json",
        "python_drive.py",
        // In python/tests/test_examples.py.
        "python_feed.json",
        "python_feed.py",
        "python_numpy.json",
        "python_stages.py",
        "python_switch.json",
        "python_switch.py",
        "switch.json",
        // In `processes`.
        "worker_processes.json",
        "worker_processes.rs",
    ];
    assert_eq!(names, tested);
}

#[test]
fn the_main_job_needs_no_data() {
    let directory = tempfile::tempdir().unwrap();
    let config = package().join("pipeline.json");
    let run = finish(drpipe(directory.path()).arg("--config").arg(config).args([
        "--set",
        "SynthFrames.count=5",
        "--summary",
        "summary.json",
    ]))
    .expect_code(0);
    let out = directory.path().join("out");
    let names = |folder: &str| fs::read_dir(out.join(folder)).unwrap().count();
    assert_eq!((names("fits"), names("png")), (5, 5));
    let page = fs::read_to_string(out.join("contact-sheet.html")).unwrap();
    assert_eq!(page.matches("<img").count(), 5);
    let summary = json(&directory.path().join("summary.json"));
    assert_balanced(&summary);
    assert_eq!(summary["verdict"], "done");
    assert!(run.out.contains("done in "), "{}", run.out);
}

#[test]
fn fits2png_takes_its_directory_from_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    // Frames to read are made by the main job.
    finish(drpipe(directory.path()).arg("--config").arg(package().join("pipeline.json")))
        .expect_code(0);
    finish(drpipe(directory.path()).args(["--config", &config("fits2png.json")]).args([
        "--FitsFiles.directory=out/fits",
        "--set",
        "SavePng.directory=again",
        "--summary",
        "summary.json",
    ]))
    .expect_code(0);
    let summary = json(&directory.path().join("summary.json"));
    assert_eq!(count(step(&summary, "SAVE"), "done"), 12);
    assert_eq!(files(&directory.path().join("again")).len(), 12);
}

#[test]
fn the_switch_sends_each_number_its_way_and_joins_them_again() {
    let directory = tempfile::tempdir().unwrap();
    finish(drpipe(directory.path()).args(["--config", &config("switch.json")])).expect_code(0);
    let mut expected: Vec<String> =
        (1..=20_i64).map(|n| if n % 2 == 0 { n * n } else { n - 100 }.to_string()).collect();
    expected.sort();
    assert_eq!(lines(&directory.path().join("out/switch.txt")), expected);
}

#[test]
fn ctapipes_spelling_runs_as_it_stands() {
    let directory = tempfile::tempdir().unwrap();
    finish(drpipe(directory.path()).args(["--config", &config("ctapipe.json")])).expect_code(0);
    let mut expected: Vec<String> = (1..=10_i64).map(|n| (n * n).to_string()).collect();
    expected.sort();
    assert_eq!(lines(&directory.path().join("out/ctapipe.txt")), expected);
}

#[test]
fn a_program_embeds_its_own_stage() {
    let source = fs::read_to_string(package().join("examples/custom_stage.rs")).unwrap();
    let program = source.split("\n#[cfg(test)]").next().unwrap();
    assert!(program.lines().count() <= 40);
    let directory = tempfile::tempdir().unwrap();
    let settings = ["--config", &config("custom_stage.json"), "--set", "FRAMES.seed=3"];
    finish(example("custom_stage", directory.path()).args(settings)).expect_code(0);
    let products = files(&directory.path().join("out/electrons"));
    assert_eq!(products.len(), 4);
    for product in products.values() {
        let unit = b"BUNIT   = 'electron'";
        assert!(product.windows(unit.len()).any(|bytes| bytes == unit));
    }
    // The plain program does not know the stage and says so.
    let refused = finish(drpipe(directory.path()).args(settings)).expect_code(2);
    assert!(refused.err.contains("Gain"), "{}", refused.err);
}

#[test]
fn a_consumer_keeps_its_files_whole_and_replaces_only_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let run = || finish(example("products", directory.path()).arg("curves"));
    for _ in 0..2 {
        let run = run().expect_code(0);
        assert!(run.out.contains("12 products"), "{}", run.out);
        // Each curve has a record beside it of the pipeline that made it.
        assert_eq!(files(&directory.path().join("curves")).len(), 24);
    }
    let precious = directory.path().join("curves/star-3.txt");
    fs::write(&precious, "edited by hand").unwrap();
    run().expect_code(1);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "edited by hand");
}

#[test]
fn a_pipeline_without_a_file_runs() {
    let directory = tempfile::tempdir().unwrap();
    let run = finish(&mut example("builder", directory.path())).expect_code(0);
    assert!(run.out.contains("SQUARE: 1000 received, 1000 done"), "{}", run.out);
}

/// An example in Python: its modules are found beside it, also from elsewhere.
fn in_python(python: &Path, name: &str, directory: &Path, settings: &[&str]) {
    let mut program = drpipe(directory);
    let python = format!("Pipeline.python={}", python.display());
    program.args(["--config", &config(name), "--set", &python]).args(settings);
    finish(program.args(["--summary", "summary.json"])).expect_code(0);
}

/// A night of synthetic frames in `out/fits`.
fn night(directory: &Path) {
    finish(drpipe(directory).arg("--config").arg(package().join("pipeline.json"))).expect_code(0);
}

#[test]
fn a_stage_with_numpy_stands_between_stages_in_rust() {
    let test = "a_stage_with_numpy_stands_between_stages_in_rust";
    let Some(python) = interpreter(test, &["msgpack", "numpy"]) else { return };
    let directory = tempfile::tempdir().unwrap();
    night(directory.path());
    let settings = ["--FitsFiles.directory=out/fits", "--set", "SavePng.directory=flat"];
    in_python(&python, "python_numpy.json", directory.path(), &settings);
    assert_eq!(files(&directory.path().join("flat")).len(), 12);
    let summary = json(&directory.path().join("summary.json"));
    assert_balanced(&summary);
    assert_eq!(count(step(&summary, "FLATTEN"), "done"), 12);
}

#[test]
fn a_stage_with_astropy_measures_frames() {
    let test = "a_stage_with_astropy_measures_frames";
    let Some(python) = interpreter(test, &["msgpack", "astropy.stats"]) else { return };
    let directory = tempfile::tempdir().unwrap();
    night(directory.path());
    let settings = ["--FitsFiles.directory=out/fits"];
    in_python(&python, "python_astropy.json", directory.path(), &settings);
    let lines = lines(&directory.path().join("out/background.txt"));
    assert_eq!(lines.len(), 12);
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, median, deviation, above] = words[..] else { panic!("{line}") };
        assert!(median.parse::<f64>().unwrap() > 0.0 && deviation.parse::<f64>().unwrap() > 0.0);
        assert!(above.parse::<u64>().unwrap() > 0, "{line}");
    }
}

#[test]
fn the_switch_in_python_does_as_the_one_in_rust() {
    let Some(python) = plain("the_switch_in_python_does_as_the_one_in_rust") else { return };
    let directory = tempfile::tempdir().unwrap();
    in_python(&python, "python_switch.json", directory.path(), &[]);
    let mut expected: Vec<i64> =
        (1..=20_i64).map(|n| if n % 2 == 0 { n * n } else { n - 100 }).collect();
    expected.sort_unstable();
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    assert_eq!(lines(&directory.path().join("out/python_switch.txt")), expected);
}

#[test]
fn a_module_in_python_is_listed() {
    let Some(python) = plain("a_module_in_python_is_listed") else { return };
    let list = |more: &[&str]| {
        let mut program = drpipe(&package().join("examples"));
        program.args(["stages", "--python", "python_switch", "--interpreter"]).arg(&python);
        finish(program.args(more)).expect_code(0).out
    };
    let all = list(&[]);
    for line in ["Count       any       Makes the numbers from 1 to `last`.", "Switch"] {
        assert!(all.contains(line), "{all}");
    }
    assert!(list(&["Shift"]).contains("by: integer, default 0"), "{}", list(&["Shift"]));
    let parsed: serde_json::Value = serde_json::from_str(&list(&["--json"])).unwrap();
    assert_eq!(parsed.as_array().unwrap().len(), 5);
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}
