//! Makes the plan from the specifications of the steps.

use std::path::PathBuf;

use serde_json::json;

use super::diagnostic::{ConfigError, Diagnostic, Location, quote};
use super::edges::{Edge, Loops, edges, order};
use super::findings::Findings;
use super::hash::{effective, hash_of, identity, work};
use super::options::PipelineOptions;
use super::span::SourceSpan;
use super::spec::StepSpec;
use super::step::{Route, Step};
use super::values::{STEP_WORKERS, WorkerRange, wrong_name};
use super::{Plan, acknowledged, codecs, types};
use crate::codec::CodecId;
use crate::stage::Context;
use crate::stage::registry::Registry;

/// The most workers of a run: each has a socket, and a context holds 1023.
const RUN_WORKERS: usize = 1000;

/// A checked configuration.
#[non_exhaustive]
pub struct Loaded {
    /// The plan.
    pub plan: Plan,
    /// What looks wrong but does not prevent the run, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

/// How to check the graph.
pub(crate) struct Rules<'a> {
    pub(crate) loops: Loops,
    /// Whether some steps are missing because of errors.
    pub(crate) incomplete: bool,
    /// For hints.
    pub(crate) registry: Option<&'a Registry>,
}

/// Makes the plan of steps that come from a program, not from a file.
///
/// # Errors
/// Everything that is wrong with them, with the names of the steps.
pub(crate) fn assemble(specs: Vec<StepSpec>, quarantine: PathBuf) -> Result<Loaded, ConfigError> {
    let mut findings = Findings::default();
    for spec in &specs {
        if let Some(message) = wrong_name(&spec.name) {
            findings.error(&spec.span, message, "");
        }
        if !(1..=STEP_WORKERS).contains(&spec.workers()) {
            let message = format!("found {} workers; expected 1 to {STEP_WORKERS}", spec.workers());
            findings.error(&spec.workers_span, message, "");
        }
        if *spec.options.queue_limit == Some(0) || *spec.options.queue_bytes == Some(0) {
            findings.error(&spec.span, "found a queue limit of 0; expected 1 or more", "");
        }
        if *spec.options.window == 0 || *spec.options.window_bytes == Some(0) {
            findings.error(&spec.span, "found a window of 0; expected 1 or more", "");
        }
    }
    let rules = Rules { loops: Loops::Declared, incomplete: false, registry: None };
    let mut options = PipelineOptions::default();
    options.quarantine.value = quarantine;
    let plan = plan(specs, options, &rules, &mut findings);
    let warnings = findings.finish(|span| match span {
        SourceSpan::Step(name) => (Location::Step(name.clone()), String::new()),
        _ => (Location::Pipeline, String::new()),
    })?;
    Ok(Loaded { plan, warnings })
}

/// Makes the plan. Do not use it if there are errors.
pub(crate) fn plan(
    mut specs: Vec<StepSpec>,
    options: PipelineOptions,
    rules: &Rules<'_>,
    findings: &mut Findings,
) -> Plan {
    for spec in specs.iter_mut().filter(|spec| spec.singleton && spec.workers() > 1) {
        let message = format!(
            "the class {} runs on one worker; found {}, using 1",
            quote(&spec.class),
            spec.workers()
        );
        findings.warning(&spec.workers_span, message, "");
        let threads = spec.options.nb_thread.max.min(1);
        spec.options.nb_thread.value = WorkerRange::exactly(threads);
        spec.options.nb_process.value = WorkerRange::exactly(1 - threads);
    }
    let workers: usize = specs.iter().map(StepSpec::workers).sum();
    let largest = specs.iter().max_by_key(|spec| spec.workers());
    if let Some(spec) = largest.filter(|_| workers > RUN_WORKERS) {
        let message = format!("found {workers} workers in all; expected at most {RUN_WORKERS}");
        findings.error(&spec.workers_span, message, "");
    }
    let edges = edges(&specs, rules.loops, rules.incomplete, findings);
    types::check(&specs, &edges, rules.registry, findings);
    acknowledged::check(&specs, &edges, findings);
    if rules.registry.is_some() {
        places(&specs, &edges, findings);
    }
    let order = order(&specs, &edges);
    let config = effective(&specs, &edges, &order, &options.quarantine);
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
        identity: identity("", &steps),
        reads: Vec::new(),
        writes: Vec::new(),
        steps,
        options,
        sequential: false,
        config,
        config_hash,
        work_hash,
    }
}

/// Lets each class check its steps' next steps, for parameters that name them.
fn places(specs: &[StepSpec], edges: &[Edge], findings: &mut Findings) {
    for (index, spec) in specs.iter().enumerate().filter(|(_, spec)| !spec.is_foreign()) {
        let routes = edges.iter().filter(|edge| edge.from == index);
        let next_steps = routes.map(|edge| specs[edge.to].name.clone()).collect();
        // A step that cannot be built has been reported.
        let Ok(task) = (spec.build)() else { continue };
        if let Err(failure) = task.validate_in(&Context::planned(&spec.name, next_steps)) {
            let message = failure.to_string();
            let span = spec.span_of(&message);
            findings.error(span, format!("class {}: {message}", quote(&spec.class)), "");
        }
    }
}

fn step(spec: StepSpec, routes: Vec<Route>, codec: CodecId, takes_objects: bool) -> Step {
    Step {
        name: spec.name,
        class: spec.class,
        kind: spec.kind,
        options: spec.options,
        params: spec.params,
        routes,
        stateful: spec.stateful,
        acknowledges: spec.acknowledges,
        feed: spec.feed,
        limits_tasks: spec.limits_tasks,
        singleton: spec.singleton,
        build: spec.build,
        input: spec.input,
        output: spec.output,
        codec,
        takes_objects,
        python: spec.python,
        is_open: spec.is_open,
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
        assert_eq!(*plan.options.quarantine, std::path::Path::new("bad"));
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
        none.options.nb_thread.value = WorkerRange::exactly(0);
        none.options.queue_limit.value = Some(0);
        let found = errors(vec![producer("IN."), none, stage("A", Role::Consumer)]);
        for part in ["step \"IN.\": error", "found 0 workers", "limit of 0", "second step"] {
            assert!(found.contains(part), "{part} in {found}");
        }
        assert!(errors(vec![producer("IN")]).starts_with("pipeline: error: there is no consumer"));
        assert!(errors(Vec::new()).starts_with("pipeline: error: there is no producer"));
    }
}
