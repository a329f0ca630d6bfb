//! Files and directories in places where other users can put some too: which are this
//! user's own, and how they are opened without waiting and without following a link.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::regular_file;

/// Opens a regular file of this user to read it. A link is refused, and a pipe not waited for.
///
/// # Errors
/// If it is none, or cannot be opened.
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

/// Makes the directory, which nobody else may look into, if it is missing.
///
/// # Errors
/// If it cannot be made, or one is there that is not private.
pub(crate) fn make_private(directory: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        // The user's mask may have taken more away.
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(0o700)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => check_private(directory),
        Err(error) => Err(error),
    }
}

/// A directory that somebody else can write to could hold anything.
///
/// # Errors
/// If it is none, or not of this user, or lets others in.
pub(crate) fn check_private(directory: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() || !is_own(&found) {
        return Err(io::Error::other("expected a directory of this user"));
    }
    match found.mode() & 0o777 {
        mode if mode & 0o077 == 0 => Ok(()),
        mode => Err(io::Error::other(format!(
            "found the mode {mode:o}, which lets others in; expected 700"
        ))),
    }
}

/// Whether nobody but this user and root can take what is in the directory away or replace it.
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
