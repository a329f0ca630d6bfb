//! What went wrong: each failed input with its reason, and the warnings.

use std::fmt::Write;

use super::data::ReportData;
use super::markup::{at, of, text};
use crate::event::{Cause, Level};
use crate::plan::OnError;
use crate::status::FailureLine;

/// The most failures that are visible at once; the others are folded.
const MAX_OPEN: usize = 200;

pub(super) fn failures(report_data: &ReportData) -> String {
    let all = &report_data.failures;
    if all.is_empty() {
        return "<p class=\"is-good\">No input failed.</p>\n".to_owned();
    }
    let mut html =
        format!("<p>{}{}</p>\n", of(all.len() as u64, "failure", "failures"), by_reason(all));
    let (shown, folded) = all.split_at(all.len().min(MAX_OPEN));
    table(&mut html, report_data, shown);
    if !folded.is_empty() {
        let count = of(folded.len() as u64, "more failure", "more failures");
        let _ = write!(html, "<details>\n<summary>{count}</summary>\n");
        table(&mut html, report_data, folded);
        html += "</details>\n";
    }
    let beyond = report_data.status.failure_count.saturating_sub(all.len() as u64);
    if beyond > 0 {
        let count = of(beyond, "failure is", "failures are");
        let _ = writeln!(
            html,
            "<p>{count} not listed here; the quarantine has all that were kept.</p>"
        );
    }
    html
}

/// The number of failures at each step, in words.
fn by_reason(all: &[FailureLine]) -> String {
    let mut steps: Vec<(&str, u64)> = Vec::new();
    for failure in all {
        match steps.iter_mut().find(|(step, _)| *step == &*failure.step) {
            Some((_, count)) => *count += 1,
            None => steps.push((&failure.step, 1)),
        }
    }
    let parts = steps.iter().map(|(step, count)| format!("{count} at {}", text(step)));
    format!(": {}.", parts.collect::<Vec<_>>().join(", "))
}

fn table(html: &mut String, report_data: &ReportData, failures: &[FailureLine]) {
    *html += "<table class=\"cards failures\">\n<thead><tr><th class=\"text\" scope=\"col\">Input</th>\
              <th class=\"text\" scope=\"col\">Reason</th><th class=\"text\" scope=\"col\">Step</th>\
              <th scope=\"col\">Attempt</th><th scope=\"col\">At</th>\
              <th class=\"text\" scope=\"col\">What became of it</th></tr></thead>\n<tbody>\n";
    for failure in failures {
        row(html, report_data, failure);
    }
    *html += "</tbody>\n</table>\n";
}

fn row(html: &mut String, report_data: &ReportData, failure: &FailureLine) {
    let origin = failure.origin.as_deref();
    let input = match origin {
        Some(origin) => format!("<span class=\"path\">{}</span>", text(origin)),
        None => "<span class=\"soft\">without a name</span>".to_owned(),
    };
    let reason: String = failure
        .reason
        .iter()
        .map(|sentence| format!("<p class=\"reason\">{}</p>", text(sentence)))
        .collect();
    let worker = failure.worker.map(|worker| format!(", worker {worker}")).unwrap_or_default();
    let _ = writeln!(
        html,
        "<tr class=\"failure\"><th class=\"text\" scope=\"row\">{input}</th>\
         <td class=\"text\">{reason}</td><td class=\"text\" data-label=\"Step\">{}{worker}</td>\
         <td data-label=\"Attempt\">{}{}</td><td data-label=\"At\">{}</td>\
         <td class=\"text\" data-label=\"What became of it\">{}</td></tr>",
        text(&failure.step),
        failure.attempt,
        cause(failure.cause),
        at(failure.at),
        became(report_data, failure),
    );
}

/// How the message failed, unless the stage returned a failure.
fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Failed => "",
        Cause::Panicked => " (panicked)",
        Cause::Lost => " (worker lost)",
        Cause::TimedOut => " (timed out)",
        Cause::Late => " (too late)",
        Cause::Cancelled => " (cancelled)",
        Cause::InVain => " (deferred in vain)",
    }
}

fn became(report_data: &ReportData, failure: &FailureLine) -> String {
    if failure.requeued {
        return "tried again in this run".to_owned();
    }
    let kept = failure.entry.as_ref().map(|entry| {
        let place = report_data.quarantine().join(entry);
        format!("kept in <span class=\"path\">{}</span>", text(place.display()))
    });
    match (kept, failure.policy) {
        (Some(kept), OnError::Stop) => format!("{kept}; it stopped the run"),
        (Some(kept), _) => kept,
        (None, OnError::Skip) => "skipped, as the step's on_error says".to_owned(),
        (None, OnError::Tell) => "the producer was told".to_owned(),
        (None, _) => "not kept".to_owned(),
    }
}

pub(super) fn warnings(report_data: &ReportData) -> String {
    let lines = &report_data.warnings;
    if lines.is_empty() {
        return String::new();
    }
    let mut html = String::new();
    let shown = of(lines.len() as u64, "warning or error", "warnings and errors");
    let open = if lines.len() <= 20 { " open" } else { "" };
    let _ = write!(
        html,
        "<details{open}>\n<summary>{shown} in the order of time</summary>\n<table class=\"cards\">\n\
         <thead><tr><th scope=\"col\">At</th><th class=\"text\" scope=\"col\">Step</th>\
         <th class=\"text\" scope=\"col\">What happened</th></tr></thead>\n<tbody>\n"
    );
    for line in lines {
        let class = if line.level == Level::Error { "is-bad" } else { "is-odd" };
        let _ = writeln!(
            html,
            "<tr><td data-label=\"At\">{}</td><td class=\"text\" data-label=\"Step\">{}</td>\
             <td class=\"text {class}\">{}</td></tr>",
            at(line.at),
            line.step.as_deref().map_or_else(|| "the run".to_owned(), text),
            text(&line.text),
        );
    }
    html += "</tbody>\n</table>\n</details>\n";
    let beyond = report_data.warning_count - lines.len() as u64;
    if beyond > 0 {
        let _ = writeln!(html, "<p>{} not listed.</p>", of(beyond, "more is", "more are"));
    }
    html
}
