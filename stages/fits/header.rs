//! Selects the cards of a header that stay true in another file, and makes them valid there.

use std::collections::HashSet;

use super::reserved::{Kind, kind_of};
use crate::stages::frames::card::{
    after_indicator, commentary_cards, cut, is_text, is_unfinished, is_value, keyword, numeric,
    plain_card, split_value, string_end, text_cards, to_i64, to_text, value,
};

/// Keywords that describe the file, not the image: its layout, scaling, checksums and
/// extremes.
const OF_THE_FILE: &[&str] = &[
    "SIMPLE", "BITPIX", "NAXIS", "EXTEND", "PCOUNT", "GCOUNT", "GROUPS", "XTENSION", "BLOCKED",
    "INHERIT", "END", "BSCALE", "BZERO", "BLANK", "DATAMIN", "DATAMAX", "CHECKSUM", "DATASUM",
];
/// Keywords of the file that end with the number of an axis or parameter.
const OF_THE_FILE_NUMBERED: &[&str] = &["NAXIS", "PTYPE", "PSCAL", "PZERO"];

/// Keywords that describe the table in which an image in compressed tiles is stored.
const OF_THE_TILES: &[&str] = &[
    "TFIELDS", "THEAP", "ZIMAGE", "ZTABLE", "ZCMPTYPE", "ZBITPIX", "ZNAXIS", "ZSIMPLE", "ZTENSION",
    "ZEXTEND", "ZBLOCKED", "ZPCOUNT", "ZGCOUNT", "ZHECKSUM", "ZDATASUM", "ZQUANTIZ", "ZDITHER0",
    "ZBLANK", "ZSCALE", "ZZERO", "ZMASKCMP", "ZTHEAP", "ZTILELEN", "FZALGOR", "FZTILE", "FZQVALUE",
    "FZQMETHD", "FZDTHRSD", "FZINT2F", "FZHSCALE",
];
/// Keywords of that table that end with the number of an axis, column or parameter.
const OF_THE_TILES_NUMBERED: &[&str] = &[
    "TTYPE", "TFORM", "TUNIT", "TNULL", "TSCAL", "TZERO", "TDISP", "TBCOL", "TDIM", "TDMIN",
    "TDMAX", "TLMIN", "TLMAX", "ZNAXIS", "ZTILE", "ZNAME", "ZVAL", "ZFORM", "ZCTYP",
];

/// Returns the cards that stay true in another file, in order, made valid where the standard
/// demands it; and the keywords of those that had to be changed or left out for that.
pub(crate) fn portable(cards: &[String]) -> (Vec<String>, Vec<String>) {
    let tiled = value(cards, "ZIMAGE") == Some("T");
    let (mut kept, mut noted) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    let mut rest = cards;
    while let Some((raw, after)) = rest.split_first() {
        let card = ascii(raw);
        let card = card.trim_end();
        let (continuations, after) = after.split_at(continuations(card, after));
        rest = after;
        let keyword = keyword(card).to_ascii_uppercase();
        if is_of_the_file(&keyword, card, tiled) {
            continue;
        }
        let commentary = is_commentary(&keyword);
        // A card without a value is commentary, whatever its keyword, and may be repeated.
        if value_field(card).is_some() && !seen.insert(unique_key(&keyword, card)) {
            noted.push(keyword);
            continue;
        }
        let valid = if commentary {
            vec![cut(&format!("{keyword:8}{}", card.get(8..).unwrap_or_default()))]
        } else {
            long_value(&keyword, card, continuations)
                .unwrap_or_else(|| with_continuations(value_cards(&keyword, card), continuations))
        };
        let raw = std::iter::once(raw).chain(continuations);
        if !raw.map(|card| card.trim_end()).eq(valid.iter().map(String::as_str)) {
            noted.push(if keyword.is_empty() { "blank".to_owned() } else { keyword });
        }
        kept.extend(valid);
    }
    (kept, noted)
}

/// Replaces NULs, with which some programs pad instead of blanks.
fn ascii(card: &str) -> String {
    let allowed = |c| match c {
        '\0' => ' ',
        c if is_text(c) => c,
        _ => '?',
    };
    card.chars().map(allowed).collect()
}

/// The number of cards behind this one that continue its string.
fn continuations(card: &str, after: &[String]) -> usize {
    let mut goes_on = value_field(card).is_some_and(is_unfinished);
    let part_of_it = |card: &&String| {
        let goes_on_here = goes_on && keyword(card) == "CONTINUE";
        goes_on = card.get(8..).is_some_and(is_unfinished);
        goes_on_here
    };
    after.iter().take_while(part_of_it).count()
}

/// Whether a card is commentary: it has no value, even if its text begins with an equals sign.
fn is_commentary(keyword: &str) -> bool {
    ["COMMENT", "HISTORY", ""].iter().any(|name| keyword.eq_ignore_ascii_case(name))
}

/// Returns what follows the equals sign of a card with a value.
fn value_field(card: &str) -> Option<&str> {
    match keyword(card) {
        keyword if is_commentary(keyword) => None,
        "HIERARCH" => card.split_once('=').map(|(_, rest)| rest),
        _ => after_indicator(card),
    }
}

fn with_continuations(mut cards: Vec<String>, continuations: &[String]) -> Vec<String> {
    cards.extend(continuations.iter().map(|card| cut(&ascii(card))));
    cards
}

/// Repairs the cards of a long string whose doubled quote was split by the end of a card;
/// `None` if this is no such string.
fn long_value(keyword: &str, card: &str, continuations: &[String]) -> Option<Vec<String>> {
    let fields = continuations.iter().filter_map(|card| card.get(8..));
    let (mut quoted, mut comment, mut torn) = (String::new(), "", false);
    for field in value_field(card).into_iter().chain(fields) {
        let field = field.trim();
        // The second quote of the pair stands behind the opening one.
        let halved = quoted.ends_with('\'') && quoted.matches('\'').count() % 2 == 1;
        let start = usize::from(halved && field.starts_with("''"));
        let string = field.get(start..)?;
        let end = string_end(string).filter(|_| string.starts_with('\''))?;
        let torn_here = string.get(end..)?.starts_with("&'");
        torn |= torn_here;
        let inner = string.get(1..if torn_here { end } else { end - 1 })?;
        quoted.push_str(if start == 1 { "'" } else { "" });
        quoted.push_str(inner.trim_end().strip_suffix('&').unwrap_or(inner));
        let (_, said) = split_value(string.get(if torn_here { end + 2 } else { end }..)?);
        comment = if said.is_empty() { comment } else { said };
    }
    (torn && keyword != "HIERARCH")
        .then(|| text_cards(keyword, quoted.replace("''", "'").trim_end(), comment))
}

fn is_of_the_file(keyword: &str, card: &str, tiled: bool) -> bool {
    let stem = keyword.trim_end_matches(|c: char| c.is_ascii_digit());
    let among = |names: &[&str], numbered: &[&str]| {
        names.contains(&keyword) || (stem.len() < keyword.len() && numbered.contains(&stem))
    };
    among(OF_THE_FILE, OF_THE_FILE_NUMBERED)
        || (tiled && among(OF_THE_TILES, OF_THE_TILES_NUMBERED))
        || (keyword == "EXTNAME" && card.contains("'COMPRESSED_IMAGE'"))
}

/// Whether an extension with these cards inherits a card of the primary header: neither
/// commentary nor what describes the primary HDU itself, nor what it says on its own.
pub(super) fn is_inherited(card: &str, own: &[String]) -> bool {
    let keyword = self::keyword(card).to_ascii_uppercase();
    let of_the_hdu = ["COMMENT", "HISTORY", "", "CONTINUE", "EXTNAME", "EXTVER", "EXTLEVEL"];
    let key = unique_key(&keyword, card);
    !of_the_hdu.contains(&keyword.as_str())
        && !is_of_the_file(&keyword, card, false)
        && !own.iter().any(|own| unique_key(&self::keyword(own).to_ascii_uppercase(), own) == key)
}

/// The keyword of a card; `HIERARCH` cards have it behind that word.
fn unique_key(keyword: &str, card: &str) -> String {
    match (keyword, card.split_once('=')) {
        ("HIERARCH", Some((long, _))) => long.trim_end().to_ascii_uppercase(),
        _ => keyword.to_owned(),
    }
}

/// Makes a card valid. What is no value becomes a string, and a card without a value indicator
/// a comment, so that nothing is lost.
fn value_cards(keyword: &str, card: &str) -> Vec<String> {
    if keyword == "HIERARCH" {
        return vec![cut(&number_mended(card))];
    }
    let legal = |c: char| matches!(c, 'A'..='Z' | '0'..='9' | '-' | '_');
    let Some(rest) = after_indicator(card).filter(|_| keyword.chars().all(legal)) else {
        return commentary_cards("COMMENT", card);
    };
    let (value, comment) = split_value(rest);
    if value.starts_with('\'') && !is_value(value) {
        let (text, comment) = text_of_bad_string(value, comment);
        return text_cards(keyword, &text, &comment);
    }
    if !is_value(value) && numeric(value).is_none() {
        return text_cards(keyword, value, comment);
    }
    if let Some(cards) = retyped_cards(keyword, value, comment) {
        return cards.unwrap_or_else(|| commentary_cards("COMMENT", card));
    }
    let blank = if rest.is_empty() || rest.starts_with(' ') { "" } else { " " };
    vec![cut(&number_mended(&format!("{keyword:8}={blank}{rest}")))]
}

/// Rewrites the number of a card as the standard demands, if it is spelled otherwise.
fn number_mended(card: &str) -> String {
    let Some((before, rest)) = card.split_once('=') else { return card.to_owned() };
    let (value, _) = split_value(rest);
    match numeric(value) {
        Some(number) if number != value => {
            format!("{before}={}", rest.replacen(value, &format!("{number:0$}", value.len()), 1))
        }
        _ => card.to_owned(),
    }
}

/// Guesses string and comment from a value that begins with a quote but is no string: `'it's'`,
/// `'M31`, or `'M31' without a slash`.
fn text_of_bad_string(value: &str, comment: &str) -> (String, String) {
    let inner = value.get(1..).unwrap_or_default();
    if let Some(inner) = inner.strip_suffix('\'') {
        return (inner.trim_end().replace("''", "'"), comment.to_owned());
    }
    match string_end(value).and_then(|end| value.split_at_checked(end)) {
        Some((string, words)) => {
            let slash = if comment.is_empty() { "" } else { " / " };
            (to_text(string).unwrap_or_default(), format!("{}{slash}{comment}", words.trim()))
        }
        None => (inner.trim_end().to_owned(), comment.to_owned()),
    }
}

/// Repairs a reserved keyword whose value has another type than the standard demands: some
/// acquisition systems write `MJD-OBS` as a string. The outer `None` means nothing to repair,
/// the inner one that it is impossible.
fn retyped_cards(keyword: &str, value: &str, comment: &str) -> Option<Option<Vec<String>>> {
    let kind = kind_of(keyword).filter(|_| !value.is_empty())?;
    let text = to_text(value);
    let number = numeric(text.as_deref().unwrap_or(value).trim()).filter(|n| !n.starts_with('('));
    let right = match kind {
        Kind::Text => text.is_some(),
        Kind::Real => text.is_none() && number.is_some(),
        Kind::Integer => value.parse::<i64>().is_ok(),
    };
    if right {
        return None;
    }
    Some(match (kind, number) {
        (Kind::Text, _) => Some(text_cards(keyword, value, comment)),
        (Kind::Real, Some(number)) => Some(vec![plain_card(keyword, number, comment)]),
        (Kind::Integer, Some(number)) => {
            to_i64(&number).map(|number| vec![plain_card(keyword, number, comment)])
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_keyword_of_the_wrong_type_is_mended() {
        let mended = |card: &str| value_cards(keyword(card), card).join("|");
        let number = "MJD-OBS =         58751.231827 / start";
        assert_eq!(mended("MJD-OBS = '58751.231827' / start"), number);
        assert_eq!(mended(number), number);
        assert_eq!(mended("MJD-OBS = 'unknown ' / start"), "COMMENT MJD-OBS = 'unknown ' / start");
        assert_eq!(mended("OBJECT  =                   42"), "OBJECT  = '42      '");
        assert_eq!(mended("WCSAXES =  2.5"), "COMMENT WCSAXES =  2.5");
        assert_eq!(mended("WCSAXES =  2."), "WCSAXES =                    2");
        assert_eq!(mended("EQUINOX ="), "EQUINOX =");
    }

    fn keep(cards: &[&str]) -> (Vec<String>, Vec<String>) {
        portable(&cards.iter().map(|card| (*card).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn cards_of_the_file_are_left_out_and_the_rest_keeps_its_order() {
        let (kept, noted) = keep(&[
            "SIMPLE  =                    T",
            "ZIMAGE  =                    T",
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
    fn commentary_that_begins_with_an_equals_sign_is_no_duplicate() {
        let cards =
            ["COMMENT =  / one", "COMMENT =  / two", "HISTORY = 'three&'", "HISTORY = four"];
        let (kept, noted) = keep(&cards);
        assert_eq!(kept, cards);
        assert!(noted.is_empty(), "{noted:?}");
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
        let expected = [
            "LONG    = 'a long &'",
            "CONTINUE  'string&'",
            "CONTINUE  ' ends' / c",
            "SHORT   = 1",
            "COMMENT CONTINUE  'an orphan'",
        ];
        assert_eq!(kept, expected);
    }

    #[test]
    fn numbers_in_other_spellings_stay_numbers_with_all_else_as_it_was() {
        let (kept, noted) = keep(&[
            "CRVAL1  =           1.5000e+02 / [deg] at 1.5e2",
            "CDELT1  = -2.5d-04",
            "EXPTIME = 3.0 E+01 / s",
            "COMPLEX = (1e5, -2.5d3)",
            "HIERARCH ESO DET GAIN = 1.5e+00 / e-/ADU",
            "MJD-OBS = '5.8e4' / as text",
            "EXTVER  = 2.0",
        ]);
        let expected = [
            "CRVAL1  =           1.5000E+02 / [deg] at 1.5e2",
            "CDELT1  = -2.5D-04",
            "EXPTIME = 3.0E+01  / s",
            "COMPLEX = (1E5, -2.5D3)",
            "HIERARCH ESO DET GAIN = 1.5E+00 / e-/ADU",
            "MJD-OBS =                5.8E4 / as text",
            "EXTVER  =                    2",
        ];
        assert_eq!(kept, expected);
        let names = ["CRVAL1", "CDELT1", "EXPTIME", "COMPLEX", "HIERARCH", "MJD-OBS", "EXTVER"];
        assert_eq!(noted, names);
    }

    #[test]
    fn a_quote_torn_apart_by_continue_is_put_together() {
        let (kept, noted) = keep(&[
            "NOTE    = 'the observer''s dog'&'",
            "CONTINUE  ''s barking at night&'",
            "CONTINUE  ', loudly' / heard",
            "AFTER   = 1",
        ]);
        let expected =
            ["NOTE    = 'the observer''s dog''s barking at night, loudly' / heard", "AFTER   = 1"];
        assert_eq!(kept, expected);
        assert_eq!(noted, ["NOTE"]);
    }

    #[test]
    fn nothing_of_a_card_is_lost_where_it_is_made_another() {
        let long = format!("BAD KEY = {:70}", "x".repeat(62) + "the end!");
        let (kept, noted) = keep(&[
            &long,
            "TEXT    = 'abc' words",
            "QUOTE   = 'it's'   / mine",
            "NULS    = 'a\0b\0\0' / c\0d",
            "SHORT   = 'no more'",
            "CONTINUE  'of this' / said",
            "CD1     = 'a disk'",
            "PC1     = 'a computer'",
            "PV12    = 'no parameter'",
        ]);
        let expected = [
            &*format!("COMMENT BAD KEY = {}", "x".repeat(62)),
            "COMMENT the end!",
            "TEXT    = 'abc     '           / words",
            "QUOTE   = 'it''s   '           / mine",
            "NULS    = 'a b  ' / c d",
            "SHORT   = 'no more'",
            "COMMENT CONTINUE  'of this' / said",
            "CD1     = 'a disk'",
            "PC1     = 'a computer'",
            "PV12    = 'no parameter'",
        ];
        assert_eq!(kept, expected);
        assert_eq!(noted, ["BAD KEY", "TEXT", "QUOTE", "NULS", "CONTINUE"]);
        let comment = "c".repeat(67);
        let (kept, _) = keep(&[&format!("OBJECT  = 42/{comment}")]);
        assert_eq!(kept, ["OBJECT  = '42&'", &format!("CONTINUE  ''/{comment}")]);
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
            "JUSTTEXT twice",
        ]);
        let expected = [
            "EXPTIME = 10",
            "OBJECT  = 'M31     '",
            "MYKEY   = 'NaN     '           / not a number",
            "COMMENT BAD KEY = 3",
            "TEMP    = -5",
            "OBSERVER= 'M?ller'",
            "COMMENT JUSTTEXT without a value",
            "COMMENT JUSTTEXT twice",
        ];
        assert_eq!(kept, expected);
        assert_eq!(noted.len(), 8);
    }
}
