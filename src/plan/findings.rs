//! Gathers findings and gives each its place.

use std::collections::HashSet;

use super::diagnostic::{ConfigError, Diagnostic, Location, Severity};
use super::spec::SourceSpan;
use crate::config::settings::Setting;
use crate::config::text::{Node, line_column, parse};

/// The text of a configuration and what stands where in it.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

/// The findings so far.
#[derive(Default)]
pub(crate) struct Findings<'a> {
    source: Option<Source<'a>>,
    settings: &'a [Setting],
    found: Vec<Finding>,
    known: HashSet<Finding>,
}

type Finding = (Severity, SourceSpan, String, String);

impl<'a> Findings<'a> {
    /// Reads the text of a file.
    pub(crate) fn read(
        text: &'a str,
        file: &'a str,
        settings: &'a [Setting],
    ) -> Result<(Node, Self), ConfigError> {
        // Editors on Windows put a byte order mark before the text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (root, problems) = parse(text);
        let mut report = Self { source: Some(Source { file, text }), settings, ..Self::default() };
        for problem in problems {
            report.error(&SourceSpan::File(problem.offset), problem.message, problem.hint);
        }
        match root {
            Some(root) => Ok((root, report)),
            None => Err(ConfigError { diagnostics: report.diagnostics(None) }),
        }
    }

    pub(crate) fn error(
        &mut self,
        origin: &SourceSpan,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Error, origin, message.into(), hint.into());
    }

    pub(crate) fn warning(
        &mut self,
        origin: &SourceSpan,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Warning, origin, message.into(), hint.into());
    }

    /// A parameter of a class is read once for each of its steps, but what is
    /// wrong with it is said once.
    fn add(&mut self, severity: Severity, origin: &SourceSpan, message: String, hint: String) {
        let finding = (severity, origin.clone(), message, hint);
        if self.known.insert(finding.clone()) {
            self.found.push(finding);
        }
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|(severity, ..)| *severity == Severity::Error)
    }

    /// Whether `part` stands as it is at `offset` of the text.
    pub(crate) fn stands(&self, offset: usize, part: &str) -> bool {
        let text = self.source.as_ref().map_or("", |source| source.text);
        text.get(offset..).is_some_and(|rest| rest.starts_with(part))
    }

    /// The findings in the order of the file, then of the settings.
    fn diagnostics(mut self, root: Option<&Node>) -> Vec<Diagnostic> {
        let mut found = std::mem::take(&mut self.found);
        found.sort_by_key(|(_, origin, ..)| match origin {
            SourceSpan::File(offset) => (0, *offset),
            SourceSpan::Setting(index) => (1, *index),
            SourceSpan::Step(_) | SourceSpan::Pipeline => (2, 0),
        });
        let place = |(severity, origin, message, hint)| {
            let (place, path) = self.place(&origin, root);
            Diagnostic { severity, place, path, message, hint }
        };
        found.into_iter().map(place).collect()
    }

    fn place(&self, origin: &SourceSpan, root: Option<&Node>) -> (Location, String) {
        let place = match (origin, &self.source) {
            (SourceSpan::File(offset), Some(source)) => {
                let (line, column) = line_column(source.text, *offset);
                let path = root.map(|root| root.path(*offset)).unwrap_or_default();
                return (Location::File { file: source.file.to_owned(), line, column }, path);
            }
            (SourceSpan::Setting(index), _) => match self.settings.get(*index) {
                Some(setting) => setting.place(),
                None => Location::Pipeline,
            },
            (SourceSpan::Step(name), _) => Location::Step(name.clone()),
            (SourceSpan::File(_) | SourceSpan::Pipeline, _) => Location::Pipeline,
        };
        (place, String::new())
    }

    /// The warnings, if there are no errors.
    pub(crate) fn finish(self, root: Option<&Node>) -> Result<Vec<Diagnostic>, ConfigError> {
        let errors = self.has_errors();
        let diagnostics = self.diagnostics(root);
        if errors { Err(ConfigError { diagnostics }) } else { Ok(diagnostics) }
    }
}
