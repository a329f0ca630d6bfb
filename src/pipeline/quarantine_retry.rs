//! Turns a pipeline into one that tries failed inputs again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Pipeline;
use crate::base::failure::{Failure, Result};
use crate::base::nearest::nearest;
use crate::codec::CodecId;
use crate::message::Payload;
use crate::plan::{OnError, Plan, Route, Step, StepOptions};
use crate::sinks::quarantine::{Contents, Retried, read_payload};
use crate::stage::data::{ANY, Data};
use crate::stage::registry::{Kind, build_producer};
use crate::stage::{Emitter, Next, Producer};

/// The name of the step that emits the inputs, if no other step has it.
const NAME: &str = "RETRY";

impl Pipeline {
    /// Replaces the producers by one that emits each input to the step at which it failed. Steps
    /// that are no longer reached are left out: they would finish without an input and replace what
    /// they wrote before. Also returns a note on what could not be checked.
    ///
    /// # Errors
    /// One line for each kind of input that does not fit into the pipeline.
    pub(crate) fn retrying(
        mut self,
        inputs: Vec<(PathBuf, Contents)>,
    ) -> std::result::Result<(Self, Option<String>), Vec<String>> {
        let errors = misfits(&self.plan, &inputs);
        if !errors.is_empty() {
            return Err(errors);
        }
        let note = unchecked(&self.plan, &inputs);
        let targets: BTreeSet<usize> =
            inputs.iter().filter_map(|(_, input)| self.plan.index(&input.reason.step)).collect();
        self.retried = Retried::default();
        let replay = (Arc::new(inputs), self.retried.clone());
        self.plan.steps = steps(std::mem::take(&mut self.plan.steps), &targets, |first| Step {
            class: "Retry".into(),
            kind: Kind::Producer,
            options: StepOptions {
                queue_limit: first.options.queue_limit.clone(),
                queue_bytes: first.options.queue_bytes.clone(),
                lost_retries: first.options.lost_retries.clone(),
                backoff: first.options.backoff.clone(),
                ..StepOptions::default()
            },
            params: serde_json::Value::Null,
            build: build_producer(move || Replay {
                inputs: Arc::clone(&replay.0),
                next: 0,
                retried: replay.1.clone(),
            }),
            input: None,
            codec: CodecId::default(),
            takes_objects: false,
            python: None,
            is_open: false,
            feed: false,
            acknowledges: false,
            ..first.clone()
        });
        Ok((self, note))
    }
}

/// Returns the new producer, which `producer` makes from the first of the old steps, and all steps
/// that are reached from `targets`.
fn steps(
    old: Vec<Step>,
    targets: &BTreeSet<usize>,
    producer: impl FnOnce(&Step) -> Step,
) -> Vec<Step> {
    let mut reached = targets.clone();
    let mut open: Vec<usize> = targets.iter().copied().collect();
    while let Some(step) = open.pop() {
        open.extend(old[step].routes.iter().map(|route| route.to).filter(|to| reached.insert(*to)));
    }
    let places: BTreeMap<usize, usize> = reached.iter().copied().zip(1..).collect();
    let moved = |routes: &[Route]| {
        routes.iter().map(|route| Route { to: places[&route.to], ..route.clone() }).collect()
    };
    let mut first = producer(&old[0]);
    first.name = free_name(&old);
    first.routes = targets.iter().map(|to| Route { to: places[to], feedback: false }).collect();
    let kept = old.into_iter().enumerate().filter(|(index, _)| reached.contains(index));
    let kept = kept.map(|(index, mut step)| {
        step.routes = moved(&step.routes);
        // Under the policy `skip`, an input that fails again would not be kept.
        if targets.contains(&index) && *step.options.on_error == OnError::Skip {
            step.options.on_error.value = OnError::Quarantine;
        }
        step
    });
    std::iter::once(first).chain(kept).collect()
}

fn free_name(steps: &[Step]) -> String {
    let numbered = (2..).map(|number| format!("{NAME}{number}"));
    let mut names = std::iter::once(NAME.to_owned()).chain(numbered);
    let taken = |name: &String| steps.iter().any(|step| step.name == *name);
    names.find(|name| !taken(name)).unwrap_or_default()
}

/// Returns a line for each step, type and codec whose inputs cannot be tried again.
fn misfits(plan: &Plan, inputs: &[(PathBuf, Contents)]) -> Vec<String> {
    let mut groups: BTreeMap<(&str, Option<&str>, CodecId), (usize, &PathBuf)> = BTreeMap::new();
    for (path, Contents { reason, .. }) in inputs {
        let key = (reason.step.as_str(), reason.input_type.as_deref(), reason.codec);
        groups.entry(key).or_insert((0, path)).0 += 1;
    }
    let lines = groups.into_iter().filter_map(|((step, kept, codec), (count, path))| {
        let wrong = misfit(plan, step, kept, codec)?;
        let more = match count {
            1 => String::new(),
            _ => format!(" and {} more", count - 1),
        };
        Some(format!("{}{more}: {wrong}", path.display()))
    });
    lines.collect()
}

/// Says why an input that failed at `name` does not fit into the plan, if so.
fn misfit(plan: &Plan, name: &str, kept: Option<&str>, codec: CodecId) -> Option<String> {
    let step = plan.index(name).map(|index| &plan.steps[index]);
    let Some(step) = step.filter(|step| step.kind != Kind::Producer) else {
        let takers = plan.steps.iter().filter(|step| step.kind != Kind::Producer);
        let names: Vec<&str> = takers.map(|step| step.name.as_str()).collect();
        let hint = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"? "),
            None => String::new(),
        };
        let what = if step.is_some() { "is a producer now" } else { "is not in the configuration" };
        return Some(format!(
            "the step \"{name}\", at which it failed, {what}; the steps are {}; {hint}Use the \
             configuration of that run, or change \"step\" in reason.json",
            names.join(", ")
        ));
    };
    match (kept, step.input) {
        (Some(kept), Some(takes)) if kept != takes && kept != ANY && takes != ANY => Some(format!(
            "it was kept as a {kept}, but the step \"{name}\" ({}) takes a {takes}; use a \
                 configuration in which \"{name}\" takes a {kept}",
            step.class
        )),
        _ if codec != step.codec => Some(format!(
            "it was kept in {codec}, but the step \"{name}\" ({}) takes {} now: which one depends \
             on the steps in Python beside it; use the configuration of that run, or run the \
             pipeline again from its beginning",
            step.class, step.codec
        )),
        _ => None,
    }
}

/// Says how many inputs have an unknown type, if any.
fn unchecked(plan: &Plan, inputs: &[(PathBuf, Contents)]) -> Option<String> {
    let unknown = inputs.iter().filter(|(_, Contents { reason, .. })| {
        let takes = plan.index(&reason.step).and_then(|index| plan.steps[index].input);
        takes != Some(ANY) && reason.input_type.as_deref().is_none_or(|kept| kept == ANY)
    });
    match unknown.count() {
        0 => None,
        count => Some(format!(
            "the type of {count} of the {} inputs is not known; each is read as the type that its \
             step takes",
            inputs.len()
        )),
    }
}

/// A producer that emits failed inputs, each to its step.
struct Replay {
    inputs: Arc<Vec<(PathBuf, Contents)>>,
    next: usize,
    retried: Retried,
}

impl Producer for Replay {
    type Out = Again;

    fn next(&mut self, out: &mut Emitter<'_, Again>) -> Result<Next> {
        let Some((path, Contents { reason, buffer_bytes, .. })) = self.inputs.get(self.next) else {
            return Ok(Next::Done);
        };
        let payload = read_payload(path, buffer_bytes.len())
            .map_err(|error| Failure::permanent(error.to_string()))?;
        self.retried.add(path, reason, &payload);
        out.send_to(&reason.step, Again { payload, origin: reason.origin.clone() })?;
        self.next += 1;
        Ok(Next::More)
    }
}

/// A failed input as it was, with its origin.
#[derive(Serialize, Deserialize)]
struct Again {
    payload: Payload,
    origin: Option<String>,
}

impl Data for Again {
    const TYPE: &'static str = ANY;

    fn origin(&self) -> Option<String> {
        self.origin.clone()
    }

    fn write_to(&self, _: CodecId, header: &mut Vec<u8>) -> Result<Vec<Bytes>> {
        header.extend_from_slice(&self.payload.header);
        Ok(self.payload.buffers.clone())
    }
}
