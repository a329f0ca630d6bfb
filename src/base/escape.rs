//! Makes text from elsewhere, such as a file's name or the words of a failure, safe to show to
//! people: nothing in it controls a terminal, begins a line of its own, changes the direction of
//! the text around it, or is invisible. Output for programs is never escaped.

use std::borrow::Cow;

/// The indentation of the second and further lines of a message.
const INDENT: &str = "    ";

/// Escapes the text, line ends included.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.is_control() || is_invisible(c))
}

/// Like [`line`], as an owned text.
pub(crate) fn one_line(text: &str) -> String {
    line(text).into_owned()
}

/// Escapes the text, but for its line ends and tabs.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| (c.is_control() && c != '\n' && c != '\t') || is_invisible(c))
}

/// Escapes the text and indents all lines but the first, so that none passes for a message of
/// its own.
pub(crate) fn message(text: &str) -> String {
    let mut plain = String::new();
    for (number, line) in lines(text).split_inclusive('\n').enumerate() {
        let is_indented = number == 0 || line.starts_with(' ');
        plain += if is_indented { "" } else { INDENT };
        plain += line;
    }
    plain
}

/// Like [`message`], for a line of the log, which may have colors: the logger has escaped all
/// other sequences that begin with ESC.
pub(crate) fn log_line(text: &str) -> String {
    let is_escaped =
        |c: char| c != '\u{1b}' && (c.is_control() && !"\n\t".contains(c) || is_invisible(c));
    let text = escaped(text, is_escaped);
    let (body, end) = text.strip_suffix('\n').map_or((&*text, ""), |body| (body, "\n"));
    body.replace('\n', &format!("\n{INDENT}")) + end
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            // Gives `\n`, `\r` and `\t`, and `\u{1b}` and the like for all others.
            c if is_escaped(c) => plain.extend(c.escape_default()),
            c => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// Returns whether the character is a direction mark or has no shape.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_steers_a_terminal_or_turns_a_line() {
        assert_eq!(line("a\u{1b}[31m\nb\r\t\u{9b}"), r"a\u{1b}[31m\nb\r\t\u{9b}");
        assert_eq!(line("a\u{202e}b\u{200f}c\u{2066}d"), r"a\u{202e}b\u{200f}c\u{2066}d");
        assert_eq!(lines("a\u{1b}[31m\n\tb\r\n"), "a\\u{1b}[31m\n\tb\\r\n");
    }

    #[test]
    fn no_line_of_a_message_is_taken_for_another_message() {
        assert_eq!(message("a\nERROR b\r\n  c\n"), "a\n    ERROR b\\r\n  c\n");
        let colored = log_line("\u{1b}[31mred\u{1b}[0m\nb\u{9b}\u{202e}\n");
        assert_eq!(colored, "\u{1b}[31mred\u{1b}[0m\n    b\\u{9b}\\u{202e}\n");
    }

    #[test]
    fn letters_of_all_scripts_stay() {
        let text = "grün 星 שלום 10\u{202f}µs";
        assert!(matches!(line(text), Cow::Borrowed(same) if same == text));
    }
}
