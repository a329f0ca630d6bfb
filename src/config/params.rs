//! A step's parameters: the section of its class, over it the step's own, over
//! these the command line's.

use serde_json::{Map, Value};

use super::diagnostic::{did_you_mean, quote};
use super::keys::STEP;
use super::node::{Node, Tree};
use super::report::Report;
use super::settings::Setting;
use super::spec::Origin;
use super::validate::{Fault, faults, only_text, properties};
use crate::nearest::nearest;
use crate::registry::Class;

/// Where a step's parameters come from.
#[derive(Default)]
pub(crate) struct Params<'d> {
    section: Option<&'d Node>,
    own: Option<&'d Node>,
    set: Vec<(String, Setting, usize)>,
}

/// Where the value of one parameter was given.
enum Source<'d> {
    File { key: usize, value: &'d Node },
    Setting(usize),
}

impl<'d> Params<'d> {
    /// The parameters of the step's class.
    pub(crate) fn section(&mut self, object: &'d Node) {
        self.section.get_or_insert(object);
    }

    /// The step's own parameters.
    pub(crate) fn own(&mut self, object: &'d Node) {
        self.own = Some(object);
    }

    /// A parameter of the command line.
    pub(crate) fn set(&mut self, param: &str, setting: &Setting, index: usize) {
        self.set.push((param.to_owned(), setting.clone(), index));
    }

    fn source(&self, param: &str) -> Option<Source<'d>> {
        let set = self.set.iter().rev().find(|(name, ..)| name == param);
        if let Some((.., index)) = set {
            return Some(Source::Setting(*index));
        }
        let given = [self.own, self.section].into_iter().flatten();
        given
            .filter_map(|object| object.get(param))
            .map(|member| Source::File { key: member.offset, value: &member.value })
            .next()
    }

    /// The effective parameters.
    fn merged(&self, schema: &Value) -> Value {
        let mut merged = Map::new();
        for object in [self.section, self.own].into_iter().flatten() {
            for member in object.members() {
                // Of a key that is given twice, the first stands.
                if object.get(&member.key).is_some_and(|first| first.offset == member.offset) {
                    merged.insert(member.key.clone(), member.value.to_value());
                }
            }
        }
        for (param, setting, _) in &self.set {
            let text = only_text(schema, param);
            let value = if text { setting.verbatim() } else { setting.json() };
            merged.insert(param.clone(), value);
        }
        Value::Object(merged)
    }

    /// The effective parameters, checked against the schema of the class and,
    /// if that finds nothing, by the class itself.
    pub(crate) fn check(&self, class: &Class, step: usize, report: &mut Report<'_>) -> Value {
        let schema = class.schema();
        let params = self.merged(schema);
        let faults = faults(schema, &params);
        for fault in &faults {
            if class.is_foreign() && fault.path.len() == 1 && fault.known.is_some() {
                self.undeclared(fault, class, step, report);
                continue;
            }
            let origin = self.locate(fault, step);
            let (message, hint) = self.describe(fault, class, &origin);
            report.error(&origin, message, hint);
        }
        if faults.is_empty() && !class.is_foreign() {
            self.build(class, &params, step, report);
        }
        params
    }

    /// A class in another language need not declare all that it takes.
    fn undeclared(&self, fault: &Fault, class: &Class, step: usize, report: &mut Report<'_>) {
        let name = fault.path.last().map(String::as_str).unwrap_or_default();
        let message = format!(
            "class {} does not declare the parameter {}, which is passed to it all the same",
            quote(class.name()),
            quote(name)
        );
        let known = fault.known.iter().flatten().map(String::as_str);
        report.warning(&self.locate(fault, step), message, did_you_mean(nearest(name, known)));
    }

    /// Builds an instance once, for what the schema cannot say.
    fn build(&self, class: &Class, params: &Value, step: usize, report: &mut Report<'_>) {
        let Err(failure) = class.try_build(params) else { return };
        let message = failure.to_string();
        let names = properties(class.schema());
        let path = named(&message, &names).map(str::to_owned).into_iter().collect();
        let fault = Fault { path, message: String::new(), hint: String::new(), known: None };
        let message = format!("class {}: {message}", quote(class.name()));
        report.error(&self.locate(&fault, step), message, "");
    }

    fn describe(&self, fault: &Fault, class: &Class, origin: &Origin) -> (String, String) {
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
            [] => "there are none".to_owned(),
            known => format!("expected one of {}", known.join(", ")),
        };
        let message = format!("unknown parameter {} of class {class}; {expected}", quote(last));
        // A setting of a step may have meant one of the step's keys.
        let keys = STEP.iter().map(|key| key.name);
        let hint = match origin {
            Origin::Setting(_) => did_you_mean(nearest(last, names.chain(keys))),
            _ => did_you_mean(nearest(last, names)),
        };
        (message, hint)
    }

    /// Where a fault is in the file or on the command line.
    fn locate(&self, fault: &Fault, step: usize) -> Origin {
        let Some((first, rest)) = fault.path.split_first() else {
            return Origin::File(self.own.map_or(step, |own| own.offset));
        };
        match self.source(first) {
            Some(Source::Setting(index)) => Origin::Setting(index),
            Some(Source::File { key, value }) => {
                let (mut key, mut value) = (key, value);
                for segment in rest {
                    let inner = match &value.tree {
                        Tree::List(items) => segment.parse().ok().and_then(|i: usize| items.get(i)),
                        _ => value.get(segment).map(|member| {
                            key = member.offset;
                            &member.value
                        }),
                    };
                    value = inner.unwrap_or(value);
                }
                Origin::File(if fault.known.is_some() { key } else { value.offset })
            }
            None => Origin::File(self.own.map_or(step, |own| own.offset)),
        }
    }
}

/// The parameter that a message speaks of: the one that it names first.
fn named<'a>(message: &str, names: &'a [String]) -> Option<&'a str> {
    let words = message.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.into_iter().find_map(|word| names.iter().find(|name| *name == word)).map(String::as_str)
}
