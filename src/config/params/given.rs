//! The parameters of a step as they are given. The step's own override the section of its class,
//! and the command line's override both.

use serde_json::{Map, Value};

use super::declared::{integers, only_text};
use super::fault::Fault;
use crate::base::home;
use crate::config::overrides::Setting;
use crate::config::text::{Node, Tree};
use crate::plan::span::SourceSpan;
use crate::stage::registry::Class;

/// Where a step's parameters come from.
#[derive(Default)]
pub(crate) struct Params<'d> {
    section: Option<&'d Node>,
    own: Option<&'d Node>,
    set: Vec<(String, Setting, usize)>,
    /// The command line's parameters as a class in Python reads them.
    read: Vec<Option<Value>>,
}

/// Where the value of a parameter was set.
enum Source<'d> {
    File { key: usize, value: &'d Node },
    Setting(usize),
}

impl<'d> Params<'d> {
    /// Adds the section of the step's class.
    pub(crate) fn section(&mut self, object: &'d Node) {
        self.section.get_or_insert(object);
    }

    /// Adds the step's own parameters.
    pub(crate) fn own(&mut self, object: &'d Node) {
        self.own = Some(object);
    }

    /// Adds a parameter of the command line.
    pub(crate) fn set(&mut self, param: &str, setting: &Setting, index: usize) {
        self.set.push((param.to_owned(), setting.clone(), index));
    }

    /// The parameters of the command line, as they were typed.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        self.set.iter().map(|(param, setting, _)| (param.clone(), setting.value.clone())).collect()
    }

    /// Takes the values of the command line's parameters as the class reads them.
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
                // If a key is there twice, the first one counts.
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
    pub(super) fn merged(&self, class: &Class) -> Value {
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

    /// Returns where each of the parameters was set.
    pub(crate) fn spans(&self, params: &Value, step: usize) -> Vec<(String, SourceSpan)> {
        let names = params.as_object().into_iter().flat_map(Map::keys);
        let span =
            |name: &String| (name.clone(), self.locate(&Fault::at(vec![name.clone()]), step));
        names.map(span).collect()
    }

    /// Returns where a fault is in the file or on the command line.
    pub(super) fn locate(&self, fault: &Fault, step: usize) -> SourceSpan {
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

/// Returns the first part of a dotted name, the parameter that it leads into.
fn first_part(name: &str) -> &str {
    name.split_once('.').map_or(name, |(first, _)| first)
}

/// Puts a value where the names lead, and makes the objects on the way.
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

/// Expands strings that begin with `~/`: they are paths in the home directory.
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
