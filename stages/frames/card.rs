//! One card of a FITS header: its keyword, its value, its comment.

/// The length of a card.
pub(crate) const CARD: usize = 80;

/// Whether a header may have this character.
pub(crate) fn is_text(c: char) -> bool {
    matches!(c, ' '..='~')
}

/// The first eight characters without blanks at their end.
pub(crate) fn keyword(card: &str) -> &str {
    card.get(..8).unwrap_or(card).trim_end()
}

/// Returns what follows the value indicator, if the card has one.
pub(crate) fn after_indicator(card: &str) -> Option<&str> {
    card.get(8..)?.strip_prefix('=')
}

/// Splits what follows the `=` into value and comment.
pub(crate) fn split_value(rest: &str) -> (&str, &str) {
    let rest = rest.trim();
    let end = if rest.starts_with('\'') { string_end(rest) } else { None };
    let slash = match end {
        Some(end) => rest.get(end..).and_then(|tail| tail.find('/')).map(|at| at + end),
        None => rest.find('/'),
    };
    match slash {
        Some(at) => (
            rest.get(..at).unwrap_or_default().trim(),
            rest.get(at + 1..).unwrap_or_default().trim(),
        ),
        None => (rest, ""),
    }
}

/// The end of a quoted string, behind its closing quote. Two quotes are one character.
pub(crate) fn string_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == b'\'')?;
        if bytes.get(at + 1) != Some(&b'\'') {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Whether this is empty or a value in the standard's free format.
pub(crate) fn is_value(value: &str) -> bool {
    if value.starts_with('\'') {
        return string_end(value) == Some(value.len());
    }
    value.is_empty() || matches!(value, "T" | "F") || numeric(value).is_some_and(|n| n == value)
}

/// Rewrites a real, whole or complex number as the standard demands: capital exponents and no
/// blanks inside. Programs also write `1.5e+02`, `1.5d2` or `- 1.5 E+02`, which readers take
/// for numbers.
pub(crate) fn numeric(text: &str) -> Option<String> {
    let Some(pair) = text.strip_prefix('(').and_then(|pair| pair.strip_suffix(')')) else {
        return number(text);
    };
    let (real, imaginary) = pair.split_once(',')?;
    let (first, second) = (number(real.trim())?, number(imaginary.trim())?);
    if first == real.trim() && second == imaginary.trim() {
        return Some(text.to_owned());
    }
    Some(format!("({first}, {second})"))
}

fn number(text: &str) -> Option<String> {
    let mut parts = text.splitn(2, ['E', 'D', 'e', 'd']);
    let mantissa = closed_up(parts.next()?)?;
    let unsigned = mantissa.strip_prefix(['+', '-']).unwrap_or(&mantissa);
    let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if !digits(whole) || !digits(part) || whole.len() + part.len() == 0 {
        return None;
    }
    let Some(exponent) = parts.next() else { return Some(mantissa) };
    let exponent = closed_up(exponent)?;
    let power = exponent.strip_prefix(['+', '-']).unwrap_or(&exponent);
    if !digits(power) || power.is_empty() {
        return None;
    }
    let letter = if text.contains(['D', 'd']) { 'D' } else { 'E' };
    Some(format!("{mantissa}{letter}{exponent}"))
}

/// Removes the blanks around a part of a number and behind its sign; `None` if there are
/// blanks between digits.
fn closed_up(part: &str) -> Option<String> {
    let part = part.trim();
    let (sign, rest) = match part.chars().next() {
        Some(sign @ ('+' | '-')) => (sign.to_string(), part.get(1..)?.trim_start()),
        _ => (String::new(), part),
    };
    (!rest.contains(' ')).then(|| sign + rest)
}

fn digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses a number whose exponent has any of the usual letters.
pub(crate) fn to_f64(text: &str) -> Option<f64> {
    number(text)?.replace('D', "E").parse().ok()
}

/// Parses a whole number, which may be written as a real one.
pub(crate) fn to_i64(text: &str) -> Option<i64> {
    let text = number(text)?;
    text.parse().ok().or_else(|| {
        let value = to_f64(&text)?;
        // Beyond 2^53 a real number does not tell two whole numbers apart.
        (value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0).then_some(value as i64)
    })
}

/// Returns the text of a quoted value without trailing blanks.
pub(crate) fn to_text(value: &str) -> Option<String> {
    let text = value.strip_prefix('\'')?.strip_suffix('\'')?;
    Some(text.trim_end().replace("''", "'"))
}

/// Returns the value of a keyword as it is written; `None` if it is absent or has none.
pub(crate) fn value<'a>(cards: &'a [String], name: &str) -> Option<&'a str> {
    let card = cards.iter().find(|card| keyword(card) == name)?;
    let (value, _) = split_value(after_indicator(card)?);
    (!value.is_empty()).then_some(value)
}

/// Returns the string value of a keyword without trailing blanks.
pub(crate) fn text_value(cards: &[String], name: &str) -> Option<String> {
    value(cards, name).and_then(to_text).filter(|text| !text.is_empty())
}

/// Whether this value is a string that continues in a `CONTINUE` card.
pub(crate) fn is_unfinished(rest: &str) -> bool {
    let (value, _) = split_value(rest);
    value.starts_with('\'') && value.ends_with("&'")
}

/// Cuts a card to its length and removes trailing blanks.
pub(crate) fn cut(card: &str) -> String {
    card.get(..CARD).unwrap_or(card).trim_end().to_owned()
}

/// Makes a card with a value that is written as it is, such as a number. A long comment moves
/// to the left before it is cut.
pub(crate) fn plain_card(keyword: &str, value: impl std::fmt::Display, comment: &str) -> String {
    let value = value.to_string();
    if comment.is_empty() {
        return cut(&format!("{keyword:8}= {value:>20}"));
    }
    let wide = format!("{keyword:8}= {value:>20} / {comment}");
    if wide.len() <= CARD {
        return wide;
    }
    cut(&format!("{keyword:8}= {value} /{comment}"))
}

/// Makes a card with a string, cut to what fits. The comment is left out if there is no room
/// for it.
pub(crate) fn text_card(keyword: &str, text: &str, comment: &str) -> String {
    let mut cards = text_cards(keyword, text, comment);
    cards.truncate(1);
    let card = cards.pop().unwrap_or_default();
    match card.strip_suffix("&'") {
        Some(cut) if is_unfinished(after_indicator(&card).unwrap_or_default()) => format!("{cut}'"),
        _ => card,
    }
}

/// Makes the cards of a string of any length and its comment, with `CONTINUE` cards where one
/// has no room for both.
pub(crate) fn text_cards(keyword: &str, text: &str, comment: &str) -> Vec<String> {
    let ascii = |text: &str| text.chars().map(|c| if is_text(c) { c } else { '?' }).collect();
    let (text, comment): (String, String) = (ascii(text), ascii(comment));
    let quoted = text.replace('\'', "''");
    let card = format!("{keyword:8}= '{quoted:8}'");
    let with_comment = format!("{card:30} / {comment}");
    if comment.is_empty() && card.len() <= CARD {
        return vec![card];
    }
    for one in [with_comment, format!("{keyword:8}= '{quoted}' /{comment}")] {
        if one.len() <= CARD {
            return vec![one];
        }
    }
    let mut cards = Vec::new();
    let mut start = format!("{keyword:8}= '");
    for piece in pieces(&quoted) {
        cards.push(format!("{start}{piece}&'"));
        start = "CONTINUE  '".into();
    }
    match cards.last_mut() {
        Some(last) if comment.is_empty() => {
            // The last piece has room for the closing quote in the place of "&".
            let end = last.trim_end_matches("&'").len();
            last.truncate(end);
            last.push('\'');
        }
        _ if comment.len() <= 65 => cards.push(format!("CONTINUE  '' / {comment}")),
        _ => cards.push(cut(&format!("CONTINUE  ''/{comment}"))),
    }
    cards
}

/// Splits an escaped string into parts that fit into a card; never splits a doubled quote.
fn pieces(quoted: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = quoted.chars().peekable();
    while let Some(c) = rest.next() {
        let mut unit = c.to_string();
        if c == '\'' {
            unit.extend(rest.next());
        }
        if parts.last().is_some_and(|part| part.len() + unit.len() > 67) {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push_str(&unit);
        }
    }
    parts
}

/// Writes a number as FITS does, with all its digits.
pub(crate) fn real(value: f64) -> String {
    let text = format!("{value:?}").replace('e', "E");
    if text.contains('.') || !text.contains('E') { text } else { text.replacen('E', ".0E", 1) }
}

/// Makes as many cards of commentary as the text needs.
pub(crate) fn commentary_cards(keyword: &str, text: &str) -> Vec<String> {
    let ascii: Vec<char> = text.chars().map(|c| if is_text(c) { c } else { '?' }).collect();
    if ascii.is_empty() {
        return vec![keyword.to_owned()];
    }
    let part = |part: &[char]| format!("{keyword:8}{}", part.iter().collect::<String>());
    ascii.chunks(CARD - 8).map(|chars| part(chars).trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_standard() {
        for value in ["", "T", "1", "-1", "+1.", ".5", "1.5E-10", "1D3", "'it''s'", "(1, 2.5)"] {
            assert!(is_value(value), "{value}");
        }
        for value in ["true", "NaN", ".", "1e5", "1E", "'open", "0x1F", "1 2", "--1", "''x'"] {
            assert!(!is_value(value), "{value}");
        }
    }

    #[test]
    fn numbers_in_any_spelling_become_those_of_the_standard() {
        for (found, right) in [
            ("1.5000e+02", "1.5000E+02"),
            ("-2.5d-04", "-2.5D-04"),
            ("1.5 E +02", "1.5E+02"),
            ("- 7", "-7"),
            ("(1e5, -2.d3)", "(1E5, -2.D3)"),
            ("(1, 2.5)", "(1, 2.5)"),
            (".5E1", ".5E1"),
        ] {
            assert_eq!(numeric(found).as_deref(), Some(right), "{found}");
        }
        for text in ["1 2", "e5", "1e", "1.2.3", "1e5e5", "(1)", "nan", "1E2.5", "", "-"] {
            assert_eq!(numeric(text), None, "{text}");
        }
        assert_eq!(to_f64("1.5d2"), Some(150.0));
        assert_eq!((to_i64("512"), to_i64("5.12E2"), to_i64("1.5")), (Some(512), Some(512), None));
    }

    #[test]
    fn strings_come_back_without_their_quotes() {
        let cards = ["BUNIT   = 'it''s / ADU '       / unit".to_owned()];
        assert_eq!(text_value(&cards, "BUNIT").as_deref(), Some("it's / ADU"));
        assert_eq!(text_value(&cards, "OBJECT"), None);
    }

    #[test]
    fn long_strings_and_their_comments_go_on_in_further_cards() {
        let text = format!("{}it's", "x".repeat(66));
        let cards = text_cards("LONG", &text, "");
        assert_eq!(cards[0], format!("LONG    = '{}i&'", "x".repeat(66)));
        assert_eq!(cards[1], "CONTINUE  't''s'");
        let cards = text_cards("OBJECT", "42", &"c".repeat(65));
        assert_eq!(cards, ["OBJECT  = '42&'", &format!("CONTINUE  '' / {}", "c".repeat(65))]);
        assert_eq!(text_card("LONG", &text, ""), format!("LONG    = '{}i'", "x".repeat(66)));
    }

    #[test]
    fn numbers_have_a_point_and_a_capital_exponent() {
        assert_eq!(real(1.0), "1.0");
        assert_eq!(real(1e300), "1.0E300");
        assert_eq!(real(-2.5e-10), "-2.5E-10");
    }
}
