//! From the objects of a file to step specifications.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::dialect::{Lowered, Spelling, checked, is_top_level, unknown_key, wrong_value};
use super::foreign;
use super::foreign::{Describe, Found, InPython};
use super::params::Params;
use super::sections::Claims;
use super::settings::{PRODUCER, Setting};
use super::text::Node;
use crate::base::failure::Failure;
use crate::base::nearest::nearest;
use crate::plan::diagnostic::{did_you_mean, quote};
use crate::plan::findings::Findings;
use crate::plan::model;
use crate::plan::model::STEP;
use crate::plan::spec::{
    BACKOFF, LOST_RETRIES, Link, QUEUE_BYTES, QUEUE_LIMIT, Role, SourceSpan, StepSpec, Workers,
};
use crate::stage::registry::{Class, Kind, Registry};

/// A step with the settings of the command line.
pub(crate) struct Draft<'d> {
    pub(crate) role: Role,
    node: &'d Node,
    /// The valid ones.
    fields: BTreeMap<&'static str, Field<'d>>,
    pub(crate) params: Params<'d>,
}

/// The value of a key, and where it was given.
struct Field<'d> {
    value: Value,
    origin: SourceSpan,
    /// In the file, not on the command line.
    node: Option<&'d Node>,
}

impl Draft<'_> {
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.value(key)?.as_str()
    }

    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).map(|field| &field.value)
    }

    pub(crate) fn origin(&self, key: &str) -> SourceSpan {
        self.fields
            .get(key)
            .map_or(SourceSpan::File(self.node.offset), |field| field.origin.clone())
    }
}

/// The steps' specifications. The second value is whether they are incomplete,
/// so that a check of the graph as a whole would only add to the noise.
pub(crate) fn specs(
    lowered: &Lowered<'_>,
    registry: &Registry,
    settings: &[Setting],
    describe: &mut Describe<'_>,
    report: &mut Findings<'_>,
) -> (Vec<StepSpec>, bool) {
    let mut drafts: Vec<Draft<'_>> =
        lowered.steps.iter().map(|(role, node)| draft(*role, node, report)).collect();
    for section in &lowered.sections {
        for draft in drafts.iter_mut().filter(|d| d.text("class") == Some(&section.key)) {
            draft.params.section(&section.value);
        }
    }
    apply(settings, &mut drafts, report);
    let found = foreign::describe(&mut drafts, lowered, registry, settings, describe, report);
    let claims = Claims::new(&drafts, &found, lowered.spelling, registry);
    claims.check_sections(lowered, report);
    for (index, setting) in settings.iter().enumerate().filter(|(_, s)| !is_top_level(s)) {
        let target = setting.target.as_str();
        if target != PRODUCER && drafts.iter().all(|draft| draft.text("name") != Some(target)) {
            let origin = SourceSpan::Setting(index);
            claims.check_setting(target, setting.param(), lowered, &origin, report);
        }
    }
    let mut incomplete = lowered.incomplete;
    let mut specs = Vec::new();
    for (draft, found) in drafts.iter().zip(&found) {
        match spec(draft, lowered.spelling, registry, found.as_ref(), report) {
            Some(spec) => specs.push(spec),
            None => incomplete = true,
        }
    }
    (specs, incomplete)
}

fn draft<'d>(role: Role, node: &'d Node, report: &mut Findings<'_>) -> Draft<'d> {
    let mut draft = Draft { role, node, fields: BTreeMap::new(), params: Params::default() };
    let keys = checked(node, STEP, report, |member, report| {
        unknown_key(member, STEP, [], report);
    });
    for (key, node) in keys {
        if key.name == "params" {
            draft.params.own(node);
            continue;
        }
        let origin = SourceSpan::File(node.offset);
        draft.fields.insert(key.name, Field { value: node.to_value(), origin, node: Some(node) });
    }
    draft
}

/// Puts the command line's settings over the file's.
fn apply(settings: &[Setting], drafts: &mut [Draft<'_>], report: &mut Findings<'_>) {
    for (index, setting) in settings.iter().enumerate().filter(|(_, s)| !is_top_level(s)) {
        let target = setting.target.as_str();
        if drafts.iter().any(|draft| draft.text("name") == Some(target)) {
            for draft in drafts.iter_mut().filter(|draft| draft.text("name") == Some(target)) {
                apply_to_step(setting, index, draft, report);
            }
            continue;
        }
        if target == PRODUCER {
            for draft in drafts.iter_mut().filter(|draft| draft.role == Role::Producer) {
                apply_to_step(setting, index, draft, report);
            }
            continue;
        }
        for draft in drafts.iter_mut().filter(|draft| draft.text("class") == Some(target)) {
            draft.params.set(setting.param(), setting, index);
        }
    }
}

fn apply_to_step(
    setting: &Setting,
    index: usize,
    draft: &mut Draft<'_>,
    report: &mut Findings<'_>,
) {
    let origin = SourceSpan::Setting(index);
    if let Some(param) = setting.key.strip_prefix("params.") {
        draft.params.set(param, setting, index);
        return;
    }
    let Some(key) = model::find(STEP, &setting.key) else {
        draft.params.set(&setting.key, setting, index);
        return;
    };
    if matches!(key.name, "name" | "params") {
        let hint = if key.name == "params" {
            "set one parameter at a time: STEP.params.name=value"
        } else {
            ""
        };
        report.error(&origin, format!("{} cannot be set", quote(key.name)), hint);
        return;
    }
    let values = [setting.json(), setting.verbatim()];
    match values.iter().find(|value| key.takes(value)) {
        Some(value) => {
            let field = Field { value: value.clone(), origin, node: None };
            draft.fields.insert(key.name, field);
        }
        None => wrong_value(key, &values[0], &origin, report),
    }
}

/// None if the step has no usable name.
fn spec(
    draft: &Draft<'_>,
    spelling: Spelling,
    registry: &Registry,
    found: Option<&Found>,
    report: &mut Findings<'_>,
) -> Option<StepSpec> {
    let (class, python) = class(draft, registry, found, report);
    let (params, build) = match class {
        Some(class) => {
            let params = draft.params.check(class, python, draft.node.offset, report);
            (params.clone(), class.with_params(params))
        }
        None => (Value::Null, failing_build()),
    };
    let param_origins = draft.params.origins(&params, draft.node.offset);
    let usable = class.filter(|class| fits(class.kind(), draft.role));
    let name = name(draft, report);
    let (mut threads, mut processes) = workers(draft, report);
    if python.is_some() {
        let (min, max) = (threads.min + processes.min, threads.max + processes.max);
        (threads, processes) = (Workers::exactly(0), Workers { min, max });
    } else if class.is_some() {
        foreign::without_effect(draft, spelling, report);
    }
    limits_need_processes(draft, threads, report);
    without_effect(draft, report);
    let spec = StepSpec {
        name: name?,
        class: draft.text("class").unwrap_or_default().to_owned(),
        role: draft.role,
        kind: usable.map_or(Kind::Stage, Class::kind),
        input: usable.and_then(Class::input),
        output: usable.and_then(Class::output),
        single: usable.is_some_and(Class::single),
        gathers: usable.is_some_and(Class::gathers),
        threads,
        processes,
        timeout: draft.fields.get("timeout").and_then(|field| model::seconds(&field.value)),
        memory_limit: draft
            .fields
            .get("memory_limit")
            .and_then(|field| model::bytes(&field.value).flatten()),
        queue_limit: queue_limit(draft, spelling, report),
        queue_bytes: queue_bytes(draft, report),
        next_steps: links(draft, "next_steps", report),
        feedback: links(draft, "feedback", report),
        on_error: draft
            .fields
            .get("on_error")
            .and_then(|field| model::on_error(&field.value))
            .unwrap_or_default(),
        retries: draft
            .fields
            .get("retries")
            .and_then(|field| model::number(&field.value))
            .map_or(0, |retries| retries as u32),
        lost_retries: draft
            .fields
            .get("lost_retries")
            .and_then(|field| model::number(&field.value))
            .map_or(LOST_RETRIES, |retries| retries as u32),
        backoff: draft
            .fields
            .get("backoff")
            .and_then(|field| model::seconds(&field.value))
            .unwrap_or(BACKOFF),
        params,
        build,
        python: python.map(|python| python.python.clone()),
        param_origins,
        origin: draft.origin("name"),
        workers_origin: draft.origin(if threads.max > 0 { "nb_thread" } else { "nb_process" }),
    };
    Some(spec)
}

/// Stands for a class in error; a plan is never made of it.
fn failing_build() -> crate::stage::registry::Build {
    Arc::new(|| Err(Failure::permanent("the configuration is in error")))
}

fn name(draft: &Draft<'_>, report: &mut Findings<'_>) -> Option<String> {
    if draft.node.get("name").is_none() {
        missing("name", draft, report);
    }
    draft.text("name").map(str::to_owned)
}

fn missing(key: &str, draft: &Draft<'_>, report: &mut Findings<'_>) {
    let message = format!("the key {} is missing", quote(key));
    report.error(&SourceSpan::File(draft.node.offset), message, format!("add {}: ...", quote(key)));
}

fn class<'r>(
    draft: &Draft<'_>,
    registry: &'r Registry,
    found: Option<&'r Found>,
    report: &mut Findings<'_>,
) -> (Option<&'r Class>, Option<&'r InPython>) {
    let Some(name) = draft.text("class") else {
        if draft.node.get("class").is_none() {
            missing("class", draft, report);
        }
        return (None, None);
    };
    let origin = draft.origin("class");
    let fitting = || {
        let fitting = registry.classes().filter(|class| fits(class.kind(), draft.role));
        fitting.map(Class::name)
    };
    let (class, python) = match (found, registry.get(name)) {
        (Some(Found::Class(found)), _) => (&found.class, Some(&**found)),
        (Some(Found::Unusable), _) => return (None, None),
        (_, Some(class)) => (class, None),
        (_, None) => {
            let near = nearest(name, registry.classes().map(Class::name));
            let known = list(fitting());
            let message = format!("unknown class {}; expected {known}", quote(name));
            let hint = match near {
                _ if draft.text("module").is_some() => did_you_mean(near),
                Some(_) => did_you_mean(near),
                None => "a class in Python also needs its \"module\"".to_owned(),
            };
            report.error(&origin, message, hint);
            return (None, None);
        }
    };
    if !fits(class.kind(), draft.role) {
        let message = format!(
            "class {} is a {}, but stands as a {}; expected {}",
            quote(name),
            class.kind().as_str(),
            draft.role.as_str(),
            list(fitting())
        );
        report.error(&origin, message, "");
    }
    (Some(class), python)
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.as_slice() {
        [] => "a class, but none of that kind is registered".to_owned(),
        names => format!("one of {}", names.join(", ")),
    }
}

/// A stage may stand at the end: what it emits ends there.
fn fits(kind: Kind, role: Role) -> bool {
    match role {
        Role::Producer => kind == Kind::Producer,
        Role::Stager => kind == Kind::Stage,
        Role::Consumer => kind != Kind::Producer,
    }
}

/// The numbers of workers on threads and in processes.
fn workers(draft: &Draft<'_>, report: &mut Findings<'_>) -> (Workers, Workers) {
    let (none, one) = (Workers::exactly(0), Workers::exactly(1));
    let given = |key: &str| draft.fields.get(key).and_then(|field| model::workers(&field.value));
    for key in ["nb_thread", "nb_process"] {
        if let Some(Workers { min, max }) = given(key).filter(|given| given.min > given.max) {
            let message = format!("found a min of {min} above a max of {max}");
            report.error(&draft.origin(key), message, "");
        }
    }
    let (threads, processes) = match (given("nb_thread"), given("nb_process")) {
        (None, None) => (one, none),
        (threads, processes) => (threads.unwrap_or(none), processes.unwrap_or(none)),
    };
    if threads.max + processes.max == 0 {
        let key = if draft.fields.contains_key("nb_thread") { "nb_thread" } else { "nb_process" };
        let message = "found 0 workers; expected from 1 to 1000, on threads or in processes";
        report.error(&draft.origin(key), message, "");
        return (one, none);
    }
    (threads, processes)
}

/// A thread can neither be ended nor be told its share of the memory.
fn limits_need_processes(draft: &Draft<'_>, threads: Workers, report: &mut Findings<'_>) {
    let threads = threads.max;
    for key in ["timeout", "memory_limit"] {
        if let Some(field) = draft.fields.get(key).filter(|_| threads > 0) {
            let message = format!(
                "{} needs workers in processes, but {threads} of the step's workers are threads, \
                 which cannot be ended",
                quote(key)
            );
            report.error(&field.origin, message, "use \"nb_process\" instead of \"nb_thread\"");
        }
    }
}

/// Keys that change nothing where they stand.
fn without_effect(draft: &Draft<'_>, report: &mut Findings<'_>) {
    if draft.role == Role::Producer {
        for key in ["queue_limit", "queue_bytes", "timeout"] {
            if let Some(field) = draft.fields.get(key) {
                let message = format!("{} has no effect: a producer takes no messages", quote(key));
                report.warning(&field.origin, message, "");
            }
        }
    }
}

fn queue_limit(draft: &Draft<'_>, spelling: Spelling, report: &mut Findings<'_>) -> Option<usize> {
    let Some(field) = draft.fields.get("queue_limit") else { return Some(QUEUE_LIMIT) };
    if model::is_zero(&field.value) {
        // In the first model a queue takes one message more than its limit.
        if let (Spelling::Native, Some(key)) = (spelling, model::find(STEP, "queue_limit")) {
            wrong_value(key, &field.value, &field.origin, report);
        }
        return Some(1);
    }
    let limit = model::number(&field.value).map(|limit| limit as usize);
    if limit.is_none() {
        unbounded("queue_limit", field, report);
    }
    limit
}

fn queue_bytes(draft: &Draft<'_>, report: &mut Findings<'_>) -> Option<u64> {
    let Some(field) = draft.fields.get("queue_bytes") else { return Some(QUEUE_BYTES) };
    let limit = model::bytes(&field.value).flatten();
    if limit.is_none() {
        unbounded("queue_bytes", field, report);
    }
    limit
}

fn unbounded(key: &str, field: &Field<'_>, report: &mut Findings<'_>) {
    let message = format!("{}: the queue has no limit, so memory may run out", quote(key));
    report.warning(&field.origin, message, "");
}

/// The names of a list, or of a text with commas; blanks around them and empty
/// ones are left out.
fn links(draft: &Draft<'_>, key: &str, report: &Findings<'_>) -> Vec<Link> {
    let Some(field) = draft.fields.get(key) else { return Vec::new() };
    let items: Vec<(&Value, Option<&Node>)> = match &field.value {
        Value::Array(names) => {
            let nodes = field.node.map_or(&[][..], Node::items);
            names.iter().enumerate().map(|(i, name)| (name, nodes.get(i))).collect()
        }
        text => vec![(text, field.node)],
    };
    let mut links = Vec::new();
    for (value, node) in items {
        let text = value.as_str().unwrap_or_default();
        // Without escapes the text stands in the file as it is, after the quote.
        let exact = node.map(|node| node.offset + 1).filter(|at| report.stands(*at, text));
        let mut start = 0;
        for part in text.split(',') {
            let blanks = part.len() - part.trim_start().len();
            let origin = match (exact, node) {
                (Some(at), _) => SourceSpan::File(at + start + blanks),
                (None, Some(node)) => SourceSpan::File(node.offset),
                (None, None) => field.origin.clone(),
            };
            if !part.trim().is_empty() {
                links.push(Link { name: part.trim().to_owned(), origin });
            }
            start += part.len() + 1;
        }
    }
    links
}
