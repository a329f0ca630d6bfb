//! The sections of the page: the ledger, times, drawings, products, and how to repeat the run.

use std::fmt::Write;
use std::time::Duration;

use super::charts::{queue, throughput, timelines};
use super::data::ReportData;
use super::markup::{at, count, duration, link, of, percent, rate, text};
use crate::base::format::shell_word;
use crate::event::{ActionCounts, Counts};
use crate::stage::registry::Kind;
use crate::status::{History, StepView, View};

/// The most workers with a timeline; the others are counted.
const MAX_TIMELINES: usize = 64;

/// A table that may be wider than the screen; the keyboard scrolls it.
fn table(html: &mut String, label: &str, headings: &[&str], rows: &[Vec<String>]) {
    let _ = write!(
        html,
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" \
         aria-label=\"{label}\">\n<table>\n<thead><tr>"
    );
    for (column, heading) in headings.iter().enumerate() {
        let class = if column == 0 { " class=\"text\"" } else { "" };
        let _ = write!(html, "<th scope=\"col\"{class}>{heading}</th>");
    }
    *html += "</tr></thead>\n<tbody>\n";
    for row in rows {
        *html += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let _ = match column {
                0 => write!(html, "<th class=\"text\" scope=\"row\">{}</th>", text(cell)),
                _ if cell == "0" => write!(html, "<td class=\"zero\">0</td>"),
                _ => write!(html, "<td>{}</td>", text(cell)),
            };
        }
        *html += "</tr>\n";
    }
    *html += "</tbody>\n</table>\n</div>\n";
}

pub(super) fn ledger(view: &View, report_data: &ReportData) -> String {
    if view.steps.is_empty() {
        return String::new();
    }
    let hand_back = view.steps.iter().any(|step| step.counts.results > 0);
    let has_deferred = view.steps.iter().any(|step| step.counts.deferred > 0);
    let mut headings = vec![
        "Step",
        "Received",
        "Done",
        "Filtered",
        "Failed",
        "Dropped",
        "Under way",
        "Retried",
        "Emitted",
    ];
    if has_deferred {
        headings.push("Deferred");
    }
    if hand_back {
        headings.push("Results");
    }
    let row = |step: &StepView| {
        let Counts { received, done, filtered, failed, dropped, retried, emitted, results, .. } =
            step.counts;
        let numbers =
            [received, done, filtered, failed, dropped, step.counts.open(), retried, emitted];
        let deferred = has_deferred.then_some(step.counts.deferred);
        let mut cells: Vec<String> = numbers.into_iter().chain(deferred).map(count).collect();
        if step.kind == Kind::Producer {
            // It receives nothing; it has done what it has emitted.
            cells[..6].fill("–".to_owned());
        }
        if hand_back {
            cells.push(count(results));
        }
        cells.insert(0, step.name.to_string());
        cells
    };
    let rows: Vec<_> = view.steps.iter().map(row).collect();
    let mut html = String::new();
    table(&mut html, "Ledger", &headings, &rows);
    html += &balance(view, report_data.has_ended());
    html += "<p class=\"soft\">Filtered messages count as done: they emitted nothing. Dropped \
             messages were given up by policy, or were still queued when the run stopped.</p>\n";
    if hand_back {
        html += "<p class=\"soft\">Results went back to the producer of their item.</p>\n";
    }
    html
}

/// Whether each message is accounted for.
fn balance(view: &View, has_ended: bool) -> String {
    let open: u64 = view.steps.iter().map(|step| step.counts.open()).sum();
    match (open, has_ended) {
        (0, true) => {
            "<p class=\"is-good\">The ledger balances: at each step, what was received is \
                      done, failed or dropped.</p>\n"
                .to_owned()
        }
        (0, false) => "<p class=\"soft\">At the last event nothing was under way.</p>\n".to_owned(),
        (open, true) => format!(
            "<p class=\"is-bad\">The ledger does not balance: {} unaccounted for.</p>\n",
            of(open, "message is", "messages are")
        ),
        (open, false) => format!(
            "<p class=\"soft\">At the last event {} queued or in hand.</p>\n",
            of(open, "message was", "messages were")
        ),
    }
}

/// How often the actions of the steps were executed, if they have counted some.
pub(super) fn actions(view: &View) -> String {
    let headings = ["Action", "Step", "Done", "Skipped", "Failed", "Deferred", "Time"];
    let of_step = |step: &StepView| {
        let cells = |action: &ActionCounts| {
            let ActionCounts { name, done, skipped, failed, deferred, busy, .. } = action;
            let mut cells = vec![name.to_string(), step.name.to_string()];
            cells.extend([*done, *skipped, *failed, *deferred].map(count));
            cells.push(duration(*busy));
            cells
        };
        step.actions.iter().map(cells).collect::<Vec<_>>()
    };
    let rows: Vec<_> = view.steps.iter().flat_map(of_step).collect();
    let mut html = String::new();
    if !rows.is_empty() {
        table(&mut html, "Actions", &headings, &rows);
        html += "<p class=\"soft\">The steps have counted these executions themselves: repeated \
                 ones count too, while the ledger counts messages.</p>\n";
    }
    html
}

pub(super) fn times(view: &View, report_data: &ReportData) -> String {
    let all: Duration = view.steps.iter().map(|step| step.busy_time).sum();
    if all.is_zero() {
        return String::new();
    }
    let headings = [
        "Step",
        "Median",
        "Mean",
        "99 %",
        "Busy",
        "Share",
        "Workers",
        "Utilization",
        "Throughput",
        "Queue, at most",
    ];
    let seconds = view.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let row = |step: &StepView| {
        let planned = report_data.status.opened.plan.iter().find(|plan| plan.name == step.name);
        let workers = planned.map_or(step.workers, |plan| plan.workers).max(1);
        let busy = step.busy_time.as_secs_f64();
        let so_far = busy / (seconds * workers as f64);
        vec![
            step.name.to_string(),
            duration(step.median),
            duration(step.mean),
            duration(step.p99),
            duration(step.busy_time),
            percent(busy / all.as_secs_f64()),
            count(workers as u64),
            percent(if report_data.status.report.is_some() {
                step.utilisation
            } else {
                so_far.min(1.0)
            }),
            rate(step.progressed as f64 / seconds),
            if step.kind == Kind::Producer {
                "–".to_owned()
            } else {
                count(step.high_water as u64)
            },
        ]
    };
    let rows: Vec<_> = view.steps.iter().map(row).collect();
    let mut html = String::new();
    table(&mut html, "Time per step", &headings, &rows);
    html += "<p class=\"soft\">Median, mean and 99 % are times of one call. Busy is the time that \
             all workers spent on calls, failed ones included; share is the step's part of the \
             busy time of all steps; utilization is the part of their lifetime that the workers \
             were busy.</p>\n";
    html
}

pub(super) fn over_time(report_data: &ReportData) -> String {
    let history = &report_data.status.history;
    if history.at_s.len() < 2 {
        return String::new();
    }
    let mut html = String::from(
        "<h3>Workers</h3>\n<p class=\"soft\">Idle <span class=\"legend\"></span> busy all the \
         time</p>\n\
         <div class=\"strips\">\n",
    );
    let mut left = MAX_TIMELINES;
    let mut hidden = 0;
    for step in &history.steps {
        let lines = timelines(history, step);
        if lines.is_empty() {
            continue;
        }
        let _ = writeln!(html, "<div class=\"step\">{}</div>", text(&step.name));
        hidden += lines.len().saturating_sub(left);
        for line in lines.iter().take(left) {
            strip(&mut html, &format!("worker {}", line.worker), &line.svg, &percent(line.mean));
        }
        left = left.saturating_sub(lines.len());
    }
    axis(&mut html, history);
    html += "</div>\n";
    if hidden > 0 {
        let _ = writeln!(
            html,
            "<p class=\"soft\">{} not shown.</p>",
            of(hidden as u64, "worker is", "workers are")
        );
    }
    queues(&mut html, report_data, history);
    html += "<h3>Throughput</h3>\n<div class=\"strips\">\n";
    for step in &history.steps {
        let (most, svg) = throughput(history, step);
        strip(&mut html, &step.name, &svg, &format!("at most {}", rate(most)));
    }
    axis(&mut html, history);
    html + "</div>\n"
}

fn queues(html: &mut String, report_data: &ReportData, history: &History) {
    *html += "<h3>Queues</h3>\n<div class=\"strips\">\n";
    for (step, plan) in history.steps.iter().zip(&report_data.status.opened.plan) {
        if plan.kind == Kind::Producer {
            continue;
        }
        let most = step.queued.iter().copied().max().unwrap_or(0) as u64;
        let limit = match plan.queue_limit {
            Some(limit) => format!(" of {}", count(limit as u64)),
            None => String::new(),
        };
        let value = format!("at most {}{limit}", count(most));
        strip(html, &step.name, &queue(history, step, plan.queue_limit), &value);
    }
    axis(html, history);
    *html += "</div>\n";
}

fn strip(html: &mut String, label: &str, svg: &str, value: &str) {
    let _ = writeln!(
        html,
        "<div class=\"label\">{}</div>{svg}<div class=\"value\">{}</div>",
        text(label),
        text(value)
    );
}

fn axis(html: &mut String, history: &History) {
    let end = history.at_s.last().copied().unwrap_or(0.0);
    let mark = |part: f64| at(Duration::try_from_secs_f64(end * part).unwrap_or_default());
    let marks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| format!("<span>{}</span>", mark(part)));
    let _ = writeln!(html, "<div class=\"axis\" aria-hidden=\"true\">{}</div>", marks.concat());
}

pub(super) fn products(report_data: &ReportData) -> String {
    let count = report_data.product_count;
    if count == 0 {
        return String::new();
    }
    let shown = report_data.products.len() as u64;
    let mut html = format!("<p>{} made known", of(count, "file was", "files were"));
    html += if shown < count { "; the latest:</p>\n" } else { ".</p>\n" };
    html += "<table class=\"cards\">\n<thead><tr><th class=\"text\" scope=\"col\">File</th>\
             <th class=\"text\" scope=\"col\">Made from</th><th class=\"text\" \
             scope=\"col\">Step</th>\
             <th scope=\"col\">At</th></tr></thead>\n<tbody>\n";
    for product in report_data.products.iter().rev() {
        let origin = product.origin.as_deref().map_or_else(|| "all inputs".to_owned(), text);
        let _ = writeln!(
            html,
            "<tr><th class=\"text\" scope=\"row\">{}</th>\
             <td class=\"text\" data-label=\"Made from\"><span class=\"path\">{origin}</span></td>\
             <td class=\"text\" data-label=\"Step\">{}</td><td data-label=\"At\">{}</td></tr>",
            link(&report_data.status.opened.directory, &product.path),
            text(&product.step),
            at(product.at),
        );
    }
    html + "</tbody>\n</table>\n"
}

pub(super) fn reproduce(report_data: &ReportData) -> String {
    let opened = &report_data.status.opened;
    if opened.command.is_empty() {
        return String::new();
    }
    let line = |arguments: &[String]| {
        arguments.iter().map(|argument| shell_word(argument)).collect::<Vec<_>>().join(" ")
    };
    let command = line(&opened.command);
    let mut html = format!(
        "<p>The whole run:</p>\n<pre>cd {}\n{}</pre>\n",
        text(shell_word(&opened.directory.display().to_string())),
        text(&command)
    );
    let failed =
        report_data.failures.iter().any(|failure| failure.entry.is_some() && !failure.requeued);
    if failed {
        let mut retry = vec![opened.command[0].clone(), "quarantine".into(), "retry".into()];
        retry.push(report_data.quarantine().display().to_string());
        retry.extend(source(&opened.command));
        let _ = write!(
            html,
            "<p>The failed inputs, each from the step at which it failed:</p>\n<pre>{}</pre>\n",
            text(line(&retry))
        );
    }
    if opened.journal.is_some() && !opened.command.iter().any(|argument| argument == "--resume") {
        let _ = write!(
            html,
            "<p>Everything that the journal does not record as done:</p>\n<pre>{} --resume</pre>\n",
            text(&command)
        );
    }
    html
}

/// The arguments that name the configuration and its settings.
fn source(command: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut arguments = command.iter().skip(1).peekable();
    while let Some(argument) = arguments.next() {
        if ["--config", "-c", "--set"].contains(&argument.as_str()) {
            kept.push(argument.clone());
            kept.extend(arguments.next().cloned());
        } else {
            let name =
                argument.strip_prefix("--").and_then(|rest| rest.split_once('=')).map(|(n, _)| n);
            if name.is_some_and(|name| name.contains('.') || ["config", "set"].contains(&name)) {
                kept.push(argument.clone());
            }
        }
    }
    kept
}

pub(super) fn configuration(report_data: &ReportData) -> String {
    let opened = &report_data.status.opened;
    if opened.plan.is_empty() {
        return String::new();
    }
    let headings = ["Step", "Class", "Leads to", "Workers", "Queue limit", "On error", "Retries"];
    let row = |plan: &crate::event::StepPlan| {
        let next: Vec<&str> = plan.next_steps.iter().map(|next| &*next.name).collect();
        let next = if next.is_empty() { "–".to_owned() } else { next.join(", ") };
        vec![
            plan.name.to_string(),
            plan.class.clone(),
            next,
            count(plan.workers as u64),
            plan.queue_limit.map_or_else(|| "–".to_owned(), |limit| count(limit as u64)),
            format!("{:?}", plan.on_error).to_lowercase(),
            count(plan.retries.into()),
        ]
    };
    let rows: Vec<_> = opened.plan.iter().map(row).collect();
    let mut html = String::new();
    table(&mut html, "Steps", &headings, &rows);
    if !opened.config.is_null() {
        let json = serde_json::to_string_pretty(&opened.config).unwrap_or_default();
        let _ = write!(
            html,
            "<details>\n<summary>The configuration with the settings of the command \
             line</summary>\n\
             <pre>{}</pre>\n</details>\n",
            text(json)
        );
    }
    html
}
