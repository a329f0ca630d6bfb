//! The state of `drpipe top` and the effects of keys, independent of any terminal.

use std::sync::Arc;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use crate::cli::output::CommandError;
use crate::status::{FailureLine, RateHistory, State, StepView, View};

/// What the screen shows and what is selected.
#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) view: Option<View>,
    /// What the steps had done over time.
    pub(super) rates: RateHistory,
    /// Whether the monitor lets this program steer.
    pub(super) may_steer: bool,
    /// Why the connection is lost, while it is.
    pub(super) lost: Option<String>,
    /// The index of the selected step.
    pub(super) step: usize,
    pub(super) pane: Pane,
    /// The number of the selected failure; none means the newest.
    failure: Option<u64>,
    /// How many lines of the log are below the visible ones.
    pub(super) back: usize,
    /// The question that waits for confirmation.
    pub(super) asks: Option<Ask>,
    pub(super) help: bool,
    pub(super) note: Option<Note>,
    /// The number of workers that was last requested, until the step has it.
    wanted: Option<(Arc<str>, usize)>,
}

/// The pane in which the arrow keys move.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    #[default]
    Workers,
    Failures,
    Log,
}

/// A question before an action that cannot be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Drain,
    Stop,
}

/// The effect of a key, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) text: String,
    pub(super) is_error: bool,
}

/// What a key makes the program do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wish {
    Quit,
    /// Make the run carry out an action; `said` is the sentence once it has.
    Control {
        action: &'static str,
        body: Value,
        said: String,
    },
}

impl App {
    /// Shows a new view of the run.
    pub(super) fn show(&mut self, view: View) {
        self.rates.add(&view);
        self.step = self.step.min(view.steps.len().saturating_sub(1));
        if let Some((name, workers)) = &self.wanted
            && view.steps.iter().any(|step| step.name == *name && step.workers == *workers)
        {
            self.wanted = None;
        }
        self.lost = None;
        self.view = Some(view);
    }

    /// Shows the result of an action.
    pub(super) fn answered(&mut self, result: Result<String, CommandError>) {
        let is_error = result.is_err();
        if is_error {
            self.wanted = None;
        }
        let text = result.unwrap_or_else(|error| error.message);
        self.note = Some(Note { text, is_error });
    }

    pub(super) fn chosen_step(&self) -> Option<&StepView> {
        self.view.as_ref()?.steps.get(self.step)
    }

    /// The failures, newest first.
    pub(super) fn failures(&self) -> impl Iterator<Item = &FailureLine> {
        self.view.iter().flat_map(|view| view.failures.iter().rev())
    }

    /// The index of the selected failure in that order.
    pub(super) fn chosen_failure(&self) -> usize {
        let chosen = |line: &FailureLine| Some(line.number) == self.failure;
        self.failures().position(chosen).unwrap_or_default()
    }

    /// Handles a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Wish> {
        self.note = None;
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Wish::Quit);
        }
        if let Some(ask) = self.asks.take() {
            let yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
            return if yes { self.end(ask) } else { None };
        }
        if std::mem::take(&mut self.help) && key.code != KeyCode::Char('q') {
            return None;
        }
        match key.code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Tab => self.pane = self.pane.next(),
            KeyCode::BackTab => self.pane = self.pane.next().next(),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::PageUp => self.go(-10),
            KeyCode::PageDown => self.go(10),
            KeyCode::Char(command) => return self.command(command),
            _ => {}
        }
        None
    }

    fn go(&mut self, by: isize) {
        let moved = |place: usize, count: usize| {
            place.saturating_add_signed(by).min(count.saturating_sub(1))
        };
        let Some(view) = &self.view else { return };
        match self.pane {
            Pane::Workers => self.step = moved(self.step, view.steps.len()),
            Pane::Failures => {
                let place = moved(self.chosen_failure(), view.failures.len());
                let chosen = self.failures().nth(place).map(|line| line.number);
                self.failure = chosen;
            }
            Pane::Log => {
                self.back = self.back.saturating_add_signed(-by).min(view.lines.len());
            }
        }
    }

    /// Handles a key that steers.
    fn command(&mut self, command: char) -> Option<Wish> {
        if !matches!(command, 'p' | 'P' | '+' | '=' | '-' | 'r' | 'd' | 'S') {
            return None;
        }
        let view = self.view.as_ref()?;
        let refusal = if view.state == State::Ended {
            "the run is over"
        } else if !self.may_steer {
            "this monitor is read-only; give the run's token (--token) to steer"
        } else {
            return match command {
                'p' => self.pause_step(),
                'P' => Some(self.pause_run()),
                '+' | '=' => self.set_workers(1),
                '-' => self.set_workers(-1),
                'r' => self.retry(),
                'd' => self.ask(Ask::Drain),
                _ => self.ask(Ask::Stop),
            };
        };
        self.refuse(refusal)
    }

    fn refuse(&mut self, why: &str) -> Option<Wish> {
        self.note = Some(Note { text: why.to_owned(), is_error: true });
        None
    }

    fn ask(&mut self, ask: Ask) -> Option<Wish> {
        self.asks = Some(ask);
        None
    }

    fn end(&mut self, ask: Ask) -> Option<Wish> {
        let (action, said) = match ask {
            Ask::Drain => ("drain", "the run takes no more input"),
            Ask::Stop => ("stop", "the run is ending now"),
        };
        Some(Wish::Control { action, body: json!({}), said: said.to_owned() })
    }

    fn pause_step(&self) -> Option<Wish> {
        let step = self.chosen_step()?;
        let (action, what) =
            if step.paused { ("resume", "continues") } else { ("pause", "is paused") };
        let body = json!({ "step": &*step.name });
        Some(Wish::Control { action, body, said: format!("{} {what}", step.name) })
    }

    fn pause_run(&self) -> Wish {
        let paused = self.view.as_ref().is_some_and(|view| view.paused);
        let (action, what) =
            if paused { ("resume", "the run continues") } else { ("pause", "the run is paused") };
        Wish::Control { action, body: json!({}), said: what.to_owned() }
    }

    /// Requests one worker more or fewer than there are, or than were last requested.
    fn set_workers(&mut self, by: isize) -> Option<Wish> {
        let step = self.chosen_step()?;
        let name = Arc::clone(&step.name);
        let now = match &self.wanted {
            Some((wanted, workers)) if *wanted == name => *workers,
            _ => step.workers,
        };
        let workers = now.saturating_add_signed(by);
        if workers == 0 {
            return self.refuse(&format!("{name} needs at least one worker; p pauses it"));
        }
        let body = json!({ "step": &*name, "workers": workers });
        let said = format!("{name} is set to {workers} workers");
        self.wanted = Some((name, workers));
        Some(Wish::Control { action: "workers", body, said })
    }

    fn retry(&mut self) -> Option<Wish> {
        let chosen = self.failures().nth(self.chosen_failure()).cloned();
        let Some(failure) = chosen else {
            return self.refuse("nothing has failed");
        };
        let (Some(entry), false) = (failure.entry, failure.requeued) else {
            return self.refuse(match failure.requeued {
                true => "this one is being retried already; Tab leads to the failures",
                false => "this input was not kept, so it cannot be tried again",
            });
        };
        let said = format!("{entry} is tried again");
        Some(Wish::Control { action: "retry", body: json!({ "entry": entry }), said })
    }
}

impl Pane {
    fn next(self) -> Self {
        match self {
            Self::Workers => Self::Failures,
            Self::Failures => Self::Log,
            Self::Log => Self::Workers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::testing::{app, press};
    use crate::status::testing::view;

    fn steer(action: &'static str, body: Value) -> impl Fn(Option<Wish>) -> bool {
        move |wish| matches!(wish, Some(Wish::Control { action: a, body: b, .. }) if a == action && b == body)
    }

    #[test]
    fn keys_become_what_the_monitor_is_asked_for() {
        let mut app = app();
        assert!(steer("pause", json!({"step": "NUMBERS"}))(press(&mut app, 'p')));
        app.press(KeyCode::Down.into());
        assert!(steer("pause", json!({"step": "CLEAN"}))(press(&mut app, 'p')));
        press(&mut app, 'j');
        assert!(steer("resume", json!({"step": "SAVE"}))(press(&mut app, 'p')), "it is paused");
        press(&mut app, 'j');
        assert_eq!(app.step, 2, "the last step is the last");
        assert!(steer("pause", json!({}))(press(&mut app, 'P')));
        app.view.as_mut().unwrap().paused = true;
        assert!(steer("resume", json!({}))(press(&mut app, 'P')));
        assert_eq!(press(&mut app, 'q'), Some(Wish::Quit));
    }

    #[test]
    fn workers_are_counted_from_what_was_asked_for_last() {
        let mut app = app();
        press(&mut app, 'j');
        for workers in [3, 4, 5] {
            let wanted = json!({"step": "CLEAN", "workers": workers});
            assert!(steer("workers", wanted)(press(&mut app, '+')));
        }
        app.answered(Err(CommandError::stopped("no")));
        assert!(steer("workers", json!({"step": "CLEAN", "workers": 1}))(press(&mut app, '-')));
        assert_eq!(press(&mut app, '-'), None, "one stays");
        assert!(app.note.as_ref().unwrap().text.contains("p pauses it"));
    }

    #[test]
    fn what_cannot_be_taken_back_is_asked_about() {
        for (key, action) in [('d', "drain"), ('S', "stop")] {
            let mut app = app();
            assert_eq!(press(&mut app, key), None);
            assert_eq!(press(&mut app, 'n'), None);
            assert_eq!(press(&mut app, 'y'), None, "the question is over");
            press(&mut app, key);
            assert!(steer(action, json!({}))(press(&mut app, 'y')));
        }
    }

    #[test]
    fn the_chosen_failure_is_tried_again() {
        let mut app = app();
        assert!(steer("retry", json!({"entry": "000002-CLEAN"}))(press(&mut app, 'r')));
        app.press(KeyCode::Tab.into());
        press(&mut app, 'j');
        assert_eq!(press(&mut app, 'r'), None, "the older one is tried again already");
        // A new failure does not move the selection.
        let mut newer = view();
        let mut line = newer.failures[1].clone();
        line.number = 99;
        newer.failures.push_back(line);
        app.show(newer);
        assert_eq!(app.chosen_failure(), 2);
    }

    #[test]
    fn who_may_only_look_and_who_is_late_is_told() {
        let mut app = app();
        app.may_steer = false;
        for key in ['p', 'P', '+', '-', 'r', 'd', 'S'] {
            assert_eq!(press(&mut app, key), None);
            assert!(app.note.take().unwrap().text.contains("--token"));
        }
        app.may_steer = true;
        app.view.as_mut().unwrap().state = State::Ended;
        assert_eq!(press(&mut app, 'P'), None);
        assert_eq!(app.note.unwrap().text, "the run is over");
    }
}
