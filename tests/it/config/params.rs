//! The parameters of steps.

use super::support::*;

fn clean(params: &str) -> String {
    with_stagers(&format!("\n {{\"name\": \"A\", \"class\": \"Clean\", \"params\": {params} }}"))
}

#[test]
fn unknown_parameters_are_errors_whatever_the_class_says() {
    one(
        &clean(r#"{"threshold": 1, "treshold": 2}"#),
        "\"treshold\"",
        &[
            "stagers[0].params.treshold: unknown parameter \"treshold\" of class \"Clean\"",
            "expected one of threshold, label",
            "did you mean \"threshold\"?",
        ],
    );
    let text = with_key(r#""params": {"a": 1}"#);
    one(&text, "\"a\"", &["unknown parameter \"a\" of class \"Pass\"; it has none"]);
    let text = with_stagers("").replace("\"Sum\"", "\"Sum\", \"params\": {\"b\": 1}");
    one(&text, "\"b\"", &["unknown parameter \"b\" of class \"Sum\"; it has none"]);
}

#[test]
fn unknown_parameters_deep_inside_are_errors() {
    let text = clean(r#"{"threshold": 1, "window": {"width": 1, "hieght": 2}}"#);
    one(&text, "\"hieght\"", &["stagers[0].params.window.hieght: unknown parameter", "width"]);
}

#[test]
fn wrong_types_missing_ones_and_ranges_are_errors() {
    one(
        &clean(r#"{"threshold": "a"}"#),
        "\"a\"",
        &["\"threshold\"", "found \"a\"; expected a number"],
    );
    let text = clean("{ }");
    one(
        &text,
        "{ }",
        &["stagers[0].params: class \"Clean\": the required parameter \"threshold\" is missing"],
    );
    one(
        &clean(r#"{"threshold": 1, "mode": "exakt"}"#),
        "\"exakt\"",
        &["expected \"fast\" or \"exact\"", "did you mean \"exact\"?"],
    );
    one(&clean(r#"{"threshold": 1, "passes": -1}"#), "-1", &["found -1; expected 0 or more"]);
    one(
        &clean(r#"{"threshold": 1, "window": {"width": 300}}"#),
        "300",
        &["stagers[0].params.window.width", "expected 255 or less"],
    );
}

#[test]
fn alternatives_are_listed_without_their_types() {
    let text = clean(r#"{"threshold": 1, "mode": 3 }"#);
    one(&text, "3 }", &["found 3; expected \"fast\" or \"exact\""]);
    assert!(bad(&text)[0].ends_with("\"exact\""), "{:?}", bad(&text));
}

#[test]
fn what_only_the_class_knows_stands_at_its_parameter() {
    one(&clean(r#"{"threshold": -1}"#), "-1", &["threshold is -1, expected 0 or more"]);
    // Too large for 32 bits, which the schema does not say.
    one(&clean(r#"{"threshold": 1, "passes": 9999999999 }"#), "99999", &["9999999999"]);
}

#[test]
fn the_section_of_the_class_is_beaten_by_the_step() {
    let text = clean(r#"{"threshold": 1}"#).replacen('{', "{\"Clean\": {\"threshold\": -1},", 1);
    good(&text);
    let text = text.replace("{\"threshold\": 1}", "{}");
    one(&text, "-1", &["Clean.threshold", "threshold is -1"]);
}

#[test]
fn an_error_in_a_section_is_said_once_for_all_its_steps() {
    let step = |name| format!("{{\"name\": \"{name}\", \"class\": \"Clean\"}}");
    let text = with_stagers(&format!("{}, {}", step("A"), step("B")));
    let text = text.replacen('{', "{\"Clean\": {\"threshold\": 1, \"labl\": 2},", 1);
    one(&text, "\"labl\"", &["did you mean \"label\"?"]);
}
