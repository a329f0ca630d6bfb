//! Both spellings of a file, brought to one form.

use std::path::PathBuf;

use serde_json::Value;

use super::address::Address;
use super::diagnostic::{did_you_mean, quote, quote_all};
use super::keys::{self, Key};
use super::node::{Member, Node};
use super::python::Defaults;
use super::report::Report;
use super::settings::Setting;
use super::spec::{Origin, Role, wrong_name};
use crate::nearest::nearest;
use crate::registry::Registry;

/// Whose words a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    Native,
    Ctapipe,
}

/// A file in the one form that all spellings come to.
pub(crate) struct Lowered<'d> {
    pub(crate) spelling: Spelling,
    /// The producer, the stagers, the consumer.
    pub(crate) steps: Vec<(Role, &'d Node)>,
    /// The parameter sections, named after classes of the registry.
    pub(crate) sections: Vec<&'d Member>,
    pub(crate) quarantine: PathBuf,
    pub(crate) ordered: bool,
    /// Where the run is to be shown, by drpipe's own key.
    monitor: Option<String>,
    /// Whether it is to be shown, and where, by ctapipe's keys.
    gui: bool,
    gui_address: Option<String>,
    /// Of the steps in Python.
    pub(crate) python: Defaults,
    /// Whether steps are missing that were meant to be there.
    pub(crate) incomplete: bool,
}

impl Lowered<'_> {
    /// Where the run is to be shown.
    pub(crate) fn monitor(&self) -> Option<String> {
        let default = || Address::DEFAULT.to_owned();
        let by_gui = || self.gui.then(|| self.gui_address.clone().unwrap_or_else(default));
        self.monitor.clone().or_else(by_gui)
    }
}

/// What something looks like in a message: short values as they are.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Array(items) if items.is_empty() => "an empty list".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > 60 => {
            format!("{}...", quote(&text.chars().take(60).collect::<String>()))
        }
        _ => value.to_string(),
    }
}

/// Says that a key's value is not what it must be.
pub(crate) fn wrong_value(key: &Key, value: &Value, origin: &Origin, report: &mut Report<'_>) {
    let hint = match (value, key.name) {
        (Value::String(text), "on_error") => {
            did_you_mean(nearest(text, ["stop", "skip", "quarantine"]))
        }
        (Value::String(text), "name") => wrong_name(text).unwrap_or_default(),
        _ => String::new(),
    };
    let mut message = format!("found {}; expected {}", show(value), key.expected);
    if !matches!(origin, Origin::File(_)) {
        message = format!("{}: {message}", quote(key.name)); // in the file, the path says it
    }
    report.error(origin, message, hint);
}

/// Says that a key is not one of the table's; `others` are names that it may
/// have been meant to be besides.
pub(crate) fn unknown_key<'a>(
    member: &Member,
    keys: &'static [Key],
    others: impl IntoIterator<Item = &'a str>,
    report: &mut Report<'_>,
) {
    let names = || keys.iter().map(|key| key.name);
    let message = format!(
        "unknown key {}; expected one of {}",
        quote(&member.key),
        names().collect::<Vec<_>>().join(", ")
    );
    let near = nearest(&member.key, names().chain(others));
    report.error(&Origin::File(member.offset), message, did_you_mean(near));
}

/// The object's members that are in the table and whose values it takes; the
/// rest is reported, except members that `section` claims.
pub(crate) fn checked<'d>(
    object: &'d Node,
    keys: &'static [Key],
    report: &mut Report<'_>,
    mut unknown: impl FnMut(&'d Member, &mut Report<'_>),
) -> Vec<(&'static Key, &'d Node)> {
    let mut found: Vec<(&'static Key, &'d Node)> = Vec::new();
    for member in object.members() {
        let Some(key) = keys::find(keys, &member.key) else {
            unknown(member, report);
            continue;
        };
        let value = member.value.to_value();
        if !key.takes(&value) {
            wrong_value(key, &value, &Origin::File(member.value.offset), report);
        } else if found.iter().all(|(other, _)| other.name != key.name) {
            found.push((key, &member.value));
        }
    }
    found
}

/// Reads the top level.
pub(crate) fn lower<'d>(
    root: &'d Node,
    registry: &Registry,
    settings: &[Setting],
    report: &mut Report<'_>,
) -> Lowered<'d> {
    let around = root.get("Pipeline").or(root.get("Flow"));
    let spelling = if around.is_some() { Spelling::Ctapipe } else { Spelling::Native };
    let mut lowered = Lowered {
        spelling,
        steps: Vec::new(),
        sections: Vec::new(),
        quarantine: PathBuf::from("quarantine"),
        ordered: false,
        monitor: None,
        gui: false,
        gui_address: None,
        python: Defaults::default(),
        incomplete: false,
    };
    if !root.is_object() {
        let found = show(&root.to_value());
        report.error(
            &Origin::File(root.offset),
            format!("found {found}; expected an object with the steps of a pipeline"),
            "",
        );
        lowered.incomplete = true;
        return lowered;
    }
    let top = top_level(root, spelling, registry, &mut lowered, report);
    let (steps_in, keys) = match around {
        Some(member) => (&member.value, flow(&member.value, report)),
        None => (root, top.clone()),
    };
    steps(steps_in, spelling, &keys, &mut lowered, report);
    for (key, node) in top.iter().chain(&keys) {
        set_top_level(&mut lowered, key, &node.to_value(), Origin::File(node.offset));
    }
    top_level_settings(&mut lowered, settings, report);
    lowered
}

/// Takes a value of a key that is about the pipeline as a whole.
fn set_top_level(lowered: &mut Lowered<'_>, key: &Key, value: &Value, origin: Origin) {
    let text = || value.as_str().unwrap_or_default();
    match key.name {
        "quarantine" => lowered.quarantine = PathBuf::from(text()),
        "ordered" => lowered.ordered = value.as_bool().unwrap_or_default(),
        "python" => lowered.python.interpreter = Some((text().to_owned(), origin)),
        "pythonpath" => lowered.python.paths = keys::directories(value),
        "monitor" => lowered.monitor = Some(text().to_owned()),
        "gui" => lowered.gui = value == &Value::Bool(true),
        "gui_address" => lowered.gui_address = Some(text().to_owned()),
        _ => {}
    }
}

/// The keys of the pipeline that the command line may set.
const SETTABLE: [&str; 4] = ["quarantine", "ordered", "python", "pythonpath"];

type Keys<'d> = Vec<(&'static Key, &'d Node)>;

fn top_level<'d>(
    root: &'d Node,
    spelling: Spelling,
    registry: &Registry,
    lowered: &mut Lowered<'d>,
    report: &mut Report<'_>,
) -> Keys<'d> {
    if let (Some(_), Some(second)) = (root.get("Pipeline"), root.get("Flow")) {
        let message = "both \"Pipeline\" and \"Flow\" are there; expected one of them";
        report.error(&Origin::File(second.offset), message, "");
    }
    let table = match spelling {
        Spelling::Native => keys::NATIVE,
        Spelling::Ctapipe => keys::CTAPIPE,
    };
    let classes: Vec<&str> = registry.classes().map(|class| class.name()).collect();
    let named = classes_of_steps(root);
    checked(root, table, report, |member, report| {
        if registry.get(&member.key).is_some() || named.contains(&member.key) {
            section(member, lowered, report);
        } else if let Some(hint) = misplaced(&member.key, spelling) {
            let message = format!("unknown key {}", quote(&member.key));
            report.error(&Origin::File(member.offset), message, hint);
        } else {
            unknown_key(member, table, classes.iter().copied(), report);
        }
    })
}

/// The classes in Python that the steps name: sections may have their names too.
fn classes_of_steps(root: &Node) -> Vec<String> {
    let around = root.get("Pipeline").or(root.get("Flow")).map_or(root, |member| &member.value);
    let steps = around.members().iter().flat_map(|member| match member.value.items() {
        [] => std::slice::from_ref(&member.value),
        items => items,
    });
    let in_python = steps.filter(|step| step.get("module").is_some());
    let classes = in_python.filter_map(|step| step.get("class"));
    classes.filter_map(|class| class.value.to_value().as_str().map(str::to_owned)).collect()
}

fn section<'d>(member: &'d Member, lowered: &mut Lowered<'d>, report: &mut Report<'_>) {
    if member.value.is_object() {
        lowered.sections.push(member);
    } else {
        let found = show(&member.value.to_value());
        let message = format!("found {found}; expected an object with the class's parameters");
        report.error(&Origin::File(member.value.offset), message, "");
    }
}

/// What to do about a key of the other spelling.
fn misplaced(key: &str, spelling: Spelling) -> Option<&'static str> {
    match (spelling, key) {
        (Spelling::Native, "producer_conf") => Some("rename it \"producer\""),
        (Spelling::Native, "stagers_conf") => Some("rename it \"stagers\""),
        (Spelling::Native, "consumer_conf") => Some("rename it \"consumer\""),
        (Spelling::Ctapipe, "producer" | "stagers" | "consumer") => {
            Some("the steps stand inside \"Pipeline\" or \"Flow\" here, or else without it")
        }
        _ => None,
    }
}

/// The keys of the object around the steps in ctapipe's spelling.
fn flow<'d>(object: &'d Node, report: &mut Report<'_>) -> Keys<'d> {
    let keys = checked(object, keys::FLOW, report, |member, report| {
        unknown_key(member, keys::FLOW, [], report);
    });
    for (key, node) in &keys {
        if keys::has_no_effect(key) {
            let message = format!("{} has no effect here", quote(key.name));
            let hint = if key.name == "mode" { "steps run on threads" } else { "" };
            report.warning(&Origin::File(node.offset), message, hint);
        }
    }
    keys
}

fn steps<'d>(
    object: &Node,
    spelling: Spelling,
    keys: &Keys<'d>,
    lowered: &mut Lowered<'d>,
    report: &mut Report<'_>,
) {
    let names = match spelling {
        Spelling::Native => ["producer", "stagers", "consumer"],
        Spelling::Ctapipe => ["producer_conf", "stagers_conf", "consumer_conf"],
    };
    let roles = [Role::Producer, Role::Stager, Role::Consumer];
    for (name, role) in names.into_iter().zip(roles) {
        let found = keys.iter().find(|(key, _)| key.name == name).map(|(_, node)| *node);
        match (found, role) {
            (Some(list), Role::Stager) => stagers(list, lowered, report),
            (Some(step), _) => lowered.steps.push((role, step)),
            (None, _) if object.get(name).is_some() => lowered.incomplete = true,
            (None, Role::Stager) => {}
            (None, _) => {
                lowered.incomplete = true;
                if object.is_object() {
                    let hint = format!("add {}: {{\"name\": ..., \"class\": ...}}", quote(name));
                    let message = format!("the key {} is missing", quote(name));
                    report.error(&Origin::File(object.offset), message, hint);
                }
            }
        }
    }
}

fn stagers<'d>(list: &'d Node, lowered: &mut Lowered<'d>, report: &mut Report<'_>) {
    for item in list.items() {
        if item.is_object() {
            lowered.steps.push((Role::Stager, item));
        } else {
            lowered.incomplete = true;
            let found = show(&item.to_value());
            let message = format!("found {found}; expected an object, a step");
            report.error(&Origin::File(item.offset), message, "");
        }
    }
}

/// Whether a setting is about the file's top level, not about a step.
pub(crate) fn is_top_level(setting: &Setting) -> bool {
    matches!(setting.target.as_str(), "" | "Pipeline" | "Flow")
}

fn top_level_settings(lowered: &mut Lowered<'_>, settings: &[Setting], report: &mut Report<'_>) {
    for (index, setting) in settings.iter().enumerate() {
        let origin = Origin::Setting(index);
        let key = keys::find(keys::FLOW, &setting.key);
        match key {
            _ if !is_top_level(setting) => {}
            Some(key) if SETTABLE.contains(&key.name) => match key.takes(&setting.verbatim()) {
                true => set_top_level(lowered, key, &setting.verbatim(), origin),
                false => wrong_value(key, &setting.verbatim(), &origin, report),
            },
            Some(key) if matches!(key.name, "gui" | "gui_address") => {
                let message = format!("{} has no effect here", quote(key.name));
                report.warning(&origin, message, "use --monitor");
            }
            Some(key) if keys::has_no_effect(key) => {
                report.warning(&origin, format!("{} has no effect here", quote(key.name)), "");
            }
            _ => {
                let message = format!(
                    "{} cannot be set for the pipeline; expected {}, or STEP.key or \
                     Class.parameter",
                    quote(&setting.key),
                    quote_all(SETTABLE)
                );
                report.error(&origin, message, did_you_mean(nearest(&setting.key, SETTABLE)));
            }
        }
    }
}
