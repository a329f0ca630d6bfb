//! Asks an interpreter about the classes of its modules before a run. The bundled package
//! answers.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bundled::BundledPackage;
use super::error::PythonError;
use super::interpreter;
use crate::base::path_name::{as_text, name_of_path};
use crate::config::{About, Described, Sections, Unusable, Wanted};
use crate::plan::Python;
use crate::stage::registry::{Class, Kind};

/// The time limit for importing a module.
const LONGEST: Duration = Duration::from_secs(120);

/// Asks interpreters about the classes of one configuration.
pub(crate) struct Questions<'c> {
    pub(crate) carried: &'c BundledPackage,
    /// Directories where modules may be, besides those that a step names.
    pub(crate) also_in: Vec<PathBuf>,
}

/// The answer of an interpreter.
#[derive(Deserialize)]
struct Answer {
    python: String,
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
    /// Returns an answer for each class, in order.
    pub(crate) fn describe(&self, wanted: &[Wanted]) -> Vec<Result<Described, Unusable>> {
        let mut answers: Vec<Option<Result<Described, Unusable>>> = vec![None; wanted.len()];
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
            for (place, answer) in places.into_iter().zip(self.describe_alike(&asked)) {
                answers[place] = Some(answer);
            }
        }
        answers.into_iter().flatten().collect()
    }

    /// Answers for classes with the same interpreter and the same paths.
    fn describe_alike(&self, wanted: &[&Wanted]) -> Vec<Result<Described, Unusable>> {
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
        let configuration = &wanted[0].configuration;
        let names = names(&paths);
        let request = json!({"paths": names, "classes": classes, "configuration": configuration});
        let answer = match self.ask(&interpreter, &request) {
            Ok(answer) if answer.classes.len() == wanted.len() => answer,
            Ok(_) => return fail(of_interpreter("its answer is incomplete".into(), String::new())),
            Err(unusable) => return fail(unusable),
        };
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
        let answer = self
            .ask(&interpreter, &request)
            .map_err(|Unusable { message, hint, .. }| PythonError { message, hint })?;
        answer.classes.into_iter().map(listed).collect()
    }

    fn paths(&self, given: &[PathBuf]) -> Vec<PathBuf> {
        let all = given.iter().chain(&self.also_in);
        // Absolute, because a stage may change the current directory.
        all.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).collect()
    }

    fn ask(&self, interpreter: &Path, request: &Value) -> Result<Answer, Unusable> {
        let shown = interpreter.display();
        let trouble = |message: String| of_interpreter(message, String::new());
        let (text, status) = converse(interpreter, &self.carried.main(), request)
            .map_err(|error| trouble(format!("the Python interpreter {shown}: {error}")))?;
        let answer: Answer = match serde_json::from_slice(&text) {
            Ok(answer) => answer,
            Err(_) if status.is_none() => {
                let seconds = LONGEST.as_secs();
                let message = format!("importing did not end within {seconds} s under {shown}");
                return Err(trouble(message));
            }
            Err(_) => {
                let status = status.map(|status| status.to_string()).unwrap_or_default();
                let message = format!(
                    "the Python interpreter {shown} ended ({status}) when it was asked about {}",
                    asked_about(request)
                );
                let hint = "importing it may have ended it";
                return Err(of_interpreter(message, hint.to_owned()));
            }
        };
        if answer.too_old {
            let message = format!("Python {} ({shown}) is too old", answer.python);
            let hint = "name an interpreter of Python 3.9 or later with \"python\"";
            return Err(of_interpreter(message, hint.to_owned()));
        }
        if answer.missing.is_empty() {
            return Ok(answer);
        }
        let names = answer.missing.join(" and ");
        let install = format!("{shown} -m pip install {}", answer.missing.join(" "));
        let version = answer.python;
        let message = format!("Python {version} ({shown}) lacks {names}, which steps in it need");
        Err(of_interpreter(message, format!("install what is missing: {install}")))
    }
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

/// The process numbers of the interpreters that are being asked.
static ASKED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn asked() -> MutexGuard<'static, Vec<u32>> {
    ASKED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the interpreters that are being asked, with everything that they started, and lets no
/// more start. Meant for a program that is about to end.
pub(crate) fn end_questions() {
    let asked = asked();
    for process in &*asked {
        kill(*process);
    }
    std::mem::forget(asked);
}

/// Ends a process and the group that it leads. One that has already ended is no error.
fn kill(process: u32) {
    if let Some(group) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Returns what the interpreter printed, and its exit status if it ended in time.
fn converse(
    interpreter: &Path,
    main: &Path,
    request: &Value,
) -> io::Result<(Vec<u8>, Option<ExitStatus>)> {
    let mut known = asked();
    let mut child = Command::new(interpreter)
        .arg(main)
        .arg("--describe")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    known.push(child.id());
    drop(known);
    let sent = send(&mut child, request);
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || sender.send(read(stdout)));
    }
    let heard = receiver.recv_timeout(LONGEST);
    if heard.is_err() {
        kill(child.id());
    }
    let status = child.wait()?;
    asked().retain(|process| *process != child.id());
    match heard {
        Ok(text) => sent.and(text).map(|text| (text, Some(status))),
        Err(_) => Ok((Vec::new(), None)),
    }
}

fn send(child: &mut Child, request: &Value) -> io::Result<()> {
    match child.stdin.take().map(|mut stdin| stdin.write_all(request.to_string().as_bytes())) {
        // The interpreter ended without reading; its output says why.
        Some(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Some(result) => result,
        None => Ok(()),
    }
}

fn read(mut stdout: ChildStdout) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    stdout.read_to_end(&mut text)?;
    Ok(text)
}

fn described(wanted: &Wanted, python: Python, entry: Entry) -> Result<Described, Unusable> {
    match (entry.ok, entry.error) {
        (Some(facts), _) => Ok(Described {
            python,
            kind: facts.kind,
            singleton: facts.singleton,
            stateful: facts.stateful,
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
