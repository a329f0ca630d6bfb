//! Numbers and times as people read them.

use std::time::Duration;

/// A span of time as a clock shows it: `0:07`, `12:40`, `3:05:00`.
pub(crate) fn clock(seconds: f64) -> String {
    let all = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// A span of time in at most seven characters: `830 µs`, `12 ms`, `3.2 s`, `14 min`.
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

/// A measured time with three digits: `1.23 us`, `12.3 ms`, `123 s`.
pub(crate) fn duration(duration: Duration) -> String {
    match duration.as_secs_f64() {
        s if s >= 1.0 => three_digits(s, "s"),
        s if s >= 1e-3 => three_digits(s * 1e3, "ms"),
        s if s > 0.0 => three_digits(s * 1e6, "us"),
        _ => "-".into(),
    }
}

/// A value of at least 1 with three digits, and its unit.
pub(crate) fn three_digits(value: f64, unit: &str) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
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

/// A part of 1 in whole percent, rounded down: only what is complete is 100 %.
pub(crate) fn percent(part: f64) -> String {
    format!("{:.0} %", (part * 100.0).floor())
}

/// A word, quoted where a shell would not take it as it is.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
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
    fn durations_have_three_digits_and_a_unit() {
        let shown = |nanoseconds| duration(Duration::from_nanos(nanoseconds));
        assert_eq!(shown(1_234), "1.23 us");
        assert_eq!(shown(12_340_000), "12.3 ms");
        assert_eq!(shown(123_400_000_000), "123 s");
        assert_eq!(shown(0), "-");
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
    fn a_shell_takes_what_is_quoted_as_it_is() {
        assert_eq!(shell_word("quarantine/20250314T021530Z-47"), "quarantine/20250314T021530Z-47");
        assert_eq!(shell_word("--set=A.b=1"), "--set=A.b=1");
        assert_eq!(shell_word("my night's"), "'my night'\\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
