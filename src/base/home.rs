//! Paths that begin in the user's home directory.

use std::env;
use std::path::{Path, PathBuf};

/// A path with its leading `~` replaced by the home directory, as a shell does it.
///
/// Others, and all where `HOME` is not set, stay as they are.
pub(crate) fn expand(path: &Path) -> PathBuf {
    in_home(path, env::var_os("HOME").filter(|home| !home.is_empty()).as_deref().map(Path::new))
}

/// As [`expand`], of a text that is a path if it begins with `~/`, and may be none otherwise.
pub(crate) fn expand_text(text: &str) -> Option<String> {
    if text != "~" && !text.starts_with("~/") {
        return None;
    }
    expand(Path::new(text)).to_str().map(str::to_owned)
}

fn in_home(path: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) if rest.as_os_str().is_empty() => home.to_owned(),
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_leading_tilde_of_its_own_is_the_home_directory() {
        let home = Path::new("/users/vera");
        let expanded = |path: &str| in_home(Path::new(path), Some(home)).display().to_string();
        assert_eq!(expanded("~/raw/a.fits"), "/users/vera/raw/a.fits");
        assert_eq!(expanded("~"), "/users/vera");
        for path in ["~other/raw", "raw/~/a", "./~", "a~", ""] {
            assert_eq!(expanded(path), path);
        }
        assert_eq!(in_home(Path::new("~/raw"), None), Path::new("~/raw"));
        assert_eq!(expand_text("~other"), None);
    }
}
