//! A step's parameters: the section of its class, over it the step's own, over
//! these the command line's.

pub(crate) mod strict;
pub(crate) mod validate;
use serde_json::{Map, Value};

use super::foreign::{InPython, Sections};
use super::sections;
use super::settings::Setting;
use super::text::{Node, Tree};
use crate::base::home;
use crate::base::nearest::nearest;
use crate::plan::diagnostic::{did_you_mean, quote};
use crate::plan::findings::Findings;
use crate::plan::model::STEP;
use crate::plan::spec::{SourceSpan, words};
use crate::stage::registry::Class;
use validate::{Fault, faults, integers, only_text, properties};

/// Where a step's parameters come from.
#[derive(Default)]
pub(crate) struct Params<'d> {
    section: Option<&'d Node>,
    own: Option<&'d Node>,
    set: Vec<(String, Setting, usize)>,
    /// Those of the command line as a class in Python reads them.
    read: Vec<Option<Value>>,
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

    /// The parameters of the command line, as they were typed.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        self.set.iter().map(|(param, setting, _)| (param.clone(), setting.value.clone())).collect()
    }

    /// Takes the values of the command line's parameters from who knows how to read them.
    pub(crate) fn read(&mut self, values: &[Option<Value>]) {
        self.read = values.to_vec();
    }

    fn source(&self, param: &str) -> Option<Source<'d>> {
        let set = self.set.iter().rev().find(|(name, ..)| first_part(name) == param);
        if let Some((.., index)) = set {
            return Some(Source::Setting(*index));
        }
        let given = [self.own, self.section].into_iter().flatten();
        given
            .filter_map(|object| object.get(param))
            .map(|member| Source::File { key: member.offset, value: &member.value })
            .next()
    }

    /// The parameters that the file gives.
    pub(crate) fn of_file(&self) -> Value {
        let mut merged = Map::new();
        for object in [self.section, self.own].into_iter().flatten() {
            for member in object.members() {
                // Of a key that is given twice, the first stands.
                if object.get(&member.key).is_some_and(|first| first.offset == member.offset) {
                    merged.insert(member.key.clone(), member.value.to_value());
                }
            }
        }
        let mut merged = Value::Object(merged);
        in_home(&mut merged);
        merged
    }

    /// The effective parameters.
    fn merged(&self, class: &Class) -> Value {
        let schema = class.schema();
        let mut merged = self.of_file();
        for (place, (param, setting, _)) in self.set.iter().enumerate() {
            if let (Some(replaced), Some(given)) = (setting.replaces, merged.as_object_mut()) {
                given.remove(replaced);
            }
            let read = self.read.get(place).cloned().flatten();
            let mut value = read.unwrap_or_else(|| match only_text(schema, param) {
                true => setting.verbatim(),
                false => setting.json(),
            });
            in_home(&mut value);
            // A name with points leads into the sections of a class's helpers.
            let parts =
                if class.is_foreign() { param.split('.').collect() } else { vec![&**param] };
            insert(&mut merged, &parts, value);
        }
        integers(schema, &mut merged);
        merged
    }

    /// The effective parameters, checked against the schema of the class and,
    /// if that finds nothing, by the class itself.
    pub(crate) fn check(
        &self,
        class: &Class,
        python: Option<&InPython>,
        step: usize,
        report: &mut Findings<'_>,
    ) -> Value {
        let params = self.merged(class);
        let faults = faults(class.schema(), &params);
        for fault in &faults {
            if class.is_foreign() && fault.path.len() == 1 && fault.known.is_some() {
                match fault.path.first().filter(|_| python.is_some_and(|p| p.configurable)) {
                    Some(name) if sections::is_name(name) && params[name].is_object() => {
                        let known = python.map(|python| &*python.sections);
                        self.nested(known, name, &params[name], step, report);
                    }
                    _ => self.undeclared(fault, class, step, report),
                }
                continue;
            }
            let origin = self.locate(fault, step);
            let (message, hint) = self.describe(fault, class, &origin);
            report.error(&origin, message, hint);
        }
        if faults.is_empty() {
            let refused = match python {
                Some(python) => python.invalid.clone(),
                None => class.try_build(&params).err().map(|failure| failure.to_string()),
            };
            if let Some(message) = refused {
                self.refused(&message, class, &params, step, report);
            }
        }
        params
    }

    /// The sections of a class's helpers among its own parameters.
    fn nested(
        &self,
        known: Option<&Sections>,
        name: &str,
        section: &Value,
        step: usize,
        report: &mut Findings<'_>,
    ) {
        let Some(known) = known else { return };
        for odd in sections::odd(known, name, section) {
            let fault = Fault {
                path: odd.path,
                message: String::new(),
                hint: String::new(),
                known: Some(Vec::new()),
            };
            report.warning(&self.locate(&fault, step), odd.message, odd.hint);
        }
    }

    /// A class in another language need not declare all that it takes.
    fn undeclared(&self, fault: &Fault, class: &Class, step: usize, report: &mut Findings<'_>) {
        let name = fault.path.last().map(String::as_str).unwrap_or_default();
        let message = format!(
            "class {} does not declare the parameter {}, which is passed to it all the same",
            quote(class.name()),
            quote(name)
        );
        let known = fault.known.iter().flatten().map(String::as_str);
        report.warning(&self.locate(fault, step), message, did_you_mean(nearest(name, known)));
    }

    /// What the class says of its parameters that the schema cannot say. If it does not say
    /// which of them it means, that is the one without which it says something else.
    fn refused(
        &self,
        message: &str,
        class: &Class,
        params: &Value,
        step: usize,
        report: &mut Findings<'_>,
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
        let path = meant.cloned().into_iter().collect();
        let fault = Fault { path, message: String::new(), hint: String::new(), known: None };
        let message = format!("class {}: {message}", quote(class.name()));
        report.error(&self.locate(&fault, step), message, "");
    }

    /// Where each of the parameters was given.
    pub(crate) fn origins(&self, params: &Value, step: usize) -> Vec<(String, SourceSpan)> {
        let names = params.as_object().into_iter().flat_map(Map::keys);
        let origin = |name: &String| {
            let path = vec![name.clone()];
            let fault = Fault { path, message: String::new(), hint: String::new(), known: None };
            (name.clone(), self.locate(&fault, step))
        };
        names.map(origin).collect()
    }

    fn describe(&self, fault: &Fault, class: &Class, origin: &SourceSpan) -> (String, String) {
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
            SourceSpan::Setting(_) => did_you_mean(nearest(last, names.chain(keys))),
            _ => did_you_mean(nearest(last, names)),
        };
        (message, hint)
    }

    /// Where a fault is in the file or on the command line.
    fn locate(&self, fault: &Fault, step: usize) -> SourceSpan {
        let Some((first, rest)) = fault.path.split_first() else {
            return SourceSpan::File(self.own.map_or(step, |own| own.offset));
        };
        match self.source(first) {
            Some(Source::Setting(index)) => SourceSpan::Setting(index),
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
                SourceSpan::File(if fault.known.is_some() { key } else { value.offset })
            }
            None => SourceSpan::File(self.own.map_or(step, |own| own.offset)),
        }
    }
}

/// The name of the parameter that a dotted name leads into.
fn first_part(name: &str) -> &str {
    name.split_once('.').map_or(name, |(first, _)| first)
}

/// Puts a value where the names lead, into objects that are made on the way.
fn insert(object: &mut Value, names: &[&str], value: Value) {
    let (Some((first, rest)), Some(members)) = (names.split_first(), object.as_object_mut()) else {
        return;
    };
    if rest.is_empty() {
        members.insert((*first).to_owned(), value);
        return;
    }
    let inner = members.entry(*first).or_insert_with(|| Value::Object(Map::new()));
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    insert(inner, rest, value);
}

/// Texts that begin with `~/` are paths in the home directory.
pub(crate) fn in_home(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(expanded) = home::expand_text(text) {
                *text = expanded;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(in_home),
        Value::Object(members) => members.values_mut().for_each(in_home),
        _ => {}
    }
}
