//! Text from elsewhere, such as a file's name or a failure's words, as it may stand before
//! a person: nothing in it steers a terminal, begins a line of its own, turns the direction
//! of the words around it, or is unseen. What a program reads stays as it is.

use std::borrow::Cow;

/// Before each further line of a message.
const INDENT: &str = "    ";

/// The text in one line.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.is_control() || is_unseen(c))
}

/// [`line`] as a text of its own.
pub(crate) fn one_line(text: &str) -> String {
    line(text).into_owned()
}

/// The text with its lines and tabs.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| (c.is_control() && c != '\n' && c != '\t') || is_unseen(c))
}

/// The text with its lines, all but the first indented: none is taken for a message of its own.
pub(crate) fn message(text: &str) -> String {
    let mut plain = String::new();
    for (number, line) in lines(text).split_inclusive('\n').enumerate() {
        let is_indented = number == 0 || line.starts_with(' ');
        plain += if is_indented { "" } else { INDENT };
        plain += line;
    }
    plain
}

/// As [`message`], of a line of a log. It may have colors: whoever made it has escaped all
/// other sequences that begin with ESC.
pub(crate) fn log_line(text: &str) -> String {
    let is_escaped =
        |c: char| c != '\u{1b}' && (c.is_control() && !"\n\t".contains(c) || is_unseen(c));
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
            // `\n`, `\r`, `\t`, and all others as `\u{1b}`.
            c if is_escaped(c) => plain.extend(c.escape_default()),
            c => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// Marks of direction, and characters without a shape.
fn is_unseen(c: char) -> bool {
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
