//! An entry of the quarantine: what it holds, how it is written and read.
//!
//! An entry is a directory. `reason.json` says what failed, where, when and why: a [`Reason`].
//! Beside it lies the input itself: `header.bin`, in the codec that the reason names, and its
//! buffers, `buffer-0.bin` and so on, in native byte order.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::EntryError;
use crate::base::regular_file;
use crate::codec::CodecId;
use crate::message::Payload;

pub(super) const REASON: &str = "reason.json";
pub(super) const HEADER: &str = "header.bin";
/// The largest `reason.json` that is read, in bytes: an entry may come from elsewhere.
const LARGEST_REASON: u64 = 16 << 20;

/// The contents of `reason.json`. A field that not every version has written may be absent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reason {
    pub(crate) run: String,
    pub(crate) config_hash: String,
    pub(crate) step: String,
    pub(crate) worker: Option<usize>,
    pub(crate) origin: Option<String>,
    pub(crate) attempts: u32,
    /// A text, so that causes of later versions can be read.
    pub(crate) cause: String,
    /// The failure's sentences, the outermost first.
    pub(crate) reason: Vec<String>,
    /// When it was put into quarantine.
    pub(crate) time: String,
    /// The size of the input's header and buffers together.
    pub(crate) bytes: u64,
    /// How many buffers it has.
    pub(crate) buffers: Option<usize>,
    /// The type that the step took.
    pub(crate) input_type: Option<String>,
    /// How the input is serialized.
    #[serde(default)]
    pub(crate) codec: CodecId,
    /// The entries that it was before, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) retried_from: Vec<Past>,
}

/// What an earlier entry said of an input that was tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Past {
    pub(crate) run: String,
    pub(crate) entry: String,
    pub(crate) step: String,
    pub(crate) attempts: u32,
    pub(crate) cause: String,
    pub(crate) reason: Vec<String>,
    pub(crate) time: String,
}

/// One failed input.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    /// What it holds, or why it cannot be used.
    pub(crate) contents: Result<Contents, EntryError>,
}

#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) reason: Reason,
    /// `reason.json` as it is, with the fields that this version does not know.
    pub(crate) fields: Map<String, Value>,
    pub(crate) header_bytes: u64,
    pub(crate) buffer_bytes: Vec<u64>,
}

/// Writes an entry of this name into `directory`, whole or not at all, like every product.
///
/// # Errors
/// If the entry cannot be written.
pub(super) fn write(
    directory: &Path,
    name: &str,
    payload: &Payload,
    reason: &Reason,
) -> io::Result<()> {
    let entry = tempfile::Builder::new().prefix(".entry-").tempdir_in(directory)?;
    fs::write(entry.path().join(HEADER), &*payload.header)?;
    for (index, contents) in payload.buffers.iter().enumerate() {
        fs::write(entry.path().join(buffer(index)), contents)?;
    }
    let text = serde_json::to_string_pretty(reason)?;
    fs::write(entry.path().join(REASON), text + "\n")?;
    fs::rename(entry.path(), directory.join(name.replace(['/', '\\'], "_")))?;
    // The directory has its final name: nothing is left to be removed.
    let _ = entry.keep();
    Ok(())
}

pub(super) fn read(path: PathBuf) -> Entry {
    let contents = contents(&path);
    Entry { path, contents }
}

/// Reads an entry's `reason.json`.
///
/// # Errors
/// If it cannot be read, is a link or no file, or is too large.
pub(crate) fn read_reason(entry: &Path) -> io::Result<Vec<u8>> {
    regular_file::read_at_most(regular_file::open_unlinked(&entry.join(REASON))?, LARGEST_REASON)
}

fn contents(path: &Path) -> Result<Contents, EntryError> {
    if path.is_symlink() {
        return Err(EntryError::Link);
    }
    let text = read_reason(path).map_err(|error| unusable(REASON, error))?;
    let fields: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|error| unusable(REASON, error.into()))?;
    let reason = Reason::deserialize(&fields)
        .map_err(|error: serde_json::Error| unusable(REASON, error.into()))?;
    let header_bytes = size(&path.join(HEADER)).map_err(|error| unusable(HEADER, error))?;
    let mut buffer_bytes = Vec::new();
    loop {
        let name = buffer(buffer_bytes.len());
        let expected = reason.buffers.is_some_and(|count| buffer_bytes.len() < count);
        match size(&path.join(&name)) {
            Ok(bytes) => buffer_bytes.push(bytes),
            Err(error) if expected || error.kind() != io::ErrorKind::NotFound => {
                return Err(unusable(&name, error));
            }
            Err(_) => break,
        }
    }
    let found = buffer_bytes.iter().fold(header_bytes, |sum, bytes| sum.saturating_add(*bytes));
    if found != reason.bytes || reason.buffers.is_some_and(|count| count != buffer_bytes.len()) {
        let Reason { bytes, buffers, .. } = reason;
        return Err(EntryError::OtherSize { count: buffer_bytes.len(), found, bytes, buffers });
    }
    Ok(Contents { reason, fields, header_bytes, buffer_bytes })
}

fn unusable(file: &str, error: io::Error) -> EntryError {
    EntryError::Unusable { file: file.to_owned(), error }
}

fn size(file: &Path) -> io::Result<u64> {
    Ok(regular_file::open_unlinked(file)?.metadata()?.len())
}

/// Reads the failed input itself.
///
/// # Errors
/// If a file cannot be read; names it.
pub(crate) fn read_payload(path: &Path, buffers: usize) -> Result<Payload, EntryError> {
    let read = |name: &str| {
        let file = path.join(name);
        let mut contents = Vec::new();
        regular_file::open_unlinked(&file)
            .and_then(|mut opened| opened.read_to_end(&mut contents))
            .map_err(|error| EntryError::Unreadable { path: file, error })?;
        Ok::<_, EntryError>(contents)
    };
    let header = read(HEADER)?.into();
    let buffers = (0..buffers).map(|index| read(&buffer(index)).map(Bytes::from));
    Ok(Payload { header, buffers: buffers.collect::<Result<_, _>>()? })
}

/// The file of the input's buffer with this index.
pub(super) fn buffer(index: usize) -> String {
    format!("buffer-{index}.bin")
}

/// Whether an entry has a file of this name.
pub(super) fn is_own(name: &str) -> bool {
    let number = name.strip_prefix("buffer-").and_then(|rest| rest.strip_suffix(".bin"));
    let is_buffer = number.is_some_and(|number| number.parse::<usize>().is_ok());
    is_buffer || name == REASON || name == HEADER
}
