//! Finds the line and the JSON path of a finding.

use super::overrides::Setting;
use super::text::{Node, line_column, parse};
use crate::plan::diagnostic::Location;
use crate::plan::findings::Findings;
use crate::plan::span::SourceSpan;

/// The text of a configuration file, and the settings that go with it.
pub(crate) struct Source<'a> {
    file: &'a str,
    text: &'a str,
    settings: &'a [Setting],
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str, settings: &'a [Setting]) -> Self {
        // Editors on Windows put a byte order mark before the text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { file, text, settings }
    }

    /// Reads the text; returns nothing if it is not JSON at all.
    pub(crate) fn parse(&self, findings: &mut Findings) -> Option<Node> {
        let (root, problems) = parse(self.text);
        for problem in problems {
            findings.error(&SourceSpan::File(problem.offset), problem.message, problem.hint);
        }
        root
    }

    /// Whether the text has `part` at `offset`, to the letter.
    pub(crate) fn has(&self, offset: usize, part: &str) -> bool {
        self.text.get(offset..).is_some_and(|rest| rest.starts_with(part))
    }

    /// The location of a span, and the JSON path that leads to it; the path is empty without a
    /// `root`, and outside the file.
    pub(crate) fn locate(&self, root: Option<&Node>, span: &SourceSpan) -> (Location, String) {
        let place = match span {
            SourceSpan::File(offset) => {
                let (line, column) = line_column(self.text, *offset);
                let path = root.map(|root| root.path(*offset)).unwrap_or_default();
                return (Location::File { file: self.file.to_owned(), line, column }, path);
            }
            SourceSpan::Setting(index) => match self.settings.get(*index) {
                Some(setting) => setting.place(),
                None => Location::Pipeline,
            },
            SourceSpan::Step(name) => Location::Step(name.clone()),
            SourceSpan::Pipeline => Location::Pipeline,
        };
        (place, String::new())
    }
}
