//! drpipe's own layout: the model as it is.

use super::lowered::{Classes, Lowered, misplaced_key};
use crate::config::read::read;
use crate::plan::findings::Findings;
use crate::plan::keys::{Key, Options as _};
use crate::plan::options::PipelineOptions;
use crate::stage::registry::Registry;

/// The keys of the top level.
pub(crate) fn keys() -> Vec<&'static Key> {
    PipelineOptions::KEYS.iter().collect()
}

/// Reads the top level.
pub(super) fn lower(lowered: &mut Lowered<'_>, registry: &Registry, findings: &mut Findings) {
    let root = lowered.root;
    let classes = Classes::new(registry, root);
    let keys = keys();
    let Lowered { options, sections, .. } = lowered;
    read(
        root,
        &keys,
        findings,
        |key, value, span| options.set(key.name, value, span),
        |member, findings| {
            if let Some(hint) = misplaced(&member.key) {
                misplaced_key(member, hint, findings);
            } else if !classes.take_section(member, sections, findings) {
                classes.unknown_key(member, &keys, findings);
            }
        },
    );
    let PipelineOptions { producer, stagers, consumer, .. } = lowered.options.clone();
    let places = [("producer", &producer), ("stagers", &stagers), ("consumer", &consumer)];
    lowered.take_steps(root, places, findings);
}

/// What to do about a key of ctapipe's layout.
fn misplaced(key: &str) -> Option<&'static str> {
    match key {
        "producer_conf" => Some("rename it \"producer\""),
        "stagers_conf" => Some("rename it \"stagers\""),
        "consumer_conf" => Some("rename it \"consumer\""),
        _ => None,
    }
}
