//! Names of files as text. To the system they are bytes, which need not be UTF-8; the text keeps
//! every byte, so that two files never share a name.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The beginning of the code of a byte that is not UTF-8, such as `\xE9`.
const MARK: &str = "\\x";
const DIGITS: usize = 2;

/// The path as a text that no other path has. Bytes that are not UTF-8 are written as `\xE9`; a
/// backslash that would look like the beginning of such a code is written as `\x5C`.
///
/// ```
/// use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};
///
/// use drpipe::prelude::{path_of_name, name_of_path};
///
/// let path = Path::new(OsStr::from_bytes(b"raw/\xe9toile.fits"));
/// assert_eq!(name_of_path(path), r"raw/\xE9toile.fits");
/// assert_eq!(path_of_name(r"raw/\xE9toile.fits"), path);
/// ```
pub fn name_of_path(path: impl AsRef<Path>) -> String {
    let mut name = String::new();
    for chunk in path.as_ref().as_os_str().as_bytes().utf8_chunks() {
        push_valid(&mut name, chunk.valid());
        for byte in chunk.invalid() {
            name.push_str(&format!("{MARK}{byte:02X}"));
        }
    }
    name
}

/// Appends text so that nothing in it looks like the code of a byte.
fn push_valid(name: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at);
        name.push_str(before);
        name.push_str(if code(after).is_some() { "\\x5C" } else { "\\" });
        rest = &after[1..];
    }
    name.push_str(rest);
}

/// The byte whose code begins the text.
fn code(text: &str) -> Option<u8> {
    let digits = text.strip_prefix(MARK)?.get(..DIGITS)?;
    let is_digit = |c: char| c.is_ascii_digit() || ('A'..='F').contains(&c);
    digits.chars().all(is_digit).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The path that [`name_of_path`] turned into this text; for any other text, the path with that
/// name.
pub fn path_of_name(name: &str) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes(name).into_owned()))
}

fn bytes(name: &str) -> Cow<'_, [u8]> {
    if !name.contains(MARK) {
        return Cow::Borrowed(name.as_bytes());
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at);
        bytes.extend(before.as_bytes());
        let length = match code(after) {
            Some(byte) => {
                bytes.push(byte);
                MARK.len() + DIGITS
            }
            None => {
                bytes.push(b'\\');
                1
            }
        };
        rest = &after[length..];
    }
    bytes.extend(rest.as_bytes());
    Cow::Owned(bytes)
}

/// Serializes a path as its name.
pub(crate) mod as_text {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::name_of_path(path))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        String::deserialize(deserializer).map(|name| super::path_of_name(&name))
    }
}

/// Like [`as_text`], for an optional path.
pub(crate) mod as_text_if_any {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_ref().map(super::name_of_path).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let name = Option::<String>::deserialize(deserializer)?;
        Ok(name.map(|name| super::path_of_name(&name)))
    }
}

/// Like [`as_text`], for a list of paths.
pub(crate) mod as_texts {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        paths: &[PathBuf],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(super::name_of_path))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<PathBuf>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Ok(names.iter().map(|name| super::path_of_name(name)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn ordinary_names_are_themselves() {
        for name in ["raw/a.fits", "étoile", "a\\b", "\\xe9", "\\x", "\\x4", "\\xé9", "\\", ""] {
            assert_eq!(name_of_path(name), name);
            assert_eq!(path_of_name(name), Path::new(name));
        }
    }

    #[test]
    fn no_two_paths_have_one_name() {
        let paths: [&[u8]; 9] = [
            b"t\xe9",
            b"t\xe8",
            b"t\\xE9",
            b"t\\x5CxE9",
            b"\\\\xE9",
            b"\\x5C",
            b"\xff\xfe",
            b"\\\xe9",
            b"\\x\xe9",
        ];
        let names: Vec<String> =
            paths.iter().map(|path| name_of_path(OsStr::from_bytes(path))).collect();
        assert_eq!(names[0], r"t\xE9");
        assert_eq!(names[2], r"t\x5CxE9");
        for (index, (name, path)) in names.iter().zip(paths).enumerate() {
            assert_eq!(path_of_name(name), Path::new(OsStr::from_bytes(path)), "{name}");
            assert!(!names[..index].contains(name), "{name}");
        }
    }
}
