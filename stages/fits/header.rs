//! Cards of a FITS header: which to copy, and how to write new ones.

use std::collections::HashSet;

use super::reserved::{Kind, kind_of};

/// The length of a card.
pub(crate) const CARD: usize = 80;

/// Keywords that describe the file a header was read from rather than what is
/// in the image: its layout, scaling, checksums and extremes.
const OF_THE_FILE: &[&str] = &[
    "SIMPLE", "BITPIX", "NAXIS", "EXTEND", "PCOUNT", "GCOUNT", "GROUPS", "XTENSION", "BLOCKED",
    "INHERIT", "END", "TFIELDS", "THEAP", "BSCALE", "BZERO", "BLANK", "DATAMIN", "DATAMAX",
    "CHECKSUM", "DATASUM", "ZIMAGE", "ZTABLE", "ZCMPTYPE", "ZBITPIX", "ZNAXIS", "ZSIMPLE",
    "ZTENSION", "ZEXTEND", "ZBLOCKED", "ZPCOUNT", "ZGCOUNT", "ZHECKSUM", "ZDATASUM", "ZQUANTIZ",
    "ZDITHER0", "ZBLANK", "ZSCALE", "ZZERO", "ZMASKCMP", "ZTHEAP", "ZTILELEN", "FZALGOR", "FZTILE",
    "FZQVALUE", "FZQMETHD", "FZDTHRSD", "FZINT2F", "FZHSCALE",
];

/// The same with the number of an axis, column or parameter behind them.
const OF_THE_FILE_NUMBERED: &[&str] = &[
    "NAXIS", "PTYPE", "PSCAL", "PZERO", "TTYPE", "TFORM", "TUNIT", "TNULL", "TSCAL", "TZERO",
    "TDISP", "TBCOL", "TDIM", "TDMIN", "TDMAX", "TLMIN", "TLMAX", "ZNAXIS", "ZTILE", "ZNAME",
    "ZVAL", "ZFORM", "ZCTYP",
];

/// The cards of `cards` that stay true in another file, in order, made valid
/// where the standard demands it; and the keywords of those that had to be
/// changed or left out for that.
pub(crate) fn portable(cards: &[String]) -> (Vec<String>, Vec<String>) {
    let mut kept: Vec<String> = Vec::new();
    let mut noted = Vec::new();
    let mut seen = HashSet::new();
    let mut after_long_string = false;
    for raw in cards {
        let ascii: String = raw.chars().map(|c| if is_text(c) { c } else { '?' }).collect();
        let card = ascii.trim_end();
        let keyword = keyword(card).to_ascii_uppercase();
        if keyword == "CONTINUE" {
            if after_long_string {
                kept.push(truncate(card).to_owned());
                after_long_string = is_unfinished(card.get(8..).unwrap_or_default());
            }
            continue;
        }
        after_long_string = false;
        if is_of_the_file(&keyword, card) {
            continue;
        }
        let commentary = matches!(keyword.as_str(), "COMMENT" | "HISTORY" | "");
        if !commentary && !seen.insert(unique_key(&keyword, card)) {
            noted.push(keyword);
            continue;
        }
        let valid =
            if commentary { commentary_card(&keyword, card) } else { value_card(&keyword, card) };
        if valid != *raw.trim_end() {
            noted.push(if keyword.is_empty() { "blank".to_owned() } else { keyword });
        }
        after_long_string = valid.split_once('=').is_some_and(|(_, rest)| is_unfinished(rest));
        kept.push(valid);
    }
    (kept, noted)
}

fn is_text(c: char) -> bool {
    matches!(c, ' '..='~')
}

/// The first eight characters without blanks at their end.
pub(crate) fn keyword(card: &str) -> &str {
    card.get(..8).unwrap_or(card).trim_end()
}

fn truncate(card: &str) -> &str {
    card.get(..CARD).unwrap_or(card)
}

fn is_of_the_file(keyword: &str, card: &str) -> bool {
    let stem = keyword.trim_end_matches(|c: char| c.is_ascii_digit());
    OF_THE_FILE.contains(&keyword)
        || (stem.len() < keyword.len() && OF_THE_FILE_NUMBERED.contains(&stem))
        || (keyword == "EXTNAME" && card.contains("'COMPRESSED_IMAGE'"))
}

/// `HIERARCH` cards have their keyword behind that word.
fn unique_key(keyword: &str, card: &str) -> String {
    match (keyword, card.split_once('=')) {
        ("HIERARCH", Some((long, _))) => long.trim_end().to_ascii_uppercase(),
        _ => keyword.to_owned(),
    }
}

fn commentary_card(keyword: &str, card: &str) -> String {
    let text = card.get(8..).unwrap_or_default();
    truncate(&format!("{keyword:8}{text}")).trim_end().to_owned()
}

/// A card with a value as the standard wants it. What is no value becomes a
/// string, what has no value indicator a comment: nothing is lost.
fn value_card(keyword: &str, card: &str) -> String {
    if keyword == "HIERARCH" {
        return truncate(card).to_owned();
    }
    let legal = |c: char| matches!(c, 'A'..='Z' | '0'..='9' | '-' | '_');
    let Some(rest) = card.get(8..).and_then(|rest| rest.strip_prefix('=')) else {
        return truncate(&format!("COMMENT {card}")).to_owned();
    };
    if !keyword.chars().all(legal) {
        return truncate(&format!("COMMENT {card}")).to_owned();
    }
    let (value, comment) = split_value(rest);
    if !is_value(value) {
        return text_card(keyword, value, comment);
    }
    if let Some(card) = retyped_card(keyword, value, comment) {
        return card;
    }
    if rest.is_empty() || rest.starts_with(' ') {
        return truncate(&format!("{keyword:8}={rest}")).trim_end().to_owned();
    }
    truncate(&format!("{keyword:8}= {rest}")).trim_end().to_owned()
}

/// The card of a reserved keyword whose value is of another type than the
/// standard wants: some acquisition systems write `MJD-OBS` as a string. None
/// if there is nothing to mend. What cannot be mended becomes a comment.
fn retyped_card(keyword: &str, value: &str, comment: &str) -> Option<String> {
    let text = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).map(str::trim);
    let (right, number) = match (kind_of(keyword)?, text) {
        _ if value.is_empty() => return None,
        (Kind::Text, Some(_)) => return None,
        (Kind::Text, None) => return Some(text_card(keyword, value, comment)),
        (Kind::Real, None) => (is_number(value), None),
        (Kind::Integer, None) => (is_integer(value), None),
        (Kind::Real, Some(text)) => (false, Some(text).filter(|text| is_number(text))),
        (Kind::Integer, Some(text)) => (false, Some(text).filter(|text| is_integer(text))),
    };
    match number {
        _ if right => None,
        Some(number) => Some(plain_card(keyword, number, comment)),
        None => Some(truncate(&format!("COMMENT {keyword} = {value} / {comment}")).to_owned()),
    }
}

fn is_integer(text: &str) -> bool {
    text.parse::<i64>().is_ok()
}

/// The value of a card and its comment, from what follows the `=`.
fn split_value(rest: &str) -> (&str, &str) {
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

/// Where a quoted string ends: behind its closing quote. Two quotes are one.
fn string_end(text: &str) -> Option<usize> {
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

/// Whether this is a value in the standard's free format, or none at all.
fn is_value(value: &str) -> bool {
    if value.starts_with('\'') {
        return string_end(value) == Some(value.len());
    }
    if let Some(pair) = value.strip_prefix('(').and_then(|pair| pair.strip_suffix(')')) {
        return pair
            .split_once(',')
            .is_some_and(|(re, im)| is_number(re.trim()) && is_number(im.trim()));
    }
    value.is_empty() || matches!(value, "T" | "F") || is_number(value)
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['E', 'D']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = match mantissa.split_once('.') {
        Some((whole, part)) => digits(whole) && digits(part) && whole.len() + part.len() > 0,
        None => digits(mantissa) && !mantissa.is_empty(),
    };
    let power = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        digits(exponent) && !exponent.is_empty()
    });
    whole && power
}

/// Whether this value is a string that goes on in a `CONTINUE` card.
fn is_unfinished(rest: &str) -> bool {
    let (value, _) = split_value(rest);
    value.starts_with('\'') && value.ends_with("&'")
}

/// The string that a keyword has, without the blanks at its end.
pub(crate) fn text_value(cards: &[String], name: &str) -> Option<String> {
    let card = cards.iter().find(|card| keyword(card) == name)?;
    let (value, _) = split_value(card.get(8..)?.strip_prefix('=')?);
    let text = value.strip_prefix('\'')?.strip_suffix('\'')?.trim_end().replace("''", "'");
    (!text.is_empty()).then_some(text)
}

/// A card with a value that is written as it stands, such as a number.
pub(crate) fn plain_card(keyword: &str, value: impl std::fmt::Display, comment: &str) -> String {
    let card = format!("{keyword:8}= {:>20} / {comment}", value.to_string());
    truncate(&card).trim_end().to_owned()
}

/// A card with a string, cut to what fits into one.
pub(crate) fn text_card(keyword: &str, text: &str, comment: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars().map(|c| if is_text(c) { c } else { '?' }) {
        let width = if c == '\'' { 2 } else { 1 };
        if quoted.len() + width > 68 {
            break;
        }
        quoted.push(c);
        if c == '\'' {
            quoted.push(c);
        }
    }
    let card = format!("{keyword:8}= '{quoted:8}'");
    let with_comment = format!("{card:30} / {comment}");
    let fits = !comment.is_empty() && with_comment.len() <= CARD;
    if fits { with_comment } else { card }
}

/// A number as FITS writes it, with all its digits.
pub(crate) fn real(value: f64) -> String {
    let text = format!("{value:?}");
    let text = text.replace('e', "E");
    if text.contains('.') || !text.contains('E') { text } else { text.replacen('E', ".0E", 1) }
}

/// `HISTORY` cards with this text, as many as it takes.
pub(crate) fn history_cards(text: &str) -> Vec<String> {
    let ascii: Vec<char> = text.chars().map(|c| if is_text(c) { c } else { '?' }).collect();
    ascii
        .chunks(CARD - 8)
        .map(|part| format!("HISTORY {}", part.iter().collect::<String>()).trim_end().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_keyword_of_the_wrong_type_is_mended() {
        let mended = |card: &str| value_card(keyword(card), card);
        let number = "MJD-OBS =         58751.231827 / start";
        assert_eq!(mended("MJD-OBS = '58751.231827' / start"), number);
        assert_eq!(mended(number), number);
        assert_eq!(mended("MJD-OBS = 'unknown ' / start"), "COMMENT MJD-OBS = 'unknown ' / start");
        assert_eq!(mended("OBJECT  =                   42"), "OBJECT  = '42      '");
        assert_eq!(mended("WCSAXES =                  2.5"), "COMMENT WCSAXES = 2.5 / ");
        assert_eq!(mended("EQUINOX ="), "EQUINOX =");
    }

    fn keep(cards: &[&str]) -> (Vec<String>, Vec<String>) {
        portable(&cards.iter().map(|card| (*card).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn cards_of_the_file_are_left_out_and_the_rest_keeps_its_order() {
        let (kept, noted) = keep(&[
            "SIMPLE  =                    T",
            "NAXIS1  =                  512",
            "CRVAL1  =                 10.5 / WCS stays",
            "BZERO   =                32768",
            "ZNAXIS2 =                    5",
            "COMMENT one",
            "TFORM12 = '1PB(5)'",
            "COMMENT one",
            "ZEROPNT =                 25.0",
        ]);
        let expected = [
            "CRVAL1  =                 10.5 / WCS stays",
            "COMMENT one",
            "COMMENT one",
            "ZEROPNT =                 25.0",
        ];
        assert_eq!(kept, expected);
        assert!(noted.is_empty(), "{noted:?}");
    }

    #[test]
    fn the_first_of_duplicate_cards_stays() {
        let (kept, noted) =
            keep(&["GAIN    = 1.5", "GAIN    = 2.5", "HIERARCH ESO A = 1", "HIERARCH ESO B = 1"]);
        assert_eq!(kept, ["GAIN    = 1.5", "HIERARCH ESO A = 1", "HIERARCH ESO B = 1"]);
        assert_eq!(noted, ["GAIN"]);
    }

    #[test]
    fn continue_cards_stay_with_their_string() {
        let (kept, _) = keep(&[
            "LONG    = 'a long &'",
            "CONTINUE  'string&'",
            "CONTINUE  ' ends' / c",
            "DATASUM = 'dropped&'",
            "CONTINUE  'dropped'",
            "SHORT   = 1",
            "CONTINUE  'an orphan'",
        ]);
        let expected =
            ["LONG    = 'a long &'", "CONTINUE  'string&'", "CONTINUE  ' ends' / c", "SHORT   = 1"];
        assert_eq!(kept, expected);
    }

    #[test]
    fn invalid_cards_are_mended_and_noted() {
        let (kept, noted) = keep(&[
            "exptime = 10",
            "OBJECT  = 'M31",
            "MYKEY   = NaN / not a number",
            "BAD KEY = 3",
            "TEMP    =-5",
            "OBSERVER= 'M\u{fc}ller'",
            "JUSTTEXT without a value",
        ]);
        let expected = [
            "EXPTIME = 10",
            "OBJECT  = '''M31   '",
            "MYKEY   = 'NaN     '           / not a number",
            "COMMENT BAD KEY = 3",
            "TEMP    = -5",
            "OBSERVER= 'M?ller'",
            "COMMENT JUSTTEXT without a value",
        ];
        assert_eq!(kept, expected);
        assert_eq!(noted.len(), 7);
    }

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
    fn strings_come_back_without_their_quotes() {
        let cards = ["BUNIT   = 'it''s / ADU '       / unit".to_owned()];
        assert_eq!(text_value(&cards, "BUNIT").as_deref(), Some("it's / ADU"));
        assert_eq!(text_value(&cards, "OBJECT"), None);
    }

    #[test]
    fn numbers_have_a_point_and_a_capital_exponent() {
        assert_eq!(real(1.0), "1.0");
        assert_eq!(real(1e300), "1.0E300");
        assert_eq!(real(-2.5e-10), "-2.5E-10");
    }
}
