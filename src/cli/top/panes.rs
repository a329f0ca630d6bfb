//! The panes below the steps: workers of the selected step, failures, the log.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use super::app::{App, Pane};
use super::theme::Theme;
use crate::base::escape::one_line;
use crate::base::format;
use crate::event::{Level, WorkerState, WorkerStatus};
use crate::status::{FailureLine, StepView};

/// Draws the pane in which the arrow keys move, with the names of the others.
pub(super) fn draw_chosen(frame: &mut Frame, app: &App, theme: Theme, area: Rect) {
    let panes = [Pane::Workers, Pane::Failures, Pane::Log];
    let titles = panes.iter().map(|pane| title(app, *pane, theme));
    let mut spans = vec![Span::raw(" ")];
    for span in titles {
        spans.extend([span, Span::raw("  ")]);
    }
    spans.push(Span::raw("(Tab) "));
    draw_in(frame, app, theme, app.pane, area, Line::from(spans));
}

/// Draws one of several panes that are visible at once.
pub(super) fn draw_one(frame: &mut Frame, app: &App, theme: Theme, pane: Pane, area: Rect) {
    let title = Line::from(vec![Span::raw(" "), title(app, pane, theme), Span::raw(" ")]);
    draw_in(frame, app, theme, pane, area, title);
}

fn title(app: &App, pane: Pane, theme: Theme) -> Span<'static> {
    let text = match pane {
        Pane::Workers => match app.chosen_step() {
            Some(step) if step.actions.is_empty() => format!("workers of {}", one_line(&step.name)),
            Some(step) => format!("workers and actions of {}", one_line(&step.name)),
            None => "workers".to_owned(),
        },
        Pane::Failures => {
            let count = app.view.as_ref().map_or(0, |view| view.failure_count);
            format!("failures: {}", format::count(count))
        }
        Pane::Log => "log".to_owned(),
    };
    let style = if pane == app.pane {
        theme.strong().add_modifier(Modifier::REVERSED)
    } else {
        Style::new()
    };
    Span::styled(text, style)
}

fn draw_in(frame: &mut Frame, app: &App, theme: Theme, pane: Pane, area: Rect, title: Line) {
    let block = Block::new().borders(Borders::TOP).title(title);
    let rows = usize::from(block.inner(area).height);
    let lines = match pane {
        Pane::Workers => workers(app, theme, rows),
        Pane::Failures => failures(app, theme, rows),
        Pane::Log => log(app, theme, rows),
    };
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn workers(app: &App, theme: Theme, rows: usize) -> Vec<Line<'static>> {
    let Some(step) = app.chosen_step() else { return Vec::new() };
    let actions = actions(step, theme, rows / 2);
    let rows = rows - actions.len();
    if step.each_worker.is_empty() {
        return [vec![Line::raw("there is none")], actions].concat();
    }
    let count = step.each_worker.len();
    let seen = if count > rows { rows.saturating_sub(1) } else { count };
    let mut lines: Vec<Line> =
        step.each_worker.iter().take(seen).map(|w| worker(w, theme)).collect();
    if count > seen {
        lines.push(Line::raw(format!("and {} more", count - seen)));
    }
    lines.extend(actions);
    lines
}

/// How often the step's actions were executed, in this many lines.
fn actions(step: &StepView, theme: Theme, rows: usize) -> Vec<Line<'static>> {
    if step.actions.is_empty() || rows < 2 {
        return Vec::new();
    }
    let heading = format!(
        "{:>7} {:>7} {:>7} {:>8} {:>7}  action",
        "done", "skipped", "failed", "deferred", "time"
    );
    let mut lines = vec![Line::styled(heading, theme.strong())];
    let count = step.actions.len();
    let seen = if count > rows - 1 { rows - 2 } else { count };
    lines.extend(step.actions.iter().take(seen).map(|action| {
        let text = format!(
            "{:>7} {:>7} {:>7} {:>8} {:>7}  {}",
            format::count(action.done),
            format::count(action.skipped),
            format::count(action.failed),
            format::count(action.deferred),
            format::span(action.busy.as_secs_f64()),
            one_line(&action.name)
        );
        let style = if action.failed > 0 { theme.color(Color::Red) } else { Style::new() };
        Line::styled(text, style)
    }));
    if count > seen {
        lines.push(Line::raw(format!("and {} more actions", count - seen)));
    }
    lines
}

fn worker(worker: &WorkerStatus, theme: Theme) -> Line<'static> {
    let (state, style) = match worker.state {
        WorkerState::Starting => ("starting", Style::new()),
        WorkerState::Idle => ("idle", Style::new()),
        WorkerState::Busy => ("busy", theme.color(Color::Green)),
        WorkerState::Held => ("held back", theme.color(Color::Magenta)),
        WorkerState::Finishing => ("finishing", theme.color(Color::Green)),
    };
    let mut text = format!("{:>7}", format::span(worker.since.as_secs_f64()));
    if let Some(origin) = &worker.origin {
        text += &format!("  {}", one_line(origin));
    } else if let Some(message) = worker.message {
        text += &format!("  message {message}");
    }
    if worker.in_hand > 1 {
        text += &format!(" and {} more in hand", worker.in_hand - 1);
    }
    Line::from(vec![
        Span::raw(format!("{:>3} ", worker.worker)),
        Span::styled(format!("{state:9}"), style),
        Span::raw(text),
    ])
}

/// The failures, newest first.
fn failures(app: &App, theme: Theme, rows: usize) -> Vec<Line<'static>> {
    let chosen = app.chosen_failure();
    let first = (chosen + 1).saturating_sub(rows);
    let seen = app.failures().enumerate().skip(first).take(rows);
    let lines: Vec<Line> = seen
        .map(|(place, line)| {
            let style = if place == chosen && app.pane == Pane::Failures {
                Style::new().add_modifier(Modifier::REVERSED)
            } else if line.requeued {
                Style::new().add_modifier(Modifier::DIM)
            } else {
                theme.color(Color::Red)
            };
            Line::styled(failure(line), style)
        })
        .collect();
    if lines.is_empty() { vec![Line::raw("nothing has failed")] } else { lines }
}

fn failure(line: &FailureLine) -> String {
    let what = match (&line.entry, line.requeued) {
        (Some(entry), true) => format!("{entry} (tried again)"),
        (Some(entry), false) => entry.clone(),
        (None, _) => format!("{} (dropped)", line.step),
    };
    let on = line.origin.as_deref().map(|origin| format!(" {origin}")).unwrap_or_default();
    let time = format::clock(line.at.as_secs_f64());
    one_line(&format!("{time} {what}{on}: {}", line.reason.join(": ")))
}

/// The log, newest line last.
fn log(app: &App, theme: Theme, rows: usize) -> Vec<Line<'static>> {
    let Some(view) = &app.view else { return Vec::new() };
    let end = view.lines.len().saturating_sub(app.back).max(rows.min(view.lines.len()));
    let seen = view.lines.iter().take(end).skip(end.saturating_sub(rows));
    let lines: Vec<Line> = seen
        .map(|line| {
            let style = match line.level {
                Level::Error => theme.color(Color::Red),
                Level::Warning => theme.color(Color::Yellow),
                Level::Info | Level::Debug => Style::new(),
            };
            let about = line.step.as_ref().map(|step| format!("{step}: ")).unwrap_or_default();
            let time = format::clock(line.at.as_secs_f64());
            Line::styled(one_line(&format!("{time} {about}{}", line.text)), style)
        })
        .collect();
    if lines.is_empty() { vec![Line::raw("nothing was logged")] } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::testing::{app, press, screen};

    const PLAIN: Theme = Theme { colors: false };

    #[test]
    fn every_pane_tells_what_it_has() {
        let mut app = app();
        press(&mut app, 'j');
        let shown = |app: &App| screen(64, 4, |frame| draw_chosen(frame, app, PLAIN, frame.area()));
        let text = shown(&app);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with(" workers of CLEAN  failures: 2  log  (Tab) ──"), "{text}");
        assert_eq!(lines[1], "  0 busy       3.2 s  night7/frame331.fits and 2 more in hand");
        assert_eq!(lines[2], "  1 idle       3.2 s");
        app.pane = Pane::Failures;
        let text = shown(&app);
        assert!(
            text.contains("0:32 000002-CLEAN night7/frame2.fits: cannot fit the sky"),
            "{text}"
        );
        assert!(text.contains("0:31 000001-CLEAN (tried again)"), "{text}");
        app.pane = Pane::Log;
        let text = shown(&app);
        assert!(text.contains(r"0:05 the disk is\nnearly full"), "no line is broken: {text}");
        assert!(text.contains("0:07 CLEAN: worker 1 was lost: signal 11"), "{text}");
    }

    #[test]
    fn the_log_scrolls_back_to_its_first_line_and_no_further() {
        let mut app = app();
        app.pane = Pane::Log;
        let two = |app: &App| screen(64, 3, |frame| draw_chosen(frame, app, PLAIN, frame.area()));
        assert!(!two(&app).contains("set to 2 workers"));
        for _ in 0..9 {
            press(&mut app, 'k');
        }
        let text = two(&app);
        assert!(text.contains("set to 2 workers") && text.contains("nearly full"), "{text}");
    }
}
