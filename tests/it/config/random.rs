//! Random texts and random graphs.

use drpipe::plan::Plan;
use proptest::prelude::*;

use super::support::*;

/// JSON made of words that configurations use.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let words = [
        "producer",
        "stagers",
        "consumer",
        "Pipeline",
        "producer_conf",
        "stagers_conf",
        "name",
        "class",
        "params",
        "next_steps",
        "feedback",
        "nb_thread",
        "queue_limit",
        "queue_bytes",
        "on_error",
        "backoff",
        "retries",
        "version",
        "Clean",
        "Count",
        "Sum",
        "Relay",
        "A",
        "B",
        "threshold",
        "window",
        "A,B",
        "10",
        "-1",
        "stop",
        "",
    ];
    let word = prop::sample::select(words.to_vec()).prop_map(str::to_owned);
    let leaf = prop_oneof![
        word.clone().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        (-2_i64..5).prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::vec((word.clone(), inner), 0..8)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// A file whose steps lead to the next step and to random later ones.
fn forward(extra: &[Vec<usize>]) -> String {
    let last = extra.len() - 1;
    let step = |index: usize| {
        let class = match index {
            0 => "Count",
            i if i == last => "Sum",
            i => ["Pass", "Relay"][i % 2],
        };
        let mut next: Vec<usize> = extra[index].iter().map(|jump| index + 1 + jump).collect();
        next.retain(|to| *to <= last);
        next.push(index + 1);
        next.sort_unstable();
        next.dedup();
        let next: Vec<String> = next.iter().map(|to| format!("S{to}")).collect();
        match index == last {
            true => serde_json::json!({"name": format!("S{index}"), "class": class}),
            false => {
                serde_json::json!({"name": format!("S{index}"), "class": class, "next_steps": next})
            }
        }
    };
    // The stagers are listed backwards: the order comes from the graph, not from the list.
    let stagers: Vec<_> = (1..last).rev().map(step).collect();
    serde_json::json!({"producer": step(0), "stagers": stagers, "consumer": step(last)}).to_string()
}

/// A random step: where it leads to and back to, its class, and what is wrong about it.
type Draft = (Vec<usize>, Vec<usize>, u8, u8);

/// A file of random steps, perhaps with a fault.
fn steps(drafts: &[Draft]) -> serde_json::Value {
    let last = drafts.len() - 1;
    let step = |index: usize| {
        let (next, back, class, fault) = &drafts[index];
        let class = match index {
            0 => "Count",
            i if i == last => "Sum",
            _ => ["Pass", "Relay", "Pass", "Relay", "Pass", "Print"][usize::from(*class) % 6],
        };
        let name = if *fault == 0 { 0 } else { index };
        let mut step = serde_json::json!({"name": format!("S{name}"), "class": class});
        if index < last {
            let jump = |jump: &usize| index + 1 + jump % (last - index + usize::from(*fault == 1));
            let mut next: Vec<String> = next.iter().map(|to| format!("S{}", jump(to))).collect();
            if *fault != 2 {
                next.push(format!("S{}", index + 1));
            }
            let first = usize::from(*fault != 3);
            let back = back.iter().filter(|_| index > 0);
            let back: Vec<String> =
                back.map(|to| format!("S{}", first + to % (index + 1 - first))).collect();
            next.extend(back.iter().cloned());
            next.sort_unstable();
            next.dedup();
            step["next_steps"] = next.into();
            if !back.is_empty() && *fault != 4 {
                step["feedback"] = back.into();
            }
        }
        step
    };
    // Listed backwards: the order comes from the graph, not from the list.
    let stagers: Vec<_> = (1..last).rev().map(step).collect();
    serde_json::json!({"producer": step(0), "stagers": stagers, "consumer": step(last)})
}

/// Checks what the documentation of `Plan` promises.
fn keeps_its_promises(plan: &Plan) -> std::result::Result<(), TestCaseError> {
    let mut reached = vec![false; plan.steps.len()];
    for (index, step) in plan.steps.iter().enumerate() {
        prop_assert_eq!(plan.index(&step.name), Some(index), "two steps have one name");
        let producer = step.kind == drpipe::stage::registry::Kind::Producer;
        prop_assert_eq!(producer, index == 0);
        prop_assert!(producer || reached[index], "{} is not reached", step.name);
        for route in step.routes.iter().filter(|route| !route.feedback) {
            prop_assert!(route.to > index, "an edge goes backwards");
            reached[route.to] = true;
        }
    }
    Ok(())
}

/// The same file with its keys in another order, lists of next steps as texts, and a default
/// spelled out.
fn respelled(value: &serde_json::Value, turn: usize) -> serde_json::Value {
    match value {
        serde_json::Value::Object(members) => {
            let spell = |(key, value): (&String, &serde_json::Value)| match value.as_array() {
                Some(names) if key == "next_steps" && turn % 2 == 1 => {
                    let names: Vec<&str> = names.iter().filter_map(|name| name.as_str()).collect();
                    (key.clone(), names.join(",").into())
                }
                _ => (key.clone(), respelled(value, turn)),
            };
            let mut members: Vec<_> = members.iter().map(spell).collect();
            if members.iter().any(|(key, _)| key == "class") && turn.is_multiple_of(3) {
                members.push(("nb_thread".to_owned(), 1.into()));
            }
            let by = turn % members.len().max(1);
            members.rotate_left(by);
            members.into_iter().collect()
        }
        serde_json::Value::Array(items) => items.iter().map(|item| respelled(item, turn)).collect(),
        scalar => scalar.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_plan_is_refused_with_errors_or_keeps_its_promises(
        drafts in prop::collection::vec((
            prop::collection::vec(0_usize..8, 0..3),
            prop::collection::vec(0_usize..8, 0..2),
            any::<u8>(),
            0_u8..40,
        ), 2..8),
        turn in 0_usize..12,
    ) {
        let value = steps(&drafts);
        let respelled = serde_json::to_string_pretty(&respelled(&value, turn)).unwrap();
        match (check(&value.to_string(), &[]), check(&respelled, &[])) {
            (Ok(one), Ok(other)) => {
                keeps_its_promises(&one.plan)?;
                prop_assert_eq!(one.plan.config_hash, other.plan.config_hash, "{}", respelled);
            }
            (Err(one), Err(other)) => prop_assert!(!one.is_empty() && !other.is_empty()),
            (one, other) => prop_assert!(
                false, "{:?} {:?} {value} {respelled}", one.err(), other.err()
            ),
        }
    }

    #[test]
    fn another_meaning_is_another_hash(
        extra in prop::collection::vec(prop::collection::vec(0_usize..6, 0..3), 3..8),
        key in prop::sample::select(vec!["nb_thread", "retries", "queue_limit"]),
        number in 2_u32..90,
    ) {
        let text = forward(&extra);
        let mut other: serde_json::Value = serde_json::from_str(&text).unwrap();
        other["stagers"][0][key] = number.into();
        let (one, _) = good(&text);
        let (other, warnings) = good(&other.to_string());
        prop_assume!(warnings.is_empty());
        prop_assert_ne!(one.config_hash, other.config_hash);
    }

    #[test]
    fn any_text_is_checked_without_panic(text in ".{0,200}") {
        let _ = check(&text, &[]);
    }

    #[test]
    fn any_json_is_checked_without_panic(value in json()) {
        if let Err(diagnostics) = check(&value.to_string(), &["A.nb_thread=2", "Clean.threshold=x"]) {
            for diagnostic in diagnostics {
                let line = diagnostic.to_string();
                prop_assert!(!line.contains('\n'), "{}", line);
            }
        }
    }

    #[test]
    fn a_cut_file_is_an_error(cut in 0_usize..100) {
        let text = with_key("\"nb_thread\": 2");
        prop_assume!(cut < text.len());
        prop_assert!(check(&text[..cut], &[]).is_err());
    }

    #[test]
    fn any_forward_graph_is_accepted_and_ordered(
        extra in prop::collection::vec(prop::collection::vec(0_usize..6, 0..3), 2..12)
    ) {
        let text = forward(&extra);
        let value = serde_json::from_str(&text).unwrap();
        prop_assert!(jsonschema::is_valid(&drpipe::config::schema(&registry()), &value));
        let (plan, _) = good(&text);
        prop_assert_eq!(plan.steps.len(), extra.len());
        for (index, step) in plan.steps.iter().enumerate() {
            prop_assert!(step.routes.iter().all(|route| route.to > index && !route.feedback));
        }
    }
}
