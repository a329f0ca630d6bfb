//! Steps whose classes are written in Python. What such a class is cannot be
//! known here, where no process is started: it is asked of the caller.

use std::path::PathBuf;

use serde_json::Value;

use super::diagnostic::quote;
use super::keys;
use super::lower::{Lowered, Spelling};
use super::plan::Python;
use super::report::Report;
use super::spec::Origin;
use super::steps::Draft;
use crate::registry::{Class, Kind, Registry};

/// A class written in Python that a configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The interpreter as it was given, if one was.
    pub interpreter: Option<String>,
    /// Directories that modules are looked for in before all others, as given.
    pub paths: Vec<PathBuf>,
    /// The module that has the class.
    pub module: String,
    /// The name of the class.
    pub class: String,
    /// Where it stands.
    pub role: Kind,
}

/// What is known of a class written in Python.
#[derive(Debug, Clone)]
pub struct Described {
    /// Where the class is found.
    pub python: Python,
    /// Where it may stand; none if anywhere.
    pub kind: Option<Kind>,
    /// Whether a step may have only one worker of it.
    pub single: bool,
    /// Whether it gives out in `finish` what it has kept of its messages.
    pub gathers: bool,
    /// The JSON Schema of the parameters that it declares.
    pub schema: Value,
}

/// Why a class written in Python cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// What of the configuration is at fault.
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

/// Finds out about classes written in Python: an answer for each, in order.
pub type Describe<'d> = dyn FnMut(&[Wanted]) -> Vec<Result<Described, Unusable>> + 'd;

/// The settings of all steps in Python.
#[derive(Default)]
pub(crate) struct Defaults {
    pub(crate) interpreter: Option<(String, Origin)>,
    pub(crate) paths: Vec<PathBuf>,
}

/// What was found out about each step's class; none of one in Rust, or where
/// nothing could be asked.
pub(crate) fn describe(
    drafts: &[Draft<'_>],
    lowered: &Lowered<'_>,
    registry: &Registry,
    describe: &mut Describe<'_>,
    report: &mut Report<'_>,
) -> Vec<Option<Found>> {
    let wanted: Vec<Option<Wanted>> =
        drafts.iter().map(|draft| wanted(draft, &lowered.python, registry)).collect();
    let asked: Vec<Wanted> = wanted.iter().flatten().cloned().collect();
    let mut answers = if asked.is_empty() { Vec::new() } else { describe(&asked) }.into_iter();
    let mut said: Vec<String> = Vec::new();
    let found = drafts.iter().zip(wanted).map(|(draft, wanted)| {
        wanted?;
        Some(match answers.next()? {
            Ok(described) => Found::Class(Box::new(found(draft, described))),
            // What is wrong with an interpreter is said once, not for each step.
            Err(unusable) if said.contains(&unusable.message) => Found::Unusable,
            Err(unusable) => {
                if unusable.about == About::Interpreter {
                    said.push(unusable.message.clone());
                }
                let origin = match unusable.about {
                    About::Interpreter => interpreter_origin(draft, &lowered.python),
                    About::Module => draft.origin("module"),
                    About::Class => draft.origin("class"),
                };
                report.error(&origin, unusable.message, unusable.hint);
                Found::Unusable
            }
        })
    });
    found.collect()
}

/// What became of the question after a class.
pub(crate) enum Found {
    Class(Box<(Class, Python)>),
    /// It was said why.
    Unusable,
}

fn found(draft: &Draft<'_>, described: Described) -> (Class, Python) {
    let Described { python, kind, single, gathers, schema } = described;
    let name = draft.text("class").unwrap_or_default();
    let kind = kind.unwrap_or_else(|| draft.role.usual_kind());
    (Class::foreign(name, kind, single, gathers, schema), python)
}

fn wanted(draft: &Draft<'_>, defaults: &Defaults, registry: &Registry) -> Option<Wanted> {
    let (module, class) = (draft.text("module")?, draft.text("class")?);
    if registry.get(class).is_some() {
        return None;
    }
    let own = draft.text("python").map(str::to_owned);
    let interpreter = own.or_else(|| defaults.interpreter.as_ref().map(|(name, _)| name.clone()));
    let own = draft.value("pythonpath").map(keys::directories).unwrap_or_default();
    let paths = own.into_iter().chain(defaults.paths.iter().cloned()).collect();
    let (module, class) = (module.to_owned(), class.to_owned());
    Some(Wanted { interpreter, paths, module, class, role: draft.role.usual_kind() })
}

fn interpreter_origin(draft: &Draft<'_>, defaults: &Defaults) -> Origin {
    match &defaults.interpreter {
        _ if draft.text("python").is_some() => draft.origin("python"),
        Some((_, origin)) => origin.clone(),
        None => draft.origin("module"),
    }
}

/// Keys of a step that mean nothing to a class in Rust. In ctapipe every step has
/// a module.
pub(crate) fn without_effect(draft: &Draft<'_>, spelling: Spelling, report: &mut Report<'_>) {
    for key in ["module", "python", "pythonpath"] {
        let usual = key == "module" && spelling == Spelling::Ctapipe;
        if draft.value(key).is_some() && !usual {
            let message = format!("{} has no effect: the class is built in", quote(key));
            report.warning(&draft.origin(key), message, "remove it");
        }
    }
}
