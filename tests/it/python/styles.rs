//! Ten pipelines of classes in the first model's three styles: the same results
//! one by one, with one worker a step and with four.

use serde_json::{Value, json};

use super::{Night, first_model, with};
use crate::support::program::assert_balanced;
use crate::support::python::plain;

/// The lines as `Write` sorts them: by their text.
fn sorted(values: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let mut texts: Vec<String> = values.into_iter().map(|value| text(&value)).collect();
    texts.sort();
    texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

/// As Python's json module writes it.
fn text(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let mut keys: Vec<_> = members.iter().collect();
            keys.sort_by_key(|(key, _)| *key);
            let members = keys.iter().map(|(key, value)| format!("\"{key}\": {}", text(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}

/// Runs the pipeline in every mode; its last step is the writer.
fn check(test: &str, steps: &[Value], expected: impl IntoIterator<Item = Value>) {
    let Some(python) = plain(test) else { return };
    let expected = sorted(expected);
    let mut steps = steps.to_vec();
    steps.push(first_model("END", "Write"));
    for (workers, args) in [(1, &["--mode", "sequential"][..]), (1, &[]), (4, &[])] {
        let count = steps.len();
        for step in &mut steps[1..count - 1] {
            // What gathers everything has one worker in every mode.
            let gathers = step["class"] == "Gathers";
            step["nb_thread"] = json!(if gathers { 1 } else { workers });
        }
        let night = Night::new(&python, &json!(steps));
        night.run(args).expect_code(0);
        assert_eq!(night.lines(), expected, "{workers} workers, {args:?}");
        assert_balanced(&night.summary());
    }
}

fn numbers() -> impl Iterator<Item = u64> {
    0..=100
}

#[test]
fn sending_classes_send() {
    let steps = [first_model("IN", "SendingProducer"), first_model("SQUARE", "SendingSquare")];
    check("sending_classes_send", &steps, numbers().map(|number| json!(number * number)));
}

#[test]
fn returning_classes_return() {
    let steps = [first_model("IN", "YieldingProducer"), first_model("SQUARE", "ReturningSquare")];
    check("returning_classes_return", &steps, numbers().map(|number| json!(number * number)));
}

#[test]
fn yielding_classes_yield_several_or_none() {
    let steps = [first_model("IN", "YieldingProducer"), first_model("DIGITS", "YieldingDigits")];
    let digits = numbers().flat_map(|number| {
        let digits: Vec<u32> = number.to_string().chars().filter_map(|c| c.to_digit(10)).collect();
        digits.into_iter().filter(|digit| *digit != 0).map(|digit| json!(digit))
    });
    check("yielding_classes_yield_several_or_none", &steps, digits);
}

/// A switch of this class between two named steps.
fn switched(switch: &str, odd: fn(u64) -> Value) -> (Vec<Value>, impl Iterator<Item = Value>) {
    let steps = vec![
        with(first_model("IN", "YieldingProducer"), &json!({"next_steps": "SWITCH"})),
        with(first_model("SWITCH", switch), &json!({"next_steps": "EVEN, ODD"})),
        with(first_model("EVEN", "Named"), &json!({"next_steps": "END"})),
        with(first_model("ODD", "Named"), &json!({"next_steps": "END"})),
    ];
    let expected = numbers().map(move |number| match number % 2 {
        0 => json!(["EVEN", number]),
        _ => json!(["ODD", odd(number)]),
    });
    (steps, expected)
}

#[test]
fn a_switch_sends_by_name() {
    let (steps, expected) = switched("SendingSwitch", |number| json!(number));
    check("a_switch_sends_by_name", &steps, expected);
}

#[test]
fn a_switch_returns_the_name_last() {
    let (steps, expected) = switched("ReturningSwitch", |number| json!(number));
    check("a_switch_returns_the_name_last", &steps, expected);
}

#[test]
fn a_switch_yields_longer_tuples_which_become_shorter() {
    let (steps, expected) = switched("YieldingSwitch", |number| json!([number, number]));
    check("a_switch_yields_longer_tuples_which_become_shorter", &steps, expected);
}

#[test]
fn connections_are_the_names_of_all_next_steps() {
    let steps = [
        with(first_model("IN", "SendingProducer"), &json!({"next_steps": "ALL"})),
        with(first_model("ALL", "Broadcast"), &json!({"next_steps": ["A", "B", "END"]})),
        with(first_model("A", "Named"), &json!({"next_steps": "END"})),
        with(first_model("B", "ReturningSquare"), &json!({"next_steps": "END"})),
    ];
    let expected =
        numbers().flat_map(|number| [json!(["A", number]), json!(number * number), json!(number)]);
    check("connections_are_the_names_of_all_next_steps", &steps, expected);
}

#[test]
fn tuples_without_a_name_go_whole_to_the_default() {
    let steps = [
        with(first_model("IN", "TupleProducer"), &json!({"next_steps": "EVEN, ODD"})),
        with(first_model("EVEN", "Describe"), &json!({"next_steps": "END"})),
        with(first_model("ODD", "Describe"), &json!({"next_steps": "END"})),
    ];
    let expected = numbers().map(|number| {
        let more = json!({"squared": number * number, "half": number as f64 / 2.0});
        json!({"type": "tuple", "value": [number, more]})
    });
    check("tuples_without_a_name_go_whole_to_the_default", &steps, expected);
}

#[test]
fn none_sends_nothing_and_parameters_are_attributes() {
    let small = with(first_model("SMALL", "OnlySmall"), &json!({"params": {"limit": 7}}));
    let steps = [first_model("IN", "SendingProducer"), small];
    check("none_sends_nothing_and_parameters_are_attributes", &steps, (0..7).map(|n| json!(n)));
}

#[test]
fn loops_end_and_finish_may_send() {
    let steps = [
        with(
            first_model("IN", "YieldingProducer"),
            &json!({"next_steps": "DOWN", "params": {"last": 20}}),
        ),
        with(
            first_model("DOWN", "CountDown"),
            &json!({"next_steps": ["SUM", "DOWN"], "feedback": "DOWN"}),
        ),
        with(first_model("SUM", "Gathers"), &json!({"next_steps": "END"})),
    ];
    check("loops_end_and_finish_may_send", &steps, [json!(3 + 18 * 3)]);
}
