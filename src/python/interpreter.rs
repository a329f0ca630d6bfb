//! Finds the interpreter that a configuration means.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::error::PythonError;
use crate::base::nearest::nearest;

/// The names that are looked for on PATH, in this order.
const USUAL: [&str; 2] = ["python3", "python"];

/// Finds the interpreter that `given` means: a file, the directory of a virtual environment,
/// or a name on PATH. Without a name, finds that of the active virtual environment, or the
/// usual one on PATH.
///
/// # Errors
/// If there is none that can be executed.
pub(super) fn find(given: Option<&str>) -> Result<PathBuf, PythonError> {
    match given {
        Some(name) if name.contains('/') => file(Path::new(name)),
        Some(name) if Path::new(name).is_dir() => file(Path::new(name)),
        Some(name) => on_path(name).ok_or_else(|| {
            let hint = match nearest(name, USUAL).filter(|near| on_path(near).is_some()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "install it, or name the file of an interpreter".to_owned(),
            };
            PythonError::new(format!("there is no Python interpreter {name:?} on PATH"), hint)
        }),
        None => usual(),
    }
}

fn usual() -> Result<PathBuf, PythonError> {
    if let Some(environment) = env::var_os("VIRTUAL_ENV").filter(|value| !value.is_empty()) {
        let found = file(Path::new(&environment));
        return found.map_err(|error| PythonError {
            message: format!("VIRTUAL_ENV: {}", error.message),
            ..error
        });
    }
    USUAL.iter().find_map(|name| on_path(name)).ok_or_else(|| {
        let hint = "install Python 3.9 or later, or name an interpreter with \"python\"";
        PythonError::new("there is no python3 on PATH, but a step is written in Python", hint)
    })
}

fn file(path: &Path) -> Result<PathBuf, PythonError> {
    let path = match path.is_dir() {
        true => path.join("bin/python"),
        false => path.to_owned(),
    };
    // A link is not resolved: an interpreter knows its virtual environment by the link's path.
    let path = std::path::absolute(&path).unwrap_or(path);
    if is_program(&path) {
        return Ok(path);
    }
    let found = if path.exists() { "cannot be executed" } else { "does not exist" };
    let message = format!("the Python interpreter {} {found}", path.display());
    Err(PythonError::new(message, "name an interpreter, or the directory of a virtual environment"))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let places = env::split_paths(&path).filter(|place| place.as_os_str() != OsStr::new(""));
    let found = places.map(|place| place.join(name)).find(|file| is_program(file))?;
    std::path::absolute(found).ok()
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_interpreter_is_named() {
        let PythonError { message, .. } = find(Some("./no/such/python")).unwrap_err();
        assert!(message.contains("no/such/python does not exist"), "{message}");
        let PythonError { message, .. } = find(Some("Cargo.toml/")).unwrap_err();
        assert!(message.contains("Cargo.toml"), "{message}");
        let PythonError { message, .. } = find(Some("no-such-python")).unwrap_err();
        assert!(message.contains("on PATH"), "{message}");
    }

    #[test]
    fn an_environment_is_known_by_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("bin")).unwrap();
        let program = directory.path().join("bin/python");
        std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
        assert_eq!(find(directory.path().to_str()).unwrap(), program);
    }
}
