//! The directory that the workers of a run share.

use std::io;
use std::path::Path;

use super::RunError;
use crate::base::scratch::Scratch;

/// The name of a socket may have 107 bytes, and more is to come behind the directory's.
pub(crate) const LONGEST_PRIVATE: usize = 90;

/// For the endpoint of worker processes and for what they share; nobody else may
/// look into it. It goes with the run.
pub(crate) struct PrivateDirectory(Scratch);

impl PrivateDirectory {
    pub(crate) fn make() -> Result<Self, RunError> {
        let scratch = Scratch::make().map_err(RunError::NoPrivateDirectory)?;
        let problem = match scratch.path().to_str() {
            None => "a name that is not UTF-8",
            Some(name) if name.len() > LONGEST_PRIVATE => "too long a name for a socket",
            Some(_) => return Ok(Self(scratch)),
        };
        let found = format!("{} has {problem}", scratch.path().display());
        Err(RunError::NoPrivateDirectory(io::Error::other(found)))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}
