//! The published JSON Schema agrees with the check.

use drpipe::config::schema;
use serde_json::{Value, json};

use super::ctapipe::{LISTED, ROUTED};
use super::support::*;

fn accepts(text: &str) -> bool {
    let value: Value = serde_json::from_str(text).unwrap();
    jsonschema::draft202012::is_valid(&schema(&registry()), &value)
}

#[test]
fn the_schema_is_one() {
    let schema = schema(&registry());
    assert!(jsonschema::draft202012::meta::is_valid(&schema));
    jsonschema::draft202012::new(&schema).unwrap();
}

#[test]
fn good_files_fit_the_schema() {
    let params = r#""class": "Clean", "params": {"threshold": 1, "window": {"width": 3}}"#;
    let files = [
        LISTED.to_owned(),
        ROUTED.to_owned(),
        with_stagers(""),
        with_key(r#""nb_thread": "2", "queue_limit": -1, "queue_bytes": "1 GiB", "retries": 2"#),
        with_stagers(&format!("{{\"name\": \"A\", {params}}}")),
    ];
    for text in files {
        good(&text);
        assert!(accepts(&text), "{text}");
    }
}

#[test]
fn bad_files_do_not_fit_the_schema() {
    let files = [
        "{}".to_owned(),
        "[]".to_owned(),
        with_key(r#""nb_thred": 2"#),
        with_key(r#""nb_thread": -1"#),
        with_key(r#""on_error": "never""#),
        with_key(r#""params": {"x": 1}"#),
        with_stagers(r#"{"name": "A", "class": "Clean", "params": {"threshold": "x"}}"#),
        with_stagers(r#"{"name": "A", "class": "Claen"}"#),
        with_stagers(r#"{"name": "A.B", "class": "Pass"}"#),
        with_stagers("").replacen('{', "{\"Count\": {\"lats\": 1},", 1),
        LISTED.replace("gui_address", "gui_adress"),
    ];
    for text in files {
        bad(&text);
        assert!(!accepts(&text), "{text}");
    }
}

#[test]
fn every_class_is_in_the_schema() {
    let schema = schema(&registry());
    for class in registry().classes() {
        assert!(schema["$defs"]["native"]["properties"].get(class.name()).is_some());
    }
    assert_eq!(schema["$defs"]["step"]["properties"]["nb_thread"]["default"], json!(1));
}
