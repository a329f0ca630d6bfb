//! Steps whose classes are written in Python: their interpreter, the package
//! that drpipe carries for them, and what is asked about a class before a run.
//!
//! - `carried`: the package's files, where an interpreter can import them
//! - `interpreter`: which one is meant
//! - `probe`: questions to it

mod bundled;
mod interpreter;
mod probe;

use std::path::PathBuf;

pub(crate) use bundled::BundledPackage;
pub(crate) use probe::{Listed, Questions, end_questions};

/// The classes that a module offers.
///
/// # Errors
/// Why they cannot be known, in words.
pub(crate) fn classes(interpreter: Option<&str>, module: &str) -> Result<Vec<Listed>, String> {
    let carried = BundledPackage::unpack()
        .map_err(|error| format!("the package for steps in Python cannot be unpacked: {error}"))?;
    let questions = Questions { carried: &carried, also_in: vec![PathBuf::from(".")] };
    questions.list(interpreter, module)
}
