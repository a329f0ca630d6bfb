//! Asks an interpreter about the classes of its modules before a run. The bundled package
//! answers.

use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::bundled::BundledPackage;
use super::conversation::{Conversation, LONGEST};
use super::error::PythonError;
use super::interpreter;
use crate::base::path_name::{as_text, name_of_path};
use crate::base::prepared::Prepared;
use crate::config::{About, Described, Sections, Unusable, Wanted};
use crate::plan::Python;
use crate::stage::registry::{Class, Kind};

/// Asks interpreters about the classes of one configuration.
pub(crate) struct Questions<'c> {
    pub(crate) carried: &'c BundledPackage,
    /// Directories where modules may be, besides those that a step names.
    pub(crate) also_in: Vec<PathBuf>,
    /// The variables of a worker, for interpreters that become workers of the run.
    pub(crate) environment: Vec<(&'static str, Option<OsString>)>,
    /// An interpreter that the program which drives the run has forked from itself.
    pub(crate) drivers_fork: Cell<Option<Prepared>>,
}

/// An interpreter that has described the classes of its steps and is ready to be a worker of one.
pub(crate) struct Ready {
    pub(crate) process: Arc<Prepared>,
    /// Whether it is a fork of the program that drives the run. It forks all workers of its steps,
    /// also those that come later, and becomes none.
    pub(crate) is_drivers_fork: bool,
    interpreter: PathBuf,
    paths: Vec<PathBuf>,
}

impl Ready {
    /// Whether it has imported what a step with such a class needs, and nothing else.
    pub(crate) fn suits(&self, python: &Python) -> bool {
        (&self.interpreter, &self.paths) == (&python.interpreter, &python.paths)
    }
}

/// What became of questions about several classes: the answers, in their order, and the
/// interpreters that stay.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) classes: Vec<Result<Described, Unusable>>,
    pub(crate) ready: Vec<Ready>,
}

/// The answer of an interpreter.
#[derive(Deserialize)]
struct Answer {
    python: String,
    /// Whether it stays and is ready to be a worker.
    #[serde(default)]
    stays: bool,
    /// The interpreter itself, if the started program is a wrapper around it.
    #[serde(with = "as_text")]
    executable: PathBuf,
    /// Whether the interpreter is too old for the bundled package.
    #[serde(default)]
    too_old: bool,
    missing: Vec<String>,
    classes: Vec<Entry>,
    /// Classes that take sections of the configuration for themselves.
    #[serde(default)]
    sections: Sections,
    /// The helpers' objections to their sections.
    #[serde(default)]
    refused: Vec<(String, String)>,
    /// Warnings about the places that modules come from.
    #[serde(default)]
    odd: Vec<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    name: String,
    ok: Option<Facts>,
    error: Option<Trouble>,
}

#[derive(Deserialize)]
struct Facts {
    kind: Option<Kind>,
    doc: String,
    #[serde(rename = "single")]
    singleton: bool,
    #[serde(rename = "gathers")]
    stateful: bool,
    #[serde(default)]
    acknowledges: bool,
    schema: Value,
    #[serde(default)]
    configurable: bool,
    #[serde(default)]
    settings: Vec<Option<Value>>,
    #[serde(default)]
    invalid: Option<String>,
}

#[derive(Deserialize)]
struct Trouble {
    what: String,
    message: String,
    hint: String,
    known: Vec<String>,
}

/// A class that a module offers.
pub(crate) struct Listed {
    pub(crate) class: Class,
    /// Whether it may stand anywhere.
    pub(crate) anywhere: bool,
}

impl Questions<'_> {
    /// Answers for each class.
    pub(crate) fn describe(&self, wanted: &[Wanted]) -> Answers {
        let mut answers: Vec<Option<Result<Described, Unusable>>> = vec![None; wanted.len()];
        let mut ready = Vec::new();
        for first in 0..wanted.len() {
            if answers[first].is_some() {
                continue;
            }
            // An interpreter is asked all its questions at once.
            let alike = |other: &Wanted| {
                (&other.interpreter, &other.paths)
                    == (&wanted[first].interpreter, &wanted[first].paths)
            };
            let places: Vec<usize> = (first..wanted.len()).filter(|i| alike(&wanted[*i])).collect();
            let asked: Vec<&Wanted> = places.iter().map(|place| &wanted[*place]).collect();
            let classes = self.describe_alike(&asked, &mut ready);
            for (place, answer) in places.into_iter().zip(classes) {
                answers[place] = Some(answer);
            }
        }
        Answers { classes: answers.into_iter().flatten().collect(), ready }
    }

    /// Answers for classes with the same interpreter and the same paths.
    fn describe_alike(
        &self,
        wanted: &[&Wanted],
        ready: &mut Vec<Ready>,
    ) -> Vec<Result<Described, Unusable>> {
        let fail = |unusable: Unusable| wanted.iter().map(|_| Err(unusable.clone())).collect();
        let Wanted { interpreter, paths, .. } = wanted[0];
        let interpreter = match interpreter::find(interpreter.as_deref()) {
            Ok(found) => found,
            Err(PythonError { message, hint }) => return fail(of_interpreter(message, hint)),
        };
        let paths = self.paths(paths);
        let classes: Vec<Value> = wanted
            .iter()
            .map(|w| {
                json!({
                    "module": w.module, "class": w.class, "role": w.role, "step": w.step,
                    "next_steps": w.next_steps, "params": w.params, "settings": w.settings,
                })
            })
            .collect();
        let request = json!({
            "paths": names(&paths), "classes": classes, "configuration": wanted[0].configuration,
            "may_stay": true,
        });
        let drivers_fork = self.drivers_fork.take();
        let is_drivers_fork = drivers_fork.is_some();
        let (answer, process) = match self.ask(&interpreter, &request, drivers_fork) {
            Ok((answer, process)) if answer.classes.len() == wanted.len() => (answer, process),
            Ok(_) => return fail(of_interpreter("its answer is incomplete".into(), String::new())),
            Err(unusable) => return fail(unusable),
        };
        // A wrapper may have set what the interpreter itself would not find.
        let process = process.filter(|_| is_drivers_fork || answer.executable == interpreter);
        ready.extend(process.map(|process| Ready {
            process: Arc::new(process),
            is_drivers_fork,
            interpreter: answer.executable.clone(),
            paths: paths.clone(),
        }));
        let sections = Arc::new(answer.sections);
        let described = wanted.iter().zip(answer.classes).map(|(wanted, entry)| {
            let python = Python {
                interpreter: answer.executable.clone(),
                module: wanted.module.clone(),
                paths: paths.clone(),
                configuration: Value::Null,
            };
            let (refused, odd) = (answer.refused.clone(), answer.odd.clone());
            let sections = Arc::clone(&sections);
            let described = described(wanted, python, entry)?;
            Ok(Described { sections, refused, odd, ..described })
        });
        described.collect()
    }

    /// Lists the classes of a module.
    ///
    /// # Errors
    /// If the interpreter, the module, or one of its classes cannot be used.
    pub(crate) fn list(
        &self,
        given: Option<&str>,
        module: &str,
    ) -> Result<Vec<Listed>, PythonError> {
        let interpreter = interpreter::find(given)?;
        let request = json!({"paths": names(&self.paths(&[])), "list": module});
        let (answer, _) = self
            .ask(&interpreter, &request, None)
            .map_err(|Unusable { message, hint, .. }| PythonError { message, hint })?;
        answer.classes.into_iter().map(listed).collect()
    }

    fn paths(&self, given: &[PathBuf]) -> Vec<PathBuf> {
        let all = given.iter().chain(&self.also_in);
        // Absolute, because a stage may change the current directory.
        all.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).collect()
    }

    /// Returns the answer, and the interpreter if it stays.
    fn ask(
        &self,
        interpreter: &Path,
        request: &Value,
        drivers_fork: Option<Prepared>,
    ) -> Result<(Answer, Option<Prepared>), Unusable> {
        let shown = interpreter.display();
        let trouble = |error: io::Error| {
            of_interpreter(format!("the Python interpreter {shown}: {error}"), String::new())
        };
        let asked = match drivers_fork {
            Some(process) => Conversation::go_on(process, &self.with_environment(request)),
            None => Conversation::begin(self.command(interpreter), request),
        };
        let asked = asked.map_err(trouble)?;
        let Some(text) = &asked.text else {
            let seconds = LONGEST.as_secs();
            let message = format!("importing did not end within {seconds} s under {shown}");
            return Err(of_interpreter(message, String::new()));
        };
        let Ok(answer) = serde_json::from_slice::<Answer>(text) else {
            let status = asked.end().map_err(trouble)?;
            let about = asked_about(request);
            let message = format!(
                "the Python interpreter {shown} ended ({status}) when it was asked about {about}"
            );
            return Err(of_interpreter(message, "importing it may have ended it".to_owned()));
        };
        if answer.stays {
            return Ok((usable(answer, interpreter)?, Some(asked.keep())));
        }
        asked.end().map_err(trouble)?;
        Ok((usable(answer, interpreter)?, None))
    }

    /// The request to an interpreter that was started without the variables of a worker.
    fn with_environment(&self, request: &Value) -> Value {
        let variables = self.environment.iter().map(|(name, value)| {
            let value = value.as_ref().map(|value| name_of_path(Path::new(value)));
            ((*name).to_owned(), value.map_or(Value::Null, Value::String))
        });
        let mut request = request.clone();
        request["environment"] = Value::Object(variables.collect());
        request
    }

    fn command(&self, interpreter: &Path) -> Command {
        let mut command = Command::new(interpreter);
        command.arg(self.carried.main()).arg("--describe");
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }
}

/// Refuses an interpreter that is too old or lacks what workers need.
fn usable(answer: Answer, interpreter: &Path) -> Result<Answer, Unusable> {
    let shown = interpreter.display();
    let version = &answer.python;
    if answer.too_old {
        let message = format!("Python {version} ({shown}) is too old");
        let hint = "name an interpreter of Python 3.9 or later with \"python\"";
        return Err(of_interpreter(message, hint.to_owned()));
    }
    if answer.missing.is_empty() {
        return Ok(answer);
    }
    let names = answer.missing.join(" and ");
    let install = format!("{shown} -m pip install {}", answer.missing.join(" "));
    let message = format!("Python {version} ({shown}) lacks {names}, which steps in it need");
    Err(of_interpreter(message, format!("install what is missing: {install}")))
}

/// Returns paths as strings; paths need not be UTF-8.
fn names(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(name_of_path).collect()
}

/// Returns the names of the modules in a request.
fn asked_about(request: &Value) -> String {
    let classes = request["classes"].as_array().into_iter().flatten();
    let modules = classes.map(|class| &class["module"]).chain(request.get("list"));
    let mut names: Vec<&str> = modules.filter_map(Value::as_str).collect();
    names.dedup();
    names.join(", ")
}

fn of_interpreter(message: String, hint: String) -> Unusable {
    Unusable { about: About::Interpreter, message, hint }
}

fn described(wanted: &Wanted, python: Python, entry: Entry) -> Result<Described, Unusable> {
    match (entry.ok, entry.error) {
        (Some(facts), _) => Ok(Described {
            python,
            kind: facts.kind,
            singleton: facts.singleton,
            stateful: facts.stateful,
            acknowledges: facts.acknowledges,
            schema: facts.schema,
            configurable: facts.configurable,
            settings: facts.settings,
            invalid: facts.invalid,
            ..Described::default()
        }),
        (None, Some(trouble)) => Err(unusable(wanted, trouble)),
        (None, None) => Err(of_interpreter("its answer is incomplete".into(), String::new())),
    }
}

fn unusable(wanted: &Wanted, trouble: Trouble) -> Unusable {
    let Trouble { what, message, hint, known } = trouble;
    let about = if what == "class" { About::Class } else { About::Module };
    let near = crate::base::nearest::nearest(&wanted.class, known.iter().map(String::as_str));
    let hint = match near {
        Some(near) if what == "class" => format!("did you mean \"{near}\"?"),
        _ => hint,
    };
    Unusable { about, message, hint }
}

fn listed(entry: Entry) -> Result<Listed, PythonError> {
    match (entry.ok, entry.error) {
        (Some(Facts { kind, doc, singleton, stateful, mut schema, .. }), _) => {
            if let (Some(object), false) = (schema.as_object_mut(), doc.is_empty()) {
                object.entry("description").or_insert_with(|| doc.into());
            }
            let anywhere = kind.is_none();
            let kind = kind.unwrap_or(Kind::Stage);
            let class = Class::foreign(&entry.name, kind, singleton, stateful, schema);
            Ok(Listed { class, anywhere })
        }
        (None, Some(Trouble { message, hint, .. })) => Err(PythonError { message, hint }),
        (None, None) => Err(PythonError::new("the interpreter's answer is incomplete", "")),
    }
}
