//! How the numbers of a run are written for people.

use crate::base::escape;
use crate::stage::registry::Kind;
use crate::status::{Standing, State, StepView, View};

/// What a step does for the pace of the run.
pub(crate) fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Starting => "starting",
        Standing::Bottleneck => "bottleneck",
        Standing::HeldBack => "held back",
        Standing::Waiting => "waiting",
        Standing::Working => "working",
        Standing::Paused => "paused",
        Standing::Finished => "finished",
    }
}

/// How far the run is.
pub(crate) fn state(view: &View) -> &'static str {
    match view.state {
        State::Ended => "ended",
        _ if view.paused => "paused",
        State::Starting => "starting",
        State::Running => "running",
        State::Draining => "draining",
    }
}

/// A span of time as a clock shows it: `0:07`, `12:40`, `3:05:00`.
pub(crate) fn clock(seconds: f64) -> String {
    let all = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// A short span of time in its own unit: `830 µs`, `12 ms`, `3.2 s`, `14 min`.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        s if s <= 0.0 => "-".to_owned(),
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 0.01 => format!("{:.1} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}

/// Messages a second: `0.04/s`, `8.1/s`, `320/s`, `12k/s`.
pub(crate) fn rate(rate: f64) -> String {
    match rate {
        r if r <= 0.0 => "-".to_owned(),
        r if r < 0.995 => format!("{r:.2}/s"),
        r if r < 9.95 => format!("{r:.1}/s"),
        r if r < 9999.5 => format!("{r:.0}/s"),
        r if r < 999_500.0 => format!("{:.0}k/s", r / 1e3),
        r => format!("{:.1}M/s", r / 1e6),
    }
}

/// A number of messages in at most seven characters.
pub(crate) fn count(count: u64) -> String {
    match count {
        0..=9_999_999 => count.to_string(),
        10_000_000..=999_949_999 => format!("{:.1}M", count as f64 / 1e6),
        _ => format!("{:.1}G", count as f64 / 1e9),
    }
}

/// What waits at a step: `3/64`, or `3` where there is no limit.
pub(crate) fn queue(step: &StepView) -> String {
    match step.queue_limit {
        _ if step.kind == Kind::Producer => "-".to_owned(),
        Some(limit) => format!("{}/{limit}", step.queued),
        None => step.queued.to_string(),
    }
}

/// What waits for room in the next queues.
pub(crate) fn held(step: &StepView) -> String {
    if step.held == 0 { "-".to_owned() } else { count(step.held) }
}

/// How far the run is: `120 of 400 finished, 0:42 left`.
pub(crate) fn progress(view: &View) -> String {
    let View { finished, emitted, skipped, .. } = view;
    let mut text = match view.expected {
        Some(expected) => format!("{finished} of {expected} finished"),
        None => format!("{finished} finished, {emitted} emitted"),
    };
    if *skipped > 0 {
        text += &format!(", {skipped} skipped");
    }
    if let Some(seconds) = view.eta_s {
        text += &format!(", {} left", clock(seconds.ceil()));
    }
    text
}

/// The part of what is expected that is done with, 0 to 1.
pub(crate) fn part(view: &View) -> Option<f64> {
    let expected = view.expected.filter(|expected| *expected > 0)?;
    Some((view.finished as f64 / expected as f64).min(1.0))
}

/// A part in whole percent; all is only what is all.
pub(crate) fn percent(part: f64) -> String {
    format!("{:.0} %", (part * 100.0).floor())
}

/// The failures so far, if there are any: `, 2 failures`.
pub(crate) fn failures(view: &View) -> String {
    match view.failure_count {
        0 => String::new(),
        1 => ", 1 failure".to_owned(),
        count => format!(", {count} failures"),
    }
}

/// What goes on and what limits the pace.
pub(crate) fn sentence(view: &View) -> String {
    let [first, more] = view.in_words();
    format!("{first} {more}").trim_end().to_owned()
}

/// Which pipeline it is, and where it was started: `night in /data/night7`.
pub(crate) fn whose(view: &View) -> String {
    pipeline(&view.pipeline, &view.directory.display().to_string())
}

/// The same of a line in the list of runs.
pub(crate) fn pipeline(name: &str, directory: &str) -> String {
    match (name, directory) {
        ("", directory) => one_line(directory),
        (name, "") => one_line(name),
        (name, directory) => one_line(&format!("{name} in {directory}")),
    }
}

/// What comes from elsewhere must not break a line or steer the terminal.
pub(crate) fn one_line(text: &str) -> String {
    escape::line(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!([0.0, 59.9, 61.0, 3600.0].map(clock), ["0:00", "0:59", "1:01", "1:00:00"]);
        let spans = [0.0, 83e-6, 0.0041, 0.25, 3.21, 75.0, 840.0, 7300.0].map(span);
        assert_eq!(spans, ["-", "83 µs", "4.1 ms", "250 ms", "3.2 s", "75 s", "14 min", "2 h"]);
    }

    #[test]
    fn rates_and_counts_are_short() {
        let rates = [0.0, 0.04, 0.999, 8.14, 320.4, 9999.0, 12_300.0, 4.5e6].map(rate);
        let words = ["-", "0.04/s", "1.0/s", "8.1/s", "320/s", "9999/s", "12k/s", "4.5M/s"];
        assert_eq!(rates, words);
        let counts = [7, 9_999_999, 12_345_678, u64::MAX / 1_000_000_000].map(count);
        assert_eq!(counts, ["7", "9999999", "12.3M", "18.4G"]);
    }
}
