//! The Python package that the program carries: its files are put where an
//! interpreter can import them, once for each version of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::config::fnv1a;

/// Their paths, and what is in them.
const FILES: &[(&str, &str)] = &include!("files.in");

/// The directory with the package.
pub(crate) struct Carried {
    path: PathBuf,
    /// Where there is no place to keep it: it goes with this value.
    _temporary: Option<TempDir>,
}

impl Carried {
    /// # Errors
    /// If the files can be written nowhere.
    pub(crate) fn unpack() -> io::Result<Self> {
        let kept = cache().and_then(|cache| keep(&cache).ok());
        if let Some(path) = kept {
            return Ok(Self { path, _temporary: None });
        }
        let directory = tempfile::Builder::new().prefix("drpipe-python-").tempdir()?;
        write(directory.path())?;
        Ok(Self { path: directory.path().to_owned(), _temporary: Some(directory) })
    }

    /// The program to run: a worker, or with `--describe` the answers to a question.
    pub(crate) fn main(&self) -> PathBuf {
        self.path.join("worker_main.py")
    }
}

/// The user's directory for what can be made again.
fn cache() -> Option<PathBuf> {
    let given = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let cache = given("XDG_CACHE_HOME").or_else(|| Some(given("HOME")?.join(".cache")))?;
    Some(cache.join("drpipe"))
}

/// The directory of these very files within the cache. It gets its name when it
/// is whole, so that of two runs that begin at once each finds all of them.
fn keep(cache: &Path) -> io::Result<PathBuf> {
    let path = cache.join(format!("python-{:016x}", hash()));
    if path.is_dir() {
        return Ok(path);
    }
    fs::create_dir_all(cache)?;
    let made = tempfile::Builder::new().prefix("python-").tempdir_in(cache)?;
    write(made.path())?;
    match fs::rename(made.path(), &path) {
        // The other run was faster; this one's files go with `made`.
        Err(_) if path.is_dir() => Ok(path),
        result => {
            let _ = made.keep();
            result.map(|()| path)
        }
    }
}

fn write(directory: &Path) -> io::Result<()> {
    for (name, text) in FILES {
        let path = directory.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

/// Of names and contents.
fn hash() -> u64 {
    let parts = FILES.iter().flat_map(|(name, text)| [*name, "\0", *text, "\0"]);
    fnv1a(parts.flat_map(str::bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_package_is_carried() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/src");
        let entries = walkdir::WalkDir::new(&source).sort_by_file_name().into_iter();
        let files = entries.map(Result::unwrap).map(walkdir::DirEntry::into_path);
        let of_python = |path: &PathBuf| path.extension().is_some_and(|e| e == "py");
        let there: Vec<String> = files
            .filter(of_python)
            .map(|path| path.strip_prefix(&source).unwrap().display().to_string())
            .collect();
        let mut carried: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        carried.sort_unstable();
        assert_eq!(carried, there, "src/python/files.in lists them");
    }

    #[test]
    fn they_are_kept_once_and_whole() {
        let cache = tempfile::tempdir().unwrap();
        let first = keep(cache.path()).unwrap();
        assert_eq!(keep(cache.path()).unwrap(), first);
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
        for (name, text) in FILES {
            assert_eq!(fs::read_to_string(first.join(name)).unwrap(), *text);
        }
    }
}
