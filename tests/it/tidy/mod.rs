//! The rules of ARCHITECTURE.md that a program can check.

mod imports;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::program::package;

/// The modules of the library, the lowest first: each may use only those
/// before it.
const LAYERS: [&str; 25] = [
    "base",
    "message",
    "memory",
    "codec",
    "stage",
    "product",
    "testing",
    "plan",
    "config",
    "python",
    "event",
    "status",
    "protocol",
    "router",
    "sinks",
    "transport",
    "worker",
    "driver",
    "pipeline",
    "mock",
    "pool",
    "report",
    "monitor",
    "cli",
    "fuzzing",
];

/// Imports that still point upward.
const UPWARD: [(&str, &str); 0] = [];

struct Source {
    path: String,
    /// Without comments and without what follows `#[cfg(test)]`.
    code: String,
    lines: usize,
}

fn sources(folder: &str) -> Vec<Source> {
    let root = package().join(folder);
    let entries = walkdir::WalkDir::new(&root).into_iter().map(Result::unwrap);
    let paths = entries.map(walkdir::DirEntry::into_path);
    paths.filter(|path| path.extension().is_some_and(|e| e == "rs")).map(read).collect()
}

fn read(path: PathBuf) -> Source {
    let text = fs::read_to_string(&path).unwrap();
    let path = path.strip_prefix(package()).unwrap().display().to_string();
    let test_only = path.contains("/simulator/")
        || ["testing.rs", "tests.rs"].iter().any(|name| path.ends_with(name));
    let product =
        if test_only { "" } else { text.split("#[cfg(test)]\nmod tests").next().unwrap() };
    let is_comment = |line: &&str| !line.trim_start().starts_with("//");
    let code = product.lines().filter(is_comment).collect::<Vec<_>>().join("\n");
    Source { path, code, lines: text.lines().count() }
}

fn all() -> Vec<Source> {
    let all: Vec<Source> = ["src", "stages"].into_iter().flat_map(sources).collect();
    assert!(all.len() > 40, "the sources were not found");
    all
}

/// No source outside `allowed` contains one of `words`.
#[track_caller]
fn assert_only_in(allowed: &[&str], words: &[&str]) {
    for source in all() {
        if allowed.iter().any(|folder| source.path.starts_with(folder)) {
            continue;
        }
        for word in words {
            assert!(!source.code.contains(word), "{} contains {word:?}", source.path);
        }
    }
}

/// The part of ARCHITECTURE.md below a heading.
fn chapter(heading: &str) -> String {
    let text = fs::read_to_string(package().join("ARCHITECTURE.md")).unwrap();
    let rest = text.split_once(&format!("## {heading}")).unwrap().1;
    rest.split("\n## ").next().unwrap().to_owned()
}

fn names(text: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    text.split(|c: char| !is_name(c)).any(|found| found == word)
}

#[test]
fn the_map_names_every_module_and_every_dependency() {
    let map = chapter("The map");
    for entry in fs::read_dir(package().join("src")).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().display().to_string();
        assert!(names(&map, &name), "the map lacks {name}");
    }
    let crates = chapter("Dependencies");
    let manifest = fs::read_to_string(package().join("Cargo.toml")).unwrap();
    let mut is_list = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_list = line.ends_with("dependencies]");
        } else if let (true, Some((name, _))) = (is_list, line.split_once(" = ")) {
            assert!(names(&crates, name), "the table of dependencies lacks {name}");
        }
    }
}

#[test]
fn only_the_transport_names_zmq() {
    assert_only_in(&["src/transport/zmq/"], &[" zmq::", "(zmq::", "zmq_sys"]);
}

/// What starts and drives workers is the same for every language that they are written in.
#[test]
fn what_drives_workers_knows_no_language() {
    for folder in ["src/transport", "src/driver", "src/worker/supervisor"] {
        for source in sources(folder) {
            let code = source.code.to_lowercase();
            assert!(!code.contains("python"), "{} names Python", source.path);
        }
    }
}

#[test]
fn only_the_verification_of_products_names_cfitsio() {
    assert_only_in(&["stages/fits/verify.rs"], &["fitsio::", "fitsio_sys"]);
}

/// I7: the router never decodes a payload.
#[test]
fn the_router_knows_no_codec() {
    for source in sources("src/router") {
        let used = used_modules(&source.code);
        assert!(!used.contains(&"codec") && !used.contains(&"data"), "{}", source.path);
    }
}

/// What is special about steps in Python stands in the plan and in the launch of a worker.
#[test]
fn the_engine_knows_no_language() {
    for folder in ["src/router", "src/driver", "src/transport", "src/worker/supervisor"] {
        for source in sources(folder) {
            assert!(!source.code.to_lowercase().contains("python"), "{}", source.path);
        }
    }
}

#[test]
fn only_the_command_line_prints() {
    // What a worker process says there is read by the supervisor.
    let files = ["src/cli/", "src/worker/process.rs", "src/worker/process_log.rs"];
    assert_only_in(&files, &["println!", "print!", "stdout()", "stderr()"]);
}

#[test]
fn unsafe_stands_in_six_files_with_a_proof_each() {
    let files = [
        "src/transport/zmq/frames.rs",
        "src/memory/segment.rs",
        "src/memory/free_list.rs",
        "src/memory/huge_pages.rs",
        "src/worker/page.rs",
        "src/cli/process/memory.rs",
    ];
    assert_only_in(&files, &["unsafe "]);
    for file in files {
        let text = fs::read_to_string(package().join(file)).unwrap();
        let blocks = text.matches("unsafe {").count();
        let proofs = text.matches("SAFETY:").count();
        assert!(proofs >= blocks, "{file}: {blocks} unsafe blocks, {proofs} proofs");
    }
}

#[test]
fn nothing_is_unwrapped_or_left_to_do_outside_tests() {
    assert_only_in(&[], &[".unwrap()", ".expect(", "todo!", "unimplemented!", "dbg!"]);
    // The stages `Fail` and `Fault` and the mocks panic by request.
    let files = ["stages/flow.rs", "stages/fault.rs", "src/mock/mod.rs"];
    assert_only_in(&files, &["panic!("]);
}

#[test]
fn router_and_configuration_know_no_thread_clock_or_file() {
    let forbidden = ["std::thread", "Instant", "SystemTime", "std::fs", "std::net", "std::io"];
    for source in all() {
        if source.path.starts_with("src/router/") || source.path.starts_with("src/config/") {
            for word in forbidden {
                assert!(!source.code.contains(word), "{} contains {word}", source.path);
            }
        }
    }
}

/// The names that follow `crate::` in the code.
fn used_modules(code: &str) -> Vec<&str> {
    let name =
        |rest: &str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    code.split("crate::").skip(1).map(|rest| &rest[..name(rest)]).collect()
}

#[test]
fn dependencies_point_one_way() {
    let rank = |module: &str| LAYERS.iter().position(|layer| *layer == module);
    for source in sources("src") {
        let Some(inner) = source.path.strip_prefix("src/") else { continue };
        if matches!(inner, "lib.rs" | "main.rs") {
            continue;
        }
        let module = inner.split(['/', '.']).next().unwrap();
        let own = rank(module).unwrap_or_else(|| panic!("{module} has no layer"));
        for used in used_modules(&source.code) {
            if used == "stages" && matches!(module, "cli" | "fuzzing") {
                continue;
            }
            if UPWARD.contains(&(source.path.as_str(), used)) {
                continue;
            }
            let used_rank = rank(used).unwrap_or_else(|| panic!("{}: crate::{used}", source.path));
            assert!(used_rank <= own, "{} uses {used}, which is above it", source.path);
        }
    }
}

#[test]
fn stages_use_the_prelude_only() {
    for source in sources("stages") {
        for used in used_modules(&source.code) {
            let is_theirs = matches!(used, "prelude" | "product" | "testing" | "stages");
            assert!(is_theirs, "{} uses crate::{used}", source.path);
        }
    }
}

/// Everything in Rust, tests too.
const RUST: [&str; 6] = ["src", "stages", "tests", "benches", "examples", "fuzz/fuzz_targets"];

#[test]
fn no_file_is_longer_than_500_lines() {
    for source in RUST.into_iter().flat_map(sources) {
        assert!(source.lines <= 500, "{} has {} lines", source.path, source.lines);
    }
}

#[test]
fn a_folder_has_at_most_20_files() {
    let mut folders: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for source in RUST.into_iter().flat_map(sources) {
        let folder = Path::new(&source.path).parent().unwrap().to_owned();
        *folders.entry(folder).or_default() += 1;
    }
    for (folder, files) in folders {
        assert!(files <= 20, "{} has {files} files", folder.display());
    }
}

/// What ARCHITECTURE.md names is there.
#[test]
fn every_file_that_the_architecture_names_is_there() {
    let text = fs::read_to_string(package().join("ARCHITECTURE.md")).unwrap();
    let mut files = Vec::new();
    for folder in ["src", "stages", "tests", "examples", "benches", "python", "docs", "fuzz"] {
        for entry in walkdir::WalkDir::new(package().join(folder)) {
            let path = entry.unwrap().into_path();
            files.push(path.strip_prefix(package()).unwrap().display().to_string());
        }
    }
    let is_file = |word: &&str| {
        !word.contains(' ') && [".rs", ".py", ".md"].iter().any(|end| word.ends_with(end))
    };
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_file).collect();
    assert!(named.len() > 20, "no files were found in ARCHITECTURE.md");
    for name in named {
        let is_there = package().join(name).is_file()
            || files.iter().any(|file| file.ends_with(&format!("/{name}")));
        assert!(is_there, "ARCHITECTURE.md names {name}");
    }
}

/// Words of an earlier vocabulary, and what to say instead.
const RETIRED: [(&str, &str); 12] = [
    ("Parcel", "Batch"),
    ("Outlet", "Sinks"),
    ("Casualty", "FailedInput"),
    ("Chronicle", "ReportData"),
    ("Keeper", "QuarantineWriter, Reaper"),
    ("Desk", "Outbox"),
    ("Ward", "WorkerProcess"),
    ("Staff", "WorkerTarget"),
    ("Steer", "ControlRequest"),
    ("Moment", "Sample, SseFrame"),
    ("Doors", "AccessPolicy"),
    ("Carried", "BundledPackage"),
];

#[test]
fn retired_words_are_not_used() {
    for source in all() {
        for (retired, instead) in RETIRED {
            let found = names(&source.code, retired);
            assert!(!found, "{} says {retired}: say {instead}", source.path);
        }
    }
}

/// The project speaks of itself alone.
#[test]
fn no_path_of_a_machine_is_in_the_project() {
    // Put together so that this file does not contain them.
    let words = [["/wo", "rk/"].concat(), ["/ho", "me/"].concat(), ["/ro", "ot/"].concat()];
    let skipped = |path: &Path| path.starts_with("target") || path.starts_with(".git");
    for entry in walkdir::WalkDir::new(package()) {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(package()).unwrap();
        if skipped(path) || !entry.file_type().is_file() {
            continue;
        }
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        for word in &words {
            assert!(!text.contains(word.as_str()), "{} contains {word}", path.display());
        }
    }
}
