//! Progress: on a terminal a bar for the run and a line for each step, elsewhere a line every few
//! seconds.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::base::escape::one_line;
use crate::base::format;
use crate::plan::Plan;
use crate::status::{State, StepView, View};

/// The time between lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The width of a bar in characters.
const WIDTH: usize = 10;

pub(crate) enum Progress {
    Silent,
    Bars {
        run: ProgressBar,
        /// In the order of the plan.
        steps: Vec<ProgressBar>,
    },
    Lines {
        next: Duration,
    },
}

impl Progress {
    /// Bars on a terminal, lines elsewhere, nothing if `quiet`.
    pub(crate) fn new(plan: &Plan, multi: &MultiProgress, quiet: bool) -> Self {
        if quiet {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { next: LINE_EVERY };
        }
        let width =
            plan.steps.iter().map(|step| one_line(&step.name).chars().count()).max().unwrap_or(0);
        let add = |template, prefix: String| {
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = multi.add(ProgressBar::new_spinner().with_style(style));
            bar.set_prefix(prefix);
            bar
        };
        let run = add("{wide_msg}", String::new());
        let step = |name: &str| add("{prefix} {spinner} {wide_msg}", format!("{name:width$}"));
        Self::Bars {
            run,
            steps: plan.steps.iter().map(|plan| step(&one_line(&plan.name))).collect(),
        }
    }

    /// Shows the progress of the run, `elapsed` after its start, if an update is due.
    pub(crate) fn show(&mut self, elapsed: Duration, view: impl FnOnce() -> View) {
        match self {
            Self::Silent => {}
            Self::Bars { run, steps } => {
                let view = view();
                run.set_message(run_text(&view));
                for (bar, step) in steps.iter().zip(&view.steps) {
                    bar.set_message(step_text(step));
                    bar.tick();
                }
            }
            Self::Lines { next } => {
                if elapsed >= *next {
                    *next = elapsed + LINE_EVERY;
                    super::log::progress(&line(elapsed, &view()));
                }
            }
        }
    }

    /// Removes the bars; the ledger follows.
    pub(crate) fn finish(self) {
        if let Self::Bars { run, steps } = self {
            run.finish_and_clear();
            steps.iter().for_each(ProgressBar::finish_and_clear);
        }
    }
}

fn bar(part: f64) -> String {
    let filled = (part * WIDTH as f64).ceil() as usize;
    (0..WIDTH).map(|i| if i < filled { '#' } else { '.' }).collect()
}

/// The progress of the run, with the failures so far.
fn so_far(view: &View) -> String {
    if view.state == State::Starting {
        return view.sentence();
    }
    let paused = if view.paused { "paused, " } else { "" };
    let part = view.part_done().map(|part| format::percent(part) + ", ").unwrap_or_default();
    format!("{paused}{part}{}{}", view.progress_in_words(), view.failures_in_words())
}

fn run_text(view: &View) -> String {
    match view.part_done() {
        // Rounded down: only a finished run has a full bar.
        Some(part) => format!("[{}] {}", bar((part * 10.0).floor() / 10.0), so_far(view)),
        None => so_far(view),
    }
}

fn step_text(step: &StepView) -> String {
    let mut text = format!(
        "done {:>7}  {:>6}  queue {:<8}  busy {}/{}",
        format::count(step.progressed),
        format::rate(step.rate),
        step.queue_in_words(),
        step.busy,
        step.workers,
    );
    let failed = step.counts.failed + step.counts.dropped;
    if failed > 0 {
        text += &format!("  failed {failed}");
    }
    if step.held > 0 {
        text += &format!("  held {}", step.held);
    }
    text
}

fn line(elapsed: Duration, view: &View) -> String {
    let seconds = elapsed.as_secs_f64();
    if view.state == State::Starting {
        return format!("{seconds:.0} s: {}", so_far(view).trim_end_matches('.'));
    }
    let steps = view.steps.iter().map(|step| {
        let rate = format::rate(step.rate);
        let mut text = format!("{} done {} ({rate})", step.name, step.progressed);
        if step.queue_limit.is_some() || step.queued > 0 {
            text += &format!(" queue {}", step.queued);
        }
        if step.held > 0 {
            text += &format!(" held {}", step.held);
        }
        text
    });
    let steps = steps.collect::<Vec<_>>().join(", ");
    let limit = view.limit_in_words(false).map(|limit| limit + " ").unwrap_or_default();
    format!("{seconds:.0} s: {}. {limit}{steps}", so_far(view))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::testing::view;

    #[test]
    fn a_line_says_how_far_the_run_is_and_what_limits_it() {
        let text = line(Duration::from_secs(62), &view());
        let expected = "62 s: 32 %, 329 of 1000 finished, 1:34 left, 2 failures. CLEAN is the \
            bottleneck: its 2 workers are busy 97 % of the time. NUMBERS done 400 (5.3/s), CLEAN \
            done 331 (5.3/s) queue 37 held 9, SAVE done 320 (5.3/s) queue 0";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_bar_is_what_is_done_with_not_what_was_emitted() {
        let text = run_text(&view());
        assert_eq!(text, "[###.......] 32 %, 329 of 1000 finished, 1:34 left, 2 failures");
        let unknown = View { expected: None, eta_s: None, failure_count: 1, ..view() };
        assert_eq!(run_text(&unknown), "329 finished, 400 emitted, 1 failure");
        let resumed = View { skipped: 7, ..view() };
        assert!(run_text(&resumed).contains("329 of 1000 finished, 7 skipped, 1:34 left"));
    }

    #[test]
    fn a_run_whose_workers_are_being_started_says_so() {
        let mut view = View { state: State::Starting, ..view() };
        view.steps[1].each_worker[0].state = crate::event::WorkerState::Starting;
        let text = line(Duration::from_secs(5), &view);
        assert_eq!(text, "5 s: The workers are starting: 3 of 4 are ready");
    }

    #[test]
    fn a_line_of_a_step_shows_the_queue_against_its_limit() {
        let text = step_text(&view().steps[1]);
        assert!(text.contains("queue 37/64"), "{text}");
        assert!(text.contains("busy 1/2  failed 1  held 9"), "{text}");
    }

    #[test]
    fn a_line_of_a_step_that_fails_and_is_held_back_fits_the_usual_terminal() {
        let mut step = view().steps[1].clone();
        (step.progressed, step.rate, step.queued) = (1_234_567, 9999.0, 100);
        (step.counts.failed, step.counts.dropped, step.held) = (100, 0, 20);
        let before = "EQUALIZE * ".len();
        assert!(before + step_text(&step).chars().count() < 80, "{}", step_text(&step));
    }
}
