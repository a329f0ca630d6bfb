//! The page as a whole, and its head: how the run ended, in plain words.

use std::fmt::Write;

use super::data::ReportData;
use super::failures::{failures, warnings};
use super::markup::{at, count, duration, instant, of, text};
use super::sections::{actions, configuration, ledger, over_time, products, reproduce, times};
use crate::stage::registry::Kind;
use crate::status::View;

const STYLE: &str = include_str!("style.css");

/// How much attention the verdict needs.
enum Tone {
    Good,
    Odd,
    Bad,
}

impl ReportData {
    /// The report as a page of HTML that needs nothing else.
    pub(crate) fn html(&self) -> String {
        page(self)
    }
}

fn page(report_data: &ReportData) -> String {
    let view = report_data.status.view();
    let (title, heading) = titles(report_data);
    // The page fetches and runs nothing, whatever a name contains.
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} – drpipe</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n{heading}\n"
    );
    verdict(&mut page, report_data, &view);
    facts(&mut page, report_data, &view);
    page += "</header>\n";
    let mut body = String::new();
    let mut links = String::new();
    let mut section = |id: &str, heading: &str, content: String| {
        if !content.is_empty() {
            let _ = write!(links, "<a href=\"#{id}\">{heading}</a>");
            let _ =
                write!(body, "<section id=\"{id}\">\n<h2>{heading}</h2>\n{content}</section>\n");
        }
    };
    section("ledger", "Ledger", ledger(&view, report_data));
    section("failures", "Failures", failures(report_data));
    section("times", "Time per step", times(&view, report_data));
    section("actions", "Actions", actions(&view));
    section("timeline", "Over time", over_time(report_data));
    section("warnings", "Warnings", warnings(report_data));
    section("products", "Products", products(report_data));
    section("reproduce", "Do it again", reproduce(report_data));
    section("configuration", "Configuration", configuration(report_data));
    let _ = write!(
        page,
        "<nav aria-label=\"Parts of this page\">{links}</nav>\n<main>\n{body}</main>\n"
    );
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(
        page,
        "<footer>Made by drpipe {version} from {}.</footer>\n</body>\n</html>\n",
        of(report_data.status.number, "event of the run", "events of the run")
    );
    page
}

/// The title of the page and its heading.
fn titles(report_data: &ReportData) -> (String, String) {
    let Some(run) = report_data.run().map(text) else {
        let title = "A run that did not begin".to_owned();
        return (title.clone(), format!("<h1>{title}</h1>"));
    };
    let opened = &report_data.status.opened;
    if opened.pipeline.is_empty() {
        return (format!("Run {run}"), format!("<h1>Run {run}</h1>"));
    }
    let pipeline = text(&opened.pipeline);
    let directory = text(opened.directory.display());
    let heading = format!(
        "<h1>{pipeline} <span class=\"soft\">in {directory}</span></h1>\n\
         <p class=\"soft\">Run {run}</p>"
    );
    (format!("{pipeline}: run {run}"), heading)
}

fn verdict(page: &mut String, report_data: &ReportData, view: &View) {
    let (tone, first, mut more) = in_words(report_data, view);
    let class = match tone {
        Tone::Good => "good",
        Tone::Odd => "odd",
        Tone::Bad => "bad",
    };
    more.extend(bottleneck(view));
    if report_data.missing > 0 {
        more.push(format!(
            "{} kept: the numbers are right, but lists may be incomplete.",
            of(report_data.missing, "event was not", "events were not")
        ));
    }
    more.extend(report_data.remarks.iter().cloned());
    let _ =
        writeln!(page, "<div class=\"verdict {class}\" role=\"status\">\n<p>{}</p>", text(first));
    for sentence in more {
        let _ = writeln!(page, "<p>{}</p>", text(sentence));
    }
    *page += "</div>\n";
}

/// How the run ended: a sentence, and details.
fn in_words(report_data: &ReportData, view: &View) -> (Tone, String, Vec<String>) {
    let took = duration(view.elapsed);
    let inputs = of(view.emitted, "input", "inputs");
    if let Some(reason) = &report_data.status.error {
        return (Tone::Bad, "The run could not go on.".to_owned(), vec![reason.clone()]);
    }
    let Some(report) = &report_data.status.report else { return unfinished(report_data, view) };
    let (failed, dropped) = lost(view);
    let mut more = Vec::new();
    if report.skipped > 0 {
        let skipped = of(report.skipped, "input was", "inputs were");
        more.push(format!("{skipped} skipped: earlier runs had processed them."));
    }
    if report.quarantined > 0 {
        let kept = of(report.quarantined, "failed input is kept", "failed inputs are kept");
        more.push(format!("{kept} in {}.", report_data.quarantine().display()));
    }
    more.extend(report.finish_failures.iter().cloned());
    let failures = of(failed, "message failed", "messages failed");
    match view.verdict.as_deref() {
        Some("done") => {
            let all = if view.emitted == 1 { "The one input was" } else { "All inputs were" };
            (Tone::Good, format!("{all} processed: {inputs} in {took}."), more)
        }
        Some("some_failed") => {
            let dropped = match dropped {
                0 => String::new(),
                dropped => format!(", {} given up", of(dropped, "was", "were")),
            };
            let first =
                format!("The run reached its end, but {failures}{dropped}: {inputs} in {took}.");
            (Tone::Odd, first, more)
        }
        Some("interrupted") => {
            more.insert(0, format!("{failures}, {} dropped.", of(dropped, "was", "were")));
            (Tone::Odd, format!("The run was interrupted after {took}."), more)
        }
        _ => {
            more.insert(0, view.reason.clone().unwrap_or_default());
            (Tone::Bad, format!("The run was stopped after {took}."), more)
        }
    }
}

/// Describes a run that has not ended.
fn unfinished(report_data: &ReportData, view: &View) -> (Tone, String, Vec<String>) {
    let status = &report_data.status;
    if report_data.run().is_none() {
        return (Tone::Bad, "Nothing is known of this run.".to_owned(), Vec::new());
    }
    let last = status.opened.started.parse::<jiff::Timestamp>().ok();
    let last = last.and_then(|start| start.checked_add(status.at).ok());
    let when = last.map_or_else(|| "an unknown time".to_owned(), |time| instant(&time.to_string()));
    let first = format!("The run was killed, or is still under way: its last event was at {when}.");
    let open: u64 = view.steps.iter().map(|step| step.counts.open()).sum();
    let more = vec![
        format!(
            "This report ends with that event, {} after the start: {} finished{}, {} under way.",
            at(status.at),
            count(view.finished),
            view.expected.map(|expected| format!(" of {}", count(expected))).unwrap_or_default(),
            of(open, "message was", "messages were"),
        ),
        match &status.opened.journal {
            Some(_) => "To process the rest, start the run again with --resume.".to_owned(),
            None => "It kept no journal: only a new run from the beginning can process the rest."
                .to_owned(),
        },
    ];
    (Tone::Bad, first, more)
}

/// The number of messages that failed, and of those that were dropped.
fn lost(view: &View) -> (u64, u64) {
    let sum = |part: fn(&crate::event::Counts) -> u64| -> u64 {
        view.steps.iter().map(|step| part(&step.counts)).sum()
    };
    (sum(|counts| counts.failed), sum(|counts| counts.dropped))
}

/// Which step limited the pace, and what to do about it.
fn bottleneck(view: &View) -> Option<String> {
    let limit = view.limit_in_words(true)?;
    let step = view.steps.iter().find(|step| Some(&step.name) == view.bottleneck.as_ref())?;
    let hint = match (step.utilisation >= 0.7, step.kind) {
        (true, Kind::Producer) => "It is the producer, which has one worker.",
        (true, _) => "More workers there, or less work in it, would make the run faster.",
        (false, _) => "No step was busy all the time: each spent the rest waiting.",
    };
    Some(format!("{limit} {hint}"))
}

fn facts(page: &mut String, report_data: &ReportData, view: &View) {
    let opened = &report_data.status.opened;
    let ended = report_data.status.opened.started.parse::<jiff::Timestamp>().ok();
    let ended = ended.and_then(|start| start.checked_add(view.elapsed).ok());
    let ended = match ended.filter(|_| report_data.has_ended()) {
        Some(time) => instant(&time.to_string()),
        None if report_data.has_ended() => String::new(),
        None => "not known".to_owned(),
    };
    let fact = |name: &str, value: String| {
        if value.is_empty() {
            return String::new();
        }
        format!("<div><dt>{name}</dt><dd>{}</dd></div>\n", text(value))
    };
    let code = view.exit_code.map(|code| code.to_string()).unwrap_or_default();
    *page += "<dl class=\"facts\">\n";
    for (name, value) in [
        ("Pipeline", opened.pipeline.clone()),
        ("Started", instant(&opened.started)),
        ("Ended", ended),
        ("Duration", duration(view.elapsed)),
        ("Exit code", code),
        ("Machine", format!("{}, process {}", opened.host, opened.pid)),
        ("drpipe", opened.version.clone()),
        ("Directory", opened.directory.display().to_string()),
        ("Configuration", opened.config_hash.clone()),
        ("Journal", opened.journal.as_ref().map(|j| j.display().to_string()).unwrap_or_default()),
    ] {
        *page += &fact(name, value);
    }
    *page += "</dl>\n";
}
