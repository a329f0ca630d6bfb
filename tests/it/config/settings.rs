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
    assert_eq!(plan.steps[1].workers, 5);
    assert_eq!(plan.steps[2].queue_bytes, Some(2 << 20));
    assert_eq!(plan.quarantine.to_str(), Some("bad"));
}

#[test]
fn parameters_are_set_for_a_step_or_for_a_class() {
    // Whether it is set shows in what the class says of it.
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
    assert_eq!((step.workers, step.processes), (4, 4));
    assert_eq!(step.timeout, Some(std::time::Duration::from_millis(500)));
}

#[test]
fn a_setting_beats_ctapipes_number_of_processes() {
    let text = text().replace("nb_thread", "nb_process");
    let text = text.replacen("\"producer\"", "\"Flow\": {\"producer_conf\"", 1) + "}";
    let text = text
        .replace("\"stagers\"", "\"stagers_conf\"")
        .replace("\"consumer\"", "\"consumer_conf\"");
    let (plan, _) = good_with(&text, &["A.nb_process=7"]);
    assert_eq!((plan.steps[1].workers, plan.steps[1].processes), (7, 7));
}
