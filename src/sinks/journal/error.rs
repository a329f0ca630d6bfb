//! Why a file cannot be the journal of a run.

use std::path::PathBuf;

use crate::base::not_built::NotBuilt;

/// Why a file cannot serve as the journal of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// It cannot be opened, created or written.
    #[error(
        "cannot use {} as the journal: {reason}; name a file in a writable directory with \
         --journal FILE", path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        reason: String,
    },
    /// It is damaged, or drpipe did not write it.
    #[error(
        "the journal {} cannot be trusted: {reason}; it is damaged, or drpipe did not write it, \
         and it was left unchanged: restore an intact copy, or start a new journal with --journal \
         FILE", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is not a journal.
    #[error(
        "{} is not a drpipe journal, and was left unchanged; name another file with --journal \
         FILE", path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer drpipe made it.
    #[error(
        "{} is a journal of version {found}, but this drpipe knows version {known}; use the newer \
         drpipe, or name another file with --journal FILE", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The version that this program writes.
        known: i64,
    },
    /// Another run writes to it.
    #[error(
        "the journal {} is in use by another run, or open in another program; wait until that has \
         ended, or name another file with --journal FILE", path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// This build keeps no journal.
    #[error(transparent)]
    NotBuilt(#[from] NotBuilt),
}
