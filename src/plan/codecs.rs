//! The codec of each edge.

use super::edges::Edge;
use super::spec::StepSpec;
use crate::codec::CodecId;
use crate::stage::data::ANY;

/// The codecs that the workers of a step read and write, the preferred one first.
fn preferences(spec: &StepSpec) -> &'static [CodecId] {
    if spec.is_foreign() { CodecId::FOREIGN } else { CodecId::ALL }
}

/// Picks the codec of what each step takes: the one it prefers among those that its senders
/// write too. A step that passes messages on unopened has one codec on both sides, so such
/// steps and those that they lead to share one.
pub(crate) fn choose(specs: &[StepSpec], edges: &[Edge]) -> Vec<CodecId> {
    let group = groups(specs, edges);
    let mut common: Vec<Vec<CodecId>> = specs.iter().map(|spec| preferences(spec).into()).collect();
    let mut keep = |step: usize, worker: usize| {
        common[group[step]].retain(|codec| preferences(&specs[worker]).contains(codec));
    };
    (0..specs.len()).for_each(|step| keep(step, step));
    edges.iter().for_each(|edge| keep(edge.to, edge.from));
    // The results go back to the producer, which takes no other messages.
    if let Some(producer) = specs.iter().position(|spec| spec.acknowledges) {
        let gives = |step: &usize| *specs[*step].options.results;
        (0..specs.len()).filter(gives).for_each(|step| keep(producer, step));
    }
    // One codec is common to all, so that the fallback is never needed.
    group.iter().map(|group| common[*group].first().copied().unwrap_or_default()).collect()
}

/// For each step the first of those that share a codec with it.
fn groups(specs: &[StepSpec], edges: &[Edge]) -> Vec<usize> {
    let mut group: Vec<usize> = (0..specs.len()).collect();
    let mut spread = true;
    while spread {
        spread = false;
        for edge in edges.iter().filter(|edge| specs[edge.from].passes_on()) {
            let first = group[edge.from].min(group[edge.to]);
            spread |= group[edge.from] != group[edge.to];
            (group[edge.from], group[edge.to]) = (first, first);
        }
    }
    group
}

/// Returns which steps may receive any value that can be pickled: those whose inputs are finally
/// opened by a step in Python or of a caller, or by no step. If only steps in Rust would open such a value, steps
/// in Python refuse to send it.
pub(crate) fn take_objects(specs: &[StepSpec], edges: &[Edge]) -> Vec<bool> {
    let mut in_python: Vec<bool> = specs.iter().map(StepSpec::is_foreign).collect();
    let opens = |spec: &StepSpec| !spec.is_foreign() && spec.input != Some(ANY);
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

    /// Puts the steps between a producer of whole numbers, which leads to `first`, and an end that
    /// takes any type.
    fn plan(first: &[&str], between: Vec<StepSpec>) -> Plan {
        let mut steps = vec![step("IN", Role::Producer, of_producer::<Integers>(), first)];
        steps.extend(between);
        steps.push(step("OUT", Role::Consumer, of_consumer::<Discard>(), &[]));
        assemble(steps, "quarantine".into()).unwrap().plan
    }

    /// The names of the steps that take MessagePack.
    fn packed(plan: &Plan) -> Vec<&str> {
        let packed = plan.steps.iter().filter(|step| step.codec == CodecId::MessagePack);
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
        assert_eq!(plan.next_codecs(0), [CodecId::MessagePack]);
        assert_eq!(plan.next_codecs(2), [CodecId::Bincode]);
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

    /// The names of the steps that may receive any value that can be pickled.
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
        // It may emit another type than it takes, so no type after it is wrong.
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
