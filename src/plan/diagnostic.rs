//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// Whether a finding prevents the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// The pipeline does not run.
    Error,
    /// The pipeline runs, but perhaps not as intended.
    Warning,
}

/// Where a finding was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Location {
    /// In the file.
    File {
        /// The file's name as it was given.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
    },
    /// On the command line: the setting as it was typed, without `--set`.
    Setting(String),
    /// On the command line: the frames.
    Frames(String),
    /// In the step of this name, of a pipeline that has no file.
    Step(String),
    /// In a pipeline that has no file, as a whole.
    Pipeline,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Location::Setting(text) => write!(f, "--set {}", one_line(text)),
            Location::Frames(text) => write!(f, "frames {}", one_line(text)),
            Location::Step(name) => write!(f, "step {}", quote(name)),
            Location::Pipeline => f.write_str("pipeline"),
        }
    }
}

/// A finding. It is displayed as one line:
/// `pipeline.json:7:31: error: stagers[0].nb_thred: unknown key "nb_thred"; ...`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Diagnostic {
    /// Whether it prevents the run.
    pub severity: Severity,
    /// The location.
    pub place: Location,
    /// The JSON path of what it is about, such as `stagers[0].nb_thread`; may be empty.
    pub path: String,
    /// What was found, and what was expected.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}: {severity}: ", self.place)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", one_line(&self.path))?;
        }
        f.write_str(&one_line(&self.message))?;
        if !self.hint.is_empty() {
            write!(f, "; {}", one_line(&self.hint))?;
        }
        Ok(())
    }
}

/// All findings about a configuration, in the order of the file; the command line's settings
/// come last. Displayed with one finding per line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", one_a_line(diagnostics))]
#[non_exhaustive]
pub struct ConfigError {
    /// The findings, at least one of them an error.
    pub diagnostics: Vec<Diagnostic>,
}

fn one_a_line(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

impl From<Diagnostic> for ConfigError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic] }
    }
}

/// Puts a string in double quotes and escapes what would break a line.
pub(crate) fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

/// Shows a value in a message: short values as they are.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Array(items) if items.is_empty() => "an empty list".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > 60 => {
            format!("{}...", quote(&text.chars().take(60).collect::<String>()))
        }
        _ => value.to_string(),
    }
}

/// Puts names in double quotes, with commas between them.
pub(crate) fn quote_all<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quote).collect::<Vec<_>>().join(", ")
}

/// Returns `did you mean "name"?`, or nothing without a name.
pub(crate) fn did_you_mean(name: Option<&str>) -> String {
    name.map(|name| format!("did you mean {}?", quote(name))).unwrap_or_default()
}

/// Joins the lines of a message from another source: a finding has one line.
fn one_line(text: &str) -> String {
    text.split(['\n', '\r'])
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let diagnostic = Diagnostic {
            severity: Severity::Warning,
            place: Location::File { file: "p.json".into(), line: 7, column: 3 },
            path: "stagers[0]".into(),
            message: "first\nsecond".into(),
            hint: "do it".into(),
        };
        assert_eq!(diagnostic.to_string(), "p.json:7:3: warning: stagers[0]: first second; do it");
    }

    #[test]
    fn places_name_what_they_are() {
        assert_eq!(Location::Setting("A.b=1".into()).to_string(), "--set A.b=1");
        assert_eq!(Location::Step("A\"".into()).to_string(), r#"step "A\"""#);
    }
}
