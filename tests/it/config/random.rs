//! Random texts and random graphs.

use proptest::prelude::*;

use super::support::*;

/// JSON of the words that configurations are made of.
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

/// A file whose steps lead to random later steps, and to the next one.
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
    // The list of stagers backwards: the order is the graph's, not the list's.
    let stagers: Vec<_> = (1..last).rev().map(step).collect();
    serde_json::json!({"producer": step(0), "stagers": stagers, "consumer": step(last)}).to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

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
