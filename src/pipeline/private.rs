//! The directory that the workers of a run share.

use std::io;
use std::path::Path;

use super::RunError;
use crate::scratch::Scratch;

/// The name of a socket may have 107 bytes, and more is to come behind the directory's.
pub(super) const LONGEST_PRIVATE: usize = 90;

/// For the endpoint of worker processes and for what they share; nobody else may
/// look into it. It goes with the run.
pub(super) struct Private(Scratch);

impl Private {
    pub(super) fn make() -> Result<Self, RunError> {
        let scratch = Scratch::make().map_err(RunError::NoPrivateDirectory)?;
        if scratch.path().as_os_str().len() > LONGEST_PRIVATE {
            let found = format!("{} has too long a name for a socket", scratch.path().display());
            return Err(RunError::NoPrivateDirectory(io::Error::other(found)));
        }
        Ok(Self(scratch))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}
