//! Files that appear whole or not at all, and never one in another's place.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use crate::prelude::*;

/// How many finished runs of this process are remembered.
const RUNS: usize = 8;

/// Who wrote which file in a run: path to owner.
type Claims = Arc<Mutex<HashMap<PathBuf, Box<str>>>>;

/// The claims of each run of this process, the latest last. Worker processes
/// have each their own: there only the uniqueness of the names protects.
static CLAIMS: Mutex<VecDeque<(String, Claims)>> = Mutex::new(VecDeque::new());

/// A folder for products of one step.
#[derive(Default)]
pub(crate) struct Products {
    directory: PathBuf,
    step: String,
    claims: Claims,
}

impl Products {
    /// Makes the folder if it is missing.
    ///
    /// # Errors
    /// If it cannot be made or is something else.
    pub(crate) fn open(directory: &Path, context: &Context) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the directory {}", directory.display()))?;
        // Two ways to one folder, by a link, are one folder.
        let directory = fs::canonicalize(directory)?;
        Ok(Self { directory, step: context.step().to_owned(), claims: claims_of(context.run()) })
    }

    /// Writes the file `name` + `suffix`; returns its path. An older file of
    /// that name is replaced, unless another input of this run made it, or it is
    /// the input itself.
    ///
    /// # Errors
    /// A permanent failure if the name is unusable or taken by another input;
    /// otherwise that of `write` or of the file system.
    pub(crate) fn write(
        &self,
        name: &str,
        suffix: &str,
        source: &str,
        message: u64,
        write: impl FnOnce(&mut PendingFile) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.directory.join(file_name(name, suffix)?);
        refuse_input(&path, source)?;
        self.claim(&path, source, message)?;
        write_whole(&path, write)?;
        Ok(path)
    }

    /// The same owner may claim a path again: a retry replaces what an attempt left.
    fn claim(&self, path: &Path, source: &str, message: u64) -> Result<()> {
        let owner = format!("{source} (step {}, message {message})", self.step);
        let mut claims = lock(&self.claims);
        match claims.get(path) {
            Some(other) if **other != *owner => Err(Failure::permanent(format!(
                "{} was already made from {other} and would be overwritten by {owner}: give their \
                 products different names or directories",
                path.display()
            ))),
            Some(_) => Ok(()),
            None => {
                claims.insert(path.to_owned(), owner.into());
                Ok(())
            }
        }
    }
}

/// A product in the folder of the raw files could take the place of its input.
fn refuse_input(path: &Path, source: &str) -> Result<()> {
    match (fs::canonicalize(path), fs::canonicalize(source)) {
        (Ok(product), Ok(input)) if product == input => Err(Failure::permanent(format!(
            "{} is the input itself and would be overwritten: choose another directory",
            path.display()
        ))),
        _ => Ok(()),
    }
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

fn claims_of(run: &str) -> Claims {
    let mut runs = lock(&CLAIMS);
    if let Some((_, claims)) = runs.iter().find(|(name, _)| name == run) {
        return Arc::clone(claims);
    }
    let claims = Claims::default();
    runs.push_back((run.to_owned(), Arc::clone(&claims)));
    if runs.len() > RUNS {
        let idle = runs.iter().position(|(_, claims)| Arc::strong_count(claims) == 1);
        idle.and_then(|idle| runs.remove(idle));
    }
    claims
}

/// What is guarded is whole after each statement, so a panic elsewhere while
/// the lock was held does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file name that stays in its directory: separators and control characters
/// become "_", as does a leading point, which would hide the file.
fn file_name(name: &str, suffix: &str) -> Result<String> {
    if name.trim().is_empty() {
        return Err(Failure::permanent("a product needs a name, but this one's is empty"));
    }
    let replace = |c: char| if c == '/' || c == '\\' || c.is_control() { '_' } else { c };
    let mut clean: String = name.chars().map(replace).collect();
    if clean.starts_with('.') {
        clean.replace_range(..1, "_");
    }
    clean.extend(suffix.chars().map(replace));
    if clean.len() > 255 {
        return Err(Failure::permanent(format!(
            "the file name {clean} is longer than the 255 bytes that file systems take"
        )));
    }
    Ok(clean)
}

/// A file that appears under its name only when it is complete: it is written
/// under a temporary name in the same directory, which goes if it is dropped.
pub(crate) struct PendingFile {
    writer: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl PendingFile {
    /// # Errors
    /// If the directory of `path` takes no file.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        check_target(path)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let temporary = tempfile::Builder::new()
            .prefix(".drpipe-")
            .suffix(".part")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory.unwrap_or(Path::new(".")))
            .with_context(|| format!("cannot write {}", path.display()))?;
        let writer = BufWriter::with_capacity(64 * 1024, temporary);
        Ok(Self { writer, path: path.to_owned() })
    }

    /// Brings the contents to the disk and gives the file its name.
    ///
    /// # Errors
    /// Those of the file system; then there is no such file.
    pub(crate) fn commit(self) -> Result<()> {
        let describe = || format!("cannot write {}", self.path.display());
        let temporary = self.writer.into_inner().map_err(|error| error.into_error());
        let temporary = temporary.with_context(describe)?;
        temporary.as_file().sync_all().with_context(describe)?;
        temporary.persist(&self.path).map_err(|error| error.error).with_context(describe)?;
        Ok(())
    }
}

impl Write for PendingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
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
    let mut file = PendingFile::create(path)?;
    write(&mut file).with_context(|| format!("cannot write {}", path.display()))?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::super::testing::context_of;
    use super::*;

    fn save(products: &Products, name: &str, source: &str, text: &str) -> Result<PathBuf> {
        products.write(name, ".txt", source, 0, |writer| Ok(writer.write_all(text.as_bytes())?))
    }

    #[test]
    fn two_ways_to_one_folder_are_one_folder() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let first = Products::open(&real, &context_of("run-l", "FIRST", &[])).unwrap();
        let second = Products::open(&link, &context_of("run-l", "SECOND", &[])).unwrap();
        save(&first, "x", "a.fits", "first").unwrap();
        assert!(save(&second, "x", "a.fits", "second").is_err());
    }

    #[test]
    fn two_messages_from_one_source_never_share_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let products = Products::open(directory.path(), &context_of("run-m", "SAVE", &[])).unwrap();
        let save = |message| products.write("x", ".txt", "a.fits", message, |_| Ok(()));
        save(1).unwrap();
        save(1).unwrap();
        assert!(save(2).unwrap_err().to_string().contains("message 1"));
    }

    #[test]
    fn a_directory_is_no_target() {
        let directory = tempfile::tempdir().unwrap();
        assert!(PendingFile::create(directory.path()).is_err());
        assert!(PendingFile::create(Path::new("")).is_err());
        assert!(PendingFile::create(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn two_inputs_of_a_run_never_share_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let products = Products::open(directory.path(), &context_of("run-a", "SAVE", &[])).unwrap();
        let path = save(&products, "x", "a/x.fits", "first").unwrap();
        let error = save(&products, "x", "b/x.fits", "second").unwrap_err();
        assert!(!error.is_retryable());
        let message = error.to_string();
        assert!(message.contains("a/x.fits") && message.contains("b/x.fits"), "{message}");
        assert_eq!(fs::read_to_string(path).unwrap(), "first");
    }

    #[test]
    fn two_steps_of_a_run_never_share_a_file() {
        let directory = tempfile::tempdir().unwrap();
        for (step, ok) in [("ONE", true), ("TWO", false)] {
            let context = context_of("run-b", step, &[]);
            let products = Products::open(directory.path(), &context).unwrap();
            assert_eq!(save(&products, "x", "x.fits", step).is_ok(), ok);
        }
    }

    #[test]
    fn a_retry_and_another_run_may_replace_a_file() {
        let directory = tempfile::tempdir().unwrap();
        for (run, text) in [("run-c", "1"), ("run-c", "2"), ("run-d", "3")] {
            let products = Products::open(directory.path(), &context_of(run, "SAVE", &[])).unwrap();
            let source = if run == "run-c" { "x.fits" } else { "y.fits" };
            let path = save(&products, "x", source, text).unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), text);
        }
    }

    #[test]
    fn a_product_never_replaces_its_input() {
        let directory = tempfile::tempdir().unwrap();
        let input = directory.path().join("x.txt");
        fs::write(&input, "raw").unwrap();
        let products = Products::open(directory.path(), &context_of("run-e", "SAVE", &[])).unwrap();
        let error = save(&products, "x", input.to_str().unwrap(), "new").unwrap_err();
        assert!(error.to_string().contains("the input itself"), "{error}");
        assert_eq!(fs::read_to_string(&input).unwrap(), "raw");
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
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_stay_in_their_directory() {
        assert_eq!(file_name("../x", ".png").unwrap(), "_._x.png");
        assert_eq!(file_name("/etc/passwd", "").unwrap(), "_etc_passwd");
        assert_eq!(file_name("..", "").unwrap(), "_.");
        assert_eq!(file_name("x", "/../y.fits").unwrap(), "x_.._y.fits");
        assert_eq!(file_name("M 31\n", ".fits").unwrap(), "M 31_.fits");
        for bad in ["", "  ", &"n".repeat(300)] {
            assert!(file_name(bad, ".png").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn files_are_as_readable_as_others() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, plain) = (directory.path().join("a"), directory.path().join("b"));
        write_whole(&ours, |_| Ok(())).unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
