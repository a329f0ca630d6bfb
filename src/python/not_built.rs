//! Python steps in a build without support for them: each is refused before a run.

use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::not_built::NotBuilt;
use crate::base::prepared::Prepared;
use crate::config::{About, Described, Unusable, Wanted};
use crate::plan;
use crate::stage::registry::Class;

const PYTHON: NotBuilt = NotBuilt { feature: "python" };

/// The package that this build does not have; no plan has a step that needs it.
pub(crate) struct BundledPackage;

impl BundledPackage {
    pub(crate) fn unpack() -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn main(&self) -> PathBuf {
        PathBuf::new()
    }
}

/// Stands in for the interpreters that this build does not ask.
pub(crate) struct Questions<'c> {
    pub(crate) carried: &'c BundledPackage,
    pub(crate) also_in: Vec<PathBuf>,
    pub(crate) environment: Vec<(&'static str, Option<OsString>)>,
    pub(crate) drivers_fork: Cell<Option<Prepared>>,
}

/// An interpreter that is ready to be a worker; there is none.
pub(crate) struct Ready {
    pub(crate) process: Arc<Prepared>,
    pub(crate) is_drivers_fork: bool,
}

impl Ready {
    pub(crate) fn suits(&self, _: &plan::Python) -> bool {
        false
    }
}

pub(crate) struct Answers {
    pub(crate) classes: Vec<Result<Described, Unusable>>,
    pub(crate) ready: Vec<Ready>,
}

impl Questions<'_> {
    /// Refuses every class.
    pub(crate) fn describe(&self, wanted: &[Wanted]) -> Answers {
        let refusal =
            Unusable { about: About::Module, message: PYTHON.to_string(), hint: String::new() };
        let classes = wanted.iter().map(|_| Err(refusal.clone())).collect();
        Answers { classes, ready: Vec::new() }
    }
}

/// A class that a module offers.
pub(crate) struct Listed {
    pub(crate) class: Class,
    pub(crate) anywhere: bool,
}

/// # Errors
/// That this build asks no interpreter.
pub(crate) fn classes(_: Option<&str>, _: &str) -> Result<Vec<Listed>, NotBuilt> {
    Err(PYTHON)
}

/// No interpreter is ever asked.
pub(crate) fn end_questions() {}
