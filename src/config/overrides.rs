//! Settings of the command line: `CLEAN.nb_thread=4`.

use std::path::PathBuf;

use serde_json::Value;

use crate::plan::diagnostic::{Diagnostic, Location, Severity};

/// A setting of the command line. It overrides the file, and a later one overrides an earlier one.
///
/// ```
/// use drpipe::config::Setting;
///
/// let setting = Setting::parse("CLEAN.nb_thread=4").unwrap();
/// assert_eq!((&*setting.target, &*setting.key, &*setting.value), ("CLEAN", "nb_thread", "4"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// The name of a step or of a class, or `producer` for the producer's step; empty for a key
    /// of the pipeline.
    pub target: String,
    /// A key of the step, or a parameter. `params.` before a parameter distinguishes it from a
    /// key of the same name.
    pub key: String,
    /// The value: JSON, or a string as it is.
    pub value: String,
    /// The whole setting, as it was typed.
    pub text: String,
    /// A parameter of the file that the setting removes.
    pub(crate) replaces: Option<&'static str>,
}

/// The target that means the producer, whatever the name of its step.
pub(crate) const PRODUCER: &str = "producer";
/// The parameters that name the files to read.
const FILES: &str = "files";
const DIRECTORY: &str = "directory";

impl Setting {
    /// Reads `target.key=value`.
    ///
    /// # Errors
    /// If the text has another form.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        let wrong = |message: &str| Diagnostic {
            severity: Severity::Error,
            place: Location::Setting(text.to_owned()),
            path: String::new(),
            message: message.to_owned(),
            hint: "expected STEP.key=value or Class.parameter=value".to_owned(),
        };
        let Some((name, value)) = text.split_once('=') else {
            return Err(wrong("the \"=\" is missing"));
        };
        let (target, key) = name.split_once('.').map_or(("", name), |(target, key)| (target, key));
        let (target, key) = (target.trim(), key.trim());
        if key.is_empty() {
            return Err(wrong("the key is missing"));
        }
        if target.is_empty() && name.contains('.') {
            return Err(wrong("the name of a step or class is missing before the \".\""));
        }
        Ok(Self {
            target: target.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
            text: text.to_owned(),
            replaces: None,
        })
    }

    /// Makes the setting by which the producer reads these files and directories: its parameter
    /// `files`, which replaces the configuration's `files` and `directory`. Returns nothing
    /// without paths.
    ///
    /// # Errors
    /// If a name is not UTF-8, which a configuration cannot hold.
    pub(crate) fn frames(paths: &[PathBuf]) -> Result<Option<Self>, Diagnostic> {
        let Some(first) = paths.first() else { return Ok(None) };
        let text = match paths.len() {
            1 => first.display().to_string(),
            count => format!("{} and {} more", first.display(), count - 1),
        };
        let mut names = Vec::new();
        for path in paths {
            names.push(Value::from(path.to_str().ok_or_else(|| Diagnostic {
                severity: Severity::Error,
                place: Location::Frames(path.display().to_string()),
                path: String::new(),
                message: "the name is not UTF-8".to_owned(),
                hint: "name its directory instead".to_owned(),
            })?));
        }
        Ok(Some(Self {
            target: PRODUCER.to_owned(),
            key: FILES.to_owned(),
            value: Value::from(names).to_string(),
            text,
            replaces: Some(DIRECTORY),
        }))
    }

    /// The location that a finding about the setting has.
    pub(crate) fn place(&self) -> Location {
        match self.replaces {
            Some(_) => Location::Frames(self.text.clone()),
            None => Location::Setting(self.text.clone()),
        }
    }

    /// The value where JSON is expected; text that is not JSON becomes a string.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.value).unwrap_or_else(|_| self.verbatim())
    }

    /// The key, taken as the name of a parameter.
    pub(crate) fn param(&self) -> &str {
        self.key.strip_prefix("params.").unwrap_or(&self.key)
    }

    /// The value in the form that a key allows: JSON other than a string, or else the text as a
    /// string.
    pub(crate) fn value_for(&self, takes: impl Fn(&Value) -> bool) -> Option<Value> {
        let json = Some(self.json()).filter(|value| !value.is_string());
        json.into_iter().chain([self.verbatim()]).find(|value| takes(value))
    }

    /// The value where a string is expected.
    pub(crate) fn verbatim(&self) -> Value {
        Value::String(self.value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_has_target_key_and_value() {
        let setting = Setting::parse("CLEAN.params.threshold=a=b.c").unwrap();
        assert_eq!(setting.target, "CLEAN");
        assert_eq!(setting.key, "params.threshold");
        assert_eq!(setting.value, "a=b.c");
        assert_eq!(Setting::parse("quarantine=bad").unwrap().target, "");
    }

    #[test]
    fn what_is_no_setting_says_what_one_is() {
        for text in ["CLEAN.nb_thread", "=3", "CLEAN.=3", ".nb_thread=3", ""] {
            let message = Setting::parse(text).unwrap_err().to_string();
            assert!(message.starts_with(&format!("--set {text}: error: the ")), "{message}");
            assert!(message.ends_with("expected STEP.key=value or Class.parameter=value"));
        }
    }

    #[test]
    fn values_are_json_or_text() {
        let value = |text: &str| Setting::parse(text).unwrap().json();
        assert_eq!(value("A.b=3"), 3);
        assert_eq!(value("A.b=[1]"), serde_json::json!([1]));
        assert_eq!(value("A.b=256 MiB"), "256 MiB");
    }
}
