//! Locks: only one program at a time tries failed inputs again.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};

/// The right to try entries again. It ends when this is dropped, or when the program ends for any
/// reason.
#[derive(Debug)]
pub(crate) struct Taken {
    _locks: Vec<File>,
}

/// Why entries cannot be tried again now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("cannot open {} to lock it: {error}", directory.display())]
    Open { directory: PathBuf, error: io::Error },
    /// Another program tries them again; its process, if the system says so.
    #[error(
        "another drpipe{} is retrying the failed inputs in {}; wait until it has ended",
        holder.map(|process| format!(" (process {process})")).unwrap_or_default(),
        directory.display()
    )]
    Busy { directory: PathBuf, holder: Option<u32> },
}

impl Taken {
    /// Locks the directories that these entries are in, all or none.
    ///
    /// # Errors
    /// If another program has locked a directory; the error names it.
    pub(crate) fn of<'a>(entries: impl IntoIterator<Item = &'a Path>) -> Result<Self, LockError> {
        let directories: BTreeSet<PathBuf> = entries.into_iter().filter_map(directory_of).collect();
        let mut locks = Vec::new();
        for directory in directories {
            let file = match File::open(&directory) {
                Ok(file) => file,
                Err(error) => return Err(LockError::Open { directory, error }),
            };
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    let holder = holder(&directory);
                    return Err(LockError::Busy { directory, holder });
                }
                // Some file systems have no locks: then nothing keeps others out.
                Ok(()) | Err(TryLockError::Error(_)) => locks.push(file),
            }
        }
        Ok(Self { _locks: locks })
    }
}

/// The directory that an entry is in, however the entry is named.
fn directory_of(entry: &Path) -> Option<PathBuf> {
    let beside = match entry.file_name() {
        Some(_) => path::absolute(entry).ok()?,
        // If an entry is given as ".", only its canonical path has its name.
        None => fs::canonicalize(entry).ok()?,
    };
    fs::canonicalize(beside.parent()?).ok()
}

/// The process that has locked a directory, if the system says so.
fn holder(directory: &Path) -> Option<u32> {
    let inode = fs::metadata(directory).ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, process, place, ..] = parts[..] else { return None };
        let found = place.rsplit(':').next()? == inode;
        process.parse().ok().filter(|process| found && *process > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_the_entries_of_a_run() {
        let directory = tempfile::tempdir().unwrap();
        let entry = |run: &str, name: &str| {
            let path = directory.path().join(run).join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        let (a, b, c) = (entry("one", "000001-F"), entry("one", "000002-F"), entry("two", "1"));
        let first = Taken::of([&*a]).unwrap();
        let refused = Taken::of([&*c, &*b]).unwrap_err().to_string();
        let me = format!("(process {})", std::process::id());
        assert!(
            refused.contains("is retrying the failed inputs in ")
                && refused.contains("/one;")
                && refused.contains(&me),
            "{refused}"
        );
        drop(first);
        let both = Taken::of([&*c, &*b]).unwrap();
        assert!(Taken::of([&*c]).is_err());
        drop(both);
        Taken::of([&*a, &*b, &*c]).unwrap();
    }
}
