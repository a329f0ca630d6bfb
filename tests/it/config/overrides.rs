//! The command line's settings.

use super::support::*;

fn text() -> String {
    with_stagers(
        r#"{"name": "A", "class": "Clean", "params": {"threshold": 1}, "nb_thread": 2},
           {"name": "B", "class": "Clean", "params": {"threshold": 1}}"#,
    )
}

#[test]
fn settings_beat_the_file_and_later_ones_earlier_ones() {
    let settings = [
        "A.nb_thread=4",
        "A.nb_thread=5",
        "B.queue_bytes=2 MiB",
        "quarantine=bad",
        "B.on_error=stop",
    ];
    let (plan, warnings) = good_with(&text(), &settings);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(plan.steps[1].workers(), 5);
    assert_eq!(*plan.steps[2].options.queue_bytes, Some(2 << 20));
    assert_eq!(plan.options.quarantine.to_str(), Some("bad"));
}

#[test]
fn parameters_are_set_for_a_step_or_for_a_class() {
    // What the class says about the value shows whether it was set.
    for setting in ["A.threshold=-2", "A.params.threshold=-2", "Clean.threshold=-2"] {
        let found = bad_with(&text(), &[setting]);
        assert_eq!(found.len(), 1, "{found:?}");
        says(&found, &format!("--set {setting}: error: "), &["threshold is -2"]);
    }
}

#[test]
fn texts_are_taken_as_they_stand() {
    good_with(&text(), &["A.label=5", "Clean.mode=fast", "B.label=\"a"]);
    let found = bad_with(&text(), &["A.threshold=high"]);
    says(&found, "--set A.threshold=high: error", &["found \"high\"; expected a number"]);
}

#[test]
fn errors_name_the_setting() {
    let cases = [
        (
            "C.nb_thread=2",
            "neither a step nor a class; the steps are \"IN\", \"A\", \"B\", \"OUT\"",
        ),
        ("Claen.threshold=2", "did you mean \"Clean\"?"),
        ("Pass.threshold=2", "no step is of class \"Pass\""),
        ("A.nb_thred=2", "did you mean \"nb_thread\"?"),
        ("A.treshold=2", "did you mean \"threshold\"?"),
        ("A.nb_thread=0", "found 0 workers; expected from 1 to 1000"),
        ("A.name=X", "cannot be set"),
        ("A.params={}", "one parameter at a time"),
        ("A.timeout=4", "needs workers in processes"),
        ("quarantin=x", "did you mean \"quarantine\"?"),
        ("Pipeline.nothing=x", "cannot be set for the pipeline"),
        ("A.next_steps=X", "unknown step \"X\""),
    ];
    for (setting, part) in cases {
        let found = bad_with(&text(), &[setting]);
        says(&found, &format!("--set {setting}: error: "), &[part]);
    }
}

#[test]
fn a_step_may_go_from_threads_to_processes() {
    let (plan, _) = good_with(&text(), &["A.nb_thread=0", "A.nb_process=4", "A.timeout=0.5"]);
    let step = &plan.steps[1];
    assert_eq!((step.workers(), step.processes()), (4, 4));
    assert_eq!(*step.options.timeout, Some(std::time::Duration::from_millis(500)));
}

#[test]
fn a_setting_beats_ctapipes_number_of_processes() {
    let text = text().replace("nb_thread", "nb_process");
    let text = text.replacen("\"producer\"", "\"Flow\": {\"producer_conf\"", 1) + "}";
    let text = text
        .replace("\"stagers\"", "\"stagers_conf\"")
        .replace("\"consumer\"", "\"consumer_conf\"");
    let (plan, _) = good_with(&text, &["A.nb_process=7"]);
    assert_eq!((plan.steps[1].workers(), plan.steps[1].processes()), (7, 7));
}

#[test]
fn keys_of_the_pipeline_are_set_with_values_of_their_kind() {
    let settings = ["ordered=true", "monitor=8080", "quarantine=5", "name=mine", "version=1"];
    let (plan, warnings) = good_with(&text(), &settings);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(*plan.options.ordered);
    assert_eq!(plan.options.monitor.as_deref(), Some("8080"));
    assert_eq!(plan.options.quarantine.to_str(), Some("5"));
    assert!(!good_with(&text(), &["ordered=true", "ordered=false"]).0.options.ordered.value);
    for (setting, part) in [
        ("ordered=yes", "expected true or false"),
        ("version=2", "the only version there is"),
        ("monitor=localhost:high", "host:port"),
    ] {
        says(&bad_with(&text(), &[setting]), &format!("--set {setting}: error: "), &[part]);
    }
}

#[test]
fn whole_numbers_may_be_written_with_an_exponent() {
    let (plan, _) = good_with(&text(), &["A.passes=1e1", "A.nb_thread=1e0", "IN.last=1e3"]);
    assert_eq!(plan.steps[1].workers(), 1);
    let same = text().replacen("\"Count\"", "\"Count\", \"params\": {\"last\": 1000.0}", 1);
    let hash = |text: &str, settings: &[&str]| good_with(text, settings).0.work_hash;
    assert_eq!(hash(&text(), &["IN.last=1000"]), hash(&same, &[]));
}

#[test]
fn a_value_that_only_the_class_refuses_is_said_where_it_was_given() {
    for setting in ["IN.last=1e30", "A.passes=5e9"] {
        let found = bad_with(&text(), &[setting]);
        assert_eq!(found.len(), 1, "{found:?}");
        says(&found, &format!("--set {setting}: error: "), &[]);
    }
}

#[test]
fn paths_in_parameters_may_begin_in_the_home_directory() {
    let home = std::env::var("HOME").unwrap();
    let writer = |file: &str| {
        format!(
            r#"{{"producer": {{"name": "N", "class": "Count"}},
                "stagers": [{{"name": "P", "class": "Print"}}],
                "consumer": {{"name": "W", "class": "StringWriter", "params": {{"filename": "{file}"}}}}}}"#
        )
    };
    let hash = |text: &str, settings: &[&str]| good_with(text, settings).0.work_hash;
    let expected = hash(&writer(&format!("{home}/out.txt")), &[]);
    assert_eq!(hash(&writer("~/out.txt"), &[]), expected);
    assert_eq!(hash(&writer("out.txt"), &["W.filename=~/out.txt"]), expected);
    let (plan, _) = good_with(&text(), &["quarantine=~/bad"]);
    assert_eq!(*plan.options.quarantine, std::path::Path::new(&home).join("bad"));
}
