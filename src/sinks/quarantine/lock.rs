//! Locks: only one program at a time tries failed inputs again.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};

/// The right to try entries again. It ends when this is dropped, or when the program ends for any
/// reason.
#[derive(Debug)]
pub(crate) struct Taken {
    _locks: Vec<File>,
}

impl Taken {
    /// Locks the directories that these entries are in, all or none.
    ///
    /// # Errors
    /// If another program has locked a directory; the error names it.
    pub(crate) fn of<'a>(entries: impl IntoIterator<Item = &'a Path>) -> Result<Self, String> {
        let directories: BTreeSet<PathBuf> = entries.into_iter().filter_map(directory_of).collect();
        let mut locks = Vec::new();
        for directory in directories {
            let shown = directory.display();
            let file = File::open(&directory)
                .map_err(|error| format!("cannot open {shown} to lock it: {error}"))?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    let who = holder(&directory).map(|process| format!(" (process {process})"));
                    return Err(format!(
                        "another drpipe{} is retrying the failed inputs in {shown}; wait until it \
                         has ended",
                        who.unwrap_or_default()
                    ));
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
        let refused = Taken::of([&*c, &*b]).unwrap_err();
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
