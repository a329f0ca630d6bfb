//! Temporary directories that last as long as their program runs. A program removes its own; the
//! next program of the same user removes those of killed ones.
//!
//! A file lock in the directory tells live programs from dead ones: the program that holds it owns
//! the directory. A program that makes a directory checks, once it has the lock, that the file
//! still exists, because another program may have removed the new directory as abandoned.

use std::fs::{self, File, OpenOptions, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::own_files;

/// The beginning of their names, and of those of Python programs that drive runs.
const PREFIX: &str = "drpipe-run-";
const DRIVERS: &str = "drpipe-py-";
/// The name of the file that is locked.
const LOCK: &str = "lock";
/// How often a directory is made again after another program removed it as abandoned. Even once is
/// rare.
const MAX_TRIES: usize = 16;

/// A directory with access for this user only. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes a new directory.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn make() -> io::Result<Self> {
        Self::make_in(&std::env::temp_dir())
    }

    /// Makes a directory with a name of [`new_name`].
    ///
    /// # Errors
    /// If it cannot be made, or another program has taken the name.
    pub(crate) fn make_named(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
        let mut maker = tempfile::Builder::new();
        Self::make_with(maker.prefix(name).rand_bytes(0), path.parent().unwrap_or(path))
    }

    fn make_in(temporary: &Path) -> io::Result<Self> {
        Self::make_with(tempfile::Builder::new().prefix(PREFIX), temporary)
    }

    fn make_with(maker: &mut tempfile::Builder<'_, '_>, temporary: &Path) -> io::Result<Self> {
        let private = Permissions::from_mode(0o700);
        for _ in 0..MAX_TRIES {
            let directory = maker.permissions(private.clone()).tempdir_in(temporary)?;
            // The umask may have removed permissions.
            let opened = fs::set_permissions(directory.path(), private.clone());
            match opened.and_then(|()| lock(directory.path())) {
                Ok(Some(lock)) => return Ok(Self { directory, _lock: lock }),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("another program removes each new directory as soon as it is made"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Returns a name that a directory may get later.
pub(crate) fn new_name() -> PathBuf {
    // The system seeds the hasher's keys at random.
    let chance = RandomState::new().hash_one(std::process::id());
    std::env::temp_dir().join(format!("{PREFIX}{:08x}", chance >> 32))
}

/// Takes the lock; none if another program has removed the directory first.
fn lock(directory: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    let lock = options.write(true).create_new(true).mode(0o600).open(directory.join(LOCK))?;
    lock.lock()?;
    Ok((lock.metadata()?.nlink() > 0).then_some(lock))
}

/// Removes the directories that killed programs of this user have left.
pub(crate) fn sweep() {
    sweep_in(&std::env::temp_dir());
}

fn sweep_in(temporary: &Path) {
    let entries = fs::read_dir(temporary).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let begins = |prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
        if begins(PREFIX) || begins(DRIVERS) {
            // A directory that cannot be removed now is left to the next program.
            let _ = remove_abandoned(&entry.path(), begins(PREFIX));
        }
    }
}

/// Removes the directory if no program owns it. `may_be_new` means that the owner makes another one
/// if this one is removed before it has the lock.
fn remove_abandoned(directory: &Path, may_be_new: bool) -> io::Result<()> {
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() || !own_files::is_own(&found) {
        return Ok(());
    }
    match own_files::open_own(&directory.join(LOCK)) {
        // The lock is held until this function returns.
        Ok(lock) if lock.try_lock().is_ok() => fs::remove_dir_all(directory),
        // Its maker ended before it made the file; `remove_dir` removes empty directories only.
        Err(error) if may_be_new && error.kind() == ErrorKind::NotFound => {
            fs::remove_dir(directory)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_a_dead_program_left_is_removed_and_all_else_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let place = |name: &str| temporary.path().join(format!("{PREFIX}{name}"));
        let make = |name: &str| {
            fs::create_dir(place(name)).unwrap();
            place(name)
        };
        let live = Scratch::make_in(temporary.path()).unwrap();
        fs::write(make("dead").join(LOCK), "").unwrap();
        make("begun");
        fs::write(make("unknown").join("file"), "").unwrap();
        let mode = rustix::fs::Mode::from(0o644);
        rustix::fs::mkfifoat(rustix::fs::CWD, make("fifo").join(LOCK), mode).unwrap();
        symlink(make("target").join("file"), make("link").join(LOCK)).unwrap();
        fs::write(place("target").join("file"), "").unwrap();
        symlink(place("target"), place("directory-link")).unwrap();
        fs::create_dir(temporary.path().join("other")).unwrap();
        let driver = |name: &str| temporary.path().join(format!("{DRIVERS}{name}"));
        fs::create_dir(driver("begun")).unwrap();
        fs::create_dir(driver("dead")).unwrap();
        fs::write(driver("dead").join(LOCK), "").unwrap();
        sweep_in(temporary.path());
        assert!(driver("begun").exists() && !driver("dead").exists());
        for gone in ["dead", "begun"] {
            assert!(!place(gone).exists(), "{gone}");
        }
        for left in ["unknown", "fifo", "link", "target", "directory-link"] {
            assert!(place(left).exists(), "{left}");
        }
        assert!(live.path().exists() && temporary.path().join("other").exists());
        drop(live);
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 7);
    }

    #[test]
    fn a_name_is_taken_once() {
        let name = new_name();
        assert_ne!(name, new_name());
        let made = Scratch::make_named(&name).unwrap();
        assert_eq!(made.path(), name);
        assert!(name.join(LOCK).exists());
        assert_eq!(Scratch::make_named(&name).unwrap_err().kind(), ErrorKind::AlreadyExists);
        drop(made);
        assert!(!name.exists());
    }

    #[test]
    fn it_is_private_and_a_new_one_survives_all_who_sweep() {
        let temporary = tempfile::tempdir().unwrap();
        let makers = std::thread::scope(|scope| {
            scope.spawn(|| (0..200).for_each(|_| sweep_in(temporary.path())));
            let make = || (0..50).map(|_| Scratch::make_in(temporary.path()).unwrap());
            let made: Vec<Scratch> = scope.spawn(move || make().collect()).join().unwrap();
            made
        });
        for made in &makers {
            assert_eq!(made.path().metadata().unwrap().mode() & 0o777, 0o700);
            assert!(made.path().join(LOCK).exists());
        }
        drop(makers);
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }
}
