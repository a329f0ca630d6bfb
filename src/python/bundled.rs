//! The bundled Python package, unpacked where an interpreter can import it.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::base::fnv::fnv1a;
use crate::base::own_files;
use crate::base::scratch::Scratch;

/// The paths and the contents of the package's files.
const FILES: &[(&str, &str)] = &include!("files.in");

/// The unpacked package.
pub(crate) struct BundledPackage {
    path: PathBuf,
    /// Removes the directory with this value, if there is no cache to keep it in.
    _temporary: Option<Scratch>,
}

impl BundledPackage {
    /// Unpacks the package into the user's cache, or else into a temporary directory.
    ///
    /// # Errors
    /// If neither can be written.
    pub(crate) fn unpack() -> io::Result<Self> {
        let kept = cache().and_then(|cache| keep(&cache).ok());
        if let Some(path) = kept {
            return Ok(Self { path, _temporary: None });
        }
        let directory = Scratch::make()?;
        for (name, text) in FILES {
            put(directory.path(), name, text)?;
        }
        Ok(Self { path: directory.path().to_owned(), _temporary: Some(directory) })
    }

    /// The program for the interpreter to run.
    pub(crate) fn main(&self) -> PathBuf {
        self.path.join("worker_main.py")
    }
}

/// Returns drpipe's directory in the user's cache.
fn cache() -> Option<PathBuf> {
    let given = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let cache = given("XDG_CACHE_HOME").or_else(|| Some(given("HOME")?.join(".cache")))?;
    Some(cache.join("drpipe"))
}

/// Unpacks the package into the cache and returns its directory.
///
/// Compares every file with its contents before each use: a power cut or a cleaner may have
/// damaged it, and the interpreter runs it as this user.
///
/// # Errors
/// If other users may write to the cache's parent, or this one cannot write to the cache.
fn keep(cache: &Path) -> io::Result<PathBuf> {
    let path = cache.join(format!("python-{:016x}", hash(FILES)));
    let parent = cache.parent().unwrap_or(cache);
    fs::create_dir_all(parent)?;
    if !own_files::keeps_others_out(parent)? {
        return Err(io::Error::other(format!("other users may write to {}", parent.display())));
    }
    have_private(cache)?;
    match own_files::check_private(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => own_files::make_private(&path)?,
        Err(_) => replace(&path)?,
    }
    for (name, text) in FILES {
        if !is_whole(&path.join(name), text) {
            mend(&path, name, text)?;
        }
    }
    Ok(path)
}

/// Makes a private directory, or removes other users' access to an existing one of this user. Its
/// contents are checked afterwards.
fn have_private(directory: &Path) -> io::Result<()> {
    own_files::make_private(directory).or_else(|error| {
        let found = fs::symlink_metadata(directory)?;
        if !found.is_dir() || !own_files::is_own(&found) {
            return Err(error);
        }
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        own_files::check_private(directory)
    })
}

/// Replaces a directory that other users may have changed. No drpipe uses such a directory.
fn replace(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path)?,
        false => fs::remove_file(path)?,
    }
    own_files::make_private(path)
}

fn is_whole(file: &Path, text: &str) -> bool {
    let Ok(file) = own_files::open_own(file) else { return false };
    let mut found = Vec::with_capacity(text.len() + 1);
    file.take(text.len() as u64 + 1).read_to_end(&mut found).is_ok() && found == text.as_bytes()
}

/// Writes a file again, and removes what blocks its path: a directory at a file's path, or a file
/// or link at a directory's. Several programs may do this at once, because they write the same.
fn mend(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let put_there = || put(directory, name, text);
    put_there().or_else(|error| {
        let mut inner = Path::new(name).ancestors().filter(|part| *part != Path::new(""));
        let in_the_way = inner.find_map(|part| {
            let path = directory.join(part);
            let found = fs::symlink_metadata(&path).ok()?;
            let is_file = part == Path::new(name);
            (found.is_dir() == is_file || found.is_symlink()).then_some((path, found))
        });
        match in_the_way {
            Some((path, found)) if found.is_dir() => fs::remove_dir_all(path)?,
            Some((path, _)) => fs::remove_file(path)?,
            None => return Err(error),
        }
        put_there()
    })
}

/// Writes a file, and gives it its name once it is complete and on the disk.
fn put(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = directory.join(name);
    let parent = path.parent().unwrap_or(directory);
    fs::create_dir_all(parent)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(parent)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    File::open(parent)?.sync_all()
}

/// Names the package's directory in the cache, so that versions never share a directory.
fn hash(files: &[(&str, &str)]) -> u64 {
    let parts = files.iter().flat_map(|(name, text)| [*name, "\0", *text, "\0"]);
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

    #[track_caller]
    fn assert_whole(path: &Path) {
        for (name, text) in FILES {
            assert_eq!(fs::read_to_string(path.join(name)).unwrap(), *text, "{name}");
        }
        assert!(own_files::check_private(path).is_ok());
    }

    /// A cache of the test, with the package in it.
    fn kept() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let cache = place.path().join("drpipe");
        let path = keep(&cache).unwrap();
        (place, cache, path)
    }

    #[test]
    fn they_are_kept_once_and_whole() {
        let (_place, cache, path) = kept();
        assert_eq!(keep(&cache).unwrap(), path);
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
        assert_whole(&path);
    }

    #[test]
    fn what_is_spoilt_is_mended() {
        use std::os::unix::fs::symlink;
        let (place, cache, path) = kept();
        let wire = path.join("drpipe/protocol/wire.py");
        let spoil: [&dyn Fn(); 10] = [
            &|| fs::write(&wire, "").unwrap(),
            &|| fs::write(&wire, fs::read_to_string(&wire).unwrap() + "\nimport evil\n").unwrap(),
            &|| fs::remove_file(&wire).unwrap(),
            &|| fs::remove_dir_all(path.join("drpipe")).unwrap(),
            &|| fs::remove_dir_all(path.join("drpipe/protocol")).unwrap(),
            &|| {
                fs::remove_dir_all(path.join("drpipe/protocol")).unwrap();
                fs::write(path.join("drpipe/protocol"), "").unwrap();
            },
            &|| {
                fs::rename(&wire, place.path().join("elsewhere")).unwrap();
                symlink(place.path().join("elsewhere"), &wire).unwrap();
            },
            &|| {
                fs::remove_file(&wire).unwrap();
                let mode = rustix::fs::Mode::from(0o600);
                rustix::fs::mkfifoat(rustix::fs::CWD, &wire, mode).unwrap();
            },
            &|| {
                fs::remove_file(&wire).unwrap();
                fs::create_dir_all(wire.join("deep")).unwrap();
            },
            &|| {
                fs::remove_dir_all(path.join("drpipe")).unwrap();
                fs::write(path.join("drpipe"), "").unwrap();
            },
        ];
        for (case, spoil) in spoil.iter().enumerate() {
            spoil();
            assert_eq!(keep(&cache).unwrap(), path, "{case}");
            assert_whole(&path);
        }
        assert!(fs::symlink_metadata(&wire).unwrap().is_file());
    }

    #[test]
    fn files_that_have_moved_are_another_package() {
        let (before, after) = ("drpipe/wire.py", "drpipe/protocol/wire.py");
        assert_ne!(hash(&[(before, "text")]), hash(&[(after, "text")]));
    }

    #[test]
    fn what_others_may_have_changed_is_not_used() {
        let (place, cache, path) = kept();
        let planted = path.join("drpipe/planted.py");
        fs::write(&planted, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o770)).unwrap();
        assert_eq!(keep(&cache).unwrap(), path);
        assert!(!planted.exists());
        assert_whole(&path);
        fs::set_permissions(&cache, Permissions::from_mode(0o777)).unwrap();
        assert_eq!(keep(&cache).unwrap(), path);
        assert!(own_files::check_private(&cache).is_ok());
        // A user who can rename the cache can replace it.
        fs::set_permissions(place.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(keep(&cache).unwrap_err().to_string().contains("other users may write to"));
    }

    #[test]
    fn programs_that_begin_at_once_do_not_disturb_each_other() {
        let place = tempfile::tempdir().unwrap();
        let cache = place.path().join("drpipe");
        std::thread::scope(|scope| {
            let begin = || scope.spawn(|| keep(&cache).unwrap());
            let all: Vec<_> = (0..4).map(|_| begin()).collect();
            all.into_iter().for_each(|one| assert_whole(&one.join().unwrap()));
        });
    }
}
