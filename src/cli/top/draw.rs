//! Draws the screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    Block, Borders, Cell, Clear, Paragraph, Row, Sparkline, Table, TableState, Wrap,
};

use super::app::{App, Ask, Pane};
use super::panes;
use super::theme::Theme;
use crate::base::escape::one_line;
use crate::base::format;
use crate::event::Counts;
use crate::status::{State, StepView, View};

/// The smallest screen.
const WIDTH: u16 = 60;
const HEIGHT: u16 = 15;
/// From this size on, all panes are visible at once.
const WIDE: u16 = 100;
const HIGH: u16 = 32;
/// From this height on, there is room for the pace.
const PACED: u16 = 20;

const HELP: &str = "\
arrows j k  select a step, or a line in another pane
Tab         go to the failures, the log, the workers
p           pause or resume the selected step
P           pause or resume the whole run
+ -         add or remove a worker of the selected step
r           retry the selected failure
d           take no more input, finish what was taken (asks)
S           drop what is queued and end now (asks)
q           quit; the run continues";

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame, app: &App, theme: Theme) {
    let area = frame.area();
    if area.width < WIDTH || area.height < HEIGHT {
        let (width, height) = (area.width, area.height);
        let text = format!(
            "drpipe top needs {WIDTH} x {HEIGHT} characters, found {width} x {height}: make the \
             window larger. q quits."
        );
        let wrapped = Paragraph::new(text).wrap(Wrap { trim: true });
        return frame.render_widget(wrapped, area);
    }
    let Some(view) = &app.view else {
        let text = app.lost.as_ref().map_or_else(
            || "waiting for the run; q quits".to_owned(),
            |why| format!("not connected to the run: {}; trying again; q quits", one_line(why)),
        );
        return frame.render_widget(Paragraph::new(text), area);
    };
    let pace = if area.height >= PACED { 4 } else { 0 };
    let words = if area.height >= PACED { 2 } else { 1 };
    let steps = u16::try_from(view.steps.len()).unwrap_or(u16::MAX).saturating_add(1);
    let table = steps.min((area.height - 3 - words - pace - 4).max(4));
    let [head, progress, sentence, table, pace, panes, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(words),
        Constraint::Length(table),
        Constraint::Length(pace),
        Constraint::Min(4),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(heading(view, theme, head.width), head);
    frame.render_widget(bar_of(view, theme, progress.width), progress);
    frame.render_widget(Paragraph::new(news(app, view, theme)).wrap(Wrap { trim: true }), sentence);
    draw_steps(frame, app, view, theme, table);
    if pace.height > 0 {
        draw_pace(frame, app, theme, pace);
    }
    draw_panes(frame, app, theme, panes);
    frame.render_widget(footer(app, view, theme, foot.width), foot);
    if app.help {
        draw_help(frame, area);
    }
}

fn heading<'v>(view: &View, theme: Theme, width: u16) -> Line<'v> {
    let state = view.state_in_words();
    let style = match (view.state, view.paused) {
        (State::Ended, _) if view.exit_code == Some(0) => theme.color(Color::Green),
        (State::Ended, _) => theme.color(Color::Red),
        (_, true) => theme.color(Color::Cyan),
        _ => theme.color(Color::Green),
    };
    let name = format!("drpipe {}", one_line(&view.pipeline));
    let parts = [
        format::clock(view.elapsed.as_secs_f64()),
        one_line(&view.run),
        one_line(&view.directory.display().to_string()),
        one_line(&view.host),
        format!("process {}", view.pid),
    ];
    let mut room = usize::from(width).saturating_sub(Span::raw(format!("{name}  {state}")).width());
    // A part that does not fit is left out, except for the first three.
    let fits = |(number, part): &(usize, String)| {
        let needed = Span::raw(part.as_str()).width() + 2;
        room = room.saturating_sub(needed);
        *number < 3 || room > 0
    };
    let shown = parts.into_iter().enumerate().take_while(fits);
    let rest: String = shown.map(|(_, part)| format!("  {part}")).collect();
    Line::from(vec![
        Span::styled(name, theme.strong()),
        Span::raw("  "),
        Span::styled(state, style.add_modifier(Modifier::BOLD)),
        Span::raw(rest),
    ])
}

/// The progress of the run, as a bar and in words.
fn bar_of<'v>(view: &View, theme: Theme, width: u16) -> Line<'v> {
    let text = view.progress_in_words() + &view.failures_in_words();
    let Some(part) = view.part_done() else { return Line::from(text) };
    let room = usize::from(width).saturating_sub(text.chars().count() + 9).min(60);
    Line::from(vec![
        Span::styled(bar(part, room), theme.color(Color::Blue)),
        Span::raw(format!(" {:>5}, {text}", format::percent(part))),
    ])
}

/// The state of the run, or why it is not known.
fn news<'v>(app: &App, view: &View, theme: Theme) -> Line<'v> {
    match &app.lost {
        Some(why) => {
            let text = format!("Not connected: {}. These numbers are old.", one_line(why));
            Line::styled(text, theme.color(Color::Red).add_modifier(Modifier::BOLD))
        }
        None => Line::raw(one_line(&view.sentence())),
    }
}

/// A bar of `width` characters.
fn bar(part: f64, width: usize) -> String {
    let full = (part.clamp(0.0, 1.0) * width as f64).round() as usize;
    "█".repeat(full) + &"░".repeat(width - full)
}

fn draw_steps(frame: &mut Frame, app: &App, view: &View, theme: Theme, area: Rect) {
    let some = |count: fn(&Counts) -> u64| view.steps.iter().any(|step| count(&step.counts) > 0);
    let shown =
        Shown { deferred: some(|counts| counts.deferred), results: some(|counts| counts.results) };
    let columns = columns(area.width, &shown);
    let headings = columns.iter().map(|column| Cell::from(column.heading));
    let header = Row::new(headings).style(Style::new().add_modifier(Modifier::UNDERLINED));
    let rows = view.steps.iter().map(|step| {
        let cells = columns.iter().map(|column| {
            let style = if column.heading == "standing" {
                theme.of(step.standing)
            } else if column.heading == "failed" && step.counts.failed > 0 {
                theme.color(Color::Red)
            } else {
                Style::new()
            };
            Cell::from((column.text)(step)).style(style)
        });
        Row::new(cells)
    });
    let widths = columns.iter().map(|column| column.width);
    let table = Table::new(rows, widths)
        .header(header)
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .highlight_symbol("> ");
    let mut chosen = TableState::default().with_selected(Some(app.step));
    frame.render_stateful_widget(table, area, &mut chosen);
}

struct Column {
    heading: &'static str,
    width: Constraint,
    text: fn(&StepView) -> String,
}

/// The columns that are shown only if a step has something to say there.
struct Shown {
    deferred: bool,
    results: bool,
}

/// The columns for which there is room.
fn columns(width: u16, shown: &Shown) -> Vec<Column> {
    let of = |heading, width: u16, text| Column { heading, width: Constraint::Length(width), text };
    let queue = |step: &StepView| match step.queue_limit {
        _ if step.kind == crate::stage::registry::Kind::Producer => String::new(),
        Some(limit) if limit < 1000 => {
            let part = step.queued as f64 / limit.max(1) as f64;
            format!("{} {}", bar(part, 3), step.queue_in_words())
        }
        _ => step.queue_in_words(),
    };
    let name = |step: &StepView| one_line(&step.name);
    let mut columns = vec![
        Column { heading: "step", width: Constraint::Min(6), text: name },
        of("standing", 10, |step| step.standing.in_words().to_owned()),
        of("done", 7, |step| format::count(step.progressed)),
        of("rate", 6, |step| format::rate(step.rate)),
        of("queue", 11, queue),
        of("busy", 5, |step| format!("{}/{}", step.busy, step.workers)),
    ];
    if width >= 90 {
        columns.insert(5, of("held", 6, StepView::held_in_words));
    }
    if width >= 76 {
        columns.push(of("median", 6, |step| format::span(step.median.as_secs_f64())));
        columns.push(of("p99", 6, |step| format::span(step.p99.as_secs_f64())));
    }
    columns.push(of("failed", 6, |step| format::count(step.counts.failed)));
    if width >= 86 {
        columns.push(of("retried", 7, |step| format::count(step.counts.retried)));
    }
    if width >= WIDE {
        columns.push(of("dropped", 7, |step| format::count(step.counts.dropped)));
        if shown.deferred {
            columns.push(of("deferred", 8, |step| format::count(step.counts.deferred)));
        }
    }
    if shown.results && width >= 80 {
        columns.push(of("results", 7, |step| format::count(step.counts.results)));
    }
    columns
}

fn draw_pace(frame: &mut Frame, app: &App, theme: Theme, area: Rect) {
    let Some(step) = app.chosen_step() else { return };
    let rates = app.rates.rates(app.step, area.width.into());
    let most = rates.iter().copied().fold(0.0, f64::max);
    let title = format!(
        " {} since the beginning: {} now, at most {} ",
        one_line(&step.name),
        format::rate(step.rate),
        format::rate(most)
    );
    let block = Block::new().borders(Borders::TOP).title(title);
    // A sparkline draws whole numbers only.
    let scaled: Vec<u64> = rates.iter().map(|rate| (rate * 1000.0) as u64).collect();
    let line = Sparkline::default().block(block).data(scaled).style(theme.color(Color::Blue));
    frame.render_widget(line, area);
}

fn draw_panes(frame: &mut Frame, app: &App, theme: Theme, area: Rect) {
    if area.height < 6 || frame.area().width < WIDE || frame.area().height < HIGH {
        return panes::draw_chosen(frame, app, theme, area);
    }
    let [upper, lower] =
        Layout::vertical([Constraint::Percentage(55), Constraint::Percentage(45)]).areas(area);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(40), Constraint::Percentage(60)])
            .spacing(1)
            .areas(upper);
    panes::draw_one(frame, app, theme, Pane::Workers, left);
    panes::draw_one(frame, app, theme, Pane::Failures, right);
    panes::draw_one(frame, app, theme, Pane::Log, lower);
}

fn footer<'v>(app: &App, view: &View, theme: Theme, width: u16) -> Line<'v> {
    let strong = theme.strong();
    if let Some(ask) = app.asks {
        let what = match ask {
            Ask::Drain => "Take no more input and finish what was taken?",
            Ask::Stop => "Drop what is queued and end at once?",
        };
        return Line::styled(format!("{what} y confirms, any other key cancels"), strong);
    }
    if let Some(note) = &app.note {
        let color = if note.is_error { Color::Red } else { Color::Green };
        return Line::styled(one_line(&note.text), theme.color(color).add_modifier(Modifier::BOLD));
    }
    Line::raw(match (view.state, app.may_steer) {
        (State::Ended, _) => "These are the final numbers.   Tab pane   ? help   q quit",
        (_, false) => "Read-only.   Tab pane   ? help   q quit",
        _ if width < 70 => "p P pause  + - workers  r retry  d S end  ? help  q quit",
        _ => "p pause  P run  + - workers  r retry  d drain  S stop  ? help  q quit",
    })
}

fn draw_help(frame: &mut Frame, area: Rect) {
    let lines = HELP.lines().count() as u16 + 2;
    let longest = HELP.lines().map(|line| line.chars().count()).max().unwrap_or_default() as u16;
    let width = (longest + 4).min(area.width);
    let place = Rect {
        x: (area.width - width) / 2,
        y: area.height.saturating_sub(lines) / 2,
        width,
        height: lines.min(area.height),
    };
    let block = Block::bordered().title(" keys ");
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(HELP).block(block), place);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::cli::output::CommandError;
    use crate::cli::top::testing::{app, press, screen};

    const PLAIN: Theme = Theme { colors: false };

    fn shown(app: &App, width: u16, height: u16) -> String {
        screen(width, height, |frame| draw(frame, app, PLAIN))
    }

    /// Asserts that some line has all these parts, in this order.
    #[track_caller]
    fn assert_line(text: &str, parts: &[&str]) {
        let has = |line: &str| {
            let mut rest = line;
            parts.iter().all(|part| match rest.split_once(part) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            })
        };
        assert!(text.lines().any(has), "{parts:?}:\n{text}");
    }

    #[test]
    fn everything_fits_on_the_usual_screen() {
        let text = shown(&app(), 80, 24);
        assert_line(
            &text,
            &["drpipe night  running  1:02  20260101T000000Z-4711  /data/night7  tel2"],
        );
        assert_line(&text, &["█", "░", " 32 %, 329 of 1000 finished, 1:34 left, 2 failures"]);
        assert_line(
            &text,
            &["SAVE is paused. CLEAN is the bottleneck: its 2 workers are busy 97 %"],
        );
        assert_line(
            &text,
            &["step", "standing", "done", "rate", "queue", "busy", "median", "p99", "failed"],
        );
        assert_line(&text, &["> NUMBERS", "held back", "400", "5.3/s", "1/1"]);
        assert_line(
            &text,
            &["CLEAN", "bottleneck", "331", "██░ 37/64", "1/2", "350 ms", "810 ms", "1"],
        );
        assert_line(&text, &["SAVE", "paused", "320", "░░░ 0/64"]);
        assert_line(&text, &["NUMBERS since the beginning: 5.3/s now, at most 10/s"]);
        assert_line(&text, &["workers of NUMBERS  failures: 2  log  (Tab)"]);
        assert_line(&text, &["0 busy       3.2 s  night7/frame331.fits and 2 more in hand"]);
        assert_line(&text, &["p pause", "+ - workers", "r retry", "d drain", "S stop", "q quit"]);
    }

    #[test]
    fn a_large_screen_has_all_panes() {
        let text = shown(&app(), 120, 40);
        assert_line(&text, &["held", "failed", "retried", "dropped"]);
        assert_line(&text, &["CLEAN", "██░ 37/64", "9", "1/2"]);
        assert_line(&text, &["Its full queue holds back NUMBERS."]);
        assert_line(&text, &["workers of NUMBERS", "failures: 2"]);
        assert_line(&text, &["0:32 000002-CLEAN night7/frame2.fits: cannot fit the sky"]);
        assert_line(&text, &["0:31 000001-CLEAN (tried again)"]);
        assert_line(&text, &[" log "]);
        assert_line(&text, &[r"0:05 the disk is\nnearly full"]);
    }

    #[test]
    fn the_smallest_screen_has_what_counts() {
        let text = shown(&app(), 60, 15);
        for part in ["20260101T000000Z-4711", "running", "CLEAN is the bottleneck", "37/64"] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        let text = shown(&app(), 59, 15);
        assert!(text.contains("needs 60 x 15 characters, found 59 x 15"), "{text}");
    }

    #[test]
    fn no_size_and_no_number_of_steps_is_too_much() {
        let mut app = app();
        let steps = app.view.as_ref().unwrap().steps.clone();
        for count in [0, 1, 3, 60] {
            let all = steps.iter().cycle().take(count).cloned().collect();
            app.view.as_mut().unwrap().steps = all;
            for (width, height) in [(1, 1), (60, 15), (61, 19), (80, 24), (100, 32), (300, 90)] {
                for pane in [Pane::Workers, Pane::Failures, Pane::Log] {
                    app.pane = pane;
                    app.step = count.saturating_sub(1);
                    shown(&app, width, height);
                }
            }
        }
    }

    #[test]
    fn the_chosen_step_is_always_seen() {
        let mut app = app();
        let view = app.view.as_mut().unwrap();
        let one = view.steps[0].clone();
        view.steps = (0..40)
            .map(|place| StepView { name: format!("S{place}").into(), ..one.clone() })
            .collect();
        app.step = 33;
        let text = shown(&app, 80, 24);
        assert!(text.contains("> S33"), "{text}");
    }

    #[test]
    fn questions_help_and_answers_are_seen() {
        let mut app = app();
        press(&mut app, 'd');
        assert!(shown(&app, 80, 24).contains("Take no more input and finish what was taken? y"));
        press(&mut app, 'n');
        press(&mut app, '?');
        assert!(shown(&app, 80, 24).contains("q           quit; the run continues"));
        press(&mut app, '?');
        app.answered(Err(CommandError::stopped("\"CLEAN\" can have one worker only")));
        assert!(shown(&app, 80, 24).contains("\"CLEAN\" can have one worker only"));
        app.may_steer = false;
        app.note = None;
        assert!(shown(&app, 80, 24).contains("Read-only."));
    }

    #[test]
    fn a_lost_run_and_one_that_has_ended_are_told_apart() {
        let mut app = app();
        app.lost = Some("the run is gone".into());
        assert!(
            shown(&app, 80, 24).contains("Not connected: the run is gone. These numbers are old.")
        );
        let mut view = crate::status::testing::view();
        (view.state, view.verdict, view.exit_code) =
            (State::Ended, Some("some_failed".into()), Some(1));
        app.show(view);
        let text = shown(&app, 80, 24);
        let sentence = "The run has ended: 1 input failed (exit code 1). CLEAN was the bottleneck:";
        assert!(text.contains(sentence) && text.contains("final numbers"), "{text}");
    }

    #[test]
    fn before_the_first_news_it_says_what_it_waits_for() {
        let mut app = App::default();
        assert!(shown(&app, 80, 24).contains("waiting for the run"));
        app.lost = Some("cannot reach it".into());
        assert!(shown(&app, 80, 24).contains("not connected to the run: cannot reach it"));
    }

    #[test]
    fn without_colors_there_are_none() {
        let colored = |theme| {
            let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
            terminal.draw(|frame| draw(frame, &app(), theme)).unwrap();
            let cells = terminal.backend().buffer().content();
            cells.iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
        };
        assert_eq!(colored(PLAIN), 0);
        assert!(colored(Theme { colors: true }) > 20);
    }
}
