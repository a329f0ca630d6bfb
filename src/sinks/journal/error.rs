//! Why a file cannot be the journal of a run.

use std::path::PathBuf;

use crate::base::not_built::NotBuilt;

/// Why a file cannot serve as the journal of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// It cannot be opened, created or written.
    #[error(
        "cannot use {} as the journal: {reason}; name a file in a directory that can be written \
         to with --journal FILE", path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It is damaged, or drpipe did not make it.
    #[error(
        "the journal {} cannot be believed: {reason}; it is damaged, or not made by drpipe, and was \
         left as it is: take a copy that is whole, or name another file with --journal FILE, which \
         begins anew", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is not a journal.
    #[error(
        "{} is not a journal of drpipe but something else, and was left as it is; name another \
         file with --journal FILE", path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer drpipe made it.
    #[error(
        "{} is a journal of version {found}, and this drpipe knows version {known}; use the newer \
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
