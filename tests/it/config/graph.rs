//! Edges, loops, reachability, types and order.

use super::support::*;

/// A file of steps `name class next_steps [feedback]`, from producer to consumer.
fn graph(steps: &[(&str, &str, &str, &str)]) -> String {
    let step = |(name, class, next, feedback): &(&str, &str, &str, &str)| {
        let mut text = format!("{{ \"name\": \"{name}\", \"class\": \"{class}\"");
        if !next.is_empty() {
            text += &format!(", \"next_steps\": \"{next}\"");
        }
        if !feedback.is_empty() {
            text += &format!(", \"feedback\": \"{feedback}\"");
        }
        text + " }"
    };
    let all: Vec<String> = steps.iter().map(step).collect();
    let last = all.len() - 1;
    let section = match steps[last].1 {
        "StringWriter" => ",\n\"StringWriter\": {\"filename\": \"x\"}",
        _ => "",
    };
    format!(
        "{{ \"producer\": {},\n\"stagers\": [{}],\n\"consumer\": {}{section} }}",
        all[0],
        all[1..last].join(",\n"),
        all[last]
    )
}

fn plan(steps: &[(&str, &str, &str, &str)]) -> drpipe::plan::Plan {
    good(&graph(steps)).0
}

#[test]
fn the_order_of_the_list_is_the_chain_if_no_step_says_more() {
    let plan = plan(&[
        ("IN", "Count", "", ""),
        ("B", "Pass", "", ""),
        ("A", "Pass", "", ""),
        ("OUT", "Sum", "", ""),
    ]);
    assert_eq!(names(&plan), ["IN", "B", "A", "OUT"]);
    assert_eq!(plan.next_steps(1), ["A"]);
}

#[test]
fn a_diamond_is_planned_in_topological_order_and_routes_keep_theirs() {
    let plan = plan(&[
        ("IN", "Count", " B , A ", ""),
        ("C", "Pass", "OUT", ""),
        ("A", "Pass", "C", ""),
        ("B", "Pass", "C", ""),
        ("OUT", "Sum", "", ""),
    ]);
    assert_eq!(names(&plan), ["IN", "A", "B", "C", "OUT"]);
    assert_eq!(plan.next_steps(0), ["B", "A"]);
}

#[test]
fn unknown_next_steps_are_errors_at_their_name() {
    let text =
        graph(&[("IN", "Count", "A,BB", ""), ("A", "Pass", "OUT", ""), ("OUT", "Sum", "", "")]);
    one(&text, "BB", &["producer.next_steps: unknown step \"BB\"", "\"A\", \"OUT\""]);
    // One slip gives one error: the intended step is not reported as unreachable too.
    let text = graph(&[
        ("IN", "Count", "EQUALISE", ""),
        ("EQUALIZE", "Pass", "OUT", ""),
        ("OUT", "Sum", "", ""),
    ]);
    one(&text, "EQUALISE", &["did you mean \"EQUALIZE\"?"]);
}

#[test]
fn next_steps_twice_and_to_the_producer_are_errors() {
    let text =
        graph(&[("IN", "Count", "A", ""), ("A", "Pass", "OUT, OUT", ""), ("OUT", "Sum", "", "")]);
    one(&text, "OUT\" }],", &["stagers[0].next_steps", "\"OUT\" is listed twice"]);
    let text =
        graph(&[("IN", "Count", "A", ""), ("A", "Pass", "OUT,IN", ""), ("OUT", "Sum", "", "")]);
    let found = bad(&text);
    assert_eq!(found.len(), 1);
    says(&found, "p.json:2:", &["the producer \"IN\" cannot be a next step"]);
}

#[test]
fn some_without_next_steps_are_errors() {
    let text = graph(&[("IN", "Count", "A", ""), ("A", "Pass", "", ""), ("OUT", "Sum", "", "")]);
    one(&text, "\"A\", \"class\"", &["\"A\" has no next steps", "add \"next_steps\": \"OUT\""]);
}

#[test]
fn the_consumer_has_no_next_steps() {
    let text = graph(&[("IN", "Count", "OUT", ""), ("OUT", "Sum", "IN", "")]);
    one(&text, "IN\" }", &["consumer.next_steps", "a consumer is the end"]);
}

#[test]
fn undeclared_loops_are_errors_that_name_the_cycle() {
    let text = graph(&[
        ("IN", "Count", "A", ""),
        ("A", "Pass", "B", ""),
        ("B", "Pass", "OUT,A", ""),
        ("OUT", "Sum", "", ""),
    ]);
    one(&text, "A\" }],", &["A -> B -> A form a loop", "\"feedback\": [\"A\"] to the step \"B\""]);
    let text =
        graph(&[("IN", "Count", "A", ""), ("A", "Pass", "OUT,A", ""), ("OUT", "Sum", "", "")]);
    one(&text, "A\" }],", &["A -> A form a loop"]);
}

#[test]
fn declared_loops_are_feedback() {
    let plan = plan(&[
        ("IN", "Count", "A", ""),
        ("A", "Pass", "B", ""),
        ("B", "Pass", "OUT,A,B", "A,B"),
        ("OUT", "Sum", "", ""),
    ]);
    assert_eq!(names(&plan), ["IN", "A", "B", "OUT"]);
    let feedback: Vec<bool> = plan.steps[2].routes.iter().map(|route| route.feedback).collect();
    assert_eq!(feedback, [false, true, true]);
}

#[test]
fn feedback_must_close_a_loop_and_be_a_next_step() {
    let text =
        graph(&[("IN", "Count", "A", ""), ("A", "Pass", "OUT", "OUT"), ("OUT", "Sum", "", "")]);
    let found = bad(&text);
    says(&found, &at(&text, "OUT\" }],"), &["closes no loop"]);
    let text =
        graph(&[("IN", "Count", "A", ""), ("A", "Pass", "OUT", "IN"), ("OUT", "Sum", "", "")]);
    one(&text, "IN\" }]", &["not among the next steps of \"A\""]);
}

#[test]
fn steps_apart_are_errors() {
    let text =
        graph(&[("IN", "Count", "OUT", ""), ("A", "Pass", "OUT", ""), ("OUT", "Sum", "", "")]);
    one(
        &text,
        "\"A\", \"class\"",
        &["stagers[0].name", "no path leads from the producer", "\"A\""],
    );
    let text =
        graph(&[("IN", "Count", "A,OUT", ""), ("A", "Pass", "A", "A"), ("OUT", "Sum", "", "")]);
    one(&text, "\"A\", \"class\"", &["no path leads from the step \"A\" to the consumer"]);
}

#[test]
fn types_must_agree_and_the_hint_names_what_converts() {
    let text = graph(&[
        ("IN", "Count", "A", ""),
        ("A", "Pass", "OUT", ""),
        ("OUT", "StringWriter", "", ""),
    ]);
    one(
        &text,
        "OUT\" }]",
        &[
            "\"A\" (Pass) emits drpipe/Integer/1",
            "\"OUT\" (StringWriter) takes drpipe/Text/1",
            "class Print between them",
        ],
    );
    plan(&[("IN", "Count", "A", ""), ("A", "Print", "OUT", ""), ("OUT", "StringWriter", "", "")]);
}

#[test]
fn types_are_followed_through_steps_of_any_type() {
    plan(&[
        ("IN", "Count", "A", ""),
        ("A", "Relay", "B", ""),
        ("B", "Relay", "OUT", ""),
        ("OUT", "Sum", "", ""),
    ]);
    let text = graph(&[
        ("IN", "Count", "A", ""),
        ("A", "Relay", "B", ""),
        ("B", "Relay", "OUT", ""),
        ("OUT", "StringWriter", "", ""),
    ]);
    one(&text, "OUT\" }]", &["\"B\" (Relay) passes on drpipe/Integer/1"]);
}

#[test]
fn the_hash_is_that_of_what_counts() {
    let text = with_key(r#""nb_thread": 2, "retries": 1"#);
    let hash = |text: &str| good(text).0.config_hash;
    assert_eq!(hash(&text), hash(&with_key(r#""retries": 1,   "nb_thread": "2""#)));
    assert_eq!(hash(&text), hash(&text.replacen('{', "{\"description\": \"x\",", 1)));
    assert_ne!(hash(&text), hash(&with_key(r#""nb_thread": 3, "retries": 1"#)));
}

#[test]
fn a_consumer_that_leads_to_itself_is_told_what_to_do() {
    let text = graph(&[("IN", "Count", "OUT", ""), ("OUT", "Pass", "OUT", "")]);
    let parts =
        ["is its own next step, but a consumer is the end", "one of the stagers", "Discard"];
    says(&bad(&text), &at(&text, "OUT\" } }"), &parts);
}

#[test]
fn parameters_that_name_next_steps_are_checked() {
    let step = |to: &str| {
        with_stagers(&format!(
            r#"{{"name": "A", "class": "Switch", "params": {{"to": "{to}"}}, "next_steps": "B, OUT"}},
               {{"name": "B", "class": "Pass", "next_steps": "OUT"}}"#
        ))
        .replacen("\"Count\"", "\"Count\", \"next_steps\": \"A\"", 1)
    };
    good(&step("B"));
    good_with(&step("OU"), &["A.to=OUT"]);
    let text = step("OU");
    one(
        &text,
        "\"OU\"",
        &["\"to\" says \"OU\" is not among the next steps", "did you mean \"OUT\"?"],
    );
    says(&bad_with(&step("B"), &["A.to=IN"]), "--set A.to=IN: error: ", &["they are B, OUT"]);
    // Whatever else is wrong.
    let text = step("OU").replacen("\"Count\"", "\"Count\", \"params\": {\"lats\": 1}", 1);
    assert_eq!(bad(&text).len(), 2);
    let listed = with_stagers(r#"{"name": "A", "class": "Switch", "params": {"to": "OU"}}"#);
    one(&listed, "\"OU\"", &["did you mean \"OUT\"?"]);
}
