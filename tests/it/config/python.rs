//! Steps in Python: the questions about them, and the use of the answers.

use std::path::PathBuf;

use drpipe::config::{About, Describe, Described, Unusable, Wanted};
use drpipe::plan::Python;
use drpipe::stage::registry::Kind;
use serde_json::json;

use super::support::*;

/// Answers as a module with one class `Gain`.
fn answer(wanted: &Wanted) -> Result<Described, Unusable> {
    let unusable = |about, message: &str| {
        Err(Unusable { about, message: message.into(), hint: "what to do".into() })
    };
    match (wanted.interpreter.as_deref(), wanted.module.as_str(), wanted.class.as_str()) {
        (Some("bad"), ..) => unusable(About::Interpreter, "no such interpreter"),
        (_, "lab", "Gain" | "Clean" | "Pass") => Ok(Described {
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

/// The same pipeline in ctapipe's layout.
fn ctapipe(text: &str) -> String {
    let mut file: serde_json::Value = serde_json::from_str(text).unwrap();
    let object = file.as_object_mut().unwrap();
    let mut flow = serde_json::Map::new();
    for key in ["producer", "stagers", "consumer"] {
        flow.insert(format!("{key}_conf"), object.remove(key).unwrap());
    }
    object.insert("Flow".to_owned(), flow.into());
    file.to_string()
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
    assert_eq!((step.workers(), step.processes(), step.min_workers()), (5, 5, 5));
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

/// A step of the built-in class `Pass`, or of another one of that name.
fn pass(module: &str) -> String {
    with_stagers(&GAIN.replace("Gain", "Pass").replace("lab", module))
}

#[test]
fn a_step_with_a_module_is_of_the_class_of_that_module() {
    for text in [pass("lab"), ctapipe(&pass("lab"))] {
        let loaded = check_with(&text, &[], &mut describe).unwrap();
        assert_eq!(loaded.plan.steps[1].python.as_ref().unwrap().module, "lab");
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
}

#[test]
fn a_step_without_a_module_or_with_drpipes_is_of_a_built_in_class() {
    let plain = with_stagers(r#"{"name": "A", "class": "Pass"}"#);
    for text in [pass("drpipe"), ctapipe(&pass("drpipe")), ctapipe(&plain)] {
        let loaded = check_with(&text, &[], &mut |_| panic!("nothing is to be asked")).unwrap();
        assert!(loaded.plan.steps[1].python.is_none());
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
}

/// The module of the program in which `Pass` is written is a module of its own class.
#[test]
fn a_built_in_class_is_also_meant_by_its_own_module_if_python_has_none() {
    let loaded = check_with(&ctapipe(&pass("support")), &[], &mut describe).unwrap();
    assert!(loaded.plan.steps[1].python.is_none());
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn a_built_in_class_takes_no_misspelt_modules_place() {
    for text in [pass("lib"), ctapipe(&pass("lib"))] {
        let parts = ["no such module", "remove \"module\" to use drpipe's own class \"Pass\""];
        says(&found(&text, &[]), &format!("{}: error: ", at(&text, "\"lib\"")), &parts);
    }
}

#[test]
fn a_section_for_a_built_in_class_and_one_in_python_is_refused() {
    let both = pass("lab").replace("[", r#"[{"name": "P", "class": "Pass"}, "#);
    let text = both.replacen('{', r#"{"Pass": {},"#, 1);
    let parts = ["two classes \"Pass\"", "\"params\""];
    says(&found(&text, &[]), &format!("{}: error: ", at(&text, "\"Pass\"")), &parts);
    says(&found(&both, &["Pass.gain=1"]), "--set Pass.gain=1: error: ", &parts);
}

/// Answers as `describe` does, for a class that takes the whole configuration and has a helper.
fn describe_component(wanted: &[Wanted]) -> Vec<Result<Described, Unusable>> {
    let known = [("Gain", vec!["gain"]), ("Cleaner", vec!["cut", "level"])];
    let known = known.map(|(name, keys)| {
        (name.to_owned(), keys.into_iter().map(str::to_owned).collect::<Vec<_>>())
    });
    let with_helper = |described: Described| Described {
        configurable: true,
        sections: std::sync::Arc::new(known.clone().into()),
        ..described
    };
    describe(wanted).into_iter().map(|answer| answer.map(with_helper)).collect()
}

fn component(text: &str, settings: &[&str]) -> (Python, Vec<String>) {
    let loaded = check_with(text, settings, &mut describe_component);
    let loaded = loaded.unwrap_or_else(|found| panic!("{}", lines(&found).join("\n")));
    let python = loaded.plan.steps[1].python.clone().unwrap();
    (python, lines(&loaded.warnings))
}

#[test]
fn helpers_of_a_class_have_sections_in_both_spellings() {
    let native = with_stagers(GAIN).replacen(
        '{',
        r#"{"Cleaner": {"cut": 99}, "Gain": {"gain": 2, "Cleaner": {"level": 3}},"#,
        1,
    );
    for text in [native.clone(), ctapipe(&native)] {
        let (python, warnings) = component(&text, &["Cleaner.cut=5", "G.gain=4"]);
        assert!(warnings.is_empty(), "{warnings:?}");
        let whole = &python.configuration;
        assert_eq!(whole["sections"]["Cleaner"]["cut"], 99);
        assert_eq!(whole["sections"]["Gain"]["Cleaner"]["level"], 3);
        assert_eq!(whole["settings"], json!([["Cleaner.cut", "5"]]));
    }
    let hash = |settings: &[&str]| {
        check_with(&native, settings, &mut describe_component).unwrap().plan.work_hash
    };
    assert_ne!(hash(&[]), hash(&["Cleaner.cut=5"]), "products depend on it");
}

#[test]
fn misspelt_names_in_sections_of_helpers_are_said() {
    let section = |section: &str| with_stagers(GAIN).replacen('{', &format!("{{{section},"), 1);
    let warned = |text: &str, mark: &str, parts: &[&str]| {
        let (_, warnings) = component(text, &[]);
        says(&warnings, &format!("{}: warning: ", at(text, mark)), parts);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    };
    let text = section(r#""Cleaner": {"cutt": 99}"#);
    warned(&text, "\"cutt\"", &["has no parameter", "did you mean \"cut\"?"]);
    let text = section(r#""Gain": {"Cleanr": {"cut": 99}}"#);
    warned(&text, "\"Cleanr\"", &["did you mean \"Cleaner\"?"]);
    let text = section(r#""Gain": {"Cleaner": {"cutt": 99}}"#);
    warned(&text, "\"cutt\"", &["did you mean \"cut\"?"]);
    let text = section(r#""Cleanr": {"cut": 99}"#);
    let describe: &mut Describe<'_> = &mut describe_component;
    let found = lines(&check_with(&text, &[], describe).err().expect("errors"));
    says(&found, &format!("{}: error: ", at(&text, "\"Cleanr\"")), &["did you mean \"Cleaner\"?"]);
    let theirs = ctapipe(&text);
    warned(&theirs, "\"Cleanr\"", &["no known class takes", "did you mean \"Cleaner\"?"]);
    for (setting, part) in [
        ("Cleanr.cut=1", "did you mean \"Cleaner\"?"),
        ("Zoom.cut=1", "neither a step nor a class"),
    ] {
        let found = lines(&check_with(&text, &[setting], describe).err().expect("errors"));
        says(&found, &format!("--set {setting}: error: "), &[part]);
    }
    let (_, warnings) = component(&ctapipe(&with_stagers(GAIN)), &["Cleaner.cutt=1", "Zoom.cut=1"]);
    says(&warnings, "--set Cleaner.cutt=1: warning: ", &["did you mean \"cut\"?"]);
    says(&warnings, "--set Zoom.cut=1: warning: ", &["no known class takes"]);
}

#[test]
fn what_helpers_refuse_is_said_where_it_was_given() {
    let text = with_stagers(GAIN).replacen('{', r#"{"Gain": {"Cleaner": {"cut": "x"}},"#, 1);
    let mut describe = |wanted: &[Wanted]| {
        assert_eq!(wanted[0].configuration["settings"], json!([["Cleaner.cut", "y"]]));
        let refused = ["Gain.Cleaner.cut", "Cleaner.cut"].map(|path| (path.into(), "no".into()));
        let refuse = |described| Described { refused: refused.to_vec(), ..described };
        describe_component(wanted).into_iter().map(|answer| answer.map(refuse)).collect()
    };
    let found = lines(&check_with(&text, &["Cleaner.cut=y"], &mut describe).err().expect("errors"));
    says(&found, &format!("{}: error: ", at(&text, "\"cut\"")), &["\"Gain.Cleaner.cut\": no"]);
    says(&found, "--set Cleaner.cut=y: error: ", &["\"Cleaner.cut\": no"]);
    // The section inside the class's own section wins, as in traitlets.
    says(&found, "--set Cleaner.cut=y: warning: ", &["\"Gain.Cleaner\" in the file overrides it"]);
}

#[test]
fn settings_are_what_the_class_reads_in_them() {
    let mut describe = |wanted: &[Wanted]| {
        assert_eq!(wanted[0].settings, [("gain".to_owned(), "1/2".to_owned())]);
        let read = |described| Described { settings: vec![Some(json!(0.5))], ..described };
        describe(wanted).into_iter().map(|answer| answer.map(read)).collect()
    };
    for setting in ["G.gain=1/2", "Gain.gain=1/2"] {
        check_with(&with_stagers(GAIN), &[setting], &mut describe).unwrap();
    }
}

#[test]
fn a_class_says_what_is_wrong_with_its_parameters_where_they_are() {
    let text = with_stagers(&GAIN.replace('}', r#", "params": {"gain": 7}}"#));
    let mut describe = |wanted: &[Wanted]| {
        assert_eq!(
            (wanted[0].step.as_str(), &wanted[0].next_steps[..]),
            ("G", &["OUT".into()][..])
        );
        assert_eq!(wanted[0].params, json!({"gain": 7}));
        let invalid = Some("gain is 7, which is too high".to_owned());
        let refuse = |described| Described { invalid: invalid.clone(), ..described };
        describe(wanted).into_iter().map(|answer| answer.map(refuse)).collect()
    };
    let found = lines(&check_with(&text, &[], &mut describe).err().expect("errors"));
    says(&found, &format!("{}: error: ", at(&text, "7}")), &["gain is 7, which is too high"]);
}

#[test]
fn a_class_that_declares_its_kind_stands_where_it_may() {
    let text = with_stagers(&GAIN.replace("Gain", "Maker"));
    let mut producer = |wanted: &[Wanted]| {
        let mut clean = wanted[0].clone();
        clean.class = "Clean".into();
        let answer = answer(&clean);
        vec![answer]
    };
    let error = check_with(&text, &[], &mut producer).err().expect("errors");
    says(&lines(&error), &at(&text, "\"Maker\""), &["is a producer, but is used as a stager"]);
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
