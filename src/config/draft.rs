//! A step as the file has it, with the settings of the command line.

use serde_json::Value;

use super::dialect::{Dialect, Lowered, is_top_level, node_at};
use super::overrides::{PRODUCER, Setting};
use super::params::Params;
use super::read::{find, read, unknown_key, wrong_value};
use super::text::Node;
use crate::plan::diagnostic::quote;
use crate::plan::findings::Findings;
use crate::plan::keys::{Key, Options as _, Tag};
use crate::plan::options::{StepOptions, StepWork};
use crate::plan::span::SourceSpan;
use crate::plan::spec::Role;

/// The keys of a step.
pub(crate) fn keys() -> Vec<&'static Key> {
    StepWork::KEYS.iter().chain(StepOptions::KEYS).collect()
}

/// A step whose class has not been examined yet.
pub(crate) struct Draft<'d> {
    pub(crate) role: Role,
    pub(crate) node: &'d Node,
    dialect: Dialect,
    pub(crate) work: StepWork,
    pub(crate) options: StepOptions,
    pub(crate) params: Params<'d>,
}

impl<'d> Draft<'d> {
    fn read(role: Role, node: &'d Node, dialect: Dialect, findings: &mut Findings) -> Self {
        let mut draft = Self {
            role,
            node,
            dialect,
            work: StepWork::default(),
            options: StepOptions::default(),
            params: Params::default(),
        };
        let keys = keys();
        read(
            node,
            &keys,
            findings,
            |key, value, span| draft.set(key.name, value, span),
            |member, findings| unknown_key(member, &keys, [], findings),
        );
        if let Some(params) = node_at(node, draft.work.params.span.as_ref()) {
            draft.params.own(params);
        }
        draft
    }

    /// Sets a key; false if its form does not allow the value.
    fn set(&mut self, key: &str, value: &Value, span: SourceSpan) -> bool {
        let value = self.dialect.value(key, value);
        self.work.set(key, &value, span.clone()) || self.options.set(key, &value, span)
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.work.name.given().map(String::as_str)
    }

    pub(crate) fn class(&self) -> Option<&str> {
        self.work.class.given().map(String::as_str)
    }

    pub(crate) fn module(&self) -> Option<&str> {
        self.work.module.given().map(String::as_str)
    }

    /// Where a key was set; `None` if it was not.
    pub(crate) fn given_at(&self, key: &str) -> Option<&SourceSpan> {
        self.work.span(key).or_else(|| self.options.span(key))
    }

    /// Where a key was set, or else the step.
    pub(crate) fn span(&self, key: &str) -> SourceSpan {
        self.given_at(key).cloned().unwrap_or(SourceSpan::File(self.node.offset))
    }

    fn apply(&mut self, setting: &Setting, index: usize, findings: &mut Findings) {
        let span = SourceSpan::Setting(index);
        if let Some(param) = setting.key.strip_prefix("params.") {
            self.params.set(param, setting, index);
            return;
        }
        let Some(key) = find(&keys(), &setting.key) else {
            self.params.set(&setting.key, setting, index);
            return;
        };
        if key.is(Tag::FileOnly) {
            let hint = match key.name {
                "params" => "set one parameter at a time: STEP.params.name=value",
                _ => "",
            };
            findings.error(&span, format!("{} cannot be set", quote(key.name)), hint);
            return;
        }
        let values = [setting.json(), setting.verbatim()];
        if !values.iter().any(|value| self.set(key.name, value, span.clone())) {
            wrong_value(key, &values[0], &span, findings);
        }
    }
}

/// Reads the steps, gives them the sections of their classes, and puts the command line's
/// settings over the file's.
pub(crate) fn drafts<'d>(
    lowered: &Lowered<'d>,
    settings: &[Setting],
    findings: &mut Findings,
) -> Vec<Draft<'d>> {
    let steps = lowered.steps.iter();
    let mut drafts: Vec<Draft<'_>> =
        steps.map(|(role, node)| Draft::read(*role, node, lowered.dialect, findings)).collect();
    for section in &lowered.sections {
        for draft in drafts.iter_mut().filter(|draft| draft.class() == Some(&section.key)) {
            draft.params.section(&section.value);
        }
    }
    for (index, setting) in settings.iter().enumerate().filter(|(_, s)| !is_top_level(s)) {
        let target = setting.target.as_str();
        if drafts.iter().any(|draft| draft.name() == Some(target)) {
            for draft in drafts.iter_mut().filter(|draft| draft.name() == Some(target)) {
                draft.apply(setting, index, findings);
            }
        } else if target == PRODUCER {
            for draft in drafts.iter_mut().filter(|draft| draft.role == Role::Producer) {
                draft.apply(setting, index, findings);
            }
        } else {
            for draft in drafts.iter_mut().filter(|draft| draft.class() == Some(target)) {
                draft.params.set(setting.param(), setting, index);
            }
        }
    }
    drafts
}
