//! The layouts that a file may have. Each one is recognized, and lowered to the same model.

pub(crate) mod ctapipe;
pub(crate) mod flow;
mod lowered;
pub(crate) mod native;

use serde_json::Value;

use super::overrides::Setting;
use super::read::{find, wrong_value};
use super::text::Node;
use crate::base::nearest::nearest;
use crate::plan::address::Address;
use crate::plan::diagnostic::{did_you_mean, quote, quote_all, show};
use crate::plan::findings::Findings;
use crate::plan::keys::{Key, Options as _, Tag};
use crate::plan::options::PipelineOptions;
use crate::plan::span::SourceSpan;
use crate::stage::registry::Registry;
use flow::FlowOptions;
pub(crate) use lowered::{Dialect, Lowered, node_at};

impl Dialect {
    /// Translates the value of a step's key to that of the model.
    pub(crate) fn value(self, key: &str, value: &Value) -> Value {
        match self {
            Dialect::Native => value.clone(),
            Dialect::Ctapipe => ctapipe::value(key, value),
        }
    }
}

/// Reads the top level, whatever its layout is.
pub(crate) fn lower<'d>(
    root: &'d Node,
    registry: &Registry,
    settings: &[Setting],
    findings: &mut Findings,
) -> Lowered<'d> {
    let around = ctapipe::around(root);
    let dialect = if around.is_some() { Dialect::Ctapipe } else { Dialect::Native };
    let mut lowered = Lowered::new(dialect, root);
    if !root.is_object() {
        let found = show(&root.to_value());
        let message = format!("found {found}; expected an object with the steps of a pipeline");
        findings.error(&SourceSpan::File(root.offset), message, "");
        lowered.incomplete = true;
        return lowered;
    }
    match around {
        None => native::lower(&mut lowered, registry, findings),
        Some(member) => ctapipe::lower(&mut lowered, &member.value, registry, findings),
    }
    apply(settings, &mut lowered, findings);
    if lowered.options.monitor.is_none() && *lowered.flow.gui {
        let address = lowered.flow.gui_address.value.clone();
        let address = address.unwrap_or_else(|| Address::DEFAULT.to_owned());
        lowered.options.monitor.value = Some(address);
    }
    lowered
}

/// Whether a setting is about the pipeline as a whole, not about a step.
pub(crate) fn is_top_level(setting: &Setting) -> bool {
    matches!(setting.target.as_str(), "" | "Pipeline" | "Flow")
}

/// The keys that the command line may set for the pipeline and that have an effect, in the
/// order in which a message lists them.
const SETTABLE: [&str; 8] =
    ["quarantine", "ordered", "python", "pythonpath", "monitor", "mode", "gui", "gui_address"];

fn settable() -> Vec<&'static Key> {
    let keys = PipelineOptions::KEYS.iter().chain(FlowOptions::KEYS);
    keys.filter(|key| !key.is(Tag::FileOnly)).collect()
}

/// Puts the command line's settings over the file's.
fn apply(settings: &[Setting], lowered: &mut Lowered<'_>, findings: &mut Findings) {
    let keys = settable();
    for (index, setting) in settings.iter().enumerate().filter(|(_, s)| is_top_level(s)) {
        let span = SourceSpan::Setting(index);
        match find(&keys, &setting.key) {
            Some(key) if key.is(Tag::Ignored) => {
                findings.warning(&span, format!("{} has no effect here", quote(key.name)), "");
            }
            Some(key) => match setting.value_for(|value| (key.allows)(value)) {
                Some(value) => {
                    let _ = lowered.options.set(key.name, &value, span.clone())
                        || lowered.flow.set(key.name, &value, span);
                }
                None => wrong_value(key, &setting.json(), &span, findings),
            },
            None => {
                let message = format!(
                    "{} cannot be set for the pipeline; expected {}, or STEP.key or \
                     Class.parameter",
                    quote(&setting.key),
                    quote_all(SETTABLE)
                );
                findings.error(&span, message, did_you_mean(nearest(&setting.key, SETTABLE)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_does_something_can_be_set() {
        let only_says = ["$schema", "version", "name", "description"];
        let does_something = |key: &&&Key| !key.is(Tag::Ignored) && !only_says.contains(&key.name);
        let mut names: Vec<&str> =
            settable().iter().filter(does_something).map(|key| key.name).collect();
        let mut listed = SETTABLE;
        names.sort_unstable();
        listed.sort_unstable();
        assert_eq!(names, listed);
    }
}
