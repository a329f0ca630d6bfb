//! The edges of the graph, its loops, and whether every step is connected.

use std::collections::HashMap;

use super::diagnostic::{did_you_mean, quote, quote_all};
use super::findings::Findings;
use super::span::SourceSpan;
use super::spec::{Link, Role, StepSpec};
use crate::base::nearest::nearest;

/// An edge between two steps, given by their positions in the list.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) feedback: bool,
    pub(crate) span: SourceSpan,
}

/// What to do about a loop that no `feedback` declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loops {
    /// It is an error.
    Declared,
    /// The edge that closes it is taken as feedback, with a warning.
    Found,
}

/// Returns the edges in the order of the steps and of their `next_steps`. If `incomplete`, some
/// steps are missing because of errors, and the consequences are not reported.
pub(crate) fn edges(
    specs: &[StepSpec],
    loops: Loops,
    incomplete: bool,
    findings: &mut Findings,
) -> Vec<Edge> {
    let mut sound = !incomplete;
    let names = names(specs, &mut sound, findings);
    let listed = specs.iter().all(|spec| spec.next_steps.is_empty());
    let mut edges = Vec::new();
    for (from, spec) in specs.iter().enumerate() {
        if spec.next_steps.is_empty() && spec.role != Role::Consumer {
            if !listed && !incomplete {
                no_next_steps(specs, from, findings);
            }
            edges.extend(next_in_list(specs, from));
        }
        if spec.role == Role::Consumer {
            let own = spec.next_steps.iter().find(|link| link.name == spec.name);
            if let Some(link) = own {
                let name = quote(&spec.name);
                let message =
                    format!("the consumer {name} is its own next step, but a consumer is the end");
                let hint = "make it one of the stagers, with \"feedback\", and put a consumer \
                            after it, such as one of class Discard";
                findings.error(&link.span, message, hint);
            } else if let Some(link) = spec.next_steps.first() {
                let message = format!("the consumer {} has next steps", quote(&spec.name));
                findings.error(&link.span, message, "a consumer is the end: remove \"next_steps\"");
            }
            continue;
        }
        links(specs, from, &names, &mut edges, &mut sound, findings);
        feedback(specs, from, &mut edges, findings);
    }
    undeclared_loops(specs, &mut edges, loops, findings);
    idle_feedback(specs, &edges, findings);
    if sound {
        reach(specs, &edges, findings);
    }
    edges
}

fn names<'a>(
    specs: &'a [StepSpec],
    sound: &mut bool,
    findings: &mut Findings,
) -> HashMap<&'a str, usize> {
    let mut names = HashMap::new();
    for (index, spec) in specs.iter().enumerate() {
        if names.contains_key(spec.name.as_str()) {
            *sound = false;
            let message = format!("a second step has the name {}", quote(&spec.name));
            findings.error(&spec.span, message, "give each step a name of its own");
        } else {
            names.insert(spec.name.as_str(), index);
        }
    }
    names
}

/// The edge to the step after `from` in the list.
fn next_in_list(specs: &[StepSpec], from: usize) -> Option<Edge> {
    let to = (from + 1..specs.len()).find(|to| specs[*to].role != Role::Producer)?;
    Some(Edge { from, to, feedback: false, span: specs[from].span.clone() })
}

fn no_next_steps(specs: &[StepSpec], from: usize, findings: &mut Findings) {
    let message =
        format!("step {} has no next steps, though other steps have", quote(&specs[from].name));
    let hint = match next_in_list(specs, from) {
        Some(edge) => {
            let next = quote(&specs[edge.to].name);
            format!(
                "add \"next_steps\": {next}, or remove every \"next_steps\": the steps then run \
                 in the order of the list"
            )
        }
        None => "add \"next_steps\"".to_owned(),
    };
    findings.error(&specs[from].span, message, hint);
}

fn links(
    specs: &[StepSpec],
    from: usize,
    names: &HashMap<&str, usize>,
    edges: &mut Vec<Edge>,
    sound: &mut bool,
    findings: &mut Findings,
) {
    let mut given: Vec<&str> = Vec::new();
    for Link { name, span } in &specs[from].next_steps {
        if given.contains(&name.as_str()) {
            let message = format!("the next step {} is listed twice", quote(name));
            findings.error(span, message, "remove one of them");
            continue;
        }
        given.push(name);
        // A misspelled name counts as the nearest one, so that one slip gives one error.
        let to = match names.get(name.as_str()) {
            Some(to) => Some(*to),
            None => {
                unknown_step(specs, name, span, findings).and_then(|near| names.get(near).copied())
            }
        };
        match to {
            None => *sound = false,
            Some(to) if specs[to].role == Role::Producer => {
                let message = format!("the producer {} cannot be a next step", quote(name));
                findings.error(span, message, "a producer takes no messages");
            }
            Some(to) => edges.push(Edge { from, to, feedback: false, span: span.clone() }),
        }
    }
}

fn unknown_step<'a>(
    specs: &'a [StepSpec],
    name: &str,
    span: &SourceSpan,
    findings: &mut Findings,
) -> Option<&'a str> {
    let known = || specs.iter().filter(|spec| spec.role != Role::Producer).map(|s| s.name.as_str());
    let near = nearest(name, known());
    let message = format!("unknown step {}; the steps are {}", quote(name), quote_all(known()));
    findings.error(span, message, did_you_mean(near));
    near
}

fn feedback(specs: &[StepSpec], from: usize, edges: &mut [Edge], findings: &mut Findings) {
    let spec = &specs[from];
    for Link { name, span } in &spec.feedback {
        let edge = edges.iter_mut().find(|edge| edge.from == from && specs[edge.to].name == *name);
        if let Some(edge) = edge {
            edge.feedback = true;
            edge.span = span.clone();
        } else if !spec.next_steps.iter().any(|link| link.name == *name) {
            let given = spec.next_steps.iter().map(|link| link.name.as_str());
            let near = nearest(name, given);
            let hint = match near {
                Some(_) => did_you_mean(near),
                None => "add it to \"next_steps\"".to_owned(),
            };
            let message =
                format!("{} is not among the next steps of {}", quote(name), quote(&spec.name));
            findings.error(span, message, hint);
        }
    }
}

/// For each step, the edges that lead away from it: those that are not feedback, or all.
fn successors(count: usize, edges: &[Edge], all: bool) -> Vec<Vec<usize>> {
    let mut next = vec![Vec::new(); count];
    for (index, edge) in edges.iter().enumerate() {
        if all || !edge.feedback {
            next[edge.from].push(index);
        }
    }
    next
}

/// Walks depth first from the producers, without recursion. An edge that leads back to a step on
/// the current path closes a loop.
fn undeclared_loops(specs: &[StepSpec], edges: &mut [Edge], loops: Loops, findings: &mut Findings) {
    let next = successors(specs.len(), edges, false);
    let mut seen = vec![false; specs.len()];
    let mut starts: Vec<usize> = (0..specs.len()).collect();
    starts.sort_by_key(|step| specs[*step].role != Role::Producer);
    for start in starts {
        if seen[start] {
            continue;
        }
        seen[start] = true;
        let mut way = vec![(start, 0)];
        while let Some((step, position)) = way.last_mut() {
            let Some(&edge) = next[*step].get(*position) else {
                way.pop();
                continue;
            };
            *position += 1;
            let to = edges[edge].to;
            if let Some(begin) = way.iter().position(|(step, _)| *step == to) {
                let cycle: Vec<usize> = way[begin..].iter().map(|(step, _)| *step).collect();
                undeclared_loop(specs, &cycle, &mut edges[edge], loops, findings);
            } else if !seen[to] {
                seen[to] = true;
                way.push((to, 0));
            }
        }
    }
}

fn undeclared_loop(
    specs: &[StepSpec],
    cycle: &[usize],
    edge: &mut Edge,
    loops: Loops,
    findings: &mut Findings,
) {
    edge.feedback = true; // even after an error, so that later walks end
    let target = quote(&specs[edge.to].name);
    let way = cycle.iter().chain(cycle.first()).map(|step| specs[*step].name.as_str());
    let message = format!("the steps {} form a loop", way.collect::<Vec<_>>().join(" -> "));
    let from = quote(&specs[edge.from].name);
    match loops {
        Loops::Declared => {
            let hint = format!("if it is meant, add \"feedback\": [{target}] to the step {from}");
            findings.error(&edge.span, message, hint);
        }
        Loops::Found => {
            let message =
                format!("{message}; the edge from {from} to {target} is taken as feedback");
            findings.warning(&edge.span, message, "");
        }
    }
}

/// Reports feedback to a step from which no path leads back.
fn idle_feedback(specs: &[StepSpec], edges: &[Edge], findings: &mut Findings) {
    let next = successors(specs.len(), edges, false);
    for edge in edges.iter().filter(|edge| edge.feedback) {
        if !walk(&[edge.to], &next, edges)[edge.from] {
            let message = format!(
                "the feedback from {} to {} closes no loop: no path without feedback leads from \
                 {} to {}",
                quote(&specs[edge.from].name),
                quote(&specs[edge.to].name),
                quote(&specs[edge.to].name),
                quote(&specs[edge.from].name),
            );
            findings.error(&edge.span, message, "remove it from \"feedback\"");
        }
    }
}

/// Returns which steps are reached from `starts`, the starts included.
fn walk(starts: &[usize], next: &[Vec<usize>], edges: &[Edge]) -> Vec<bool> {
    let mut seen = vec![false; next.len()];
    let mut open = starts.to_vec();
    while let Some(step) = open.pop() {
        if !std::mem::replace(&mut seen[step], true) {
            open.extend(next[step].iter().map(|edge| edges[*edge].to));
        }
    }
    seen
}

fn with_role(specs: &[StepSpec], role: Role) -> Vec<usize> {
    (0..specs.len()).filter(|step| specs[*step].role == role).collect()
}

/// Reports steps that no producer reaches, and steps that do not lead to the end.
fn reach(specs: &[StepSpec], edges: &[Edge], findings: &mut Findings) {
    let producers = with_role(specs, Role::Producer);
    let consumers = with_role(specs, Role::Consumer);
    for (role, found) in [(Role::Producer, &producers), (Role::Consumer, &consumers)] {
        if found.is_empty() {
            findings.error(
                &SourceSpan::Pipeline,
                format!("there is no {}", role.as_str()),
                "add one",
            );
            return;
        }
    }
    let reached = walk(&producers, &successors(specs.len(), edges, false), edges);
    let back: Vec<Edge> =
        edges.iter().map(|edge| Edge { from: edge.to, to: edge.from, ..edge.clone() }).collect();
    let leads = walk(&consumers, &successors(specs.len(), &back, true), &back);
    for (step, spec) in specs.iter().enumerate() {
        let name = quote(&spec.name);
        if !reached[step] {
            let message = format!("no path leads from the producer to the step {name}");
            let hint =
                format!("add {name} to the \"next_steps\" of a step before it, or remove it");
            findings.error(&spec.span, message, hint);
        } else if !leads[step] {
            let message = format!("no path leads from the step {name} to the consumer");
            let ends = quote_all(consumers.iter().map(|step| specs[*step].name.as_str()));
            let hint = format!("add {ends} to the \"next_steps\" of a step after it");
            findings.error(&spec.span, message, hint);
        }
    }
}

/// Returns the steps in topological order without the feedback edges, producers first. If several
/// steps may come next, the first of the list does.
pub(crate) fn order(specs: &[StepSpec], edges: &[Edge]) -> Vec<usize> {
    let mut waits = vec![0_usize; specs.len()];
    for edge in edges.iter().filter(|edge| !edge.feedback) {
        waits[edge.to] += 1;
    }
    let next = successors(specs.len(), edges, false);
    let rank = |step: usize| (specs[step].role != Role::Producer, step);
    let ready = (0..specs.len()).filter(|step| waits[*step] == 0);
    let mut ready: std::collections::BTreeSet<_> = ready.map(rank).collect();
    let mut order = Vec::with_capacity(specs.len());
    while let Some((_, step)) = ready.pop_first() {
        order.push(step);
        for edge in &next[step] {
            let to = edges[*edge].to;
            waits[to] -= 1;
            if waits[to] == 0 {
                ready.insert(rank(to));
            }
        }
    }
    order
}
