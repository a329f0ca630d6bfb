//! Why an entry cannot be used.

use std::io;
use std::path::PathBuf;

/// Why an entry of a quarantine cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    /// No entry can be looked for there.
    #[error("cannot read {}: {error}; name a quarantine, a run or an entry", path.display())]
    NotFound { path: PathBuf, error: io::Error },
    #[error("it is a symbolic link, which is not followed")]
    Link,
    /// A file of the entry is missing or is not what it should be.
    #[error("{file}: {error}")]
    Unusable { file: String, error: io::Error },
    /// The files are not those that `reason.json` speaks of.
    #[error(
        "the header and {count} buffers have {found} bytes, but reason.json says {bytes}{}",
        buffers.map(|count| format!(" and {count} buffers")).unwrap_or_default()
    )]
    OtherSize { count: usize, found: u64, bytes: u64, buffers: Option<usize> },
    #[error("cannot read {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    /// Somebody else could have written a pickle.
    #[error(
        "it is a Python object, and loading it runs code that its author chose, but {} {why}; retry \
         as that user, or copy the entry if you trust it",
        file.display()
    )]
    Untrusted { file: PathBuf, why: String },
}
