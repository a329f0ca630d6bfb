//! Strings: names, paths, addresses.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::base::home;
use crate::base::path_name::{name_of_path, path_of_name};
use crate::plan::address::{self, Address};
use crate::plan::keys::Form;

/// The longest name of a step, in characters: it becomes part of file names.
const NAME_LENGTH: usize = 64;

/// Any string.
pub(crate) struct Text;

impl Form for Text {
    type Value = String;
    const EXPECTED: &'static str = "a string in double quotes";

    fn schema() -> Value {
        json!({"type": "string"})
    }

    fn read(json: &Value) -> Option<String> {
        json.as_str().map(str::to_owned)
    }
}

/// A string; an empty one counts as none.
pub(crate) struct Title;

impl Form for Title {
    type Value = Option<String>;
    const EXPECTED: &'static str = Text::EXPECTED;

    fn schema() -> Value {
        Text::schema()
    }

    fn read(json: &Value) -> Option<Option<String>> {
        Text::read(json).map(|text| Some(text).filter(|text| !text.is_empty()))
    }
}

/// One directory; `~` is the home directory.
pub(crate) struct Directory;

impl Form for Directory {
    type Value = PathBuf;
    const EXPECTED: &'static str = "the name of a directory";

    fn schema() -> Value {
        json!({"type": "string", "minLength": 1})
    }

    fn read(json: &Value) -> Option<PathBuf> {
        json.as_str().map(|path| home::expand(Path::new(path)))
    }

    fn write(value: &PathBuf) -> Value {
        json!(value.to_string_lossy())
    }
}

/// One directory, or a list of them.
pub(crate) struct Directories;

impl Form for Directories {
    type Value = Vec<PathBuf>;
    const EXPECTED: &'static str = "a directory, or a list of directories";

    fn schema() -> Value {
        texts()
    }

    fn read(json: &Value) -> Option<Vec<PathBuf>> {
        let items = match json {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        Some(items.iter().filter_map(Value::as_str).map(path_of_name).collect())
    }

    fn write(value: &Vec<PathBuf>) -> Value {
        value.iter().map(name_of_path).collect()
    }
}

/// A Python interpreter.
pub(crate) struct Interpreter;

impl Form for Interpreter {
    type Value = String;
    const EXPECTED: &'static str =
        "a Python interpreter: a name on PATH, a file, or the directory of a virtual environment";

    fn schema() -> Value {
        json!({"type": "string", "minLength": 1})
    }

    fn read(json: &Value) -> Option<String> {
        Text::read(json)
    }
}

/// The address of a dashboard.
pub(crate) struct DashboardAddress;

impl Form for DashboardAddress {
    type Value = Option<String>;
    const EXPECTED: &'static str = address::EXPECTED;

    fn schema() -> Value {
        json!({"type": "string", "minLength": 1})
    }

    fn read(json: &Value) -> Option<Option<String>> {
        let text = json.as_str().filter(|text| text.parse::<Address>().is_ok())?;
        Some(Some(text.to_owned()))
    }
}

/// The pattern of the names that [`wrong_name`] accepts.
const NAME: &str =
    r"^[^.,=/\\\s\x00-\x1f\x7f-\x9f]([^.,=/\\\x00-\x1f\x7f-\x9f]*[^.,=/\\\s\x00-\x1f\x7f-\x9f])?$";

/// Says what is wrong with a step's name, if anything. The characters that are forbidden
/// have a meaning elsewhere: `,` between next steps, `.` and `=` in settings, `/` and `\` in
/// the names of files.
pub(crate) fn wrong_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a step's name must not be empty".to_owned());
    }
    if name.trim() != name {
        return Some("a step's name must not begin or end with a blank".to_owned());
    }
    if name.chars().count() > NAME_LENGTH {
        return Some(format!("a step's name must not be longer than {NAME_LENGTH} characters"));
    }
    let forbidden = |c: &char| c.is_control() || matches!(c, '.' | ',' | '=' | '/' | '\\');
    name.chars().find(forbidden).map(|c| format!("a step's name must not contain {c:?}"))
}

/// The name of a step.
pub(crate) struct StepName;

impl Form for StepName {
    type Value = String;
    const EXPECTED: &'static str = "a name without . , = / \\";

    fn schema() -> Value {
        json!({"type": "string", "pattern": NAME, "maxLength": NAME_LENGTH})
    }

    fn read(json: &Value) -> Option<String> {
        Text::read(json)
    }

    fn hint(found: &Value) -> String {
        found.as_str().and_then(wrong_name).unwrap_or_default()
    }
}

/// The names of other steps.
pub(crate) struct StepNames;

impl Form for StepNames {
    type Value = Vec<String>;
    const EXPECTED: &'static str = "the names of steps, as a list or with commas between them";

    fn schema() -> Value {
        texts()
    }

    /// Leaves out blanks around names, and empty names.
    fn read(json: &Value) -> Option<Vec<String>> {
        let texts: Vec<&str> = match json {
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        };
        let names = texts.into_iter().flat_map(|text| text.split(',')).map(str::trim);
        Some(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }
}

fn texts() -> Value {
    json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::keys::read;

    #[test]
    fn names_are_those_that_have_nothing_wrong() {
        let names = ["", "A", "A B", "\u{e9}t\u{e9} 1", " A", "A ", "A.B", "A,B", "A=B", "A/B"];
        for name in names.into_iter().chain(["A\\B", "A\nB", "A\u{7f}", "\u{85}A", "A\u{a0}"]) {
            let is_good = wrong_name(name).is_none();
            assert_eq!(read::<StepName>(&json!(name)).is_some(), is_good, "{name:?}");
        }
    }
}
