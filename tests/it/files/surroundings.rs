//! Disks that are full, directories that vanish, limits that are reached: the
//! run ends with the right code, says what it met and where, and loses nothing.

mod limits;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::processes::eventually;
use crate::support::program::{
    Finished, Logged, assert_balanced, count, drpipe, files, finish, json as read_json, step,
};
use crate::support::{odd_directory, skipped};

/// A directory with a configuration in it.
fn prepared(config: &Value) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pipeline.json"), config.to_string()).unwrap();
    directory
}

/// Frames that are written to `out`.
fn frames(number: u32, workers: &str) -> Value {
    let mut write =
        json!({ "name": "WRITE", "class": "WriteFits", "params": { "directory": "out" } });
    write[workers] = json!(2);
    json!({
        "version": 1,
        "producer": { "name": "SYNTH", "class": "SynthFrames",
            "params": { "count": number, "width": 64, "height": 64 } },
        "stagers": [write],
        "consumer": { "name": "END", "class": "Discard" }
    })
}

/// Numbers that are squared.
fn numbers(workers: &str) -> Value {
    let mut square = json!({ "name": "SQUARE", "class": "Square" });
    square[workers] = json!(2);
    json!({
        "version": 1,
        "producer": { "name": "NUMBERS", "class": "Integers", "params": { "last": 99 } },
        "stagers": [square],
        "consumer": { "name": "END", "class": "Discard" }
    })
}

/// Runs a script in which `drpipe` is "$1".
fn script(directory: &Path, script: &str) -> Finished {
    let mut bash = Command::new("bash");
    bash.args(["-c", script, "bash", env!("CARGO_BIN_EXE_drpipe")]).current_dir(directory);
    finish(&mut bash)
}

/// The summary of a run in a directory.
#[track_caller]
fn summary(directory: &Path) -> Value {
    let summary = read_json(&directory.join("s.json"));
    assert_balanced(&summary);
    summary
}

/// The code of a run, and what it must have said.
#[track_caller]
fn expect(run: Finished, code: i32, said: &[&str]) {
    let run = run.expect_code(code);
    for part in said {
        assert!(run.err.contains(part), "{part} is not in {}", run.err);
    }
}

#[test]
fn files_beyond_a_limit_of_size_fail_their_inputs_and_leave_nothing() {
    for workers in ["nb_thread", "nb_process"] {
        // The inputs are too large for the quarantine as well.
        let directory = prepared(&frames(5, workers));
        let limited = "ulimit -f 8; exec \"$1\" --quiet --summary s.json";
        let kept = "quarantine/";
        let said = ["cannot write ", "synth_0000.fits: File too large", "cannot keep", kept];
        expect(script(directory.path(), limited), 3, &said);
        let summary = summary(directory.path());
        // The first that cannot be kept ends production; what was made before fails too.
        assert!((1..=5).contains(&count(step(&summary, "WRITE"), "failed")), "{summary:#}");
        assert_balanced(&summary);
        assert_eq!(summary["quarantined"], 0);
        assert!(files(&directory.path().join("out")).is_empty());
        assert!(files(&directory.path().join("quarantine")).is_empty());
    }
}

#[test]
fn lines_beyond_a_limit_of_size_are_kept() {
    let config = json!({
        "version": 1,
        "producer": { "name": "NUMBERS", "class": "Integers", "params": { "last": 13_500 } },
        "stagers": [{ "name": "TEXT", "class": "FormatNumber" }],
        "consumer": { "name": "LINES", "class": "WriteLines", "params": { "file": "out/l.txt" } }
    });
    let directory = prepared(&config);
    let limited = "ulimit -f 8; exec \"$1\" --quiet --summary s.json";
    expect(script(directory.path(), limited), 1, &["out/l.txt: File too large"]);
    let summary = summary(directory.path());
    let failed = count(step(&summary, "LINES"), "failed");
    assert!(failed > 0);
    assert_eq!(summary["quarantined"], failed);
    assert!(files(&directory.path().join("out")).is_empty(), "half a file was left");
}

#[test]
fn a_full_disk_fails_inputs_and_the_products_on_it_are_whole() {
    let test = "a_full_disk_fails_inputs_and_the_products_on_it_are_whole";
    let directory = prepared(&frames(40, "nb_thread"));
    fs::create_dir(directory.path().join("small")).unwrap();
    let own = "unshare -m true && unshare -m mount -t tmpfs -o size=64k none small";
    if script(directory.path(), own).code != Some(0) {
        return skipped(test, "a file system of its own cannot be mounted");
    }
    let run = script(
        directory.path(),
        "exec unshare -m bash -c 'mount -t tmpfs -o size=256k none small || exit 9
         \"$1\" --quiet --set WRITE.directory=small/out --summary s.json; code=$?
         cp -r small/out copy; exit $code' bash \"$1\"",
    );
    expect(run, 1, &["small/out/synth_00", "No space left on device"]);
    let summary = summary(directory.path());
    let (done, failed) =
        (count(step(&summary, "WRITE"), "done") as usize, count(step(&summary, "WRITE"), "failed"));
    assert!(done > 0 && failed > 0);
    assert_eq!(summary["quarantined"], failed);
    let products = files(&directory.path().join("copy"));
    assert_eq!(products.len(), done);
    let first = products.values().next().unwrap().len();
    assert!(products.values().all(|product| product.len() == first), "some are not whole");
}

#[test]
fn a_summary_that_finds_no_room_is_an_error() {
    let directory = prepared(&numbers("nb_thread"));
    let run = finish(drpipe(directory.path()).args(["--summary", "/dev/full"]));
    expect(run, 3, &["cannot write the summary /dev/full: No space left on device"]);
    let limited = "ulimit -f 0; exec \"$1\" --summary s.json";
    expect(script(directory.path(), limited), 3, &["the summary s.json: File too large"]);
    let run = finish(drpipe(directory.path()).args(["--summary", "missing/s.json"]));
    expect(run, 2, &["--summary missing/s.json", "the directory missing does not exist"]);
    assert_eq!(files(directory.path()).len(), 1, "only the configuration is there");
}

#[test]
fn a_directory_that_cannot_be_made_stops_the_run_and_is_named() {
    let directory = prepared(&frames(5, "nb_thread"));
    fs::write(directory.path().join("file"), "").unwrap();
    let cases = [
        ("file", "directory file: file exists and is not a directory"),
        ("file/a/b", "directory file/a/b: file exists and is not a directory"),
        ("/proc/drpipe", "directory /proc/drpipe: No such file or directory"),
    ];
    for (place, said) in cases {
        let mut command = drpipe(directory.path());
        command.args(["--quiet", "--set", &format!("WRITE.directory={place}")]);
        expect(finish(&mut command), 3, &["init of \"WRITE\" failed", said]);
    }
}

#[test]
fn a_directory_that_takes_no_files_fails_inputs_and_they_are_kept() {
    let directory = prepared(&frames(5, "nb_thread"));
    let mut command = drpipe(directory.path());
    command.args(["--quiet", "--summary", "s.json", "--set", "WRITE.directory=/proc"]);
    expect(finish(&mut command), 1, &["cannot write /proc/synth_0004.fits: "]);
    assert_eq!(summary(directory.path())["quarantined"], 5);
}

#[test]
fn a_quarantine_that_cannot_be_written_ends_with_code_3_and_is_named() {
    let directory = prepared(&frames(5, "nb_thread"));
    fs::write(directory.path().join("file"), "").unwrap();
    for quiet in [&["--quiet"][..], &[]] {
        let mut command = drpipe(directory.path());
        command.args(["--quarantine", "file", "--summary", "s.json"]).args(quiet);
        let run = finish(command.args(["--set", "WRITE.directory=/proc"]));
        let told = format!("{}{}", run.out, run.err);
        assert!(told.contains("cannot keep a failed input in file/"), "{told}");
        assert!(told.contains("Not a directory"), "{told}");
        run.expect_code(3);
        assert_eq!(summary(directory.path())["quarantined"], 0);
    }
}

#[test]
fn files_that_vanish_after_they_were_listed_are_named_and_kept() {
    let config = json!({
        "version": 1,
        "producer": { "name": "FILES", "class": "FitsFiles",
            "params": { "directory": "raw", "files": ["list/a.fits", "list/b.fits"] } },
        "stagers": [
            { "name": "WAIT", "class": "Sleep", "params": { "seconds": 0.0 } },
            { "name": "READ", "class": "ReadFits", "nb_thread": 2 }
        ],
        "consumer": { "name": "END", "class": "Discard" }
    });
    let directory = prepared(&config);
    // What a link leads to is looked at when it is read: this one leads to nothing.
    fs::create_dir(directory.path().join("raw")).unwrap();
    std::os::unix::fs::symlink("gone", directory.path().join("raw/c.fits")).unwrap();
    let run = finish(drpipe(directory.path()).args(["--quiet", "--summary", "s.json"]));
    let said = ["list/a.fits cannot be read: No such file", "list/b.fits", "raw/c.fits"];
    expect(run, 1, &said);
    let summary = summary(directory.path());
    assert_eq!(count(step(&summary, "READ"), "failed"), 3);
    assert_eq!(summary["quarantined"], 3);
}

#[test]
fn an_input_directory_that_vanishes_in_mid_run_loses_nothing() {
    let config = json!({
        "version": 1,
        "producer": { "name": "FILES", "class": "FitsFiles", "params": { "directory": "raw" } },
        "stagers": [
            { "name": "GATE", "class": "Sleep", "params": { "seconds": 0.001 } },
            { "name": "READ", "class": "ReadFits" }
        ],
        "consumer": { "name": "END", "class": "Discard" }
    });
    let directory = prepared(&config);
    let raw = directory.path().join("raw");
    fs::create_dir(&raw).unwrap();
    for number in 0..500 {
        fs::write(raw.join(format!("{number:03}.fits")), "SIMPLE is all that it has").unwrap();
    }
    let mut run = Logged::start(drpipe(directory.path()).args(["--summary", "s.json"]));
    // The first that was read failed, as all do: now the others vanish.
    run.wait_for("quarantined");
    fs::remove_dir_all(&raw).unwrap();
    run.expect_code(1);
    let summary = summary(directory.path());
    assert_eq!(count(step(&summary, "READ"), "failed"), 500);
    assert_eq!(summary["quarantined"], 500);
}

#[test]
fn a_temporary_directory_that_is_of_no_use_is_named_with_what_to_do() {
    let directory = prepared(&numbers("nb_process"));
    fs::write(directory.path().join("file"), "").unwrap();
    let long = directory.path().join("l".repeat(100));
    fs::create_dir(&long).unwrap();
    let long = long.to_str().unwrap();
    let cases = [
        ("/nowhere/at/all", "No such file or directory"),
        ("file", "Not a directory"),
        (long, "too long a name for a socket"),
    ];
    for (place, said) in cases {
        let run = finish(drpipe(directory.path()).env("TMPDIR", place));
        expect(run, 3, &["cannot make a private directory", place, said, "set TMPDIR to"]);
    }
    assert_eq!(fs::read_dir(long).unwrap().count(), 0, "something was left");
    let test = "a_temporary_directory_that_is_of_no_use_is_named_with_what_to_do";
    if let Some(odd) = odd_directory(test, directory.path()) {
        let run = finish(drpipe(directory.path()).env("TMPDIR", odd));
        expect(
            run,
            3,
            &["cannot make a private directory", "a name that is not UTF-8", "set TMPDIR to"],
        );
    }
    let run = finish(drpipe(directory.path()).env("TMPDIR", "."));
    run.expect_code(0);
    // A run without worker processes needs none.
    fs::write(directory.path().join("pipeline.json"), numbers("nb_thread").to_string()).unwrap();
    finish(drpipe(directory.path()).env("TMPDIR", "/nowhere/at/all")).expect_code(0);
}

#[test]
fn closed_streams_change_nothing() {
    for workers in ["nb_thread", "nb_process"] {
        let directory = prepared(&numbers(workers));
        for closed in [">&-", "2>&-", "<&-", "<&- >&- 2>&-", "> >(exec true)", "2> >(exec true)"] {
            let run = script(directory.path(), &format!("exec \"$1\" --summary s.json {closed}"));
            run.expect_code(0);
            assert_eq!(count(step(&summary(directory.path()), "END"), "done"), 100, "{closed}");
            fs::remove_file(directory.path().join("s.json")).unwrap();
        }
    }
}

#[test]
fn a_log_whose_reader_has_gone_does_not_end_a_run_with_failures() {
    for workers in ["nb_thread", "nb_process"] {
        let directory = prepared(&frames(20, workers));
        let run = script(
            directory.path(),
            "exec \"$1\" --summary s.json --set WRITE.directory=/proc 2> >(exec true)",
        );
        run.expect_code(1);
        assert_eq!(summary(directory.path())["quarantined"], 20);
    }
}

#[test]
fn a_terminal_that_is_closed_does_not_end_a_run() {
    for workers in ["nb_thread", "nb_process"] {
        let mut config = numbers(workers);
        config["stagers"]
            .as_array_mut()
            .unwrap()
            .insert(0, json!({ "name": "FAIL", "class": "Fail", "params": { "every": 1 } }));
        config["producer"]["params"]["last"] = json!(2000);
        let directory = prepared(&config);
        let mut run = Logged::start(drpipe(directory.path()).args(["--summary", "s.json"]));
        // Any line.
        run.wait_for("");
        run.signal(Signal::HUP);
        run.expect_code(1);
        assert_eq!(summary(directory.path())["quarantined"], 2001);
    }
}

#[test]
fn a_working_directory_that_is_gone_is_an_error_that_names_the_product() {
    let directory = prepared(&frames(2, "nb_thread"));
    let run = script(
        directory.path(),
        "config=$PWD/pipeline.json; mkdir gone; cd gone; rmdir ../gone
         exec \"$1\" --quiet --config \"$config\"",
    );
    expect(run, 3, &["cannot make the directory out: No such file or directory"]);
}

#[test]
fn a_configuration_that_is_no_file_is_a_usage_error() {
    let directory = prepared(&numbers("nb_thread"));
    let run = finish(drpipe(directory.path()).args(["--config", "."]));
    expect(run, 2, &["cannot read .: Is a directory"]);
}

/// What fails from then on could not be kept either.
#[test]
fn a_quarantine_that_takes_nothing_ends_production() {
    let mut config = numbers("nb_thread");
    config["producer"]["params"]["last"] = json!(10_000_000);
    config["stagers"] = json!([{ "name": "FAIL", "class": "Fail", "params": { "every": 1 } }]);
    config["quarantine"] = json!("a-file");
    let directory = prepared(&config);
    fs::write(directory.path().join("a-file"), "").unwrap();
    let mut program = drpipe(directory.path());
    let run = finish(program.args(["--quiet", "--log-level", "error"])).expect_code(3);
    assert!(run.err.contains("cannot keep a failed input in a-file"), "{}", run.err);
}

#[test]
fn without_proc_worker_processes_are_refused_with_the_reason() {
    let test = "without_proc_worker_processes_are_refused_with_the_reason";
    let alone = "unshare -m bash -c 'umount -l /proc' bash";
    for (workers, code) in [("nb_thread", 0), ("nb_process", 3)] {
        let directory = prepared(&frames(3, workers));
        if script(directory.path(), alone).code != Some(0) {
            return skipped(test, "a namespace without /proc cannot be made");
        }
        let without = "exec unshare -m bash -c 'umount -l /proc; exec \"$1\" --quiet' bash \"$1\"";
        let run = script(directory.path(), without).expect_code(code);
        if code == 0 {
            assert_eq!(files(&directory.path().join("out")).len(), 3);
        } else {
            assert!(run.err.contains("/proc/self/exe"), "{}", run.err);
            assert!(run.err.contains("mount /proc, or use nb_thread"), "{}", run.err);
        }
    }
}

#[test]
fn as_the_first_process_of_a_container_it_runs_and_ends_on_a_signal() {
    let test = "as_the_first_process_of_a_container_it_runs_and_ends_on_a_signal";
    let directory = prepared(&frames(3, "nb_process"));
    if script(directory.path(), "unshare -pf --mount-proc true").code != Some(0) {
        return skipped(test, "a namespace of processes cannot be made");
    }
    let first = "exec unshare -pf --mount-proc \"$1\" --quiet --summary s.json";
    expect(script(directory.path(), first), 0, &[]);
    assert_eq!(count(step(&summary(directory.path()), "WRITE"), "done"), 3);
}

#[test]
fn private_directories_are_private_whatever_the_umask() {
    let mut config = numbers("nb_process");
    config["stagers"][0] =
        json!({ "name": "S", "class": "Sleep", "params": { "seconds": 600 }, "nb_process": 1 });
    for mask in ["022", "002", "000", "777"] {
        let directory = prepared(&config);
        let temporary = directory.path().join("tmp");
        fs::create_dir(&temporary).unwrap();
        let mut bash = Command::new("bash");
        let started = format!("umask {mask}; exec \"$1\" --quiet --log-level off");
        bash.args(["-c", &started, "bash", env!("CARGO_BIN_EXE_drpipe")]);
        bash.current_dir(directory.path()).env("TMPDIR", &temporary);
        let mut program = bash.spawn().unwrap();
        let made = eventually("the directory is there", || {
            let entry = fs::read_dir(&temporary).unwrap().next()?.unwrap().path();
            // It is made before the endpoint in it.
            entry.join("router").exists().then_some(entry)
        });
        let mode = fs::metadata(made).unwrap().permissions().mode();
        program.kill().unwrap();
        program.wait().unwrap();
        assert_eq!(mode & 0o777, 0o700, "umask {mask}");
    }
}

#[test]
fn what_others_put_into_the_directory_for_temporary_files_hangs_nothing() {
    let directory = prepared(&numbers("nb_process"));
    let temporary = directory.path().join("tmp");
    let planted = temporary.join("drpipe-run-x");
    fs::create_dir_all(&planted).unwrap();
    let fifo = planted.join("lock");
    let mode = rustix::fs::Mode::from(0o644);
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    finish(drpipe(directory.path()).arg("--quiet").env("TMPDIR", &temporary)).expect_code(0);
    assert!(fifo.exists());
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 1);
}

#[test]
fn names_of_files_forge_no_lines_and_turn_none() {
    let directory = prepared(&json!({
        "version": 1,
        "producer": { "name": "FILES", "class": "FitsFiles", "params": { "directory": "raw" } },
        "stagers": [{ "name": "READ", "class": "ReadFits" }],
        "consumer": { "name": "END", "class": "Discard" }
    }));
    let raw = directory.path().join("raw");
    fs::create_dir(&raw).unwrap();
    let name = "a\n2026-01-01 ERROR forged\r\u{1b}[31m\u{9b}b\u{202e}c\u{2066}.fits";
    fs::write(raw.join(name), "SIMPLE is all that it has").unwrap();
    let plain = |text: &str, what: &str| {
        let turns =
            |c: char| (c.is_control() && c != '\n' && c != '\t') || "\u{202e}\u{2066}".contains(c);
        assert!(!text.contains(turns), "{what}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("2026-01-01")), "{what}: {text}");
        assert!(text.contains("forged") && text.contains(r"\u{202e}"), "{what}: {text}");
    };
    let ask = |args: &[&str]| finish(drpipe(directory.path()).args(args));
    let run = ask(&["--journal", "j", "--report", "r.html", "--log-level", "debug"]);
    let run = run.expect_code(1);
    plain(&run.err, "the log");
    let report = fs::read_to_string(directory.path().join("r.html")).unwrap();
    assert!(report.contains(r"\u{202e}") && !report.contains(['\u{202e}', '\u{2066}', '\r']));
    plain(&ask(&["quarantine", "list", "quarantine"]).expect_code(0).out, "list");
    plain(&ask(&["quarantine", "show", "quarantine"]).expect_code(0).out, "show");
    let path = format!("raw/{name}");
    plain(&ask(&["why", "--journal", "j", &path]).expect_code(0).out, "why");
    let missing = ask(&["why", "--journal", "j", &format!("{path}x")]).expect_code(1);
    assert!(!missing.err.contains('\u{202e}'), "{}", missing.err);
    let resumed = ask(&["--journal", "j", "--resume", "--explain", "--quiet"]);
    plain(&resumed.out, "explain");
    // What programs read stays as it is.
    let listed = ask(&["quarantine", "list", "quarantine", "--json"]).expect_code(0);
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed[0]["origin"], path);
    let logged = ask(&["--log-format", "json"]).expect_code(1);
    let lines = logged.err.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(lines.into_iter().any(|line| line["origin"] == path));
}
