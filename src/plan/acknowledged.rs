//! Checks the options that are for producers, or for some of them.

use super::diagnostic::quote;
use super::edges::Edge;
use super::findings::Findings;
use super::options::StepOptions;
use super::spec::{Role, StepSpec};
use super::values::OnError;
use crate::message::Priority;

pub(super) fn check(specs: &[StepSpec], edges: &[Edge], findings: &mut Findings) {
    let Some(producer) = specs.iter().find(|spec| spec.role == Role::Producer) else { return };
    for (index, spec) in specs.iter().enumerate() {
        let StepOptions { results, on_error, window, window_bytes, priority, .. } = &spec.options;
        let mut refuse = |span: &Option<_>, message: String, hint: &str| {
            findings.error(span.as_ref().unwrap_or(&spec.span), message, hint);
        };
        let needs = |what: &str| {
            format!(
                "{what} needs a producer that is told what became of its items; {} is not",
                quote(&producer.class)
            )
        };
        let for_producers = "use it for the producer";
        if window.span.is_some() && !spec.acknowledges {
            refuse(&window.span, needs("\"window\""), for_producers);
        }
        if window_bytes.span.is_some() && !spec.acknowledges {
            refuse(&window_bytes.span, needs("\"window_bytes\""), for_producers);
        }
        let is_producer = spec.role == Role::Producer;
        if !is_producer && (priority.span.is_some() || **priority != Priority::Normal) {
            let message = format!(
                "\"priority\" is for producers: what {} emits has the priority of its message",
                quote(&spec.name)
            );
            refuse(&priority.span, message, for_producers);
        }
        if **on_error == OnError::Tell && !producer.acknowledges {
            refuse(&on_error.span, needs("\"on_error\": \"tell\""), "");
        }
        if **results && !producer.acknowledges {
            refuse(&results.span, needs("\"results\""), "");
        } else if **results && edges.iter().any(|edge| edge.from == index) {
            let message = "\"results\" is for steps without next steps".to_owned();
            refuse(&results.span, message, "what the last step emits goes back to the producer");
        }
    }
}
