//! Steps in Python: what is asked about them, and what is made of the answers.

use std::path::PathBuf;

use drpipe::config::plan::Python;
use drpipe::config::{About, Describe, Described, Unusable, Wanted};
use drpipe::registry::Kind;
use serde_json::json;

use super::support::*;

/// What a module that has one class `Gain` answers.
fn answer(wanted: &Wanted) -> Result<Described, Unusable> {
    let unusable = |about, message: &str| {
        Err(Unusable { about, message: message.into(), hint: "what to do".into() })
    };
    match (wanted.interpreter.as_deref(), wanted.module.as_str(), wanted.class.as_str()) {
        (Some("bad"), ..) => unusable(About::Interpreter, "no such interpreter"),
        (_, "lab", "Gain" | "Clean") => Ok(Described {
            python: Python {
                interpreter: wanted.interpreter.as_deref().unwrap_or("python3").into(),
                module: wanted.module.clone(),
                paths: wanted.paths.clone(),
                ..Python::default()
            },
            kind: (wanted.class == "Clean").then_some(Kind::Producer),
            schema: json!({"type": "object", "properties": {"gain": {"type": "number"}}}),
            ..Described::default()
        }),
        (_, "lab", _) => unusable(About::Class, "no such class"),
        _ => unusable(About::Module, "no such module"),
    }
}

fn describe(wanted: &[Wanted]) -> Vec<Result<Described, Unusable>> {
    wanted.iter().map(answer).collect()
}

fn found(text: &str, settings: &[&str]) -> Vec<String> {
    let describe: &mut Describe<'_> = &mut describe;
    lines(&check_with(text, settings, describe).err().expect("errors"))
}

const GAIN: &str = r#"{"name": "G", "module": "lab", "class": "Gain", "nb_thread": 3}"#;

#[test]
fn all_workers_of_a_step_in_python_are_processes() {
    let text = with_stagers(&GAIN.replace('}', r#", "nb_process": 2, "timeout": 5}"#));
    let loaded = check_with(&text, &[], &mut describe).unwrap();
    let step = &loaded.plan.steps[1];
    assert_eq!((step.workers, step.processes, step.min_processes), (5, 5, 5));
    assert_eq!(step.python.as_ref().unwrap().module, "lab");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(loaded.plan.steps[0].python.is_none());
}

#[test]
fn settings_of_a_step_beat_those_of_the_pipeline() {
    let text = with_stagers(&GAIN.replace('}', r#", "python": "mine", "pythonpath": ["a", "b"]}"#));
    let text = text.replacen('{', r#"{"python": "ours", "pythonpath": "c","#, 1);
    let python = |text: &str, settings: &[&str]| {
        let plan = check_with(text, settings, &mut describe).unwrap().plan;
        plan.steps[1].python.clone().unwrap()
    };
    let own = python(&text, &[]);
    assert_eq!(own.interpreter, PathBuf::from("mine"));
    assert_eq!(own.paths, ["a", "b", "c"].map(PathBuf::from));
    let shared = python(&text.replace(r#", "python": "mine""#, ""), &[]);
    assert_eq!(shared.interpreter, PathBuf::from("ours"));
    assert_eq!(python(&text, &["G.python=other"]).interpreter, PathBuf::from("other"));
}

#[test]
fn what_cannot_be_used_is_said_where_it_was_given() {
    let said = |text: &str, mark: &str, part: &str| {
        let found = found(text, &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        says(&found, &format!("{}: error: ", at(text, mark)), &[part, "what to do"]);
    };
    said(&with_stagers(&GAIN.replace("Gain", "Gian")), "\"Gian\"", "no such class");
    said(&with_stagers(&GAIN.replace("lab", "lib")), "\"lib\"", "no such module");
    let text = with_stagers(&GAIN.replace('}', r#", "python": "bad"}"#));
    said(&text, "\"bad\"", "no such interpreter");
    let text = with_stagers(GAIN).replacen('{', r#"{"python": "bad","#, 1);
    said(&text, "\"bad\"", "no such interpreter");
}

#[test]
fn declared_parameters_are_checked_and_others_are_passed_with_a_warning() {
    let text = with_stagers(&GAIN.replace('}', r#", "params": {"gain": "high"}}"#));
    says(&found(&text, &[]), &format!("{}: error: ", at(&text, "\"high\"")), &["gain"]);
    let text = with_stagers(&GAIN.replace('}', r#", "params": {"gian": 2}}"#));
    let loaded = check_with(&text, &[], &mut describe).unwrap();
    let warnings = lines(&loaded.warnings);
    let parts = ["does not declare", "did you mean \"gain\"?"];
    says(&warnings, &format!("{}: warning: ", at(&text, "\"gian\"")), &parts);
}

#[test]
fn sections_may_have_the_names_of_classes_in_python() {
    let text = with_stagers(GAIN).replacen('{', r#"{"Gain": {"gain": "high"},"#, 1);
    says(&found(&text, &[]), &format!("{}: error: ", at(&text, "\"high\"")), &["gain"]);
    let found = found(&with_stagers(GAIN), &["Gain.gain=high"]);
    says(&found, "--set Gain.gain=high: error: ", &["gain"]);
}

#[test]
fn a_built_in_class_is_not_looked_for_in_python() {
    let text = with_stagers(&GAIN.replace("Gain", "Pass"));
    let loaded = check_with(&text, &[], &mut |_| panic!("nothing is to be asked")).unwrap();
    assert!(loaded.plan.steps[1].python.is_none());
    says(&lines(&loaded.warnings), &at(&text, "\"lab\""), &["no effect", "built in"]);
}

#[test]
fn a_class_that_declares_its_kind_stands_where_it_may() {
    let text = with_stagers(&GAIN.replace("Gain", "Maker"));
    let mut producer = |wanted: &[Wanted]| {
        let answer = answer(&Wanted { class: "Clean".into(), ..wanted[0].clone() });
        vec![answer]
    };
    let error = check_with(&text, &[], &mut producer).err().expect("errors");
    says(&lines(&error), &at(&text, "\"Maker\""), &["is a producer, but stands as a stager"]);
}

#[test]
fn the_same_interpreter_is_asked_once() {
    let other = GAIN.replace("\"G\"", "\"H\"");
    let mut asked = Vec::new();
    let mut describe = |wanted: &[Wanted]| {
        asked.push(wanted.len());
        describe(wanted)
    };
    check_with(&with_stagers(&format!("{GAIN}, {other}")), &[], &mut describe).unwrap();
    check_with(&with_stagers(""), &[], &mut describe).unwrap();
    assert_eq!(asked, [2]);
}
