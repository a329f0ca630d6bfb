//! Paths that begin in the user's home directory.

use std::env;
use std::path::{Path, PathBuf};

/// Replaces a leading `~` by the home directory, as a shell does. Other paths stay as they are,
/// and so do all paths if `HOME` is not set.
pub(crate) fn expand(path: &Path) -> PathBuf {
    in_home(path, env::var_os("HOME").filter(|home| !home.is_empty()).as_deref().map(Path::new))
}

/// Like [`expand`], for a text that is a path only if it is `~` or begins with `~/`; none
/// otherwise.
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
