//! Which interpreter is meant.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::base::nearest::nearest;

/// Of several interpreters on PATH the first of these is taken.
const USUAL: [&str; 2] = ["python3", "python"];

/// The interpreter that `given` means: a file, the directory of a virtual
/// environment, or a name on PATH; without one, that of the active virtual
/// environment, or the usual one on PATH.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(super) fn find(given: Option<&str>) -> Result<PathBuf, (String, String)> {
    match given {
        Some(name) if name.contains('/') => file(Path::new(name)),
        Some(name) if Path::new(name).is_dir() => file(Path::new(name)),
        Some(name) => on_path(name).ok_or_else(|| {
            let hint = match nearest(name, USUAL).filter(|near| on_path(near).is_some()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "install it, or name the file of an interpreter".to_owned(),
            };
            (format!("there is no Python interpreter {name:?} on PATH"), hint)
        }),
        None => usual(),
    }
}

fn usual() -> Result<PathBuf, (String, String)> {
    if let Some(environment) = env::var_os("VIRTUAL_ENV").filter(|value| !value.is_empty()) {
        let found = file(Path::new(&environment));
        return found.map_err(|(message, hint)| (format!("VIRTUAL_ENV: {message}"), hint));
    }
    USUAL.iter().find_map(|name| on_path(name)).ok_or_else(|| {
        let hint = "install Python 3.9 or later, or name an interpreter with \"python\"";
        ("there is no python3 on PATH, but a step is written in Python".to_owned(), hint.to_owned())
    })
}

fn file(path: &Path) -> Result<PathBuf, (String, String)> {
    let path = match path.is_dir() {
        true => path.join("bin/python"),
        false => path.to_owned(),
    };
    // Not resolved further: a virtual environment is known by the link's place.
    let path = std::path::absolute(&path).unwrap_or(path);
    if is_program(&path) {
        return Ok(path);
    }
    let found = if path.exists() { "cannot be executed" } else { "does not exist" };
    let hint = "name an interpreter, or the directory of a virtual environment".to_owned();
    Err((format!("the Python interpreter {} {found}", path.display()), hint))
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
        let (message, _) = find(Some("./no/such/python")).unwrap_err();
        assert!(message.contains("no/such/python does not exist"), "{message}");
        let (message, _) = find(Some("Cargo.toml/")).unwrap_err();
        assert!(message.contains("Cargo.toml"), "{message}");
        let (message, _) = find(Some("no-such-python")).unwrap_err();
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
