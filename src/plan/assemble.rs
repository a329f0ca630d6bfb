//! From the steps' specifications to the plan.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::diagnostic::{ConfigError, Diagnostic, quote};
use super::edges::{Edge, Loops, edges, order};
use super::findings::Findings;
use super::spec::{RUN_WORKERS, StepSpec, WORKERS, Workers, wrong_name};
use super::{Plan, Route, Step, codecs, paths, types};
use crate::base::fnv::fnv1a;
use crate::message::Codec;
use crate::stage::Context;
use crate::stage::registry::Registry;

/// What a check of a configuration gives.
pub struct Loaded {
    /// The plan.
    pub plan: Plan,
    /// What is odd but forbids nothing, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

/// How to check the graph.
pub(crate) struct Rules<'a> {
    pub(crate) loops: Loops,
    /// Whether steps are missing that were meant to be there.
    pub(crate) incomplete: bool,
    /// For hints.
    pub(crate) registry: Option<&'a Registry>,
}

/// The plan of steps that come from a program, not from a file.
///
/// # Errors
/// All that is wrong with them, each with the name of its step.
pub(crate) fn assemble(specs: Vec<StepSpec>, quarantine: PathBuf) -> Result<Loaded, ConfigError> {
    let mut report = Findings::default();
    for spec in &specs {
        if let Some(message) = wrong_name(&spec.name) {
            report.error(&spec.origin, message, "");
        }
        if !(1..=WORKERS).contains(&spec.workers()) {
            let message = format!("found {} workers; expected 1 to {WORKERS}", spec.workers());
            report.error(&spec.workers_origin, message, "");
        }
        if spec.queue_limit == Some(0) || spec.queue_bytes == Some(0) {
            report.error(&spec.origin, "found a queue limit of 0; expected 1 or more", "");
        }
    }
    let rules = Rules { loops: Loops::Declared, incomplete: false, registry: None };
    let plan = plan(specs, quarantine, &rules, &mut report);
    let warnings = report.finish(None)?;
    Ok(Loaded { plan, warnings })
}

/// The plan; of no use if the report has errors.
pub(crate) fn plan(
    mut specs: Vec<StepSpec>,
    quarantine: PathBuf,
    rules: &Rules<'_>,
    report: &mut Findings<'_>,
) -> Plan {
    for spec in specs.iter_mut().filter(|spec| spec.single && spec.workers() > 1) {
        let message = format!(
            "the class {} runs on one worker; {} are taken as 1",
            quote(&spec.class),
            spec.workers()
        );
        report.warning(&spec.workers_origin, message, "");
        let threads = spec.threads.max.min(1);
        spec.threads = Workers::exactly(threads);
        spec.processes = Workers::exactly(1 - threads);
    }
    let workers: usize = specs.iter().map(StepSpec::workers).sum();
    let largest = specs.iter().max_by_key(|spec| spec.workers());
    if let Some(spec) = largest.filter(|_| workers > RUN_WORKERS) {
        let message = format!("found {workers} workers in all; expected at most {RUN_WORKERS}");
        report.error(&spec.workers_origin, message, "");
    }
    let edges = edges(&specs, rules.loops, rules.incomplete, report);
    types::check(&specs, &edges, rules.registry, report);
    if rules.registry.is_some() {
        places(&specs, &edges, report);
    }
    let order = order(&specs, &edges);
    let config = effective(&specs, &edges, &order, &quarantine);
    let config_hash = hash_of(&config);
    let work_hash =
        hash_of(&json!(order.iter().map(|i| work(&specs, &edges, *i)).collect::<Vec<_>>()));
    let mut places = vec![0; specs.len()];
    for (place, step) in order.iter().enumerate() {
        places[*step] = place;
    }
    let codecs = codecs::choose(&specs, &edges);
    let objects = codecs::take_objects(&specs, &edges);
    let mut slots: Vec<Option<StepSpec>> = specs.into_iter().map(Some).collect();
    let steps = order.iter().filter_map(|index| {
        let spec = slots.get_mut(*index)?.take()?;
        let routes = edges.iter().filter(|edge| edge.from == *index);
        let routes = routes.map(|edge| Route { to: places[edge.to], feedback: edge.feedback });
        Some(step(spec, routes.collect(), codecs[*index], objects[*index]))
    });
    let steps: Vec<Step> = steps.collect();
    Plan {
        identity: paths::identity("", &steps),
        reads: Vec::new(),
        writes: Vec::new(),
        steps,
        name: None,
        ordered: false,
        sequential: false,
        quarantine,
        monitor: None,
        config,
        config_hash,
        work_hash,
    }
}

/// Lets each class look at where its steps stand, for parameters that name next steps.
fn places(specs: &[StepSpec], edges: &[Edge], report: &mut Findings<'_>) {
    for (index, spec) in specs.iter().enumerate().filter(|(_, spec)| spec.python.is_none()) {
        let routes = edges.iter().filter(|edge| edge.from == index);
        let next_steps = routes.map(|edge| specs[edge.to].name.clone()).collect();
        // What cannot be built was reported where it stands.
        let Ok(task) = (spec.build)() else { continue };
        if let Err(failure) = task.validate_in(&Context::planned(&spec.name, next_steps)) {
            let message = failure.to_string();
            let origin = spec.origin_of(&message);
            report.error(origin, format!("class {}: {message}", quote(&spec.class)), "");
        }
    }
}

fn step(spec: StepSpec, routes: Vec<Route>, codec: Codec, takes_objects: bool) -> Step {
    let workers = spec.workers();
    Step {
        name: spec.name,
        class: spec.class,
        kind: spec.kind,
        workers,
        processes: spec.processes.max,
        min_threads: spec.threads.min,
        min_processes: spec.processes.min,
        timeout: spec.timeout,
        memory_limit: spec.memory_limit,
        params: spec.params,
        queue_limit: spec.queue_limit,
        queue_bytes: spec.queue_bytes,
        routes,
        on_error: spec.on_error,
        retries: spec.retries,
        lost_retries: spec.lost_retries,
        backoff: spec.backoff,
        gathers: spec.gathers,
        single: spec.single,
        build: spec.build,
        input: spec.input,
        codec,
        takes_objects,
        python: spec.python,
    }
}

/// The effective configuration: the same for files that differ in spelling, order of
/// keys or blanks only.
fn effective(specs: &[StepSpec], edges: &[Edge], order: &[usize], quarantine: &Path) -> Value {
    let step = |index: &usize| {
        let spec = &specs[*index];
        json!({
            "work": work(specs, edges, *index),
            "threads": [spec.threads.min, spec.threads.max],
            "processes": [spec.processes.min, spec.processes.max],
            "timeout": spec.timeout.map(|time| time.as_secs_f64()),
            "memory_limit": spec.memory_limit,
            "queue_limit": spec.queue_limit, "queue_bytes": spec.queue_bytes,
            "on_error": spec.on_error, "retries": spec.retries,
            "lost_retries": spec.lost_retries,
            "backoff": spec.backoff.as_secs_f64(),
        })
    };
    let steps: Vec<Value> = order.iter().map(step).collect();
    json!({"steps": steps, "quarantine": quarantine.to_string_lossy()})
}

/// What the products depend on, of one step.
fn work(specs: &[StepSpec], edges: &[Edge], index: usize) -> Value {
    let spec = &specs[index];
    let routes = edges.iter().filter(|edge| edge.from == index);
    let routes = routes.map(|edge| json!([specs[edge.to].name, edge.feedback]));
    let mut work = json!({
        "name": spec.name, "class": spec.class, "params": spec.params,
        "module": spec.python.as_ref().map(|python| &python.module),
        "routes": routes.collect::<Vec<_>>(),
    });
    let whole = spec.python.as_ref().map(|python| &python.configuration);
    if let Some(whole) = whole.filter(|whole| !whole.is_null()) {
        // Its helpers may take any section.
        work["configuration"] = json!([whole["sections"], whole["settings"]]);
    }
    work
}

fn hash_of(value: &Value) -> String {
    format!("{:016x}", fnv1a(sorted(value).to_string().bytes()))
}

/// The value with the keys of its objects in alphabetical order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            let members = members.into_iter().map(|(key, value)| (key.clone(), sorted(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::spec::Role;
    use crate::prelude::*;
    use crate::stage::registry::{
        build_consumer, build_producer, build_stage, of_consumer, of_producer, of_stage,
    };

    struct Numbers;
    impl Producer for Numbers {
        type Out = i64;
        fn next(&mut self, _: &mut Emitter<'_, i64>) -> Result<Next> {
            Ok(Next::Done)
        }
    }

    struct Texts;
    impl Consumer for Texts {
        type In = String;
        fn run(&mut self, _: String) -> Result<()> {
            Ok(())
        }
    }

    struct Same;
    impl Stage for Same {
        type In = i64;
        type Out = i64;
        fn run(&mut self, _: i64, _: &mut Emitter<'_, i64>) -> Result<()> {
            Ok(())
        }
    }

    fn producer(name: &str) -> StepSpec {
        let build = build_producer(|| Numbers);
        StepSpec::new(name, "Numbers", Role::Producer, of_producer::<Numbers>(), build)
    }

    fn stage(name: &str, role: Role) -> StepSpec {
        StepSpec::new(name, "Same", role, of_stage::<Same>(), build_stage(|| Same))
    }

    fn errors(specs: Vec<StepSpec>) -> String {
        assemble(specs, "quarantine".into())
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn steps_of_a_program_become_a_plan() {
        let mut middle = stage("A", Role::Stager);
        middle.leads_to("OUT");
        middle.feeds_back_to("A");
        let mut first = producer("IN");
        first.leads_to("A");
        let specs = vec![first, middle, stage("OUT", Role::Consumer)];
        let plan = assemble(specs, "bad".into()).unwrap().plan;
        assert_eq!(plan.next_steps(1), ["OUT", "A"]);
        assert!(plan.steps[1].routes[1].feedback);
        assert_eq!(plan.quarantine, Path::new("bad"));
    }

    #[test]
    fn errors_of_a_program_name_the_step() {
        let texts = StepSpec::new(
            "OUT",
            "Texts",
            Role::Consumer,
            of_consumer::<Texts>(),
            build_consumer(|| Texts),
        );
        assert_eq!(
            errors(vec![producer("IN"), texts]),
            "step \"IN\": error: the step \"IN\" (Numbers) emits drpipe/Integer/1, \
             but the step \"OUT\" (Texts) takes drpipe/Text/1"
        );
        let mut none = stage("A", Role::Stager);
        none.threads = Workers::exactly(0);
        none.queue_limit = Some(0);
        let found = errors(vec![producer("IN."), none, stage("A", Role::Consumer)]);
        for part in ["step \"IN.\": error", "found 0 workers", "limit of 0", "second step"] {
            assert!(found.contains(part), "{part} in {found}");
        }
        assert!(errors(vec![producer("IN")]).starts_with("pipeline: error: there is no consumer"));
        assert!(errors(Vec::new()).starts_with("pipeline: error: there is no producer"));
    }

    #[test]
    fn the_order_of_keys_is_no_difference() {
        let (a, b) =
            (json!({"a": 1, "b": {"c": 1, "d": 2}}), json!({"b": {"d": 2, "c": 1}, "a": 1}));
        assert_eq!(sorted(&a).to_string(), sorted(&b).to_string());
    }
}
