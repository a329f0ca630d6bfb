//! The directory that the workers of a run share.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::TempDir;

use super::RunError;

/// How the names of private directories begin.
const PREFIX: &str = "drpipe-run-";
/// The file in them that is locked for as long as the run lives.
const LOCK: &str = "lock";
/// The name of a socket may have 107 bytes, and more is to come behind the directory's.
pub(super) const LONGEST_PRIVATE: usize = 90;

/// For the endpoint of worker processes and for what they share; nobody else may
/// look into it. It goes with the run.
pub(super) struct Private {
    directory: TempDir,
    _lock: File,
}

impl Private {
    pub(super) fn make() -> Result<Self, RunError> {
        remove_abandoned(&std::env::temp_dir());
        let made = tempfile::Builder::new().prefix(PREFIX).tempdir();
        let directory = made.map_err(RunError::NoPrivateDirectory)?;
        if directory.path().as_os_str().len() > LONGEST_PRIVATE {
            let found = format!("{} has too long a name for a socket", directory.path().display());
            return Err(RunError::NoPrivateDirectory(io::Error::other(found)));
        }
        // It gets its name when it is locked: before, nobody takes it for abandoned.
        let unlocked = directory.path().join("unlocked");
        let lock = File::create(&unlocked)?;
        lock.lock()?;
        fs::rename(unlocked, directory.path().join(LOCK))?;
        Ok(Self { directory, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes what runs have left behind that were killed before they had a worker
/// to do it.
fn remove_abandoned(temporary: &Path) {
    let entries = fs::read_dir(temporary).into_iter().flatten().flatten();
    let is_private =
        |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
    for entry in entries.filter(is_private) {
        let lock = File::open(entry.path().join(LOCK));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_run_left_is_removed_and_a_live_one_is_not() {
        let temporary = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let directory = temporary.path().join(format!("{PREFIX}{name}"));
            fs::create_dir(&directory).unwrap();
            File::create(directory.join(LOCK)).unwrap()
        };
        let live = make("live");
        live.lock().unwrap();
        drop(make("dead"));
        fs::create_dir(temporary.path().join(format!("{PREFIX}new"))).unwrap();
        fs::create_dir(temporary.path().join("other")).unwrap();
        remove_abandoned(temporary.path());
        let left = |name: &str| temporary.path().join(name).exists();
        assert!(left("drpipe-run-live") && left("drpipe-run-new") && left("other"));
        assert!(!left("drpipe-run-dead"));
    }
}
