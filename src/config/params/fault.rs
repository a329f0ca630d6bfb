//! A fault in the parameters of a step.

/// A fault of one value.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The keys and indices that lead from the parameters to the value.
    pub(crate) path: Vec<String>,
    pub(crate) message: String,
    pub(crate) hint: String,
    /// The names that are known there, if the last key of the path is unknown.
    pub(crate) known: Option<Vec<String>>,
}

impl Fault {
    /// A fault without a message.
    pub(crate) fn at(path: Vec<String>) -> Self {
        Self { path, message: String::new(), hint: String::new(), known: None }
    }
}
