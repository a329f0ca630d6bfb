//! Files and directories in places where other users can create some too: checks that they belong
//! to this user, and opens them without waiting and without following links.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::regular_file;

/// Opens a regular file of this user for reading. Never waits for a pipe.
///
/// # Errors
/// If it is a link, not a regular file, or another user's, or cannot be opened.
pub(crate) fn open_own(path: &Path) -> io::Result<File> {
    let file = regular_file::open_unlinked(path)?;
    match is_own(&file.metadata()?) {
        true => Ok(file),
        false => Err(io::Error::other("expected a file of this user")),
    }
}

pub(crate) fn is_own(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw()
}

/// Makes the directory, with access for this user only, if it is missing.
///
/// # Errors
/// If it cannot be made, or exists and is not private.
pub(crate) fn make_private(directory: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        // The umask may have removed more permissions.
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(0o700)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => check_private(directory),
        Err(error) => Err(error),
    }
}

/// Checks that only this user has access to the directory: others could put anything there.
///
/// # Errors
/// If it is not a directory, belongs to another user, or gives other users access.
pub(crate) fn check_private(directory: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() || !is_own(&found) {
        return Err(io::Error::other("expected a directory of this user"));
    }
    match found.mode() & 0o777 {
        mode if mode & 0o077 == 0 => Ok(()),
        mode => Err(io::Error::other(format!(
            "found the mode {mode:o}, which gives other users access; expected 700"
        ))),
    }
}

/// Returns whether only this user and root can remove or replace what the directory holds.
pub(crate) fn keeps_others_out(directory: &Path) -> io::Result<bool> {
    let found = fs::metadata(directory)?;
    const STICKY: u32 = 0o1000;
    let others_write = found.mode() & 0o022 != 0 && found.mode() & STICKY == 0;
    Ok(found.is_dir() && (is_own(&found) || found.uid() == 0) && !others_write)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_nothing_is_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        fs::write(path("file"), "text").unwrap();
        symlink(path("file"), path("link")).unwrap();
        let mode = rustix::fs::Mode::from(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo"), mode).unwrap();
        assert_eq!(io::read_to_string(open_own(&path("file")).unwrap()).unwrap(), "text");
        for other in ["link", "fifo", ".", "missing"] {
            assert!(open_own(&path(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn what_is_anothers_is_told_from_ones_own() {
        let place = tempfile::tempdir().unwrap();
        assert!(is_own(&fs::metadata(place.path()).unwrap()));
        let root = fs::metadata("/").unwrap();
        assert_eq!(is_own(&root), rustix::process::geteuid().is_root());
    }

    #[test]
    fn a_directory_that_lets_others_in_is_not_private() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("d");
        make_private(&directory).unwrap();
        make_private(&directory).unwrap();
        assert!(keeps_others_out(&directory).unwrap());
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let error = check_private(&directory).unwrap_err().to_string();
        assert!(error.contains("found the mode 755"), "{error}");
        assert!(keeps_others_out(&directory).unwrap());
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!keeps_others_out(&directory).unwrap());
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(keeps_others_out(&directory).unwrap());
        let link = place.path().join("link");
        symlink(place.path(), &link).unwrap();
        assert!(make_private(&link).is_err());
    }
}
