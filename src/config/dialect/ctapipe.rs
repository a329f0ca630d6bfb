//! ctapipe's layout: an object around the steps, parameters in sections.

use serde_json::Value;

use super::flow::{Around, FlowOptions, FlowSteps};
use super::lowered::{Classes, Lowered, is_slip, misplaced_key};
use crate::config::read::{find, read, unknown_key};
use crate::config::text::{Member, Node, Tree};
use crate::plan::diagnostic::quote_all;
use crate::plan::findings::Findings;
use crate::plan::keys::{Key, Options as _, Tag};
use crate::plan::options::PipelineOptions;
use crate::plan::span::SourceSpan;
use crate::plan::values::number;
use crate::stage::registry::Registry;

/// The pipeline's own keys beside the object with the steps.
const BESIDE: [&str; 7] =
    ["$schema", "version", "name", "description", "quarantine", "python", "pythonpath"];
/// The pipeline's own keys inside that object.
const INSIDE: [&str; 4] = ["ordered", "quarantine", "python", "pythonpath"];

/// The keys of the top level.
pub(crate) fn keys() -> Vec<&'static Key> {
    own(&BESIDE).chain(Around::KEYS).collect()
}

/// The keys of the object around the steps.
pub(crate) fn flow_keys() -> Vec<&'static Key> {
    FlowSteps::KEYS.iter().chain(own(&INSIDE)).chain(FlowOptions::KEYS).collect()
}

fn own(names: &[&str]) -> impl Iterator<Item = &'static Key> {
    PipelineOptions::KEYS.iter().filter(|key| names.contains(&key.name))
}

/// The object around the steps.
pub(super) fn around(root: &Node) -> Option<&Member> {
    root.get("Pipeline").or(root.get("Flow"))
}

/// Translates the value of a step's key. In ctapipe a queue takes one message more than its
/// limit, so 0 there is 1 here.
pub(super) fn value(key: &str, value: &Value) -> Value {
    let is_zero = || number(value) == Some(0) && !value.as_f64().is_some_and(|n| n > 0.0);
    if key == "queue_limit" && is_zero() { Value::from(1) } else { value.clone() }
}

/// Reads the top level, then the object `around` the steps.
pub(super) fn lower<'d>(
    lowered: &mut Lowered<'d>,
    around: &'d Node,
    registry: &Registry,
    findings: &mut Findings,
) {
    let root = lowered.root;
    if let (Some(_), Some(second)) = (root.get("Pipeline"), root.get("Flow")) {
        let message = "found both \"Pipeline\" and \"Flow\"; expected one of them";
        findings.error(&SourceSpan::File(second.offset), message, "");
    }
    let mut idle = Vec::new();
    top_level(lowered, around, registry, &mut idle, findings);
    let steps = flow(lowered, around, &mut idle, findings);
    let places = [
        ("producer_conf", &steps.producer_conf),
        ("stagers_conf", &steps.stagers_conf),
        ("consumer_conf", &steps.consumer_conf),
    ];
    lowered.take_steps(around, places, findings);
    report_idle(&idle, findings);
}

fn top_level<'d>(
    lowered: &mut Lowered<'d>,
    around: &Node,
    registry: &Registry,
    idle: &mut Vec<&'d Member>,
    findings: &mut Findings,
) {
    let classes = Classes::new(registry, around);
    let keys = keys();
    let mut ignored = Around::default();
    let Lowered { options, sections, root, .. } = lowered;
    read(
        root,
        &keys,
        findings,
        |key, value, span| {
            options.set(key.name, value, span.clone()) || ignored.set(key.name, value, span)
        },
        |member, findings| {
            if matches!(member.key.as_str(), "producer" | "stagers" | "consumer") {
                let hint = "put the steps inside \"Pipeline\" or \"Flow\", or remove that key";
                misplaced_key(member, hint, findings);
            } else if !classes.take_section(member, sections, findings) {
                match is_idle(member, &keys) {
                    true => idle.push(member),
                    false => classes.unknown_key(member, &keys, findings),
                }
            }
        },
    );
}

/// Reads the object around the steps. Its keys override those beside it.
fn flow<'d>(
    lowered: &mut Lowered<'d>,
    around: &'d Node,
    idle: &mut Vec<&'d Member>,
    findings: &mut Findings,
) -> FlowSteps {
    let keys = flow_keys();
    let is_ignored =
        |member: &&Member| find(&keys, &member.key).is_some_and(|key| key.is(Tag::Ignored));
    idle.extend(around.members().iter().filter(is_ignored));
    let mut steps = FlowSteps::default();
    let Lowered { options, flow, .. } = lowered;
    read(
        around,
        &keys,
        findings,
        |key, value, span| {
            steps.set(key.name, value, span.clone())
                || options.set(key.name, value, span.clone())
                || flow.set(key.name, value, span)
        },
        |member, findings| match is_idle(member, &keys) {
            true => idle.push(member),
            false => unknown_key(member, &keys, [], findings),
        },
    );
    steps
}

/// Whether an unknown key is a setting of the first model or of its programs, which have many, and
/// not a slip: it holds no steps and is not near to a known key.
fn is_idle(member: &Member, keys: &[&'static Key]) -> bool {
    let flow = flow_keys();
    if find(&flow, &member.key).is_some_and(|key| key.is(Tag::Ignored)) {
        return true;
    }
    let is_scalar = |node: &Node| matches!(node.tree, Tree::Scalar(_));
    let is_plain = is_scalar(&member.value)
        || matches!(&member.value.tree, Tree::List(items) if items.iter().all(is_scalar));
    let meant = keys.iter().chain(&flow).filter(|key| !key.is(Tag::Ignored)).copied();
    is_plain && !is_slip(&member.key, meant)
}

/// Says once which keys of the first model have no meaning here.
fn report_idle(idle: &[&Member], findings: &mut Findings) {
    let Some(first) = idle.first() else { return };
    let verb = if idle.len() == 1 { "has" } else { "have" };
    let names = quote_all(idle.iter().map(|member| member.key.as_str()));
    let message = format!("{names} {verb} no effect here");
    findings.warning(&SourceSpan::File(first.offset), message, "");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_keys_are_the_pipelines_own() {
        assert_eq!(own(&BESIDE).map(|key| key.name).collect::<Vec<_>>(), BESIDE);
        assert_eq!(own(&INSIDE).map(|key| key.name).collect::<Vec<_>>(), INSIDE);
    }
}
