//! Steps whose classes are written in Python. Nothing here starts a process, so the caller
//! answers questions about such classes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::dialect::{Dialect, Lowered, is_top_level};
use super::draft::{self, Draft};
use super::overrides::Setting;
use super::params::in_home;
use crate::base::home;
use crate::plan::Python;
use crate::plan::diagnostic::quote;
use crate::plan::findings::Findings;
use crate::plan::keys::Tag;
use crate::plan::options::PipelineOptions;
use crate::plan::span::SourceSpan;
use crate::plan::spec::Role;
use crate::stage::registry::{Class, Kind, Registry};

/// A class written in Python that a configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wanted {
    /// The interpreter as it was given, if one was.
    pub interpreter: Option<String>,
    /// Directories where modules are looked for before all others, as given.
    pub paths: Vec<PathBuf>,
    /// The module that has the class.
    pub module: String,
    /// The name of the class.
    pub class: String,
    /// The place where it stands.
    pub role: Kind,
    /// The name of the step.
    pub step: String,
    /// The names of the next steps, the default first.
    pub next_steps: Vec<String>,
    /// The parameters that the file gives.
    pub params: Value,
    /// The parameters of the command line, as they were typed.
    pub settings: Vec<(String, String)>,
    /// The sections of the file and the command line's settings of classes.
    pub configuration: Value,
}

/// Classes that take sections of the configuration for themselves, whether a step is of that
/// class or not, with the names of the parameters that each section may have.
pub type Sections = BTreeMap<String, Vec<String>>;

/// What is known about a class written in Python.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// Where the class is found.
    pub python: Python,
    /// Where it may stand; none if anywhere.
    pub kind: Option<Kind>,
    /// Whether a step of it can have only one worker.
    pub singleton: bool,
    /// Whether it emits in `finish` what it has accumulated from its messages.
    pub stateful: bool,
    /// Whether it is told, as a producer, what became of its items.
    pub acknowledges: bool,
    /// The JSON Schema of the parameters that it declares.
    pub schema: Value,
    /// Whether it takes the whole configuration, as classes of traitlets do.
    pub configurable: bool,
    /// The values of the command line's parameters as the class reads them; none for a
    /// parameter that the class does not read itself.
    pub settings: Vec<Option<Value>>,
    /// The class's own objection to its parameters.
    pub invalid: Option<String>,
    /// The classes with sections that its module makes known.
    pub sections: Arc<Sections>,
    /// The helpers' objections to their sections: the path of the parameter, with points
    /// between the names, and what is wrong.
    pub refused: Vec<(String, String)>,
    /// Warnings about the place that the module comes from.
    pub odd: Vec<String>,
}

/// Why a class written in Python cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// The key that is at fault.
    pub about: About,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// A key of the configuration that leads to a class written in Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// `python`
    Interpreter,
    /// `module`
    Module,
    /// `class`
    Class,
}

/// Examines classes written in Python, and returns an answer for each, in order.
pub type Describe<'d> = dyn FnMut(&[Wanted]) -> Vec<Result<Described, Unusable>> + 'd;

/// The module of the classes that come with the program.
pub(crate) const OWN: &str = "drpipe";

/// Asks about each step's class; a step without a module of its own gets no answer.
pub(crate) fn describe(
    drafts: &mut [Draft<'_>],
    lowered: &Lowered<'_>,
    registry: &Registry,
    settings: &[Setting],
    describe: &mut Describe<'_>,
    findings: &mut Findings,
) -> Vec<Option<Found>> {
    let configuration = configuration(drafts, lowered, settings);
    let wanted: Vec<Option<Wanted>> = (0..drafts.len())
        .map(|index| wanted(drafts, index, &lowered.options, &configuration))
        .collect();
    let asked: Vec<Wanted> = wanted.iter().flatten().cloned().collect();
    let mut answers = if asked.is_empty() { Vec::new() } else { describe(&asked) }.into_iter();
    let mut said: Vec<String> = Vec::new();
    let mut all = Vec::new();
    for (draft, wanted) in drafts.iter_mut().zip(wanted) {
        all.push(wanted.map(|wanted| match answers.next() {
            Some(Ok(described)) => {
                for odd in &described.odd {
                    findings.warning(&draft.span("module"), odd, "rename it");
                }
                for (path, message) in &described.refused {
                    let span = span_in_sections(path, lowered, settings);
                    findings.error(&span, format!("parameter {}: {message}", quote(path)), "");
                }
                draft.params.read(&described.settings);
                Found::Class(Box::new(found(draft, described, &configuration)))
            }
            _ if is_own(registry, &wanted) => Found::BuiltIn,
            Some(Err(unusable)) => {
                refuse(draft, unusable, lowered, registry, &mut said, findings);
                Found::Unusable
            }
            None => {
                let message = format!(
                    "the class {} of the Python module {} cannot be looked up here",
                    quote(&wanted.class),
                    quote(&wanted.module)
                );
                findings.error(&draft.span("module"), message, own_hint(registry, &wanted.class));
                Found::Unusable
            }
        }));
    }
    all
}

/// Whether the module is the one that has the program's own class of this name.
fn is_own(registry: &Registry, wanted: &Wanted) -> bool {
    registry.get(&wanted.class).is_some_and(|class| class.module() == wanted.module)
}

fn own_hint(registry: &Registry, class: &str) -> String {
    match registry.get(class) {
        Some(_) => format!("remove \"module\" to use drpipe's own class {}", quote(class)),
        None => String::new(),
    }
}

fn refuse(
    draft: &Draft<'_>,
    unusable: Unusable,
    lowered: &Lowered<'_>,
    registry: &Registry,
    said: &mut Vec<String>,
    findings: &mut Findings,
) {
    let Unusable { about, message, hint } = unusable;
    // A fault of an interpreter is reported once, not for each step.
    if said.contains(&message) {
        return;
    }
    let span = match about {
        About::Interpreter => interpreter_span(draft, &lowered.options),
        About::Module => draft.span("module"),
        About::Class => draft.span("class"),
    };
    let own = match about {
        About::Interpreter => {
            said.push(message.clone());
            String::new()
        }
        _ => own_hint(registry, draft.class().unwrap_or_default()),
    };
    let hints = [hint, own].into_iter().filter(|hint| !hint.is_empty());
    findings.error(&span, message, hints.collect::<Vec<_>>().join("; "));
}

/// The answer about a class.
pub(crate) enum Found {
    Class(Box<InPython>),
    /// The caller provides the step's workers.
    Caller(Class),
    /// The class is the program's own after all.
    BuiltIn,
    /// The class cannot be used, and the reason has been reported.
    Unusable,
}

/// A class in Python.
pub(crate) struct InPython {
    pub(crate) class: Class,
    pub(crate) python: Python,
    pub(crate) configurable: bool,
    pub(crate) invalid: Option<String>,
    pub(crate) sections: Arc<Sections>,
}

fn found(draft: &Draft<'_>, described: Described, configuration: &Value) -> InPython {
    let Described { mut python, kind, singleton, stateful, acknowledges, .. } = described;
    let Described { schema, configurable, .. } = described;
    let name = draft.class().unwrap_or_default();
    let kind = kind.unwrap_or_else(|| draft.role.usual_kind());
    if configurable {
        python.configuration = configuration.clone();
    }
    InPython {
        class: Class::foreign(name, kind, singleton, stateful, schema).telling(acknowledges),
        python,
        configurable,
        invalid: described.invalid,
        sections: described.sections,
    }
}

/// Returns what a class gets that takes the whole configuration: the sections, the rest of the
/// file, and the command line's settings of classes.
fn configuration(drafts: &[Draft<'_>], lowered: &Lowered<'_>, settings: &[Setting]) -> Value {
    let is_section = |key: &str| lowered.sections.iter().any(|section| section.key == key);
    let (sections, rest): (Map<_, _>, Map<_, _>) = match lowered.root.to_value() {
        Value::Object(members) => members.into_iter().partition(|(key, _)| is_section(key)),
        _ => (Map::new(), Map::new()),
    };
    let of_classes = settings.iter().filter(|setting| {
        !is_top_level(setting) && drafts.iter().all(|d| d.name() != Some(&setting.target))
    });
    let of_classes: Vec<Value> = of_classes
        .map(|setting| json!([format!("{}.{}", setting.target, setting.param()), setting.value]))
        .collect();
    let mut sections = Value::Object(sections);
    in_home(&mut sections);
    json!({"sections": sections, "rest": rest, "settings": of_classes})
}

/// Returns where a parameter of a section was set; the path has points between names.
fn span_in_sections(path: &str, lowered: &Lowered<'_>, settings: &[Setting]) -> SourceSpan {
    let said = |setting: &Setting| format!("{}.{}", setting.target, setting.param()) == path;
    if let Some(index) = settings.iter().rposition(said) {
        return SourceSpan::Setting(index);
    }
    let names: Vec<String> = path.split('.').map(str::to_owned).collect();
    SourceSpan::File(lowered.root.offset_of(&names).unwrap_or(lowered.root.offset))
}

fn wanted(
    drafts: &[Draft<'_>],
    index: usize,
    pipeline: &PipelineOptions,
    configuration: &Value,
) -> Option<Wanted> {
    let draft = &drafts[index];
    let (module, class) = (draft.module()?, draft.class()?);
    if module == OWN {
        return None;
    }
    let interpreter = draft.work.python.given().or_else(|| pipeline.python.given());
    let paths = draft.work.pythonpath.iter().chain(pipeline.pythonpath.iter());
    Some(Wanted {
        interpreter: interpreter
            .map(|name| home::expand_text(name).unwrap_or_else(|| name.clone())),
        paths: paths.map(|path| home::expand(path)).collect(),
        module: module.to_owned(),
        class: class.to_owned(),
        role: draft.role.usual_kind(),
        step: draft.name().unwrap_or_default().to_owned(),
        next_steps: next_steps(drafts, index),
        params: draft.params.of_file(),
        settings: draft.params.settings(),
        configuration: json!({
            "sections": configuration["sections"], "settings": configuration["settings"],
        }),
    })
}

/// Returns the names of the next steps: those that are given, or else the next one in the file.
fn next_steps(drafts: &[Draft<'_>], index: usize) -> Vec<String> {
    let given = &drafts[index].work.next_steps.value;
    if !given.is_empty() || drafts[index].role == Role::Consumer {
        return given.clone();
    }
    let next = drafts.get(index + 1).and_then(Draft::name);
    next.map(str::to_owned).into_iter().collect()
}

fn interpreter_span(draft: &Draft<'_>, pipeline: &PipelineOptions) -> SourceSpan {
    let own = draft.work.python.span.as_ref().or(pipeline.python.span.as_ref());
    own.cloned().unwrap_or_else(|| draft.span("module"))
}

/// Warns about keys that mean nothing to a class in Rust. In ctapipe every step has a module.
pub(crate) fn without_effect(draft: &Draft<'_>, dialect: Dialect, findings: &mut Findings) {
    for key in draft::keys().into_iter().filter(|key| key.is(Tag::Python)) {
        let is_usual =
            key.name == "module" && (dialect == Dialect::Ctapipe || draft.module() == Some(OWN));
        if let Some(span) = draft.given_at(key.name).filter(|_| !is_usual) {
            let message = format!("{} has no effect: the class is built in", quote(key.name));
            findings.warning(span, message, "remove it");
        }
    }
}
