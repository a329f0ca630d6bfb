//! The owners of sections of parameters. A section named after the class of a step belongs to
//! that step. A class of traitlets takes the whole configuration, so its helpers have sections
//! too, inside its own or beside it.

use serde_json::Value;

use super::dialect::{Dialect, Lowered, native};
use super::draft::Draft;
use super::foreign::{Found, Sections};
use super::read::unknown_key;
use super::text::{Member, Node};
use crate::base::nearest::nearest;
use crate::plan::diagnostic::{did_you_mean, quote};
use crate::plan::findings::Findings;
use crate::plan::span::SourceSpan;
use crate::stage::registry::{Class, Registry};

/// What is known about the owners of sections.
pub(crate) struct Claims<'c> {
    pub(crate) dialect: Dialect,
    pub(crate) registry: &'c Registry,
    /// For each step, its class, and whether that is in Python.
    steps: Vec<(String, bool)>,
    /// The names of the steps.
    names: Vec<String>,
    /// The sections of classes in Python that take the whole configuration, and of their
    /// helpers.
    known: Sections,
    /// Whether such a class exists.
    configurable: bool,
    /// Whether a class could not be examined.
    unsure: bool,
}

impl<'c> Claims<'c> {
    pub(crate) fn new(
        drafts: &[Draft<'_>],
        found: &[Option<Found>],
        dialect: Dialect,
        registry: &'c Registry,
    ) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let in_python =
            |found: &Option<Found>| matches!(found, Some(Found::Class(_) | Found::Unusable));
        let classes = found.iter().flatten().filter_map(|found| match found {
            Found::Class(class) => Some(&**class),
            _ => None,
        });
        let mut known = Sections::new();
        for class in classes.clone() {
            known.extend(class.sections.iter().map(|(name, keys)| (name.clone(), keys.clone())));
        }
        Self {
            dialect,
            registry,
            steps: drafts.iter().zip(found).map(|(d, f)| (text(d.class()), in_python(f))).collect(),
            names: drafts.iter().map(|draft| text(draft.name())).collect(),
            known,
            configurable: classes.clone().any(|class| class.configurable),
            unsure: found.iter().any(|found| matches!(found, Some(Found::Unusable))),
        }
    }

    /// Whether a step is of this class. Reports an error if one step is of a built-in class and
    /// another of a class in Python with the same name.
    fn is_of_step(&self, class: &str, span: &SourceSpan, findings: &mut Findings) -> bool {
        let mut kinds = self.steps.iter().filter(|(name, _)| name == class).map(|(_, kind)| *kind);
        let Some(first) = kinds.next() else { return false };
        if kinds.any(|kind| kind != first) {
            let class = quote(class);
            let message = format!("there are two classes {class}: drpipe's own and one in Python");
            findings.error(span, message, "give the parameters in the \"params\" of the steps");
        }
        true
    }

    /// Reports sections that no class takes.
    pub(crate) fn check_sections(&self, lowered: &Lowered<'_>, findings: &mut Findings) {
        for section in &lowered.sections {
            self.check_section(section, findings);
        }
    }

    fn check_section(&self, section: &Member, findings: &mut Findings) {
        let span = SourceSpan::File(section.offset);
        let name = section.key.as_str();
        if self.is_of_step(name, &span, findings) {
            return;
        }
        if self.configurable && self.known.contains_key(name) {
            for odd in odd(&self.known, name, &section.value.to_value()) {
                let offset = section.value.offset_of(&odd.path[1..]).unwrap_or(section.offset);
                findings.warning(&SourceSpan::File(offset), odd.message, odd.hint);
            }
        } else if self.registry.knows(name) {
            let message = format!("no step is of class {}", quote(name));
            findings.warning(&span, message, "its parameters are not used");
        } else if self.dialect == Dialect::Ctapipe {
            let message = format!("no known class takes the section {}", quote(name));
            findings.warning(&span, message, did_you_mean(nearest(name, self.classes())));
        } else if !self.unsure {
            unknown_key(section, &native::keys(), self.classes(), findings);
        }
    }

    fn classes(&self) -> impl Iterator<Item = &str> {
        let of_steps = self.steps.iter().map(|(class, _)| class.as_str());
        let known = self.known.keys().map(String::as_str);
        of_steps.chain(known).chain(self.registry.classes().map(Class::name))
    }

    /// Checks a setting of the command line that names no step.
    pub(crate) fn check_setting(
        &self,
        target: &str,
        param: &str,
        lowered: &Lowered<'_>,
        span: &SourceSpan,
        findings: &mut Findings,
    ) {
        if self.is_of_step(target, span, findings) {
            return;
        }
        if let Some(params) = self.known.get(target).filter(|_| self.configurable) {
            if !params.iter().any(|name| name == param) && !is_name(param) {
                let (message, hint) = unknown(target, param, params);
                findings.warning(span, message, hint);
            }
            for section in &lowered.sections {
                if let Some(path) = inside(&section.value, &section.key, target, param) {
                    let message = format!("{} in the file overrides it", quote(&path));
                    findings.warning(span, message, format!("set that: --{path}.{param}=..."));
                }
            }
            return;
        }
        if self.registry.knows(target) {
            findings.error(span, format!("no step is of class {}", quote(target)), "");
            return;
        }
        let near = nearest(target, self.names.iter().map(String::as_str).chain(self.classes()));
        let in_file = lowered.sections.iter().any(|section| section.key == target);
        let theirs = self.dialect == Dialect::Ctapipe && self.configurable;
        if self.unsure || (theirs && in_file) {
            return;
        }
        let target = quote(target);
        if theirs && near.is_none() {
            let message = format!("no known class takes a parameter of {target}");
            findings.warning(span, message, "");
            return;
        }
        let known = self.names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
        let message = format!("{target} is neither a step nor a class; the steps are {known}");
        findings.error(span, message, did_you_mean(near));
    }
}

/// Finds the path to a section of this name inside another one that sets the parameter. A class
/// takes such a section first.
fn inside(section: &Node, path: &str, target: &str, param: &str) -> Option<String> {
    section.members().iter().filter(|member| is_name(&member.key)).find_map(|member| {
        let path = format!("{path}.{}", member.key);
        match member.key == target && member.value.get(param).is_some() {
            true => Some(path),
            false => inside(&member.value, &path, target, param),
        }
    })
}

/// Whether a key of a section names a section inside it: such a name begins with a capital
/// letter.
pub(crate) fn is_name(key: &str) -> bool {
    let name = key.split_once('.').map_or(key, |(name, _)| name);
    name.chars().next().is_some_and(char::is_uppercase)
}

/// A part of a section that no known class takes.
pub(crate) struct Odd {
    /// The names that lead to it from the object that has the section.
    pub(crate) path: Vec<String>,
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// Returns the parts of the section of this name, and of sections inside it, that no known class
/// takes.
pub(crate) fn odd(known: &Sections, name: &str, section: &Value) -> Vec<Odd> {
    let mut found = Vec::new();
    add_odd(known, &mut vec![name.to_owned()], section, &mut found);
    found
}

fn add_odd(known: &Sections, path: &mut Vec<String>, section: &Value, found: &mut Vec<Odd>) {
    let name = path.last().cloned().unwrap_or_default();
    let Some(params) = known.get(&name) else {
        let message = format!("no known class takes the section {}", quote(&name));
        let hint = did_you_mean(nearest(&name, known.keys().map(String::as_str)));
        found.push(Odd { path: path.clone(), message, hint });
        return;
    };
    for (key, value) in section.as_object().into_iter().flatten() {
        path.push(key.clone());
        if is_name(key) && value.is_object() {
            add_odd(known, path, value, found);
        } else if !params.contains(key) {
            let (message, hint) = unknown(&name, key, params);
            found.push(Odd { path: path.clone(), message, hint });
        }
        path.pop();
    }
}

fn unknown(class: &str, param: &str, params: &[String]) -> (String, String) {
    let message = format!("class {} has no parameter {}", quote(class), quote(param));
    (message, did_you_mean(nearest(param, params.iter().map(String::as_str))))
}
