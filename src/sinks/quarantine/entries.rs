//! The entries of a quarantine directory, read back.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Reason, is_pickle};
use crate::base::regular_file;
use crate::message::Payload;

const REASON: &str = "reason.json";
const HEADER: &str = "header.bin";
/// The largest `reason.json` that is read, in bytes.
const LARGEST_REASON: u64 = 16 << 20;

/// One failed input.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    /// What it holds, or why it cannot be used.
    pub(crate) contents: Result<Contents, String>,
}

#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) reason: Reason,
    /// `reason.json` as it stands, with what this version does not know.
    pub(crate) fields: Map<String, Value>,
    pub(crate) header_bytes: u64,
    pub(crate) buffer_bytes: Vec<u64>,
}

/// The entries in a quarantine directory, in one run's directory in it, or the
/// one that `path` is; the newest run last. Links in it are entries that cannot be
/// used: a quarantine may come from elsewhere, and they may lead anywhere.
///
/// # Errors
/// If there is no such directory or it cannot be read.
pub(crate) fn find(path: &Path) -> Result<Vec<Entry>, String> {
    let cannot = |path: &Path, error: io::Error| {
        format!("cannot read {}: {error}; name a quarantine, a run or an entry", path.display())
    };
    // Also the name of an entry that was given as ".", or through a link.
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

/// The directories in `path`, in the order of their names, whose numbers are
/// compared as numbers. Hidden ones are being written or removed.
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

/// Parts that are numbers by their value, the others by their letters.
fn order(name: &str) -> Vec<(Option<u64>, String)> {
    name.split('-').map(|part| (part.parse().ok(), part.to_owned())).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned()
}

/// An entry may lack any of its files: then its name tells it.
fn is_entry(path: &Path) -> bool {
    let name = name_of(path);
    let number = name.split_once('-').map_or("", |(number, _)| number);
    let numbered = number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
    path.is_dir() && (numbered || path.join(REASON).exists() || path.join(HEADER).exists())
}

fn read(path: PathBuf) -> Entry {
    let contents = contents(&path);
    Entry { path, contents }
}

/// The bytes of an entry's `reason.json`.
///
/// # Errors
/// Those of the system; that it is no file, a link, or too large.
pub(crate) fn read_reason(entry: &Path) -> io::Result<Vec<u8>> {
    regular_file::read_at_most(regular_file::open_unlinked(&entry.join(REASON))?, LARGEST_REASON)
}

fn contents(path: &Path) -> Result<Contents, String> {
    if path.is_symlink() {
        return Err("it is a symbolic link, which is not followed".to_owned());
    }
    let text = read_reason(path).map_err(|error| format!("{REASON}: {error}"))?;
    let fields: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|error| format!("{REASON}: {error}"))?;
    let reason = Reason::deserialize(&fields)
        .map_err(|error: serde_json::Error| format!("{REASON}: {error}"))?;
    let header_bytes = size(&path.join(HEADER)).map_err(|error| format!("{HEADER}: {error}"))?;
    let mut buffer_bytes = Vec::new();
    loop {
        let name = buffer(buffer_bytes.len());
        let expected = reason.buffers.is_some_and(|count| buffer_bytes.len() < count);
        match size(&path.join(&name)) {
            Ok(bytes) => buffer_bytes.push(bytes),
            Err(error) if expected || error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("{name}: {error}"));
            }
            Err(_) => break,
        }
    }
    let found = buffer_bytes.iter().fold(header_bytes, |sum, bytes| sum.saturating_add(*bytes));
    if found != reason.bytes || reason.buffers.is_some_and(|count| count != buffer_bytes.len()) {
        let count = buffer_bytes.len();
        return Err(format!(
            "the header and {count} buffers have {found} bytes, but {REASON} says {}{}",
            reason.bytes,
            reason.buffers.map(|count| format!(" and {count} buffers")).unwrap_or_default()
        ));
    }
    Ok(Contents { reason, fields, header_bytes, buffer_bytes })
}

fn size(file: &Path) -> io::Result<u64> {
    Ok(regular_file::open_unlinked(file)?.metadata()?.len())
}

fn buffer(index: usize) -> String {
    format!("buffer-{index}.bin")
}

/// Whether a file of this name is one that an entry has.
fn is_own(name: &str) -> bool {
    let number = name.strip_prefix("buffer-").and_then(|rest| rest.strip_suffix(".bin"));
    let is_buffer = number.is_some_and(|number| number.parse::<usize>().is_ok());
    is_buffer || name == REASON || name == HEADER
}

/// The failed input itself.
///
/// # Errors
/// Those of the file system, with the file's name.
pub(crate) fn read_payload(path: &Path, buffers: usize) -> Result<Payload, String> {
    let read = |name: &str| {
        let file = path.join(name);
        let mut contents = Vec::new();
        regular_file::open_unlinked(&file)
            .and_then(|mut opened| opened.read_to_end(&mut contents))
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        Ok::<_, String>(contents)
    };
    let header = read(HEADER)?.into();
    let buffers = (0..buffers).map(|index| read(&buffer(index)).map(Bytes::from));
    Ok(Payload { header, buffers: buffers.collect::<Result<_, _>>()? })
}

/// What is known of a failed input, and the input itself.
///
/// # Errors
/// What is wrong with the entry, in words.
pub(crate) fn read_entry(path: &Path) -> Result<(Reason, Payload), String> {
    let contents = read(path.to_owned()).contents?;
    is_pickle(path, &contents)?;
    let Contents { reason, buffer_bytes, .. } = contents;
    let payload = read_payload(path, buffer_bytes.len())?;
    Ok((reason, payload))
}

/// Removes an entry, and its run's directory with the last one. Only the files that an
/// entry has are removed, and no link is followed; gives the names of what else was in
/// it, which stays, in its directory.
///
/// # Errors
/// Those of the file system.
pub(crate) fn remove(path: &Path) -> io::Result<Vec<String>> {
    // An entry given as "." has its name only in the whole path.
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
    // Out of sight first: what is removed in part must not look like an entry.
    let hidden = path.with_file_name(format!(".removed-{}", name_of(&path)));
    fs::rename(&path, &hidden)?;
    unlink(&directory, &own)?;
    fs::remove_dir(&hidden)?;
    // It is left where anything else is in it.
    let _ = path.parent().map(fs::remove_dir);
    Ok(Vec::new())
}

/// Removes files of an open directory, whatever its name leads to by now.
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
        assert!(read(entry).contents.unwrap_err().starts_with("reason.json: "));
    }
}
