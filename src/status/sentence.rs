//! Sentences about the state of a run and about what limits its pace. Dashboard, terminal, reports
//! and log all take their sentences from here.

use std::sync::Arc;

use super::state::State;
use super::view::{Standing, StepView, View};
use crate::base::escape::one_line;
use crate::base::format::{clock, count};
use crate::event::WorkerState;
use crate::stage::registry::Kind;

/// The sentence that names the bottleneck; `busy` is 0 to 1, `over` sets it in the past.
pub(crate) fn bottleneck(name: &str, workers: usize, busy: f64, over: bool) -> String {
    let (is, was) = if over { ("was", "were") } else { ("is", "are") };
    let whose = match workers {
        0 | 1 => format!("its worker {is}"),
        count => format!("its {count} workers {was}"),
    };
    format!("{name} {is} the bottleneck: {whose} busy {:.0} % of the time", busy * 100.0)
}

impl Standing {
    /// The step's role for the pace, in a word or two.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Bottleneck => "bottleneck",
            Self::HeldBack => "held back",
            Self::Waiting => "waiting",
            Self::Working => "working",
            Self::Paused => "paused",
            Self::Finished => "finished",
        }
    }
}

impl StepView {
    /// What waits at the step: `3/64`, or `3` where there is no limit.
    pub(crate) fn queue_in_words(&self) -> String {
        match self.queue_limit {
            _ if self.kind == Kind::Producer => "-".to_owned(),
            Some(limit) => format!("{}/{limit}", self.queued),
            None => self.queued.to_string(),
        }
    }

    /// What waits for room in the next queues.
    pub(crate) fn held_in_words(&self) -> String {
        if self.held == 0 { "-".to_owned() } else { count(self.held) }
    }
}

/// Which pipeline it is, and where it was started: `night in /data/night7`.
pub(crate) fn pipeline_in_words(name: &str, directory: &str) -> String {
    match (name, directory) {
        ("", directory) => one_line(directory),
        (name, "") => one_line(name),
        (name, directory) => one_line(&format!("{name} in {directory}")),
    }
}

impl View {
    /// How far the run is, in a word.
    pub(crate) fn state_in_words(&self) -> &'static str {
        match self.state {
            State::Ended => "ended",
            _ if self.paused => "paused",
            State::Starting => "starting",
            State::Running => "running",
            State::Draining => "draining",
        }
    }

    /// How far the run is: `120 of 400 finished, 0:42 left`.
    pub(crate) fn progress_in_words(&self) -> String {
        let Self { finished, emitted, skipped, .. } = self;
        let mut text = match self.expected {
            Some(expected) => format!("{finished} of {expected} finished"),
            None => format!("{finished} finished, {emitted} emitted"),
        };
        if *skipped > 0 {
            text += &format!(", {skipped} skipped");
        }
        if let Some(seconds) = self.eta_s {
            text += &format!(", {} left", clock(seconds.ceil()));
        }
        text
    }

    /// The finished part of the expected messages, 0 to 1.
    pub(crate) fn part_done(&self) -> Option<f64> {
        let expected = self.expected.filter(|expected| *expected > 0)?;
        Some((self.finished as f64 / expected as f64).min(1.0))
    }

    /// The failures so far, if there are any: `, 2 failures`.
    pub(crate) fn failures_in_words(&self) -> String {
        match self.failure_count {
            0 => String::new(),
            1 => ", 1 failure".to_owned(),
            count => format!(", {count} failures"),
        }
    }

    /// Which pipeline it is, and where it was started: `night in /data/night7`.
    pub(crate) fn pipeline_in_words(&self) -> String {
        pipeline_in_words(&self.pipeline, &self.directory.display().to_string())
    }

    /// The state of the run and what limits its pace, in one text.
    pub(crate) fn sentence(&self) -> String {
        let [first, more] = self.in_words();
        format!("{first} {more}").trim_end().to_owned()
    }

    /// The most important sentence, and one with details.
    pub(crate) fn in_words(&self) -> [String; 2] {
        match self.state {
            State::Ended => self.ending(),
            State::Starting => [self.starting(), String::new()],
            _ if self.paused => [
                "The run is paused: workers begin nothing new.".to_owned(),
                "They finish what they have in hand.".to_owned(),
            ],
            State::Running | State::Draining => self.going_on(),
        }
    }

    /// The sentence that says which step limits the pace, if one does.
    pub(crate) fn limit_in_words(&self, over: bool) -> Option<String> {
        let step = self.slowest()?;
        Some(bottleneck(&step.name, step.workers, step.utilisation, over) + ".")
    }

    fn slowest(&self) -> Option<&StepView> {
        self.steps.iter().find(|step| Some(&step.name) == self.bottleneck.as_ref())
    }

    fn starting(&self) -> String {
        let workers = self.steps.iter().flat_map(|step| &step.each_worker);
        let ready = workers.clone().filter(|w| w.state != WorkerState::Starting).count();
        match workers.count() {
            0 => "The workers are starting.".to_owned(),
            all => format!("The workers are starting: {ready} of {all} are ready."),
        }
    }

    fn going_on(&self) -> [String; 2] {
        let mut first = Vec::new();
        let mut more = Vec::new();
        if self.state == State::Draining {
            first.push("The run takes no more input.".to_owned());
        }
        let paused: Vec<_> = self.steps.iter().filter(|step| step.paused).collect();
        if !paused.is_empty() {
            let are = if paused.len() == 1 { "is" } else { "are" };
            first.push(format!("{} {are} paused.", listed(paused.iter().map(|s| &*s.name))));
        }
        match self.limit_in_words(false) {
            Some(limit) => first.push(limit),
            None if paused.is_empty() => {
                first.push("No step is a bottleneck: none is busy half of the time.".to_owned());
            }
            None => {}
        }
        for (full, held) in self.holding() {
            let whose = if Some(&full) == self.bottleneck.as_ref() {
                "Its full queue".to_owned()
            } else {
                format!("The full queue of {full}")
            };
            more.push(format!("{whose} holds back {}.", listed(held.iter().map(|n| &**n))));
        }
        [first.join(" "), more.join(" ")]
    }

    /// The full queues, each with the steps that it holds back, directly or through other steps
    /// that are held back. The bottleneck's queue comes first.
    fn holding(&self) -> Vec<(Arc<str>, Vec<Arc<str>>)> {
        let held = |step: &&StepView| step.standing == Standing::HeldBack;
        let mut holding: Vec<(Arc<str>, Vec<Arc<str>>)> = Vec::new();
        for step in self.steps.iter().filter(held) {
            let mut full = step.held_by.first();
            // Follows the chain to its end; a loop cannot make it longer than the plan.
            for _ in 0..self.steps.len() {
                let next = self.steps.iter().filter(held).find(|s| Some(&s.name) == full);
                match next.and_then(|next| next.held_by.first()) {
                    Some(next) => full = Some(next),
                    None => break,
                }
            }
            let Some(full) = full else { continue };
            match holding.iter_mut().find(|(name, _)| name == full) {
                Some((_, held)) => held.push(Arc::clone(&step.name)),
                None => holding.push((Arc::clone(full), vec![Arc::clone(&step.name)])),
            }
        }
        holding.sort_by_key(|(name, _)| Some(name) != self.bottleneck.as_ref());
        holding
    }

    fn ending(&self) -> [String; 2] {
        let failed: u64 = self.steps.iter().map(|s| s.counts.failed + s.counts.dropped).sum();
        let dropped: u64 = self.steps.iter().map(|s| s.counts.dropped).sum();
        let inputs =
            |count| if count == 1 { "1 input".to_owned() } else { format!("{count} inputs") };
        let mut more = Vec::new();
        let how = match self.verdict.as_deref() {
            Some("done") => "every input was processed".to_owned(),
            Some("some_failed") if failed == 0 => "a finish failed".to_owned(),
            Some("some_failed") => format!("{} failed", inputs(failed)),
            Some("interrupted") => {
                more.push(match dropped {
                    0 => "What it had taken was processed.".to_owned(),
                    1 => "1 message was dropped.".to_owned(),
                    count => format!("{count} messages were dropped."),
                });
                "it was interrupted".to_owned()
            }
            Some("stopped") => match &self.reason {
                Some(reason) => format!("it was stopped: {reason}"),
                None => "it was stopped".to_owned(),
            },
            Some("lost") => "its program is gone".to_owned(),
            Some(other) => other.to_owned(),
            None => "it is over".to_owned(),
        };
        let code = self.exit_code.map(|code| format!(" (exit code {code})")).unwrap_or_default();
        more.extend(self.limit_in_words(true));
        [format!("The run has ended: {how}{code}."), more.join(" ")]
    }
}

/// `a`, `a and b`, `a, b and c`.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match &names[..] {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
