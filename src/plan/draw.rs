//! Draws a plan, as text for Graphviz and for Mermaid.

use std::fmt::Write as _;

use super::{Plan, Step};

/// Draws the plan in Graphviz's language; feedback is dashed.
pub fn dot(plan: &Plan) -> String {
    let mut text = String::from("digraph pipeline {\n  rankdir=LR;\n  node [shape=box];\n");
    for (index, step) in plan.steps.iter().enumerate() {
        let lines = lines(step).map(|line| dot_label(&line));
        let _ = writeln!(text, "  s{index} [label=\"{}\"];", lines.join("\\n"));
    }
    for (from, step) in plan.steps.iter().enumerate() {
        for route in &step.routes {
            let style = if route.feedback { " [style=dashed, constraint=false]" } else { "" };
            let _ = writeln!(text, "  s{from} -> s{}{style};", route.to);
        }
    }
    text.push_str("}\n");
    text
}

/// Draws the plan in Mermaid's language; feedback is dotted.
pub fn mermaid(plan: &Plan) -> String {
    let mut text = String::from("flowchart LR\n");
    for (index, step) in plan.steps.iter().enumerate() {
        let lines = lines(step).map(|line| mermaid_label(&line));
        let _ = writeln!(text, "  s{index}[\"{}\"]", lines.join("<br/>"));
    }
    for (from, step) in plan.steps.iter().enumerate() {
        for route in &step.routes {
            let arrow = if route.feedback { "-.->" } else { "-->" };
            let _ = writeln!(text, "  s{from} {arrow} s{}", route.to);
        }
    }
    text
}

/// The lines in a step's box.
fn lines(step: &Step) -> [String; 3] {
    let workers = match step.workers() {
        1 => "1 worker".to_owned(),
        workers => format!("{workers} workers"),
    };
    [step.name.clone(), step.class.clone(), workers]
}

fn dot_label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Writes characters that are special in Mermaid or HTML as numeric entities.
fn mermaid_label(text: &str) -> String {
    let mut label = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | ':') {
            label.push(c);
        } else {
            let _ = write!(label, "#{};", u32::from(c));
        }
    }
    label
}
