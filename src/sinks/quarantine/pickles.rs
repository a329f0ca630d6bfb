//! Failed inputs that are Python objects. Loading one runs code that its author chose, so it must
//! come from a run of the same user.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::entry::{Contents, read_payload};
use super::error::EntryError;
use crate::codec::{CodecId, pickled};

/// The permission bit that lets every user write a file.
const OTHERS_WRITE: u32 = 0o002;

/// Whether an entry holds a Python object.
///
/// # Errors
/// If it is not safe to load or cannot be read.
pub(crate) fn is_pickle(path: &Path, contents: &Contents) -> Result<bool, EntryError> {
    if contents.reason.codec != CodecId::MessagePack {
        return Ok(false);
    }
    let payload = read_payload(path, 0)?;
    if pickled(&payload.header).is_none() {
        return Ok(false);
    }
    let user = rustix::process::geteuid().as_raw();
    let unreadable = |path: &Path, error| EntryError::Unreadable { path: path.to_owned(), error };
    for file in files(path).map_err(|error| unreadable(path, error))? {
        if let Some(why) = strangers(&file, user).map_err(|error| unreadable(&file, error))? {
            return Err(EntryError::Untrusted { file, why });
        }
    }
    Ok(true)
}

/// The directory of an entry and the files in it.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let inside = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
    std::iter::once(Ok(path.to_owned())).chain(inside).collect()
}

/// Says which other users could have written a file, if any.
fn strangers(file: &Path, user: u32) -> io::Result<Option<String>> {
    let metadata = fs::metadata(file)?;
    Ok(if metadata.uid() != user {
        Some(format!("belongs to another user ({})", metadata.uid()))
    } else if metadata.mode() & OTHERS_WRITE != 0 {
        Some("is writable by every user".to_owned())
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_others_could_have_written_is_not_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("header.bin");
        fs::write(&file, b"x").unwrap();
        let user = rustix::process::geteuid().as_raw();
        assert_eq!(strangers(&file, user).unwrap(), None);
        let other = strangers(&file, user + 1).unwrap().unwrap();
        assert!(other.contains("belongs to another user"), "{other}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let open = strangers(&file, user).unwrap().unwrap();
        assert!(open.contains("by every user"), "{open}");
    }
}
