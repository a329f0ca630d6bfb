//! Makes the specifications of the steps, from which the plan is made.

use std::sync::Arc;

use serde_json::Value;

use super::caller;
use super::dialect::{Lowered, is_top_level, node_at};
use super::draft::{Draft, drafts};
use super::foreign;
use super::foreign::{Describe, Found, InPython};
use super::locate::Source;
use super::overrides::{PRODUCER, Setting};
use super::sections::Claims;
use super::text::Node;
use crate::base::failure::Failure;
use crate::base::nearest::nearest;
use crate::plan::WorkerRange;
use crate::plan::diagnostic::{did_you_mean, quote};
use crate::plan::findings::Findings;
use crate::plan::keys::{Options as _, Set, Tag};
use crate::plan::options::StepOptions;
use crate::plan::span::SourceSpan;
use crate::plan::spec::{Link, Role, StepSpec};
use crate::stage::registry::{Build, Class, Kind, Registry};

/// What the specifications are made from, besides the file's own content.
pub(crate) struct Context<'c> {
    pub(crate) source: &'c Source<'c>,
    pub(crate) registry: &'c Registry,
    pub(crate) settings: &'c [Setting],
}

/// Returns the specifications of the steps, and whether they are incomplete, so that a check of the
/// whole graph would only add noise.
pub(crate) fn specs(
    lowered: &Lowered<'_>,
    context: &Context<'_>,
    describe: &mut Describe<'_>,
    findings: &mut Findings,
) -> (Vec<StepSpec>, bool) {
    let Context { registry, settings, .. } = context;
    let mut drafts = drafts(lowered, settings, findings);
    let mut found = foreign::describe(&mut drafts, lowered, registry, settings, describe, findings);
    for (draft, found) in drafts.iter().zip(&mut found) {
        if let Some(callers) = caller::found(draft, registry, findings) {
            *found = Some(callers);
        }
    }
    let claims = Claims::new(&drafts, &found, lowered.dialect, registry);
    claims.check_sections(lowered, findings);
    for (index, setting) in settings.iter().enumerate().filter(|(_, s)| !is_top_level(s)) {
        let target = setting.target.as_str();
        if target != PRODUCER && drafts.iter().all(|draft| draft.name() != Some(target)) {
            let span = SourceSpan::Setting(index);
            claims.check_setting(target, setting.param(), lowered, &span, findings);
        }
    }
    let mut incomplete = lowered.incomplete;
    let mut specs = Vec::new();
    for (draft, found) in drafts.iter().zip(&found) {
        match spec(draft, lowered, context, found.as_ref(), findings) {
            Some(spec) => specs.push(spec),
            None => incomplete = true,
        }
    }
    (specs, incomplete)
}

/// Makes the specification of one step; returns none if it has no usable name.
fn spec(
    draft: &Draft<'_>,
    lowered: &Lowered<'_>,
    context: &Context<'_>,
    found: Option<&Found>,
    findings: &mut Findings,
) -> Option<StepSpec> {
    let (class, python) = class(draft, context.registry, found, findings);
    let (params, build) = match class {
        Some(class) => {
            let params = draft.params.check(class, python, draft.node.offset, findings);
            (params.clone(), class.with_params(params))
        }
        None => (Value::Null, failing_build()),
    };
    let param_spans = draft.params.spans(&params, draft.node.offset);
    let usable = class.filter(|class| fits(class.kind(), draft.role));
    let name = name(draft, findings);
    let is_open = matches!(found, Some(Found::Caller(_)));
    let feeds = is_open && draft.role == Role::Producer;
    let options = options(draft, python.is_some(), is_open, findings);
    if python.is_none() && class.is_some() {
        foreign::without_effect(draft, lowered.dialect, findings);
    }
    let name = name?;
    unbounded(&options, findings);
    let workers_key = if options.nb_thread.max > 0 { "nb_thread" } else { "nb_process" };
    Some(StepSpec {
        name,
        class: draft.class().unwrap_or_default().to_owned(),
        role: draft.role,
        kind: usable.map_or(Kind::Stage, Class::kind),
        input: usable.and_then(Class::input),
        output: usable.and_then(Class::output),
        singleton: usable.is_some_and(Class::singleton),
        stateful: usable.is_some_and(Class::stateful),
        acknowledges: usable.is_some_and(Class::acknowledges) || feeds,
        feed: feeds,
        limits_tasks: false,
        options,
        next_steps: links(draft, &draft.work.next_steps, context.source),
        feedback: links(draft, &draft.work.feedback, context.source),
        params,
        build,
        python: python.map(|python| python.python.clone()),
        is_open,
        param_spans,
        span: draft.span("name"),
        workers_span: draft.span(workers_key),
    })
}

/// A placeholder for a class with an error; no plan is ever made from it.
fn failing_build() -> Build {
    Arc::new(|| Err(Failure::permanent("the configuration is in error")))
}

/// Returns the options, with the actual numbers of workers.
fn options(
    draft: &Draft<'_>,
    is_python: bool,
    is_open: bool,
    findings: &mut Findings,
) -> StepOptions {
    let mut options = draft.options.clone();
    let (mut threads, mut processes) = workers(draft, findings);
    if is_python {
        let (min, max) = (threads.min + processes.min, threads.max + processes.max);
        (threads, processes) = (WorkerRange::exactly(0), WorkerRange { min, max });
    }
    if is_open {
        (threads, processes) = (WorkerRange::exactly(0), caller::workers(draft, findings));
    }
    (options.nb_thread.value, options.nb_process.value) = (threads, processes);
    limits_need_processes(&options, findings);
    if draft.role == Role::Producer {
        no_inputs(&options, findings);
    }
    options
}

fn name(draft: &Draft<'_>, findings: &mut Findings) -> Option<String> {
    if draft.node.get("name").is_none() {
        missing("name", draft, findings);
    }
    draft.name().map(str::to_owned)
}

fn missing(key: &str, draft: &Draft<'_>, findings: &mut Findings) {
    let message = format!("the key {} is missing", quote(key));
    findings.error(
        &SourceSpan::File(draft.node.offset),
        message,
        format!("add {}: ...", quote(key)),
    );
}

fn class<'r>(
    draft: &Draft<'_>,
    registry: &'r Registry,
    found: Option<&'r Found>,
    findings: &mut Findings,
) -> (Option<&'r Class>, Option<&'r InPython>) {
    let Some(name) = draft.class() else {
        if draft.node.get("class").is_none() {
            missing("class", draft, findings);
        }
        return (None, None);
    };
    let span = draft.span("class");
    let fitting = || {
        let fitting = registry.classes().filter(|class| fits(class.kind(), draft.role));
        fitting.map(Class::name)
    };
    let (class, python) = match (found, registry.get(name)) {
        (Some(Found::Class(found)), _) => (&found.class, Some(&**found)),
        (Some(Found::Caller(class)), _) => (class, None),
        (Some(Found::Unusable), _) => return (None, None),
        (_, Some(class)) => (class, None),
        (_, None) if registry.lacks(name).is_some() => {
            let lacks = registry.lacks(name).map(|lacks| lacks.to_string()).unwrap_or_default();
            findings.error(&span, format!("class {}: {lacks}", quote(name)), "");
            return (None, None);
        }
        (_, None) => {
            let near = nearest(name, registry.classes().map(Class::name));
            let known = list(fitting());
            let message = format!("unknown class {}; expected {known}", quote(name));
            let hint = match near {
                _ if draft.module().is_some() => did_you_mean(near),
                Some(_) => did_you_mean(near),
                None => "a class in Python also needs its \"module\"".to_owned(),
            };
            findings.error(&span, message, hint);
            return (None, None);
        }
    };
    if !fits(class.kind(), draft.role) {
        let message = format!(
            "class {} is a {}, but is used as a {}; expected {}",
            quote(name),
            class.kind().as_str(),
            draft.role.as_str(),
            list(fitting())
        );
        findings.error(&span, message, "");
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

/// A stage may stand at the end; its outputs are dropped there.
fn fits(kind: Kind, role: Role) -> bool {
    match role {
        Role::Producer => kind == Kind::Producer,
        Role::Stager => kind == Kind::Stage,
        Role::Consumer => kind != Kind::Producer,
    }
}

/// Warns about queues without a limit.
fn unbounded(options: &StepOptions, findings: &mut Findings) {
    for (key, is_unbounded, span) in [
        ("queue_limit", options.queue_limit.is_none(), &options.queue_limit.span),
        ("queue_bytes", options.queue_bytes.is_none(), &options.queue_bytes.span),
    ] {
        if let (true, Some(span)) = (is_unbounded, span) {
            let message = format!("{}: the queue has no limit, so memory may run out", quote(key));
            findings.warning(span, message, "");
        }
    }
}

/// Returns the numbers of workers on threads and in processes.
fn workers(draft: &Draft<'_>, findings: &mut Findings) -> (WorkerRange, WorkerRange) {
    let (none, one) = (WorkerRange::exactly(0), WorkerRange::exactly(1));
    let StepOptions { nb_thread, nb_process, .. } = &draft.options;
    for set in [nb_thread, nb_process] {
        if let (Some(span), true) = (&set.span, set.min > set.max) {
            let message = format!("found a min of {} above a max of {}", set.min, set.max);
            findings.error(span, message, "");
        }
    }
    let (threads, processes) = match (nb_thread.given(), nb_process.given()) {
        (None, None) => (one, none),
        (threads, processes) => {
            (threads.copied().unwrap_or(none), processes.copied().unwrap_or(none))
        }
    };
    if threads.max + processes.max == 0 {
        let span = nb_thread.span.clone().unwrap_or_else(|| draft.span("nb_process"));
        let message = "found 0 workers; expected from 1 to 1000, on threads or in processes";
        findings.error(&span, message, "");
        return (one, none);
    }
    (threads, processes)
}

/// Reports limits on workers on threads: a thread cannot be ended, and its memory cannot be
/// measured.
fn limits_need_processes(options: &StepOptions, findings: &mut Findings) {
    let threads = options.nb_thread.max;
    for key in StepOptions::KEYS.iter().filter(|key| key.is(Tag::Processes) && threads > 0) {
        if let Some(span) = options.span(key.name) {
            let message = format!(
                "{} needs workers in processes, but {threads} of the step's workers are threads, \
                 which cannot be ended",
                quote(key.name)
            );
            findings.error(span, message, "use \"nb_process\" instead of \"nb_thread\"");
        }
    }
}

/// Warns about keys that change nothing in a producer.
fn no_inputs(options: &StepOptions, findings: &mut Findings) {
    for key in StepOptions::KEYS.iter().filter(|key| key.is(Tag::Inputs)) {
        if let Some(span) = options.span(key.name) {
            let message =
                format!("{} has no effect: a producer takes no messages", quote(key.name));
            findings.warning(span, message, "");
        }
    }
}

/// Returns the names of other steps, each with its place in the text.
fn links(draft: &Draft<'_>, names: &Set<Vec<String>>, source: &Source<'_>) -> Vec<Link> {
    let Some(span) = &names.span else { return Vec::new() };
    let Some(node) = node_at(draft.node, Some(span)) else {
        let link = |name: &String| Link { name: name.clone(), span: span.clone() };
        return names.iter().map(link).collect();
    };
    let mut links = Vec::new();
    for node in if node.items().is_empty() { std::slice::from_ref(node) } else { node.items() } {
        links_in(node, source, &mut links);
    }
    links
}

/// Adds the names in a comma-separated string. Blanks around names are left out, and so are empty
/// names.
fn links_in(node: &Node, source: &Source<'_>, links: &mut Vec<Link>) {
    let value = node.to_value();
    let text = value.as_str().unwrap_or_default();
    // Without escapes, the file has the text as it is, after the quote.
    let exact = Some(node.offset + 1).filter(|at| source.has(*at, text));
    let mut start = 0;
    for part in text.split(',') {
        let blanks = part.len() - part.trim_start().len();
        let offset = exact.map_or(node.offset, |at| at + start + blanks);
        if !part.trim().is_empty() {
            links.push(Link { name: part.trim().to_owned(), span: SourceSpan::File(offset) });
        }
        start += part.len() + 1;
    }
}
