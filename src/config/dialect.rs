//! Both spellings of a file, brought to one form.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::foreign::Defaults;
use super::settings::Setting;
use super::text::{Member, Node, Tree};
use crate::base::home;
use crate::base::nearest::nearest;
use crate::plan::address::Address;
use crate::plan::diagnostic::{did_you_mean, quote, quote_all};
use crate::plan::findings::Findings;
use crate::plan::model;
use crate::plan::model::{Key, Shape};
use crate::plan::spec::{Role, SourceSpan, wrong_name};
use crate::stage::registry::Registry;

/// Whose words a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    Native,
    Ctapipe,
}

/// The values of ctapipe's `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Sequential,
    Threads,
    Processes,
}

/// A file in the one form that all spellings come to.
pub(crate) struct Lowered<'d> {
    pub(crate) spelling: Spelling,
    /// The producer, the stagers, the consumer.
    pub(crate) steps: Vec<(Role, &'d Node)>,
    /// Objects that may be sections of parameters: whose they are is known when the
    /// classes in Python are.
    pub(crate) sections: Vec<&'d Member>,
    /// The file as a whole.
    pub(crate) root: &'d Node,
    /// What the pipeline is called.
    pub(crate) name: Option<String>,
    pub(crate) quarantine: PathBuf,
    pub(crate) ordered: bool,
    /// Whose steps are to run one after the other, or on threads, as ctapipe has it.
    pub(crate) mode: Option<(Mode, SourceSpan)>,
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
pub(crate) fn wrong_value(
    key: &Key,
    value: &Value,
    origin: &SourceSpan,
    report: &mut Findings<'_>,
) {
    let hint = match (value, key.name) {
        (Value::String(text), "on_error") => {
            did_you_mean(nearest(text, ["stop", "skip", "quarantine"]))
        }
        (Value::String(text), "name") => wrong_name(text).unwrap_or_default(),
        _ => String::new(),
    };
    let mut message = format!("found {}; expected {}", show(value), key.expected);
    if !matches!(origin, SourceSpan::File(_)) {
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
    report: &mut Findings<'_>,
) {
    let names = || keys.iter().map(|key| key.name);
    let message = format!(
        "unknown key {}; expected one of {}",
        quote(&member.key),
        names().collect::<Vec<_>>().join(", ")
    );
    let near = nearest(&member.key, names().chain(others));
    report.error(&SourceSpan::File(member.offset), message, did_you_mean(near));
}

/// The object's members that are in the table and whose values it takes; the
/// rest is reported, except members that `section` claims.
pub(crate) fn checked<'d>(
    object: &'d Node,
    keys: &'static [Key],
    report: &mut Findings<'_>,
    mut unknown: impl FnMut(&'d Member, &mut Findings<'_>),
) -> Vec<(&'static Key, &'d Node)> {
    let mut found: Vec<(&'static Key, &'d Node)> = Vec::new();
    for member in object.members() {
        let Some(key) = model::find(keys, &member.key) else {
            unknown(member, report);
            continue;
        };
        let value = member.value.to_value();
        if !key.takes(&value) {
            wrong_value(key, &value, &SourceSpan::File(member.value.offset), report);
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
    report: &mut Findings<'_>,
) -> Lowered<'d> {
    let around = root.get("Pipeline").or(root.get("Flow"));
    let spelling = if around.is_some() { Spelling::Ctapipe } else { Spelling::Native };
    let mut lowered = Lowered {
        spelling,
        steps: Vec::new(),
        sections: Vec::new(),
        root,
        name: None,
        quarantine: PathBuf::from("quarantine"),
        ordered: false,
        mode: None,
        monitor: None,
        gui: false,
        gui_address: None,
        python: Defaults::default(),
        incomplete: false,
    };
    if !root.is_object() {
        let found = show(&root.to_value());
        report.error(
            &SourceSpan::File(root.offset),
            format!("found {found}; expected an object with the steps of a pipeline"),
            "",
        );
        lowered.incomplete = true;
        return lowered;
    }
    let mut idle = Vec::new();
    let top = top_level(root, spelling, registry, &mut lowered, &mut idle, report);
    let (steps_in, keys) = match around {
        Some(member) => (&member.value, flow(&member.value, &mut idle, report)),
        None => (root, top.clone()),
    };
    steps(steps_in, spelling, &keys, &mut lowered, report);
    for (key, node) in top.iter().chain(&keys) {
        set_top_level(&mut lowered, key, &node.to_value(), SourceSpan::File(node.offset));
    }
    say_idle(&idle, report);
    top_level_settings(&mut lowered, settings, report);
    lowered
}

/// Takes a value of a key that is about the pipeline as a whole.
fn set_top_level(lowered: &mut Lowered<'_>, key: &Key, value: &Value, origin: SourceSpan) {
    let text = || value.as_str().unwrap_or_default();
    match key.name {
        "quarantine" => lowered.quarantine = home::expand(Path::new(text())),
        "name" => lowered.name = Some(text().to_owned()).filter(|name| !name.is_empty()),
        "ordered" => lowered.ordered = value.as_bool().unwrap_or_default(),
        "python" => lowered.python.interpreter = Some((text().to_owned(), origin)),
        "pythonpath" => lowered.python.paths = model::directories(value),
        "monitor" => lowered.monitor = Some(text().to_owned()),
        "mode" => {
            let mode = match text() {
                "sequential" => Mode::Sequential,
                "multithread" => Mode::Threads,
                _ => Mode::Processes,
            };
            lowered.mode = Some((mode, origin));
        }
        "gui" => lowered.gui = value == &Value::Bool(true),
        "gui_address" => lowered.gui_address = Some(text().to_owned()),
        _ => {}
    }
}

/// A key of the pipeline that the command line may set: one with a value of its own.
fn settable(name: &str) -> Option<&'static Key> {
    let key = model::find(model::NATIVE, name).or_else(|| model::find(model::FLOW, name))?;
    matches!(key.shape, Shape::Value(_)).then_some(key)
}

/// The names of those that do something, for messages.
const SETTABLE: [&str; 8] =
    ["quarantine", "ordered", "python", "pythonpath", "monitor", "mode", "gui", "gui_address"];

type Keys<'d> = Vec<(&'static Key, &'d Node)>;

fn top_level<'d>(
    root: &'d Node,
    spelling: Spelling,
    registry: &Registry,
    lowered: &mut Lowered<'d>,
    idle: &mut Vec<&'d Member>,
    report: &mut Findings<'_>,
) -> Keys<'d> {
    if let (Some(_), Some(second)) = (root.get("Pipeline"), root.get("Flow")) {
        let message = "both \"Pipeline\" and \"Flow\" are there; expected one of them";
        report.error(&SourceSpan::File(second.offset), message, "");
    }
    let table = match spelling {
        Spelling::Native => model::NATIVE,
        Spelling::Ctapipe => model::CTAPIPE,
    };
    let classes: Vec<&str> = registry.classes().map(|class| class.name()).collect();
    let named = classes_of_steps(root);
    checked(root, table, report, |member, report| {
        if let Some(hint) = misplaced(&member.key, spelling) {
            let message = format!("unknown key {}", quote(&member.key));
            report.error(&SourceSpan::File(member.offset), message, hint);
        } else if member.value.is_object() {
            lowered.sections.push(member);
        } else if registry.get(&member.key).is_some() || named.contains(&member.key) {
            let found = show(&member.value.to_value());
            let message = format!("found {found}; expected an object with the class's parameters");
            report.error(&SourceSpan::File(member.value.offset), message, "");
        } else if spelling == Spelling::Ctapipe && is_idle(member, table) {
            idle.push(member);
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

/// Whether an unknown key of ctapipe's spelling is a setting of the first model or of
/// its programs, which have many, and no slip: neither steps nor near to a known key.
fn is_idle(member: &Member, table: &'static [Key]) -> bool {
    if model::find(model::FLOW, &member.key).is_some_and(model::has_no_effect) {
        return true;
    }
    let meant = table.iter().chain(model::FLOW).filter(|key| !model::has_no_effect(key));
    let plain = |node: &Node| matches!(node.tree, Tree::Scalar(_));
    let is_plain = plain(&member.value)
        || matches!(&member.value.tree, Tree::List(items) if items.iter().all(plain));
    is_plain && nearest(&member.key, meant.map(|key| key.name)).is_none()
}

/// Says once which keys of the first model have no meaning here.
fn say_idle(idle: &[&Member], report: &mut Findings<'_>) {
    let Some(first) = idle.first() else { return };
    let verb = if idle.len() == 1 { "has" } else { "have" };
    let names = quote_all(idle.iter().map(|member| member.key.as_str()));
    report.warning(&SourceSpan::File(first.offset), format!("{names} {verb} no effect here"), "");
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
fn flow<'d>(object: &'d Node, idle: &mut Vec<&'d Member>, report: &mut Findings<'_>) -> Keys<'d> {
    let known = |member: &Member| model::find(model::FLOW, &member.key);
    idle.extend(object.members().iter().filter(|m| known(m).is_some_and(model::has_no_effect)));
    checked(object, model::FLOW, report, |member, report| match is_idle(member, model::FLOW) {
        true => idle.push(member),
        false => unknown_key(member, model::FLOW, [], report),
    })
}

fn steps<'d>(
    object: &Node,
    spelling: Spelling,
    keys: &Keys<'d>,
    lowered: &mut Lowered<'d>,
    report: &mut Findings<'_>,
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
                    report.error(&SourceSpan::File(object.offset), message, hint);
                }
            }
        }
    }
}

fn stagers<'d>(list: &'d Node, lowered: &mut Lowered<'d>, report: &mut Findings<'_>) {
    for item in list.items() {
        if item.is_object() {
            lowered.steps.push((Role::Stager, item));
        } else {
            lowered.incomplete = true;
            let found = show(&item.to_value());
            let message = format!("found {found}; expected an object, a step");
            report.error(&SourceSpan::File(item.offset), message, "");
        }
    }
}

/// Whether a setting is about the file's top level, not about a step.
pub(crate) fn is_top_level(setting: &Setting) -> bool {
    matches!(setting.target.as_str(), "" | "Pipeline" | "Flow")
}

fn top_level_settings(lowered: &mut Lowered<'_>, settings: &[Setting], report: &mut Findings<'_>) {
    for (index, setting) in settings.iter().enumerate() {
        let origin = SourceSpan::Setting(index);
        match settable(&setting.key) {
            _ if !is_top_level(setting) => {}
            Some(key) if model::has_no_effect(key) => {
                report.warning(&origin, format!("{} has no effect here", quote(key.name)), "");
            }
            Some(key) => match setting.value_for(|value| key.takes(value)) {
                Some(value) => set_top_level(lowered, key, &value, origin),
                None => wrong_value(key, &setting.json(), &origin, report),
            },
            None => {
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
