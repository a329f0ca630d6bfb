//! Finds and removes the entries of a quarantine.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::entry::{Entry, HEADER, REASON, is_own, read};
use super::error::EntryError;

/// Finds the entries in a quarantine or in the directory of one run, or the entry that `path` is;
/// the newest run comes last. Symbolic links count as entries that cannot be used: a quarantine
/// may come from elsewhere, and they may lead anywhere.
///
/// # Errors
/// If there is no such directory or it cannot be read.
pub(crate) fn find(path: &Path) -> Result<Vec<Entry>, EntryError> {
    let cannot =
        |path: &Path, error: io::Error| EntryError::NotFound { path: path.to_owned(), error };
    // An entry may be given as ".", or through a link.
    let whole = fs::canonicalize(path).map_err(|error| cannot(path, error))?;
    if is_entry(path) || is_entry(&whole) {
        return Ok(vec![read(path.to_owned())]);
    }
    let mut found = Vec::new();
    for child in directories(path).map_err(|error| cannot(path, error))? {
        if is_entry(&child) || child.is_symlink() {
            found.push(child);
        } else {
            let inner = directories(&child).map_err(|error| cannot(&child, error))?;
            found.extend(inner.into_iter().filter(|path| is_entry(path)));
        }
    }
    Ok(found.into_iter().map(read).collect())
}

/// The directories in `path`, sorted by name, with numbers compared as numbers. Hidden ones are
/// being written or removed, and left out.
fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for child in fs::read_dir(path)? {
        let child = child?.path();
        if child.is_dir() && !name_of(&child).starts_with('.') {
            all.push(child);
        }
    }
    all.sort_by_cached_key(|path| order(&name_of(path)));
    Ok(all)
}

/// The key by which names are sorted: numbers by value, other parts by their letters.
fn order(name: &str) -> Vec<(Option<u64>, String)> {
    name.split('-').map(|part| (part.parse().ok(), part.to_owned())).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned()
}

/// Whether this is an entry. It may lack any of its files; its name then decides.
fn is_entry(path: &Path) -> bool {
    let name = name_of(path);
    let number = name.split_once('-').map_or("", |(number, _)| number);
    let numbered = number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
    path.is_dir() && (numbered || path.join(REASON).exists() || path.join(HEADER).exists())
}

/// Removes an entry, and with the last entry the directory of its run. It removes only the files
/// that an entry has, and follows no link. Returns the names of other files in the entry, which
/// stay, with their directory.
///
/// # Errors
/// If a file cannot be removed.
pub(crate) fn remove(path: &Path) -> io::Result<Vec<String>> {
    // If an entry is given as ".", only its canonical path has its name.
    let path = match path.file_name() {
        Some(_) => path.to_owned(),
        None => fs::canonicalize(path)?,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(&path, flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    let (own, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| is_own(name));
    if !others.is_empty() {
        unlink(&directory, &own)?;
        return Ok(others);
    }
    // Hide it first: an entry that is removed in part must not look like an entry.
    let hidden = path.with_file_name(format!(".removed-{}", name_of(&path)));
    fs::rename(&path, &hidden)?;
    unlink(&directory, &own)?;
    fs::remove_dir(&hidden)?;
    // Fails, as it should, if anything else is in it.
    let _ = path.parent().map(fs::remove_dir);
    Ok(Vec::new())
}

/// Removes files of an open directory, whatever its name leads to now.
fn unlink(directory: &OwnedFd, names: &[String]) -> io::Result<()> {
    for name in names {
        rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_compared_as_numbers() {
        let mut names = ["20250102T000000Z-9-10", "20250102T000000Z-9-9", "20250101T000000Z-10"];
        names.sort_by_key(|name| order(name));
        assert_eq!(names, ["20250101T000000Z-10", "20250102T000000Z-9-9", "20250102T000000Z-9-10"]);
        assert!(order("1000000-A") > order("999999-B"));
    }

    #[test]
    fn runs_are_no_entries_and_entries_without_files_are() {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = directory.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        assert!(!is_entry(&make("20250101T000000Z-10")));
        let entry = make("000001-CLEAN");
        assert!(is_entry(&entry));
        assert!(read(entry).contents.unwrap_err().to_string().starts_with("reason.json: "));
    }
}
