//! Files that appear whole or not at all, survive a power cut once they have
//! appeared, and leave nothing behind whatever dies.
//!
//! A file is written without any name (`O_TMPFILE`) and gets its name at the
//! end: if the process is killed before, the system takes the file back.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::own::{self, Fingerprint, Guard};
use crate::prelude::*;

/// What files are made with; the user's mask takes its part away.
const MODE: u32 = 0o666;

/// A file on its way to its name; dropped before, it is gone.
pub(crate) struct PendingFile {
    writer: BufWriter<Draft>,
    path: PathBuf,
    /// None if it may replace whatever there is.
    guard: Option<(Guard, bool)>,
    /// Of what was written, if a record is to be kept beside it.
    fingerprint: Option<Fingerprint>,
}

/// The contents of a file that has not got its name.
enum Draft {
    /// It has none at all: it ends with its process.
    Nameless(File),
    /// It has a temporary one, which stays if its process is killed: for file
    /// systems that cannot do better.
    Named(NamedTempFile),
}

impl PendingFile {
    /// # Errors
    /// If the directory of `path` takes no file.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        check_target(path)?;
        let draft = Draft::begin(directory_of(path), true).with_context(|| describe(path))?;
        Ok(Self::new(draft, path))
    }

    /// A file that replaces an older one only if `guard` says so when it gets its name;
    /// `again` as there.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub(crate) fn guarded(path: &Path, guard: &Guard, again: bool) -> Result<Self> {
        Ok(Self { guard: Some((guard.clone(), again)), ..Self::create(path)? })
    }

    /// The same file with a record beside it of the pipeline that has made it, for it has no
    /// place where it could say so itself.
    #[must_use]
    pub(crate) fn with_record(self) -> Self {
        Self { fingerprint: Some(Fingerprint::default()), ..self }
    }

    fn new(draft: Draft, path: &Path) -> Self {
        let writer = BufWriter::with_capacity(64 * 1024, draft);
        Self { writer, path: path.to_owned(), guard: None, fingerprint: None }
    }

    /// Brings the contents to the disk and gives the file its name; an older
    /// file of that name is replaced, if it may be. Those who watch the run learn of it.
    ///
    /// # Errors
    /// Those of the file system and of the guard. Unless it is the disk itself that fails
    /// in the last moment, there is no such file then.
    pub(crate) fn commit(self) -> Result<()> {
        let path = self.path.clone();
        self.commit_quietly()?;
        announce_product(&path);
        Ok(())
    }

    fn commit_quietly(self) -> Result<()> {
        let Self { writer, path, guard, fingerprint } = self;
        let draft = contents(writer).with_context(|| describe(&path))?;
        if let (Some(fingerprint), Some((guard, _))) = (fingerprint, &guard) {
            own::record(&path, guard.mark(), &fingerprint)?;
        }
        let draft = match guard {
            None => Some(draft),
            Some((guard, again)) => {
                let left = draft.name_if_new(&path).with_context(|| describe(&path))?;
                if let Some(draft) = &left {
                    guard.check_made(&path, again, draft.file())?;
                }
                left
            }
        };
        draft.map_or(Ok(()), |draft| draft.name(&path)).with_context(|| describe(&path))?;
        // The contents are safe; without this the name is not.
        sync_directory(directory_of(&path)).with_context(|| describe(&path))
    }
}

fn describe(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// What was written, on the disk.
fn contents(writer: BufWriter<Draft>) -> io::Result<Draft> {
    let draft = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    draft.file().sync_all()?;
    Ok(draft)
}

impl Write for PendingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        if let Some(fingerprint) = &mut self.fingerprint {
            fingerprint.write_all(&bytes[..written])?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Writes a file so that it appears whole or not at all.
///
/// # Errors
/// That of `write`, or of the file system.
pub(crate) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut PendingFile) -> Result<()>,
) -> Result<()> {
    fill(PendingFile::create(path)?, write)
}

/// As [`write_whole`]; an older file is replaced only if `guard` says so, `again` as there.
///
/// # Errors
/// That of `write`, of the guard, or of the file system.
pub(crate) fn write_guarded(
    path: &Path,
    guard: &Guard,
    again: bool,
    write: impl FnOnce(&mut PendingFile) -> Result<()>,
) -> Result<()> {
    fill(PendingFile::guarded(path, guard, again)?, write)
}

fn fill(mut file: PendingFile, write: impl FnOnce(&mut PendingFile) -> Result<()>) -> Result<()> {
    let path = file.path.clone();
    write(&mut file).with_context(|| describe(&path))?;
    file.commit()
}

/// Writes a file that is no product: nobody is told of it.
///
/// # Errors
/// Those of the file system.
pub(crate) fn write_quietly(path: &Path, contents: &[u8]) -> Result<()> {
    let mut file = PendingFile::create(path)?;
    file.write_all(contents).with_context(|| describe(path))?;
    file.commit_quietly()
}

/// Makes a small file of these contents, whole from its first moment on; false
/// if there is a file of that name. It need not survive a power cut.
///
/// # Errors
/// Those of the file system.
pub(crate) fn write_new(path: &Path, contents: &[u8]) -> io::Result<bool> {
    let mut draft = Draft::begin(directory_of(path), true)?;
    draft.write_all(contents)?;
    let named = match draft {
        Draft::Nameless(file) => link(&file, path),
        Draft::Named(file) => file.persist_noclobber(path).map(drop).map_err(|error| error.error),
    };
    match named {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        named => named.map(|()| true),
    }
}

/// Makes a directory for files, with those that it is in, if it is missing.
///
/// # Errors
/// If something else is in the way, which is named, or the system refuses.
pub(crate) fn make_directory(directory: &Path) -> Result<()> {
    let Err(error) = fs::create_dir_all(directory) else { return Ok(()) };
    let in_the_way = directory.ancestors().find(|path| fs::metadata(path).is_ok());
    let shown = directory.display();
    Err(match in_the_way.filter(|path| !path.is_dir()) {
        Some(path) => Failure::permanent(format!(
            "cannot make the directory {shown}: {} is there and is no directory",
            path.display()
        )),
        None => Failure::from(error).wrap(format!("cannot make the directory {shown}")),
    })
}

/// Whether there can be a file of this name.
///
/// # Errors
/// A permanent failure if it names no file, a directory or a device.
pub(crate) fn check_target(path: &Path) -> Result<()> {
    if path.file_name().is_none() || path.is_dir() {
        return Err(Failure::permanent(format!(
            "\"{}\" is not the name of a file: give the file's own name too",
            path.display()
        )));
    }
    // A product takes the place of what was there: never that of a device or pipe.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Failure::permanent(format!(
            "{} is a device or pipe, not a file: name another file",
            path.display()
        )));
    }
    Ok(())
}

/// The directory that a file of this name is in.
pub(crate) fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

impl Draft {
    fn begin(directory: &Path, nameless: bool) -> io::Result<Self> {
        if nameless && let Some(file) = nameless_file(directory)? {
            return Ok(Self::Nameless(file));
        }
        let permissions = Permissions::from_mode(MODE);
        temporary_name().permissions(permissions).tempfile_in(directory).map(Self::Named)
    }

    fn file(&self) -> &File {
        match self {
            Self::Nameless(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Gives the file its name, if no other file has it; else it comes back.
    fn name_if_new(self, path: &Path) -> io::Result<Option<Self>> {
        let exists = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
        match self {
            Self::Named(file) => match file.persist_noclobber(path) {
                Ok(_) => Ok(None),
                Err(refused) if exists(&refused.error) => Ok(Some(Self::Named(refused.file))),
                Err(refused) => Err(refused.error),
            },
            Self::Nameless(file) => match link(&file, path) {
                Ok(()) => Ok(None),
                Err(error) if exists(&error) => Ok(Some(Self::Nameless(file))),
                Err(error) => Err(error),
            },
        }
    }

    /// Gives the file its name, also in the place of another file.
    fn name(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Named(file) => file.persist(path).map(drop).map_err(|error| error.error),
            Self::Nameless(file) => match link(&file, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => replace(&file, path),
                linked => linked,
            },
        }
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn temporary_name() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".drpipe-").suffix(".part");
    builder
}

/// A file without a name; none where the system or the file system has no such.
fn nameless_file(directory: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = match rustix::fs::open(directory, flags, Mode::from_raw_mode(MODE)) {
        Ok(file) => File::from(file),
        // The kernels and file systems that do not know of it say one of these.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Without /proc it would never get its name.
    let has_way = fs::symlink_metadata(way_to(&file)).is_ok();
    Ok(has_way.then_some(file))
}

/// The name under which the system keeps a file that is open here.
fn way_to(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Gives a nameless file this name; never in the place of another file.
fn link(file: &File, path: &Path) -> io::Result<()> {
    Ok(rustix::fs::linkat(CWD, way_to(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// Puts a nameless file in the place of an older one. There is no call that
/// does so at once: between the two here, for some microseconds, the file has a
/// temporary name, which would stay if the process were killed.
fn replace(file: &File, path: &Path) -> io::Result<()> {
    let linked = temporary_name().make_in(directory_of(path), |name| link(file, name))?;
    linked.into_temp_path().persist(path).map_err(|error| error.error)
}

/// Brings a directory's names to the disk, where that can be asked for.
fn sync_directory(directory: &Path) -> io::Result<()> {
    // One that may be written to but not read cannot be opened.
    let Ok(directory) = File::open(directory) else { return Ok(()) };
    match rustix::fs::fsync(&directory) {
        // Some file systems do not know of it.
        Err(Errno::INVAL | Errno::BADF | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        synced => Ok(synced?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways of writing, whatever the file system of the tests can do.
    const WAYS: [bool; 2] = [true, false];

    fn pending(path: &Path, nameless: bool) -> PendingFile {
        PendingFile::new(Draft::begin(directory_of(path), nameless).unwrap(), path)
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_when_it_is_whole_and_replaces_an_older_one() {
        for nameless in WAYS {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("x.txt");
            for text in ["first", "second"] {
                let mut file = pending(&path, nameless);
                file.write_all(text.as_bytes()).unwrap();
                file.flush().unwrap();
                assert_ne!(fs::read_to_string(&path).ok().as_deref(), Some(text));
                file.commit().unwrap();
                assert_eq!(fs::read_to_string(&path).unwrap(), text);
                assert_eq!(names(directory.path()), ["x.txt"]);
            }
        }
    }

    #[test]
    fn where_there_are_nameless_files_nothing_is_seen_of_one() {
        let directory = tempfile::tempdir().unwrap();
        let Some(file) = nameless_file(directory.path()).unwrap() else { return };
        assert_eq!(names(directory.path()).len(), 0);
        drop(file);
        let named = pending(&directory.path().join("x"), false);
        let temporary = names(directory.path());
        assert!(temporary[0].starts_with(".drpipe-") && temporary[0].ends_with(".part"));
        drop(named);
        assert_eq!(names(directory.path()).len(), 0);
    }

    #[test]
    fn a_link_is_replaced_not_followed() {
        for nameless in WAYS {
            let directory = tempfile::tempdir().unwrap();
            let (path, other) = (directory.path().join("x"), directory.path().join("other"));
            fs::write(&other, "other").unwrap();
            std::os::unix::fs::symlink(&other, &path).unwrap();
            pending(&path, nameless).commit().unwrap();
            assert_eq!(fs::read_to_string(&other).unwrap(), "other");
            assert!(fs::symlink_metadata(&path).unwrap().is_file());
        }
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.txt");
        fs::write(&path, "old").unwrap();
        let failed = write_whole(&path, |writer| {
            writer.write_all(b"half")?;
            Err(Failure::permanent("no more"))
        });
        assert!(failed.unwrap_err().to_string().contains("no more"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(directory.path()), ["x.txt"]);
    }

    #[test]
    fn files_are_as_readable_as_others() {
        for nameless in WAYS {
            let directory = tempfile::tempdir().unwrap();
            let (ours, plain) = (directory.path().join("a"), directory.path().join("b"));
            pending(&ours, nameless).commit().unwrap();
            fs::write(&plain, "").unwrap();
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode(&ours), mode(&plain));
        }
    }

    #[test]
    fn of_many_that_make_a_file_one_succeeds_and_its_contents_are_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let made: Vec<bool> = std::thread::scope(|scope| {
            let path = &path;
            let make = |n: u8| scope.spawn(move || write_new(path, &[n; 100]).unwrap());
            let threads: Vec<_> = (0..8).map(make).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(made.iter().filter(|made| **made).count(), 1);
        let winner = made.iter().position(|made| *made).unwrap() as u8;
        assert_eq!(fs::read(&path).unwrap(), [winner; 100]);
        assert_eq!(names(directory.path()), ["x"]);
    }

    #[test]
    fn what_is_in_the_way_of_a_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("a/b")] {
            let error = make_directory(&path).unwrap_err();
            let said =
                format!("{}: {} is there and is no directory", path.display(), file.display());
            assert!(error.to_string().ends_with(&said), "{error}");
        }
        make_directory(&directory.path().join("a/b")).unwrap();
        make_directory(&directory.path().join("a/b")).unwrap();
    }

    #[test]
    fn what_is_not_the_name_of_a_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(PendingFile::create(directory.path()).is_err());
        assert!(PendingFile::create(Path::new("")).is_err());
        assert!(PendingFile::create(Path::new("/dev/null")).is_err());
        let missing = directory.path().join("missing/x");
        let error = PendingFile::create(&missing).err().unwrap().to_string();
        assert!(error.contains("missing/x") && error.contains("No such file"), "{error}");
    }
}
