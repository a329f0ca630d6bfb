//! What a build with fewer features lacks.

/// A requested part of drpipe that is not in this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "drpipe was built without its feature \"{feature}\"; add that to the features of the \
     dependency, or build the program with --features {feature}"
)]
#[non_exhaustive]
pub struct NotBuilt {
    /// The Cargo feature that has it.
    pub feature: &'static str,
}
