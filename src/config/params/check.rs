//! The check of a step's parameters: by the schema of its class, then by the class itself.

use serde_json::{Map, Value};

use super::declared::properties;
use super::fault::Fault;
use super::given::Params;
use super::validate::faults;
use crate::base::nearest::nearest;
use crate::config::foreign::{InPython, Sections};
use crate::config::sections;
use crate::plan::diagnostic::{did_you_mean, quote};
use crate::plan::findings::Findings;
use crate::plan::keys::Options as _;
use crate::plan::options::{StepOptions, StepWork};
use crate::plan::span::SourceSpan;
use crate::plan::spec::words;
use crate::stage::registry::Class;

impl Params<'_> {
    /// Returns the effective parameters, checked against the schema of the class and, if that
    /// finds nothing, by the class itself.
    pub(crate) fn check(
        &self,
        class: &Class,
        python: Option<&InPython>,
        step: usize,
        findings: &mut Findings,
    ) -> Value {
        let params = self.merged(class);
        let faults = faults(class.schema(), &params);
        for fault in &faults {
            if class.is_foreign() && fault.path.len() == 1 && fault.known.is_some() {
                match fault.path.first().filter(|_| python.is_some_and(|p| p.configurable)) {
                    Some(name) if sections::is_name(name) && params[name].is_object() => {
                        let known = python.map(|python| &*python.sections);
                        self.nested(known, name, &params[name], step, findings);
                    }
                    _ => self.undeclared(fault, class, step, findings),
                }
                continue;
            }
            let span = self.locate(fault, step);
            let (message, hint) = self.describe(fault, class, &span);
            findings.error(&span, message, hint);
        }
        if faults.is_empty() {
            let refused = match python {
                Some(python) => python.invalid.clone(),
                None if class.is_foreign() => None,
                None => class.try_build(&params).err().map(|failure| failure.to_string()),
            };
            if let Some(message) = refused {
                self.refused(&message, class, &params, step, findings);
            }
        }
        params
    }

    /// Checks sections of a class's helpers that stand among its own parameters.
    fn nested(
        &self,
        known: Option<&Sections>,
        name: &str,
        section: &Value,
        step: usize,
        findings: &mut Findings,
    ) {
        let Some(known) = known else { return };
        for odd in sections::odd(known, name, section) {
            let fault = Fault { known: Some(Vec::new()), ..Fault::at(odd.path) };
            findings.warning(&self.locate(&fault, step), odd.message, odd.hint);
        }
    }

    /// Warns about an undeclared parameter: a class in another language need not declare all
    /// that it takes.
    fn undeclared(&self, fault: &Fault, class: &Class, step: usize, findings: &mut Findings) {
        let name = fault.path.last().map(String::as_str).unwrap_or_default();
        let message = format!(
            "class {} does not declare the parameter {}, but receives it anyway",
            quote(class.name()),
            quote(name)
        );
        let known = fault.known.iter().flatten().map(String::as_str);
        findings.warning(&self.locate(fault, step), message, did_you_mean(nearest(name, known)));
    }

    /// Reports the class's own objection to its parameters. If the message names none of them,
    /// blames the one without which the class reports another objection.
    fn refused(
        &self,
        message: &str,
        class: &Class,
        params: &Value,
        step: usize,
        findings: &mut Findings,
    ) {
        let names = properties(class.schema());
        let meant = words(message).find_map(|word| names.iter().find(|name| *name == word));
        let without = |name: &&String| {
            let mut rest = params.clone();
            rest.as_object_mut().and_then(|rest| rest.remove(*name));
            class.try_build(&rest).err().is_none_or(|failure| failure.to_string() != message)
        };
        let given = || params.as_object().into_iter().flat_map(Map::keys);
        let meant = meant.or_else(|| given().find(without).filter(|_| !class.is_foreign()));
        let fault = Fault::at(meant.cloned().into_iter().collect());
        let message = format!("class {}: {message}", quote(class.name()));
        findings.error(&self.locate(&fault, step), message, "");
    }

    fn describe(&self, fault: &Fault, class: &Class, span: &SourceSpan) -> (String, String) {
        let class = quote(class.name());
        let Some((last, known)) = fault.path.last().zip(fault.known.as_ref()) else {
            let parameter = match fault.path.as_slice() {
                [] => format!("class {class}"),
                path => format!("parameter {} of class {class}", quote(&path.join("."))),
            };
            return (format!("{parameter}: {}", fault.message), fault.hint.clone());
        };
        let names = known.iter().map(String::as_str);
        let expected = match known.as_slice() {
            [] => "it has none".to_owned(),
            known => format!("expected one of {}", known.join(", ")),
        };
        let message = format!("unknown parameter {} of class {class}; {expected}", quote(last));
        // A setting of a step may have meant one of the step's keys.
        let keys = StepWork::KEYS.iter().chain(StepOptions::KEYS).map(|key| key.name);
        let hint = match span {
            SourceSpan::Setting(_) => did_you_mean(nearest(last, names.chain(keys))),
            _ => did_you_mean(nearest(last, names)),
        };
        (message, hint)
    }
}
