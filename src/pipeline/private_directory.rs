//! The private directory of a run with worker processes.

use std::io;
use std::path::Path;

use crate::base::scratch::Scratch;

/// The longest name of the directory: a socket in it may have 107 bytes.
pub(crate) const LONGEST_PRIVATE: usize = 90;

/// A directory for the endpoint of worker processes and for what they share. No other user can read
/// it, and it is removed with the run.
pub(crate) struct PrivateDirectory(Scratch);

impl PrivateDirectory {
    /// Makes it, with this name if nobody has taken that.
    ///
    /// # Errors
    /// If the directory cannot be created, or has a name that a socket cannot have.
    pub(crate) fn make(name: Option<&Path>) -> io::Result<Self> {
        let named = name.and_then(|name| Scratch::make_named(name).ok());
        let scratch = named.map_or_else(Scratch::make, Ok)?;
        let problem = match scratch.path().to_str() {
            None => "a name that is not UTF-8",
            Some(name) if name.len() > LONGEST_PRIVATE => "too long a name for a socket",
            Some(_) => return Ok(Self(scratch)),
        };
        let found = format!("{} has {problem}", scratch.path().display());
        Err(io::Error::other(found))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}
