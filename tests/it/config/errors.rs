//! Each kind of error, with its place and the nearest name.

use std::time::Duration;

use drpipe::plan::OnError;

use super::support::*;

#[test]
fn a_good_file_has_a_plan_with_the_defaults() {
    let (plan, warnings) = good(&with_stagers(r#"{"name": "A", "class": "Pass"}"#));
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(names(&plan), ["IN", "A", "OUT"]);
    let step = &plan.steps[1];
    assert_eq!(
        (step.workers(), *step.options.queue_limit, *step.options.queue_bytes),
        (1, Some(1024), Some(256 << 20))
    );
    assert_eq!((*step.options.on_error, *step.options.retries), (OnError::Quarantine, 0));
    assert_eq!(*step.options.backoff, Duration::from_millis(100));
    assert_eq!(plan.options.quarantine.to_str(), Some("quarantine"));
    assert_eq!(plan.next_steps(1), ["OUT"]);
    assert_eq!(plan.config_hash.len(), 16);
}

#[test]
fn every_key_is_read() {
    let text = with_key(
        r#""nb_thread": "3", "queue_limit": "10", "queue_bytes": "2 MiB", "on_error": "skip",
           "retries": 2, "backoff": 1.5"#,
    );
    let (plan, warnings) = good(&text);
    assert!(warnings.is_empty(), "{warnings:?}");
    let step = &plan.steps[1];
    assert_eq!(
        (step.workers(), *step.options.queue_limit, *step.options.queue_bytes),
        (3, Some(10), Some(2 << 20))
    );
    assert_eq!((*step.options.on_error, *step.options.retries), (OnError::Skip, 2));
    assert_eq!(*step.options.backoff, Duration::from_millis(1500));
}

#[test]
fn misspelt_keys_are_errors() {
    one(
        &with_key(r#""nb_thred": 2"#),
        "\"nb_thred\"",
        &["stagers[0].nb_thred: unknown key \"nb_thred\"", "did you mean \"nb_thread\"?"],
    );
    let text = with_key(r#""nb_thread": 2"#).replace("consumer", "consummer");
    let found = bad(&text);
    says(&found, &at(&text, "\"consummer\""), &["did you mean \"consumer\"?"]);
    let text = with_key(r#""nb_thread": 2"#).replacen('{', "{\"Cuont\": {},", 1);
    one(&text, "\"Cuont\"", &["unknown key", "did you mean \"Count\"?"]);
}

#[test]
fn values_that_keys_do_not_take_are_errors() {
    let cases = [
        (r#""nb_thread": "two""#, "\"two\"", "from 0 to 1000"),
        (r#""nb_thread": 2000"#, "2000", "from 0 to 1000"),
        (r#""queue_limit": 0"#, "0}", "1 or more, or -1"),
        (r#""queue_bytes": "2 stones""#, "\"2 stones\"", "\"256 MiB\""),
        (r#""on_error": "quarantin""#, "\"quarantin\"", "did you mean \"quarantine\"?"),
        (r#""retries": -1"#, "-1", "from 0 to 1000"),
        (r#""backoff": "long""#, "\"long\"", "seconds"),
        (r#""params": []"#, "[]", "found an empty list; expected an object"),
        (r#""next_steps": 7"#, "7", "the names of steps"),
        (r#""next_steps": ["OUT", 7]"#, "[\"OUT\"", "found a list; expected the names of steps"),
    ];
    for (member, mark, part) in cases {
        one(&with_key(member), mark, &[part, "found", "expected", "stagers[0]."]);
    }
}

#[test]
fn limits_of_time_and_memory_need_processes() {
    for limit in [r#""timeout": 5"#, r#""memory_limit": "1 GiB""#] {
        let mark = limit.split_once(": ").unwrap().1.to_owned() + "}";
        one(&with_key(limit), &mark, &["needs workers in processes", "nb_process"]);
        let both = format!(r#""nb_thread": 1, "nb_process": 2, {limit}"#);
        one(&with_key(&both), &mark, &["1 of the step's workers are threads"]);
    }
    let text = with_key(r#""nb_process": 2, "timeout": 5, "memory_limit": "1 GiB""#);
    let (plan, warnings) = good(&text);
    assert_eq!(
        (plan.steps[1].processes(), *plan.steps[1].options.memory_limit),
        (2, Some(1 << 30))
    );
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn duplicate_step_names_are_errors() {
    let text = with_stagers(
        "{\"name\": \"A\", \"class\": \"Pass\"},\n {\"class\": \"Pass\", \"name\": \"A\" }",
    );
    one(&text, "\"A\" }", &["stagers[1].name", "second step has the name \"A\""]);
}

#[test]
fn bad_names_are_errors() {
    for name in ["", " A", "A.B", "A,B", "A=B", "A/B", "A\\\\B", "A\\u0007"] {
        let text = with_stagers(&format!("{{\"class\": \"Pass\", \"name\": \"{name}\" }}"));
        let found = bad(&text);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        says(&found, &at(&text, &format!("\"{name}\" ")), &["error: stagers[0].name"]);
    }
}

#[test]
fn missing_keys_are_errors() {
    one(
        &with_stagers(" {\"class\": \"Pass\"}"),
        "{\"class\": \"Pass\"",
        &["stagers[0]", "\"name\" is missing"],
    );
    one(
        &with_stagers(" {\"name\": \"A\"}"),
        "{\"name\": \"A\"",
        &["stagers[0]", "\"class\" is missing"],
    );
    let found = bad("{}");
    says(&found, "p.json:1:1: error", &["\"producer\" is missing"]);
    says(&found, "p.json:1:1: error", &["\"consumer\" is missing"]);
    assert_eq!(found.len(), 2);
}

#[test]
fn unknown_classes_are_errors() {
    let text = with_stagers(r#"{"name": "A", "class": "Claen"}"#);
    one(
        &text,
        "\"Claen\"",
        &["unknown class", "expected one of Clean, Pass", "did you mean \"Clean\"?"],
    );
    let text = with_stagers(r#"{"name": "A", "class": "Spectrograph"}"#);
    one(&text, "\"Spectrograph\"", &["unknown class", "also needs its \"module\""]);
}

#[test]
fn classes_of_the_wrong_kind_are_errors() {
    let text = with_stagers(r#"{"name": "A", "class": "Sum" }"#);
    one(&text, "\"Sum\" }", &["is a consumer, but is used as a stager", "one of Clean, Pass"]);
    let text = with_stagers("").replace("\"Count\"", "\"Pass\"");
    one(&text, "\"Pass\"", &["is a stage, but is used as a producer; expected one of Count"]);
    let text = with_stagers("").replace("\"Sum\"", "\"Count\"");
    one(&text.replacen("Count", "Nix", 0), "\"Count\"}}", &["is used as a consumer"]);
    // A stage may stand at the end.
    let (plan, _) = good(&with_stagers("").replace("\"Sum\"", "\"Pass\""));
    assert!(plan.steps[1].routes.is_empty());
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let warned = |text: &str, mark: &str, part: &str| {
        let (_, warnings) = good(text);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        says(&warnings, &format!("{}: warning: ", at(text, mark)), &[part]);
    };
    warned(&with_key(r#""queue_limit": -1"#), "-1", "no limit");
    warned(&with_key(r#""queue_bytes": "-1""#), "\"-1\"", "no limit");
    warned(&with_key(r#""module": "support""#), "\"support\"", "no effect");
    let single = with_stagers(r#"{"name": "A", "class": "Relay", "nb_thread": 4}"#);
    warned(&single, "4}", "one worker; found 4, using 1");
    let unused = with_stagers("").replacen('{', "{ \"Clean\": {},", 1);
    warned(&unused, "\"Clean\"", "no step is of class \"Clean\"");
}

#[test]
fn queue_limit_as_string_is_a_number() {
    let (plan, _) = good(&with_key(r#""queue_limit": "10""#));
    assert_eq!(*plan.steps[1].options.queue_limit, Some(10));
}

#[test]
fn bad_json_is_an_error_with_a_position() {
    let text = "{\n  \"producer\": {},\n}";
    one(text, ",\n}", &["not JSON", "remove it"]);
    one("", "", &["the file is empty"]);
    one("[1]", "[", &["found a list; expected an object"]);
    let text = with_key(r#""retries": 1, "retries": 2"#);
    one(&text, "\"retries\": 2", &["duplicate key \"retries\"; the first is on line 4"]);
    let (plan, _) = good(&format!("\u{feff}{}", with_stagers("")));
    assert_eq!(plan.steps.len(), 2);
}

#[test]
fn the_version_is_1() {
    let text = with_stagers("").replacen('{', "{\"version\": 2,", 1);
    one(&text, "2,", &["version: found 2; expected 1, the only version"]);
    good(&with_stagers("").replacen(
        '{',
        "{\"version\": 1, \"name\": \"n\", \"description\": \"d\",",
        1,
    ));
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let text = r#"{
  "version": 3,
  "producer": { "name": "IN", "class": "Cout" },
  "stagers": [
    { "name": "A", "class": "Clean", "nb_thread": -3, "params": { "treshold": 1 } },
    { "name": "A", "class": "Pass", "next_steps": "OUTT" }
  ],
  "consumer": { "name": "OUT", "class": "Sum" },
  "Claen": {}
}"#;
    let found = bad(text);
    let marks = [
        ("3,", "expected 1"),
        ("\"Cout\"", "did you mean \"Count\"?"),
        ("\"A\", \"class\": \"Clean\"", "has no next steps"),
        ("-3,", "expected a whole number"),
        ("{ \"treshold\"", "\"threshold\" is missing"),
        ("\"treshold\"", "did you mean \"threshold\"?"),
        ("\"A\", \"class\": \"Pass\"", "second step"),
        ("OUTT", "did you mean \"OUT\"?"),
        ("\"Claen\"", "did you mean \"Clean\"?"),
    ];
    for (mark, part) in marks {
        says(&found, &at(text, mark), &[part]);
    }
    let places: Vec<usize> =
        found.iter().map(|line| line.split(':').nth(1).unwrap().parse().unwrap()).collect();
    assert!(places.is_sorted(), "{found:#?}");
    // The producer has no next steps either.
    assert_eq!(found.len(), marks.len() + 1, "{found:#?}");
}
