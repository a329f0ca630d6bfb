//! Files in ctapipe's layout.

use super::support::*;

/// After an example in ctapipe's documentation: no step names its next steps.
pub const LISTED: &str = r#"{
    "Flow": {
        "mode": "multiprocess",
        "gui_address": "localhost:5565",
        "producer_conf": { "name": "NUMBERS", "module": "drpipe", "class": "Count" },
        "stagers_conf": [
            { "name": "PASS", "class": "Pass", "module": "drpipe", "nb_process": "2" },
            { "name": "PRINT", "class": "Print", "module": "drpipe" }
        ],
        "consumer_conf": { "name": "WRITE", "class": "StringWriter", "module": "drpipe" }
    },
    "StringWriter": { "filename": "out.txt" },
    "version": 1
}"#;

/// The first generation: every step names its next steps, and workers are threads.
pub const ROUTED: &str = r#"{
    "Pipeline": {
        "producer_conf": { "name": "NUMBERS", "module": "drpipe", "class": "Count", "next_steps": "A, B" },
        "stagers_conf": [
            { "name": "A", "class": "Pass", "module": "drpipe", "nb_thread": "2", "queue_limit": -1,
              "next_steps": "B" },
            { "name": "B", "class": "Pass", "module": "drpipe", "next_steps": "SUM,A" }
        ],
        "consumer_conf": { "name": "SUM", "class": "Sum", "module": "drpipe", "next_steps": "" }
    },
    "Count": { "last": 9 }
}"#;

#[test]
fn ctapipe_examples_are_accepted_as_they_stand() {
    let (plan, warnings) = good(LISTED);
    assert_eq!(names(&plan), ["NUMBERS", "PASS", "PRINT", "WRITE"]);
    assert_eq!(plan.steps[1].workers(), 2);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(*plan.options.monitor, None, "an address alone shows nothing");
}

#[test]
fn the_gui_is_honored() {
    let with = |keys: &str| LISTED.replace("\"gui_address\": \"localhost:5565\"", keys);
    let shown = |keys: &str| good(&with(keys)).0.options.monitor.value;
    assert_eq!(shown(r#""gui": true"#).as_deref(), Some("localhost:5565"));
    let address = r#""gui": true, "gui_address": "tcp://localhost:9000""#;
    assert_eq!(shown(address).as_deref(), Some("tcp://localhost:9000"));
    assert_eq!(shown(r#""gui": false, "gui_address": "localhost:9000""#), None);
    let text = with(r#""gui": "yes", "gui_address": "localhost:high""#);
    let found = bad(&text);
    says(&found, &at(&text, "\"yes\""), &["error: Flow.gui", "true or false"]);
    says(&found, &at(&text, "\"localhost:high\""), &["error: Flow.gui_address", "host:port"]);
    let native = r#"{"monitor": "8080", "producer": {"name": "N", "class": "Count"}, "consumer": {"name": "S", "class": "Sum"}}"#;
    assert_eq!(good(native).0.options.monitor.value.as_deref(), Some("8080"));
}

#[test]
fn ctapipe_loops_are_found() {
    let (plan, warnings) = good(ROUTED);
    assert_eq!(names(&plan), ["NUMBERS", "A", "B", "SUM"]);
    assert_eq!(plan.next_steps(2), ["SUM", "A"]);
    assert!(plan.steps[2].routes[1].feedback);
    assert_eq!((plan.steps[1].workers(), *plan.steps[1].options.queue_limit), (2, None));
    assert_eq!(*plan.steps[2].options.queue_limit, Some(1024));
    says(&warnings, &at(ROUTED, "-1,"), &["no limit"]);
    says(&warnings, &at(ROUTED, "A\" }\n"), &["A -> B -> A form a loop", "taken as feedback"]);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn both_spellings_of_one_pipeline_have_one_plan() {
    let native = r#"{"producer": {"name": "N", "class": "Count"}, "consumer": {"name": "S", "class": "Sum"}}"#;
    let theirs = r#"{"Pipeline": {"producer_conf": {"name": "N", "class": "Count", "nb_thread": 1},
        "consumer_conf": {"name": "S", "class": "Sum"}}}"#;
    assert_eq!(good(native).0.config_hash, good(theirs).0.config_hash);
}

#[test]
fn spellings_are_not_mixed() {
    let text = LISTED.replacen('{', "{ \"producer\": {},", 1);
    let found = bad(&text);
    says(
        &found,
        &at(&text, "\"producer\""),
        &["error: producer: unknown key", "inside \"Pipeline\""],
    );
    let text = r#"{"producer_conf": {}, "stagers_conf": [], "consumer_conf": {}}"#;
    says(&bad(text), &at(text, "\"stagers_conf"), &["rename it \"stagers\""]);
    let text = r#"{"Flow": {"producer_conf": {}, "consumer_conf": {}}, "Pipeline": {}}"#;
    says(&bad(text), &at(text, "\"Flow"), &["expected one of them"]);
}

#[test]
fn ctapipe_nb_thread_zero_is_an_error() {
    let text = ROUTED.replace("\"nb_thread\": \"2\"", "\"nb_thread\": 0");
    let found = bad(&text);
    says(
        &found,
        &at(&text, "0,"),
        &["Pipeline.stagers_conf[0].nb_thread", "found 0", "from 1 to 1000"],
    );
}

#[test]
fn ctapipe_queue_limit_as_string_is_a_number() {
    let (plan, _) = good(&ROUTED.replace("\"queue_limit\": -1", "\"queue_limit\": \"10\""));
    assert_eq!(*plan.steps[1].options.queue_limit, Some(10));
}

#[test]
fn ctapipe_misspelt_keys_are_errors() {
    let text = LISTED.replace("gui_address", "gui_adress");
    let found = bad(&text);
    says(&found, &at(&text, "\"gui_adress"), &["error", "did you mean \"gui_address\"?"]);
    let text = LISTED.replace("nb_process", "nb_proces");
    says(&bad(&text), &at(&text, "\"nb_proces\""), &["error", "did you mean \"nb_process\"?"]);
}

#[test]
fn ctapipe_duplicate_step_names_are_errors() {
    let text = LISTED.replace("\"PRINT\"", "\"PASS\"");
    says(
        &bad(&text),
        &at(&text, "\"PASS\", \"class\": \"Print\""),
        &["error: Flow.stagers_conf[1].name", "second step"],
    );
}

#[test]
fn ctapipe_unknown_class_is_an_error() {
    let text = LISTED.replace("\"Print\"", "\"Prnt\"");
    says(
        &bad(&text),
        &at(&text, "\"Prnt\""),
        &["error", "unknown class", "did you mean \"Print\"?"],
    );
}

#[test]
fn ctapipe_bad_json_is_an_error() {
    let text = LISTED.replace("\"version\": 1", "\"version\": 1,");
    says(&bad(&text), &at(&text, ",\n}"), &["error: not JSON", "remove it"]);
}

#[test]
fn keys_of_the_first_model_without_a_meaning_here_are_said_once() {
    let keys = r#""zmq_ports": [26101, 26102], "ports": [], "log_level": 10, "overwrite": true"#;
    let text = LISTED.replace("\"mode\": \"multiprocess\"", keys);
    let (_, warnings) = good(&text.replacen('{', "{ \"debug\": null, \"log_level\": 1,", 1));
    let parts =
        ["\"debug\", \"log_level\", ", "\"zmq_ports\", \"ports\", \"log_level\"", "have no effect"];
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    parts.iter().for_each(|part| assert!(warnings[0].contains(part), "{warnings:?}"));
    let text = LISTED.replace("\"mode\": \"multiprocess\"", "\"stages\": [{\"name\": \"A\"}]");
    says(&bad(&text), &at(&text, "\"stages\""), &["error: Flow.stages: unknown key"]);
}

#[test]
fn the_mode_of_the_first_model_is_kept() {
    let with = |mode: &str| LISTED.replace("multiprocess", mode);
    assert!(good(&with("sequential")).0.sequential);
    for mode in ["multithread", "multiprocess"] {
        let (plan, warnings) = good(&with(mode));
        assert!(!plan.sequential && warnings.is_empty(), "{warnings:?}");
    }
    assert!(good_with(LISTED, &["Flow.mode=sequential"]).0.sequential);
    assert_eq!(bad(&with("parallel")).len(), 1);
}

#[test]
fn a_queue_limit_of_0_is_1_in_the_first_model_only() {
    let at_print =
        |limit: &str| LISTED.replace("\"Print\"", &format!("\"Print\", \"queue_limit\": {limit}"));
    for limit in ["0", "\"0\""] {
        let (plan, warnings) = good(&at_print(limit));
        assert_eq!(*plan.steps[2].options.queue_limit, Some(1));
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    one(
        &with_key(r#""queue_limit": 0"#),
        "0}",
        &["queue_limit", "found 0; expected a whole number"],
    );
}

#[test]
fn a_section_that_nothing_takes_is_said() {
    let text = LISTED.replacen('{', "{ \"StringWritr\": {},", 1);
    let (_, warnings) = good(&text);
    let parts = ["no known class takes", "did you mean \"StringWriter\"?"];
    says(&warnings, &format!("{}: warning: ", at(&text, "\"StringWritr\"")), &parts);
    let text = with_stagers("").replacen('{', "{\"StringWritr\": {},", 1);
    says(&bad(&text), &format!("{}: error: ", at(&text, "\"StringWritr\"")), &["unknown key"]);
}
