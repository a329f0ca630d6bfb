//! Steps whose classes are written in Python: their interpreter, the package that drpipe brings for
//! them, and the questions about a class before a run.
//!
//! - `bundled`: the package's files, where an interpreter can import them
//! - `interpreter`: finds the interpreter that is meant
//! - `probe`: asks it about classes, in a `conversation`; it may stay, and become a worker

mod bundled;
mod conversation;
mod error;
mod interpreter;
mod probe;

use std::cell::Cell;
use std::path::PathBuf;

pub(crate) use bundled::BundledPackage;
pub(crate) use conversation::end_questions;
use error::PythonError;
pub(crate) use probe::{Listed, Questions, Ready};

/// Lists the classes that a module offers.
///
/// # Errors
/// If the bundled package cannot be unpacked, or the interpreter, the module, or one of its
/// classes cannot be used.
pub(crate) fn classes(interpreter: Option<&str>, module: &str) -> Result<Vec<Listed>, PythonError> {
    let carried = BundledPackage::unpack().map_err(|error| {
        let message = format!("the package for steps in Python cannot be unpacked: {error}");
        PythonError::new(message, "")
    })?;
    let questions = Questions {
        carried: &carried,
        also_in: vec![PathBuf::from(".")],
        environment: Vec::new(),
        drivers_fork: Cell::new(None),
    };
    questions.list(interpreter, module)
}
