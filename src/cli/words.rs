//! How the numbers of a run are written for people.

use crate::registry::Kind;
use crate::status::{Standing, State, StepView, View};

/// What a step does for the pace of the run.
pub(super) fn standing(standing: Standing) -> &'static str {
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
pub(super) fn state(view: &View) -> &'static str {
    match view.state {
        State::Ended => "ended",
        _ if view.paused => "paused",
        State::Starting => "starting",
        State::Running => "running",
        State::Draining => "draining",
    }
}

/// A span of time as a clock shows it: `0:07`, `12:40`, `3:05:00`.
pub(super) fn clock(seconds: f64) -> String {
    let all = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// A short span of time in its own unit: `830 µs`, `12 ms`, `3.2 s`, `14 min`.
pub(super) fn span(seconds: f64) -> String {
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
pub(super) fn rate(rate: f64) -> String {
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
pub(super) fn count(count: u64) -> String {
    match count {
        0..=9_999_999 => count.to_string(),
        10_000_000..=999_949_999 => format!("{:.1}M", count as f64 / 1e6),
        _ => format!("{:.1}G", count as f64 / 1e9),
    }
}

/// What waits at a step: `3/64`, or `3` where there is no limit.
pub(super) fn queue(step: &StepView) -> String {
    match step.queue_limit {
        _ if step.kind == Kind::Producer => "-".to_owned(),
        Some(limit) => format!("{}/{limit}", step.queued),
        None => step.queued.to_string(),
    }
}

/// How far the producers are: `120 of 400 emitted, 0:42 left`.
pub(super) fn progress(view: &View) -> String {
    let emitted = match view.expected {
        Some(expected) => format!("{} of {expected} emitted", view.emitted),
        None => format!("{} emitted", view.emitted),
    };
    match view.eta_s {
        Some(seconds) => format!("{emitted}, {} left", clock(seconds.ceil())),
        None => emitted,
    }
}

/// The one sentence that says what is going on.
pub(super) fn sentence(view: &View) -> String {
    let drains = if view.state == State::Draining { "It takes no more input. " } else { "" };
    match view.state {
        State::Ended => return ending(view),
        State::Starting => return "Its workers are being started.".to_owned(),
        _ if view.paused => return "The run is paused: nothing new is begun.".to_owned(),
        State::Running | State::Draining => {}
    }
    let held: Vec<&str> = view
        .steps
        .iter()
        .filter(|step| step.standing == Standing::HeldBack)
        .map(|step| &*step.name)
        .collect();
    let limits = view.steps.iter().find(|step| Some(&step.name) == view.bottleneck.as_ref());
    let paused = view.steps.iter().find(|step| step.paused);
    let pause = paused.map(|step| format!("{} is paused", step.name));
    let mut text = match (limits, pause) {
        (Some(step), pause) => {
            let pause = pause.map(|text| text + ". ").unwrap_or_default();
            let workers = match step.workers {
                1 => "its worker is".to_owned(),
                count => format!("its {count} workers are"),
            };
            let busy = step.utilisation * 100.0;
            format!(
                "{pause}{} is the bottleneck: {workers} busy {busy:.0} % of the time",
                step.name
            )
        }
        (None, Some(pause)) => pause,
        (None, None) => return format!("{drains}No step is a bottleneck."),
    };
    match held[..] {
        [] => {}
        [one] => text += &format!("; {one} is held back"),
        _ => text += &format!("; {} are held back", held.join(", ")),
    }
    format!("{drains}{text}.")
}

fn ending(view: &View) -> String {
    let failed: u64 = view.steps.iter().map(|step| step.counts.failed + step.counts.dropped).sum();
    let how = match view.verdict.as_deref() {
        Some("done") => "every input was processed".to_owned(),
        Some("some_failed") if failed == 1 => "1 input failed".to_owned(),
        Some("some_failed") => format!("{failed} inputs failed"),
        Some("interrupted") => "it was interrupted".to_owned(),
        Some("stopped") => match &view.reason {
            Some(reason) => format!("it was stopped: {reason}"),
            None => "it was stopped".to_owned(),
        },
        Some(other) => other.to_owned(),
        None => "it is over".to_owned(),
    };
    let code = view.exit_code.map(|code| format!(" (exit code {code})")).unwrap_or_default();
    let slowest = view.bottleneck.as_ref().map(|name| format!("; {name} was the bottleneck"));
    format!("The run has ended: {how}{code}{}.", slowest.unwrap_or_default())
}

/// What comes from elsewhere must not break a line or steer the terminal.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
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

    #[test]
    fn nothing_of_a_text_steers_the_terminal() {
        assert_eq!(one_line("a\u{1b}[31m\nb"), "a [31m b");
    }
}
