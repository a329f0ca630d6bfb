//! Stages for tests, and what they leave to be looked at.

pub mod data;
pub mod fits_differential;
pub mod graphs;
pub mod live;
pub mod processes;
pub mod program;
pub mod python;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use drpipe::prelude::*;

/// Says that a test could not be made here: `.ci/run` counts these, and excuses few.
pub fn skipped(test: &str, reason: &str) {
    // Not through `eprintln!`: the test harness would hide it.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED {test}: {reason}");
}

/// A directory whose name is not UTF-8; none where the file system takes no such name, which
/// is said of the test.
pub fn odd_directory(test: &str, place: &Path) -> Option<PathBuf> {
    let directory = place.join(OsStr::from_bytes(b"n\xe9"));
    match std::fs::create_dir(&directory) {
        Ok(()) => Some(directory),
        Err(_) => {
            skipped(test, "a name that is not UTF-8 cannot be made");
            None
        }
    }
}

/// Emits the whole numbers from 0 to below `count`.
pub struct Numbers {
    next: i64,
    count: i64,
}

impl Numbers {
    pub fn below(count: i64) -> impl Fn() -> Self + Send + Sync {
        move || Self { next: 0, count }
    }
}

impl Producer for Numbers {
    type Out = i64;

    fn next(&mut self, out: &mut Emitter<i64>) -> Result<Next> {
        if self.next == self.count {
            return Ok(Next::Done);
        }
        out.send(self.next)?;
        self.next += 1;
        Ok(Next::More)
    }
}

/// A stage made of a function.
pub struct Call<F>(pub F);

impl<F: FnMut(i64, &mut Emitter<'_, i64>) -> Result<()>> Stage for Call<F> {
    type In = i64;
    type Out = i64;

    fn run(&mut self, number: i64, out: &mut Emitter<i64>) -> Result<()> {
        (self.0)(number, out)
    }
}

/// What the collectors of one test have got.
#[derive(Clone, Default)]
pub struct Collected {
    numbers: Arc<Mutex<Vec<i64>>>,
    finished: Arc<AtomicUsize>,
}

impl Collected {
    pub fn sorted(&self) -> Vec<i64> {
        let mut numbers = self.in_order();
        numbers.sort_unstable();
        numbers
    }

    pub fn in_order(&self) -> Vec<i64> {
        self.numbers.lock().unwrap().clone()
    }

    /// How many collectors have finished.
    pub fn finished(&self) -> usize {
        self.finished.load(Ordering::SeqCst)
    }

    pub fn collector(&self) -> impl Fn() -> Collector + Send + Sync + use<> {
        let collected = self.clone();
        move || Collector { collected: collected.clone(), check: |_| Ok(()) }
    }

    pub fn checked(
        &self,
        check: fn(i64) -> Result<()>,
    ) -> impl Fn() -> Collector + Send + Sync + use<> {
        let collected = self.clone();
        move || Collector { collected: collected.clone(), check }
    }
}

/// Collects what its check lets pass.
pub struct Collector {
    collected: Collected,
    check: fn(i64) -> Result<()>,
}

impl Consumer for Collector {
    type In = i64;

    fn run(&mut self, number: i64) -> Result<()> {
        (self.check)(number)?;
        assert_eq!(self.collected.finished(), 0, "run after finish");
        self.collected.numbers.lock().unwrap().push(number);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.collected.finished.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Counts calls by number, over all workers of a stage.
#[derive(Clone, Default)]
pub struct Attempts(Arc<Mutex<BTreeMap<i64, u32>>>);

impl Attempts {
    /// How often it was called for this number, this time included.
    pub fn count(&self, number: i64) -> u32 {
        let mut attempts = self.0.lock().unwrap();
        let count = attempts.entry(number).or_default();
        *count += 1;
        *count
    }
}
