//! Opens files that other users may have made: neither a pipe without a writer nor an endless file
//! can make a command wait.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens a regular file for reading.
///
/// # Errors
/// If it is a directory, a pipe or a device, or the system refuses.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::empty())
}

/// Like [`open`], but refuses symbolic links.
///
/// # Errors
/// As [`open`], and if it is a symbolic link.
pub(crate) fn open_unlinked(path: &Path) -> io::Result<File> {
    let is_link = std::fs::symlink_metadata(path)?.is_symlink();
    if is_link {
        return Err(io::Error::other("it is a symbolic link, which is not followed"));
    }
    open_with(path, OFlags::NOFOLLOW)
}

fn open_with(path: &Path, more: OFlags) -> io::Result<File> {
    // `NONBLOCK` opens a pipe at once; the check below then refuses it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | more;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// If it is larger, or the system refuses.
pub(crate) fn read_at_most(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    file.take(limit + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        for path in [at("pipe"), directory.path().to_owned(), "/dev/null".into()] {
            assert_eq!(open(&path).unwrap_err().to_string(), "it is not a regular file");
        }
        assert!(open(&at("link")).is_ok());
        let error = open_unlinked(&at("link")).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert!(open_unlinked(&at("file")).is_ok());
    }

    #[test]
    fn a_file_beyond_the_limit_is_not_read_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = read_at_most(open(&path).unwrap(), 1000).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 1000 bytes");
        fs::write(&path, "text").unwrap();
        assert_eq!(read_at_most(open(&path).unwrap(), 4).unwrap(), b"text");
    }
}
