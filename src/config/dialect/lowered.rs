//! The one form that all layouts of a file come to.

use super::flow::FlowOptions;
use crate::base::nearest::nearest;
use crate::config::read::unknown_key;
use crate::config::text::{Member, Node};
use crate::plan::diagnostic::{quote, show};
use crate::plan::findings::Findings;
use crate::plan::keys::{Key, Set};
use crate::plan::options::PipelineOptions;
use crate::plan::span::SourceSpan;
use crate::plan::spec::Role;
use crate::stage::registry::{Class, Registry};

/// Whose layout a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Native,
    Ctapipe,
}

/// A file in the one form.
pub(crate) struct Lowered<'d> {
    pub(crate) dialect: Dialect,
    /// The producer, the stagers, the consumer.
    pub(crate) steps: Vec<(Role, &'d Node)>,
    /// Objects that may be sections of parameters. Who takes each one is known once the
    /// classes in Python are.
    pub(crate) sections: Vec<&'d Member>,
    /// The file as a whole.
    pub(crate) root: &'d Node,
    pub(crate) options: PipelineOptions,
    /// Options of ctapipe's layout; the command line may set them for any file.
    pub(crate) flow: FlowOptions,
    /// Whether steps are missing because of errors.
    pub(crate) incomplete: bool,
}

impl<'d> Lowered<'d> {
    pub(super) fn new(dialect: Dialect, root: &'d Node) -> Self {
        Self {
            dialect,
            steps: Vec::new(),
            sections: Vec::new(),
            root,
            options: PipelineOptions::default(),
            flow: FlowOptions::default(),
            incomplete: false,
        }
    }

    /// Takes the steps of `object` under the names of producer, stagers, and consumer. A name whose
    /// value is not allowed counts as not set.
    pub(super) fn take_steps(
        &mut self,
        object: &'d Node,
        places: [(&str, &Set<()>); 3],
        findings: &mut Findings,
    ) {
        let roles = [Role::Producer, Role::Stager, Role::Consumer];
        for ((name, place), role) in places.into_iter().zip(roles) {
            match (node_at(object, place.span.as_ref()), role) {
                (Some(list), Role::Stager) => self.take_stagers(list, findings),
                (Some(step), _) => self.steps.push((role, step)),
                (None, _) if object.get(name).is_some() => self.incomplete = true,
                (None, Role::Stager) => {}
                (None, _) => {
                    self.incomplete = true;
                    if object.is_object() {
                        let hint =
                            format!("add {}: {{\"name\": ..., \"class\": ...}}", quote(name));
                        let message = format!("the key {} is missing", quote(name));
                        findings.error(&SourceSpan::File(object.offset), message, hint);
                    }
                }
            }
        }
    }

    fn take_stagers(&mut self, list: &'d Node, findings: &mut Findings) {
        for item in list.items() {
            if item.is_object() {
                self.steps.push((Role::Stager, item));
            } else {
                self.incomplete = true;
                let found = show(&item.to_value());
                let message = format!("found {found}; expected an object, a step");
                findings.error(&SourceSpan::File(item.offset), message, "");
            }
        }
    }
}

/// The member's value that a span of the file is about.
pub(crate) fn node_at<'d>(object: &'d Node, span: Option<&SourceSpan>) -> Option<&'d Node> {
    let Some(SourceSpan::File(offset)) = span else { return None };
    let mut values = object.members().iter().map(|member| &member.value);
    values.find(|value| value.offset == *offset)
}

/// The names of classes, which sections may have.
pub(super) struct Classes<'r> {
    registry: &'r Registry,
    /// The classes in Python that the steps name.
    in_python: Vec<String>,
}

impl<'r> Classes<'r> {
    /// `steps` is the object that has the steps.
    pub(super) fn new(registry: &'r Registry, steps: &Node) -> Self {
        let steps = steps.members().iter().flat_map(|member| match member.value.items() {
            [] => std::slice::from_ref(&member.value),
            items => items,
        });
        let in_python = steps.filter(|step| step.get("module").is_some());
        let names = in_python.filter_map(|step| step.get("class"));
        let names = names.filter_map(|name| name.value.to_value().as_str().map(str::to_owned));
        Self { registry, in_python: names.collect() }
    }

    /// Takes a member of the file's top level that may be a section. Returns false if it
    /// cannot be one.
    pub(super) fn take_section<'d>(
        &self,
        member: &'d Member,
        sections: &mut Vec<&'d Member>,
        findings: &mut Findings,
    ) -> bool {
        if member.value.is_object() {
            sections.push(member);
        } else if self.registry.knows(&member.key) || self.in_python.contains(&member.key) {
            let found = show(&member.value.to_value());
            let message = format!("found {found}; expected an object with the class's parameters");
            findings.error(&SourceSpan::File(member.value.offset), message, "");
        } else {
            return false;
        }
        true
    }

    /// Reports a key that is neither one of the `keys` nor a section.
    pub(super) fn unknown_key(
        &self,
        member: &Member,
        keys: &[&'static Key],
        findings: &mut Findings,
    ) {
        unknown_key(member, keys, self.registry.classes().map(Class::name), findings);
    }
}

/// Reports a key of another layout, with what to do about it.
pub(super) fn misplaced_key(member: &Member, hint: &str, findings: &mut Findings) {
    let message = format!("unknown key {}", quote(&member.key));
    findings.error(&SourceSpan::File(member.offset), message, hint);
}

/// Whether a name is near to one of the keys that have an effect.
pub(super) fn is_slip(name: &str, keys: impl Iterator<Item = &'static Key>) -> bool {
    nearest(name, keys.map(|key| key.name)).is_some()
}
