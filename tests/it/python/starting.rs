//! A module is imported once for all workers of its step, unless that would show.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::Night;
use crate::support::processes::{children, eventually, is_alive, signal};
use crate::support::program::{Finished, drpipe, finish};
use crate::support::python::{interpreter, plain};

/// The module of the step: it notes each import, and each worker with what it draws.
const MODULE: &str = r#"
import json
import os

with open("imports.txt", "a") as file:
    file.write(f"{os.getppid()}\n")

class Own:
    def init(self):
        with open("workers.txt", "a") as file:
            file.write(json.dumps([os.getppid(), draw()]) + "\n")

    def run(self, value):
        return value
"#;
const WORKERS: usize = 3;

fn pipeline(python: &Path, before: &str) -> Night {
    let steps = json!([
        {"name": "IN", "class": "Integers", "params": {"first": 1, "last": 5}},
        {"name": "OWN", "module": "own", "class": "Own", "nb_process": WORKERS},
        {"name": "END", "class": "Discard"},
    ]);
    let night = Night::new(python, &steps);
    fs::write(night.directory.path().join("own.py"), format!("{before}\n{MODULE}")).unwrap();
    night
}

fn lines(night: &Night, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(night.directory.path().join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs a pipeline whose module begins with `before`; returns how often it was imported, and the
/// number of different draws.
#[track_caller]
fn imports_and_draws(python: &Path, before: &str) -> (usize, usize) {
    let night = pipeline(python, before);
    let finished = night.run(&[]).expect_code(0);
    assert!(!finished.err.contains("lost"), "{before}: {}", finished.err);
    let (imports, workers) = (lines(&night, "imports.txt"), lines(&night, "workers.txt"));
    assert_eq!(workers.len(), WORKERS, "{before}");
    let programs: BTreeSet<String> = imports
        .iter()
        .chain(workers.iter().map(|worker| &worker[0]))
        .map(ToString::to_string)
        .collect();
    assert_eq!(programs.len(), 1, "{before}: each is a child of the program");
    let draws: BTreeSet<String> = workers.iter().map(|worker| worker[1].to_string()).collect();
    (imports.len(), draws.len())
}

#[test]
fn a_module_is_imported_once_and_its_workers_draw_different_numbers() {
    let test = "a_module_is_imported_once_and_its_workers_draw_different_numbers";
    let Some(python) = interpreter(test, &["msgpack", "numpy"]) else { return };
    for before in [
        "from random import random as draw",
        "import random\nOWN = random.SystemRandom()\ndraw = OWN.random",
        "import numpy\ndraw = lambda: float(numpy.random.random())",
        "import numpy\nnumpy.ones((300, 300)) @ numpy.ones((300, 300))\n\
         draw = lambda: float(numpy.random.normal())",
        "import uuid\ndraw = lambda: str(uuid.uuid4())",
    ] {
        assert_eq!(imports_and_draws(&python, before), (1, WORKERS), "{before}");
    }
}

/// What an import has made for one process is not shared by several.
#[test]
fn each_worker_imports_a_module_that_keeps_what_belongs_to_one_process() {
    let test = "each_worker_imports_a_module_that_keeps_what_belongs_to_one_process";
    let Some(python) = interpreter(test, &["msgpack", "numpy"]) else { return };
    for (before, draws) in [
        // What was seeded stays so in each worker.
        ("import random\nrandom.seed(7)\ndraw = random.random", 1),
        ("import numpy\nnumpy.random.seed(7)\ndraw = lambda: numpy.random.random()", 1),
        ("import numpy\nnumpy.random.random()\ndraw = lambda: numpy.random.random()", WORKERS),
        ("import numpy\nOWN = numpy.random.default_rng()\ndraw = lambda: OWN.random()", WORKERS),
        ("import random\nOWN = random.Random()\ndraw = OWN.random", WORKERS),
        ("import os\nNAME = os.getpid()\ndraw = lambda: NAME", WORKERS),
        ("import uuid\nNAME = str(uuid.uuid4())\ndraw = lambda: NAME", WORKERS),
        ("import tempfile\nNAME = tempfile.mkdtemp(dir='.')\ndraw = lambda: NAME", WORKERS),
        ("FILE = open('own.py')\ndraw = lambda: len(FILE.read())", 1),
        ("import mmap\nMEMORY = mmap.mmap(-1, 4096)\ndraw = lambda: MEMORY[0]", 1),
        (
            "import threading\nOVER = threading.Event()\n\
             threading.Thread(target=OVER.wait, daemon=True).start()\n\
             draw = threading.active_count",
            1,
        ),
    ] {
        assert_eq!(imports_and_draws(&python, before), (WORKERS, draws), "{before}");
    }
}

#[test]
fn no_worker_is_the_interpreter_that_was_asked_where_that_would_show() {
    let test = "no_worker_is_the_interpreter_that_was_asked_where_that_would_show";
    let Some(python) = plain(test) else { return };
    for before in [
        "import subprocess\nHELPER = subprocess.Popen(['sleep', '600'])\ndraw = HELPER.poll",
        "import os\nos.makedirs('there', exist_ok=True)\nos.chdir('there')\nos.chdir('..')\n\
         import drpipe\ndrpipe.product('own.py')\ndraw = dict",
    ] {
        assert_eq!(imports_and_draws(&python, before), (WORKERS + 1, 1), "{before}");
    }
}

#[test]
fn a_class_may_have_its_module_imported_by_each_worker() {
    let Some(python) = plain("a_class_may_have_its_module_imported_by_each_worker") else {
        return;
    };
    let night = pipeline(&python, "draw = dict");
    let file = night.directory.path().join("own.py");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, text.replace("class Own:", "class Own:\n    shares_import = False\n")).unwrap();
    night.run(&[]).expect_code(0);
    assert_eq!(lines(&night, "imports.txt").len(), WORKERS + 1);
}

/// A successor starts afresh.
#[test]
fn the_successor_of_a_lost_worker_imports_the_module_itself() {
    let Some(python) = plain("the_successor_of_a_lost_worker_imports_the_module_itself") else {
        return;
    };
    let night = pipeline(&python, "draw = dict");
    let file = night.directory.path().join("own.py");
    let text = fs::read_to_string(&file).unwrap();
    let dies = "        if value == 3 and not os.path.exists('died'):\n            \
                open('died', 'w').close()\n            os.kill(os.getpid(), 9)\n        return value";
    fs::write(file, text.replace("        return value", dies)).unwrap();
    let finished = night.run(&[]).expect_code(0);
    assert!(finished.err.contains("SIGKILL"), "{}", finished.err);
    assert_eq!(lines(&night, "imports.txt").len(), 2);
    assert_eq!(lines(&night, "workers.txt").len(), WORKERS + 1);
}

/// One module may change what another finds.
#[test]
fn workers_of_steps_with_several_modules_import_their_own_only() {
    let Some(python) = plain("workers_of_steps_with_several_modules_import_their_own_only") else {
        return;
    };
    let mut night = pipeline(&python, "import sys\ndraw = lambda: 'other' in sys.modules");
    let other = "class Other:\n    def run(self, value): return value\n";
    fs::write(night.directory.path().join("other.py"), other).unwrap();
    let more = json!({"name": "OTHER", "module": "other", "class": "Other"});
    night.config["stagers"].as_array_mut().unwrap().push(more);
    night.run(&[]).expect_code(0);
    for worker in lines(&night, "workers.txt") {
        assert_eq!(worker[1], false);
    }
}

#[test]
fn what_a_module_logs_when_it_is_imported_joins_the_log_of_each_worker() {
    let test = "what_a_module_logs_when_it_is_imported_joins_the_log_of_each_worker";
    let Some(python) = plain(test) else { return };
    let before = "import logging\nlogging.basicConfig()\nlogging.getLogger('own').info('begun')\n\
                  print('printed')\ndraw = dict";
    let night = pipeline(&python, before);
    let Finished { err, .. } = night.run(&["--log-format", "json"]).expect_code(0);
    let records: Vec<Value> =
        err.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let begun: BTreeSet<u64> = records
        .iter()
        .filter(|record| record["message"] == "begun" && record["step"] == "OWN")
        .map(|record| record["worker"].as_u64().unwrap())
        .collect();
    assert_eq!(begun.len(), WORKERS, "{err}");
    assert_eq!(err.lines().filter(|line| *line == "printed").count(), 1, "{err}");
}

#[test]
fn a_check_leaves_no_interpreter() {
    let Some(python) = plain("a_check_leaves_no_interpreter") else { return };
    let before = "import os\nwith open('process.txt', 'w') as file: file.write(str(os.getpid()))";
    let night = pipeline(&python, before);
    let path = night.directory.path();
    fs::write(path.join("pipeline.json"), night.config.to_string()).unwrap();
    finish(drpipe(path).arg("check")).expect_code(0);
    let process = fs::read_to_string(path.join("process.txt")).unwrap();
    assert!(!Path::new("/proc").join(process).exists());
}

/// The system itself ends them, also if nothing else of the program is left to do so.
#[test]
fn no_forked_worker_outlives_a_program_that_was_killed_with_its_reaper() {
    let test = "no_forked_worker_outlives_a_program_that_was_killed_with_its_reaper";
    let Some(python) = plain(test) else { return };
    let night = pipeline(&python, "draw = dict");
    let path = night.directory.path();
    let text = fs::read_to_string(path.join("own.py")).unwrap();
    let hangs = "        open(f'at-work-{os.getpid()}', 'w').close()\n        \
                 import threading\n        threading.Event().wait()";
    fs::write(path.join("own.py"), text.replace("        return value", hangs)).unwrap();
    fs::write(path.join("pipeline.json"), night.config.to_string()).unwrap();
    let mut program = drpipe(path).args(["--quiet", "--log-level", "off"]).spawn().unwrap();
    let workers = eventually("all workers at work", || {
        let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
        let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        let numbers = names.iter().filter_map(|name| name.strip_prefix("at-work-"));
        let workers: Vec<u32> = numbers.map(|number| number.parse().unwrap()).collect();
        (workers.len() == WORKERS).then_some(workers)
    });
    let others = children(program.id());
    for other in others.into_iter().filter(|other| !workers.contains(other)) {
        signal(other, Signal::KILL);
    }
    program.kill().unwrap();
    program.wait().unwrap();
    eventually("all have ended", || (!workers.iter().any(|pid| is_alive(*pid))).then_some(()));
    assert_eq!(lines(&night, "imports.txt").len(), 1);
}
