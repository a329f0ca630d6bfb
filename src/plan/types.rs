//! Checks that each step takes the type that the step before it emits.

use std::collections::BTreeSet;

use super::diagnostic::quote;
use super::edges::Edge;
use super::findings::Findings;
use super::spec::StepSpec;
use crate::stage::data::ANY;
use crate::stage::registry::{Class, Registry};

/// Reports every edge whose types differ. A step that takes and emits any type emits the types
/// that it takes, unless it is written in Python.
pub(crate) fn check(
    specs: &[StepSpec],
    edges: &[Edge],
    registry: Option<&Registry>,
    findings: &mut Findings,
) {
    let emitted = emitted(specs, edges);
    for edge in edges {
        let (from, to) = (&specs[edge.from], &specs[edge.to]);
        let Some(input) = to.input.filter(|input| *input != ANY) else { continue };
        for output in emitted[edge.from].iter().filter(|output| **output != input) {
            let verb = if from.output == Some(ANY) { "passes on" } else { "emits" };
            let message = format!(
                "the step {} ({}) {verb} {output}, but the step {} ({}) takes {input}",
                quote(&from.name),
                from.class,
                quote(&to.name),
                to.class
            );
            findings.error(&edge.span, message, hint(output, input, registry));
        }
    }
}

/// Returns the types that each step emits, followed through steps of any type.
fn emitted(specs: &[StepSpec], edges: &[Edge]) -> Vec<BTreeSet<&'static str>> {
    let own = |spec: &StepSpec| match (spec.output, spec.input) {
        (Some(ANY), Some(input)) => Some(input).filter(|input| *input != ANY),
        (Some(ANY), None) => None, // a producer of any type: known only when it runs
        (output, _) => output,
    };
    let mut emitted: Vec<BTreeSet<_>> =
        specs.iter().map(|spec| own(spec).into_iter().collect()).collect();
    let mut grown = true;
    while grown {
        grown = false;
        for edge in edges.iter().filter(|edge| specs[edge.to].passes_on() && edge.from != edge.to) {
            let new: Vec<_> = emitted[edge.from].difference(&emitted[edge.to]).copied().collect();
            grown |= !new.is_empty();
            emitted[edge.to].extend(new);
        }
    }
    emitted
}

/// Names the classes that turn one type into the other.
fn hint(output: &str, input: &str, registry: Option<&Registry>) -> String {
    let converts = |class: &&Class| class.input() == Some(output) && class.output() == Some(input);
    let classes = registry.into_iter().flat_map(Registry::classes).filter(converts);
    let names: Vec<&str> = classes.map(Class::name).collect();
    if names.is_empty() {
        return String::new();
    }
    format!("a step of class {} between them converts it", names.join(" or "))
}
