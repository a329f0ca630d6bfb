//! Where something was set or named.

/// The span of a key, a value, or a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SourceSpan {
    /// In the file, at this byte.
    File(usize),
    /// In the command line's setting of this number.
    Setting(usize),
    /// In the step of this name, of a pipeline without a file.
    Step(String),
    /// In a pipeline without a file, as a whole.
    Pipeline,
}
