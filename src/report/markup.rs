//! Texts, numbers and times in the form of the page.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::base::escape;
use crate::base::format::three_digits;
use crate::base::path_name::name_of_path;

/// The characters that a path keeps in a URL.
const IN_URL: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Escapes text for use between tags and within quotes. Invisible characters and direction marks
/// are named instead.
pub(super) fn text(text: impl Display) -> String {
    let mut escaped = String::new();
    for c in escape::lines(&text.to_string()).chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c => escaped.push(c),
        }
    }
    escaped
}

/// A whole number with thin spaces between thousands.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text += "\u{202f}";
        }
        text.push(digit);
    }
    text
}

/// A number with what it counts, in the singular or the plural.
pub(super) fn of(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A span of time, with three digits where it is short.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        0.0 => "0 s".to_owned(),
        s if s < 1e-3 => three_digits(s * 1e6, "µs"),
        s if s < 1.0 => three_digits(s * 1e3, "ms"),
        s if s < 100.0 => three_digits(s, "s"),
        s if s < 3600.0 => format!("{} min {:02} s", s as u64 / 60, s as u64 % 60),
        s => format!("{} h {:02} min", s as u64 / 3600, s as u64 / 60 % 60),
    }
}

/// A time since the start of the run, as on a time axis.
pub(super) fn at(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        return format!("{seconds:.2} s");
    }
    let whole = seconds as u64;
    let (hours, minutes) = (whole / 3600, whole / 60 % 60);
    let rest = seconds - (whole / 60 * 60) as f64;
    if hours > 0 {
        format!("{hours}:{minutes:02}:{:02}", rest as u64)
    } else {
        format!("{minutes}:{rest:04.1}")
    }
}

pub(super) fn percent(part: f64) -> String {
    if part.is_finite() { format!("{:.0} %", 100.0 * part) } else { "–".to_owned() }
}

/// Messages a second.
pub(super) fn rate(rate: f64) -> String {
    let digits = if rate >= 100.0 {
        0
    } else if rate >= 10.0 {
        1
    } else {
        2
    };
    format!("{rate:.digits$}/s")
}

/// An instant in UTC, in whole seconds; any other text stays as it is.
pub(super) fn instant(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// A path as a link to its file.
pub(super) fn link(directory: &Path, path: &Path) -> String {
    let file = directory.join(path);
    let address = percent_encode(file.as_os_str().as_encoded_bytes(), IN_URL);
    format!("<a class=\"path\" href=\"file://{address}\">{}</a>", text(name_of_path(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(text("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
        assert_eq!(text("a\u{202e}b\u{0}c\u{1b}[1m\n"), "a\\u{202e}b\\u{0}c\\u{1b}[1m\n");
        assert_eq!(text("grün 星"), "grün 星");
    }

    #[test]
    fn numbers_are_to_be_read() {
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!((&*count(0), &*count(999)), ("0", "999"));
        assert_eq!(of(1, "input", "inputs"), "1 input");
        let seconds = |s| duration(Duration::from_secs_f64(s));
        let texts = [0.0, 12.3e-6, 0.0456, 7.0, 61.0, 125.0, 7380.0].map(seconds);
        assert_eq!(
            texts,
            ["0 s", "12.3 µs", "45.6 ms", "7.00 s", "61.0 s", "2 min 05 s", "2 h 03 min"]
        );
        let marks = [1.234, 75.5, 3725.0].map(|s| at(Duration::from_secs_f64(s)));
        assert_eq!(marks, ["1.23 s", "1:15.5", "1:02:05"]);
        assert_eq!((&*percent(0.126), &*percent(f64::NAN)), ("13 %", "–"));
    }

    #[test]
    fn a_path_leads_to_its_file() {
        let shown = link(Path::new("/data/night 7"), Path::new("out/<a>\u{e4}.png"));
        let expected = "<a class=\"path\" href=\"file:///data/night%207/out/%3Ca%3E%C3%A4.png\">\
            out/&lt;a&gt;ä.png</a>";
        assert_eq!(shown, expected);
    }
}
