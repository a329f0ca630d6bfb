//! Limits on descriptors, threads and memory.

use super::*;

/// Whatever the limit of open files is, the run ends by itself and says why.
fn any_limit_of_open_files(config: &Value) {
    let directory = prepared(config);
    let mut codes = std::collections::BTreeSet::new();
    for limit in 7..64 {
        let _ = fs::remove_file(directory.path().join("s.json"));
        let run = script(
            directory.path(),
            &format!("ulimit -n {limit}; exec \"$1\" --quiet --summary s.json"),
        );
        let code = run.code.unwrap_or_else(|| panic!("limit {limit}: a signal\n{}", run.err));
        assert!([0, 1, 3].contains(&code), "limit {limit}: code {code}\n{}", run.err);
        if code != 0 {
            assert!(run.err.contains("Too many open files"), "limit {limit}: {}", run.err);
        }
        if directory.path().join("s.json").exists() {
            let summary = summary(directory.path());
            let failed: u64 =
                summary["steps"].as_array().unwrap().iter().map(|step| count(step, "failed")).sum();
            assert!(code == 3 || summary["quarantined"] == failed, "limit {limit}: {summary}");
        }
        codes.insert(code);
    }
    assert!(codes.contains(&0) && codes.contains(&3), "{codes:?}");
}

#[test]
fn any_limit_of_open_files_ends_a_run_of_threads_by_itself() {
    any_limit_of_open_files(&frames(3, "nb_thread"));
}

#[test]
fn any_limit_of_open_files_ends_a_run_of_processes_by_itself() {
    any_limit_of_open_files(&frames(3, "nb_process"));
}

#[test]
fn without_threads_left_a_run_ends_by_itself() {
    let test = "without_threads_left_a_run_ends_by_itself";
    let directory = prepared(&numbers("nb_thread"));
    // The limit does not bind root: as another user, whose only processes these are.
    let other = "exec setpriv --reuid 54321 --regid 54321 --clear-groups";
    let reached = format!("{other} \"$1\" check");
    if script(directory.path(), &format!("chmod 755 .; {reached}")).code != Some(0) {
        return skipped(test, "another user cannot run the program here");
    }
    let mut codes = std::collections::BTreeSet::new();
    for limit in 1..16 {
        let run = script(
            directory.path(),
            &format!("ulimit -u {limit}; {other} \"$1\" --quiet --quarantine /tmp/none"),
        );
        let code = run.code.unwrap_or_else(|| panic!("limit {limit}: a signal\n{}", run.err));
        assert!([0, 3].contains(&code), "limit {limit}: code {code}\n{}", run.err);
        if code == 3 {
            assert!(run.err.contains("Resource temporarily unavailable"), "{}", run.err);
        }
        codes.insert(code);
    }
    assert!(codes.contains(&0) && codes.contains(&3), "{codes:?}");
}

#[test]
fn a_limited_address_space_ends_in_a_ledger_or_with_the_reason() {
    let config = json!({
        "version": 1,
        "producer": { "name": "SYNTH", "class": "SynthFrames",
            "params": { "count": 20, "width": 64, "height": 64 } },
        "stagers": [{ "name": "CLEAN", "class": "NoiseRemoval", "nb_thread": 100 }],
        "consumer": { "name": "END", "class": "Discard" }
    });
    let directory = prepared(&config);
    for (kibibytes, codes) in [(600_000, [0, 0]), (300_000, [3, 3]), (150_000, [3, 3])] {
        let limited = format!("ulimit -v {kibibytes}; exec \"$1\" --quiet");
        let run = script(directory.path(), &limited);
        assert!(codes.map(Some).contains(&run.code), "{kibibytes}: {:?}\n{}", run.code, run.err);
        if run.code == Some(3) {
            assert!(
                run.err.contains("workers need ") && run.err.contains("ulimit -v"),
                "{}",
                run.err
            );
        }
    }
}

#[test]
fn memory_that_runs_out_under_a_limit_is_code_3_and_no_abort() {
    // Each frame has 64 MiB: the limit is met when work has begun.
    let mut config = frames(8, "nb_thread");
    config["producer"]["params"]["width"] = json!(4096);
    config["producer"]["params"]["height"] = json!(4096);
    let directory = prepared(&config);
    let limited = "ulimit -c 0; ulimit -v 260000; exec \"$1\" --quiet";
    expect(script(directory.path(), limited), 3, &["memory"]);
}
