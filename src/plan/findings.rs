//! Collects everything that is wrong with a configuration.

use std::collections::HashSet;

use super::diagnostic::{ConfigError, Diagnostic, Location, Severity};
use super::span::SourceSpan;

/// The findings so far, each with the span that it is about.
#[derive(Default)]
pub(crate) struct Findings {
    found: Vec<Finding>,
    known: HashSet<Finding>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Finding {
    severity: Severity,
    span: SourceSpan,
    message: String,
    hint: String,
}

impl Findings {
    pub(crate) fn error(
        &mut self,
        span: &SourceSpan,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Error, span, message.into(), hint.into());
    }

    pub(crate) fn warning(
        &mut self,
        span: &SourceSpan,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Warning, span, message.into(), hint.into());
    }

    /// Adds a finding once: each step of a class checks the class's parameters again.
    fn add(&mut self, severity: Severity, span: &SourceSpan, message: String, hint: String) {
        let finding = Finding { severity, span: span.clone(), message, hint };
        if self.known.insert(finding.clone()) {
            self.found.push(finding);
        }
    }

    /// Returns the warnings.
    ///
    /// # Errors
    /// All findings, if one of them is an error.
    pub(crate) fn finish(
        self,
        locate: impl Fn(&SourceSpan) -> (Location, String),
    ) -> Result<Vec<Diagnostic>, ConfigError> {
        let has_errors = self.found.iter().any(|finding| finding.severity == Severity::Error);
        let diagnostics = self.into_diagnostics(locate);
        if has_errors { Err(ConfigError { diagnostics }) } else { Ok(diagnostics) }
    }

    /// Returns the findings in the order of the file, then of the settings. `locate` gives
    /// each span its location and its JSON path.
    pub(crate) fn into_diagnostics(
        mut self,
        locate: impl Fn(&SourceSpan) -> (Location, String),
    ) -> Vec<Diagnostic> {
        self.found.sort_by_key(|finding| match finding.span {
            SourceSpan::File(offset) => (0, offset),
            SourceSpan::Setting(index) => (1, index),
            SourceSpan::Step(_) | SourceSpan::Pipeline => (2, 0),
        });
        let diagnostic = |Finding { severity, span, message, hint }| {
            let (place, path) = locate(&span);
            Diagnostic { severity, place, path, message, hint }
        };
        self.found.into_iter().map(diagnostic).collect()
    }
}
