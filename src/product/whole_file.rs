//! Files that appear whole or not at all, survive a power cut once they have
//! appeared, and leave nothing behind if the process dies.
//!
//! A file is written without any name (`O_TMPFILE`) and is named at the end: if
//! the process is killed before that, the system reclaims it.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use crate::base::failure::{Context as _, Failure, Result};

/// Permissions of new files; the user's umask is subtracted.
const MODE: u32 = 0o666;

/// Bytes buffered before they are written.
const BUFFER: usize = 64 * 1024;

/// A file that is being written. If it is dropped before [`commit`](Self::commit), no file appears.
pub struct WholeFile {
    writer: BufWriter<Draft>,
    path: PathBuf,
}

/// A file whose contents are on the disk and which has no name yet.
pub(super) struct SyncedFile {
    draft: Draft,
    path: PathBuf,
}

/// The contents of a file that is not named yet.
enum Draft {
    /// A file without a directory entry: it ends with its process.
    Nameless(File),
    /// A file with a temporary name, which stays if its process is killed: for file
    /// systems that do not support nameless files.
    Named(NamedTempFile),
}

impl WholeFile {
    /// Begins a file that will be named `path`.
    ///
    /// # Errors
    /// If `path` cannot name a regular file, or its directory accepts no file.
    pub fn create(path: &Path) -> Result<Self> {
        check_target(path)?;
        let draft = Draft::begin(directory_of(path), true).with_context(|| describe(path))?;
        Ok(Self::new(draft, path))
    }

    fn new(draft: Draft, path: &Path) -> Self {
        Self { writer: BufWriter::with_capacity(BUFFER, draft), path: path.to_owned() }
    }

    /// The name that the file gets.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the contents to the disk and names the file; an older file of that name is
    /// replaced. Blocks until both are safe from a power cut.
    ///
    /// # Errors
    /// Those of the file system. The name then stays as it was, unless the disk fails
    /// after the file was named.
    pub fn commit(self) -> Result<()> {
        self.sync()?.publish()
    }

    /// Writes the contents to the disk.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn sync(self) -> Result<SyncedFile> {
        let Self { writer, path } = self;
        let draft = contents(writer).with_context(|| describe(&path))?;
        Ok(SyncedFile { draft, path })
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl SyncedFile {
    pub(super) fn file(&self) -> &File {
        self.draft.file()
    }

    /// Names the file, unless another file has the name: then the file comes back.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn publish_new(self) -> Result<Option<Self>> {
        let Self { draft, path } = self;
        match draft.name_if_new(&path).with_context(|| describe(&path))? {
            Some(draft) => Ok(Some(Self { draft, path })),
            None => sync_name(&path).map(|()| None),
        }
    }

    /// Names the file; another file of that name is replaced.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn publish(self) -> Result<()> {
        let Self { draft, path } = self;
        draft.name(&path).with_context(|| describe(&path))?;
        sync_name(&path)
    }
}

/// Writes a file so that it appears whole or not at all; an older file of that name is
/// replaced. For files that are no products of a run: nothing is claimed or announced.
///
/// ```
/// use std::io::Write;
///
/// # fn main() -> drpipe::prelude::Result<()> {
/// # let directory = tempfile::tempdir()?;
/// let path = directory.path().join("calibration.txt");
/// drpipe::product::write_whole(&path, |file| Ok(writeln!(file, "gain 1.3")?))?;
/// assert_eq!(std::fs::read_to_string(path)?, "gain 1.3\n");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// That of `write`, or of the file system.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut WholeFile) -> Result<()>) -> Result<()> {
    let mut file = WholeFile::create(path)?;
    write(&mut file).with_context(|| describe(path))?;
    file.commit()
}

/// Makes a small file with these contents, whole from its first moment on; returns false
/// if there is a file of that name. The file need not survive a power cut.
///
/// # Errors
/// Those of the file system.
pub(super) fn write_new(path: &Path, contents: &[u8]) -> io::Result<bool> {
    let mut draft = Draft::begin(directory_of(path), true)?;
    draft.write_all(contents)?;
    Ok(draft.name_if_new(path)?.is_none())
}

/// Makes a directory and its parents if they are missing.
///
/// # Errors
/// A permanent failure that names what is in the way, or the system's error.
pub(super) fn make_directory(directory: &Path) -> Result<()> {
    let Err(error) = fs::create_dir_all(directory) else { return Ok(()) };
    let in_the_way = directory.ancestors().find(|path| fs::metadata(path).is_ok());
    let shown = directory.display();
    Err(match in_the_way.filter(|path| !path.is_dir()) {
        Some(path) => Failure::permanent(format!(
            "cannot make the directory {shown}: {} exists and is not a directory",
            path.display()
        )),
        None => Failure::from(error).wrap(format!("cannot make the directory {shown}")),
    })
}

/// Checks that a regular file can have this name.
///
/// # Errors
/// A permanent failure if the path names no file, a directory, a device or a pipe.
pub(super) fn check_target(path: &Path) -> Result<()> {
    if path.file_name().is_none() || path.is_dir() {
        return Err(Failure::permanent(format!(
            "\"{}\" is not the name of a file: give the file's own name too",
            path.display()
        )));
    }
    // A whole file replaces what was there: it must never replace a device or pipe.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Failure::permanent(format!(
            "{} is a device or pipe, not a file: name another file",
            path.display()
        )));
    }
    Ok(())
}

/// The directory that a file of this name is in.
pub(super) fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

pub(super) fn describe(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// Writes what is buffered and syncs it to the disk.
fn contents(writer: BufWriter<Draft>) -> io::Result<Draft> {
    let draft = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    draft.file().sync_all()?;
    Ok(draft)
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

    /// Names the file unless another one has the name; then the draft comes back.
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

    /// Names the file and replaces any other of that name.
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

/// Opens a file without a name; `None` where the kernel or the file system does not
/// support it.
fn nameless_file(directory: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = match rustix::fs::open(directory, flags, Mode::from_raw_mode(MODE)) {
        Ok(file) => File::from(file),
        // What kernels and file systems without support answer.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Without /proc the file could never be linked.
    let has_path = fs::symlink_metadata(descriptor_path(&file)).is_ok();
    Ok(has_path.then_some(file))
}

/// The path under which the system shows a file that is open in this process.
fn descriptor_path(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Names a nameless file; fails if another file has the name.
fn link(file: &File, path: &Path) -> io::Result<()> {
    Ok(rustix::fs::linkat(CWD, descriptor_path(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// Puts a nameless file in the place of an older one. No single call does that: for a few
/// microseconds the file has a temporary name, which would stay if the process were killed.
fn replace(file: &File, path: &Path) -> io::Result<()> {
    let linked = temporary_name().make_in(directory_of(path), |name| link(file, name))?;
    linked.into_temp_path().persist(path).map_err(|error| error.error)
}

/// Makes a new name survive a power cut; the contents are safe already.
fn sync_name(path: &Path) -> Result<()> {
    sync_directory(directory_of(path)).with_context(|| describe(path))
}

/// Writes a directory's entries to the disk, where the system allows it.
fn sync_directory(directory: &Path) -> io::Result<()> {
    // A directory that may be written to but not read cannot be opened.
    let Ok(directory) = File::open(directory) else { return Ok(()) };
    match rustix::fs::fsync(&directory) {
        // Some file systems do not support it for directories.
        Err(Errno::INVAL | Errno::BADF | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        synced => Ok(synced?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways of writing, whatever the file system of the tests can do.
    const WAYS: [bool; 2] = [true, false];

    fn draft(path: &Path, nameless: bool) -> WholeFile {
        WholeFile::new(Draft::begin(directory_of(path), nameless).unwrap(), path)
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
                let mut file = draft(&path, nameless);
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
        let named = draft(&directory.path().join("x"), false);
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
            draft(&path, nameless).commit().unwrap();
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
            draft(&ours, nameless).commit().unwrap();
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
                format!("{}: {} exists and is not a directory", path.display(), file.display());
            assert!(error.to_string().ends_with(&said), "{error}");
        }
        make_directory(&directory.path().join("a/b")).unwrap();
        make_directory(&directory.path().join("a/b")).unwrap();
    }

    #[test]
    fn what_is_not_the_name_of_a_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(WholeFile::create(directory.path()).is_err());
        assert!(WholeFile::create(Path::new("")).is_err());
        assert!(WholeFile::create(Path::new("/dev/null")).is_err());
        let missing = directory.path().join("missing/x");
        let error = WholeFile::create(&missing).err().unwrap().to_string();
        assert!(error.contains("missing/x") && error.contains("No such file"), "{error}");
    }
}
