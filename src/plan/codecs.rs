//! Which codec each edge has.

use super::edges::Edge;
use super::spec::StepSpec;
use crate::message::Codec;
use crate::stage::data::ANY;

/// How what each step takes is serialized: in MessagePack if a step in Python
/// sends or receives it. A step that passes messages on unopened has one codec on
/// both sides, so it spreads through such steps both ways.
pub(crate) fn choose(specs: &[StepSpec], edges: &[Edge]) -> Vec<Codec> {
    let mut packed: Vec<bool> = specs.iter().map(|spec| spec.python.is_some()).collect();
    for edge in edges {
        packed[edge.to] |= specs[edge.from].python.is_some();
    }
    let mut spread = true;
    while spread {
        spread = false;
        for edge in edges.iter().filter(|edge| specs[edge.from].passes_on()) {
            spread |= packed[edge.from] != packed[edge.to];
            let either = packed[edge.from] || packed[edge.to];
            (packed[edge.from], packed[edge.to]) = (either, either);
        }
    }
    let codec = |packed| if packed { Codec::MessagePack } else { Codec::Bincode };
    packed.into_iter().map(codec).collect()
}

/// Whether each step may be sent whatever pickle takes: where steps in Python open it in
/// the end, or nobody does. Where it can come to steps in Rust only, those in Python refuse
/// it before they send it.
pub(crate) fn take_objects(specs: &[StepSpec], edges: &[Edge]) -> Vec<bool> {
    let mut in_python: Vec<bool> = specs.iter().map(|spec| spec.python.is_some()).collect();
    let opens = |spec: &StepSpec| spec.python.is_none() && spec.input != Some(ANY);
    let mut in_rust: Vec<bool> = specs.iter().map(opens).collect();
    let mut spread = true;
    while spread {
        spread = false;
        for edge in edges.iter().filter(|edge| specs[edge.from].passes_on()) {
            for opened in [&mut in_python, &mut in_rust] {
                spread |= opened[edge.to] && !opened[edge.from];
                opened[edge.from] |= opened[edge.to];
            }
        }
    }
    in_python.into_iter().zip(in_rust).map(|(python, rust)| python || !rust).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::assemble::assemble;
    use crate::plan::spec::Role;
    use crate::plan::{Plan, Python};
    use crate::prelude::*;
    use crate::stage::registry::{Traits, build_stage, of_consumer, of_producer, of_stage};
    use crate::stages::{Discard, FormatNumber, Integers, Pass, Square};

    fn step(name: &str, role: Role, traits: Traits, next: &[&str]) -> StepSpec {
        let build = build_stage(|| Pass {});
        let mut step = StepSpec::new(name, "Class", role, traits, build);
        next.iter().for_each(|next| step.leads_to(next));
        step
    }

    fn stage<S: Stage>(name: &str, next: &[&str]) -> StepSpec {
        step(name, Role::Stager, of_stage::<S>(), next)
    }

    fn python(name: &str, next: &[&str]) -> StepSpec {
        let mut step = stage::<Pass>(name, next);
        let (interpreter, module) = ("python3".into(), "lab".into());
        step.python = Some(Python { interpreter, module, ..Python::default() });
        step
    }

    /// Between a producer of whole numbers, which leads to `first`, and an end
    /// that takes all.
    fn plan(first: &[&str], between: Vec<StepSpec>) -> Plan {
        let mut steps = vec![step("IN", Role::Producer, of_producer::<Integers>(), first)];
        steps.extend(between);
        steps.push(step("OUT", Role::Consumer, of_consumer::<Discard>(), &[]));
        assemble(steps, "quarantine".into()).unwrap().plan
    }

    /// The names of the steps that take MessagePack.
    fn packed(plan: &Plan) -> Vec<&str> {
        let packed = plan.steps.iter().filter(|step| step.codec == Codec::MessagePack);
        packed.map(|step| step.name.as_str()).collect()
    }

    #[test]
    fn python_and_what_follows_it_take_messagepack() {
        let between = || vec![stage::<Square>("A", &["B"]), stage::<Square>("B", &["OUT"])];
        assert!(packed(&plan(&["A"], between())).is_empty());
        let mut steps = vec![python("P", &["A"])];
        steps.extend(between());
        let plan = plan(&["P"], steps);
        assert_eq!(packed(&plan), ["P", "A"]);
        assert_eq!(plan.next_codecs(0), [Codec::MessagePack]);
        assert_eq!(plan.next_codecs(2), [Codec::Bincode]);
    }

    #[test]
    fn it_spreads_both_ways_through_steps_that_do_not_open_messages() {
        // Before a step in Python.
        let before =
            vec![stage::<Pass>("A", &["B"]), stage::<Pass>("B", &["P"]), python("P", &["OUT"])];
        assert_eq!(packed(&plan(&["A"], before)), ["A", "B", "P", "OUT"]);
        // Behind one; and to the other steps that a branch leads to.
        let branch = vec![
            stage::<Pass>("A", &["P", "B"]),
            python("P", &["OUT"]),
            stage::<Pass>("B", &["SQUARE"]),
            stage::<Square>("SQUARE", &["END"]),
            stage::<Square>("END", &["OUT"]),
        ];
        assert_eq!(packed(&plan(&["A"], branch)), ["A", "P", "B", "SQUARE", "OUT"]);
        // Not through one that opens them.
        let typed = vec![stage::<Square>("A", &["P"]), python("P", &["OUT"])];
        assert_eq!(packed(&plan(&["A"], typed)), ["P", "OUT"]);
    }

    #[test]
    fn it_spreads_round_a_loop() {
        let mut last = stage::<Pass>("B", &["OUT"]);
        last.feeds_back_to("A");
        let steps = vec![stage::<Pass>("A", &["B"]), last, python("P", &["OUT"])];
        assert_eq!(packed(&plan(&["A", "P"], steps)), ["A", "B", "P", "OUT"]);
    }

    /// The names of the steps that may be sent whatever pickle takes.
    fn takers(plan: &Plan) -> Vec<&str> {
        let takers = plan.steps.iter().filter(|step| step.takes_objects);
        takers.map(|step| step.name.as_str()).collect()
    }

    #[test]
    fn whatever_pickle_takes_goes_where_python_opens_it_or_nobody() {
        let steps = vec![
            python("P", &["A", "B", "OUT"]),
            // Unopened to a step in Python; also where another branch is opened in Rust.
            stage::<Pass>("A", &["Q", "SQUARE"]),
            python("Q", &["OUT"]),
            stage::<Square>("SQUARE", &["OUT"]),
            // Opened in Rust only, round a loop too.
            stage::<Pass>("B", &["C"]),
            {
                let mut last = stage::<Pass>("C", &["SQUARE"]);
                last.feeds_back_to("B");
                last
            },
        ];
        assert_eq!(takers(&plan(&["P"], steps)), ["P", "A", "Q", "OUT"]);
    }

    #[test]
    fn what_python_emits_may_be_anything() {
        // What it takes is not what it emits: no type is wrong behind it.
        let text = || stage::<FormatNumber>("TEXT", &["P"]);
        let behind = vec![text(), python("P", &["SQUARE"]), stage::<Square>("SQUARE", &["OUT"])];
        assert_eq!(packed(&plan(&["TEXT"], behind)), ["P", "SQUARE"]);
        // A step in Rust passes the type on.
        let steps = vec![
            step("IN", Role::Producer, of_producer::<Integers>(), &["TEXT"]),
            stage::<FormatNumber>("TEXT", &["A"]),
            stage::<Pass>("A", &["SQUARE"]),
            step("SQUARE", Role::Consumer, of_stage::<Square>(), &[]),
        ];
        let error = assemble(steps, "quarantine".into()).err().unwrap().to_string();
        assert!(error.contains("passes on drpipe/Text/1"), "{error}");
    }
}
