//! docs/WIRE.md against the transcripts and the tags in both languages.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::transcript;
use crate::support::program::package;

fn read(path: &str) -> String {
    fs::read_to_string(package().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A number in the notation of either language or of the document.
fn number(text: &str) -> Option<u64> {
    let digits = text.trim().replace('_', "");
    match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => digits.parse().ok(),
    }
}

/// The names in capitals that a line of the text gives a number to, by a split of the line.
fn tags<'t>(
    text: &'t str,
    split: impl Fn(&'t str) -> Option<(&'t str, &'t str)>,
) -> BTreeMap<&'t str, u64> {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let found = text.lines().filter_map(split).filter_map(|(name, value)| {
        let name = name.trim();
        Some((name, number(value)?)).filter(|_| is_name(name))
    });
    found.collect()
}

fn without_extensions<'t>(tags: &BTreeMap<&'t str, u64>) -> BTreeMap<&'t str, u64> {
    let is_of_values = |name: &str| name.starts_with("EXTENSION_") || name == "PICKLE_MARK";
    tags.iter().map(|(name, number)| (*name, *number)).filter(|(n, _)| !is_of_values(n)).collect()
}

#[test]
fn the_tags_are_the_same_in_rust_in_python_and_in_the_document() {
    let (rust, python) =
        (read("src/protocol/wire/tags.rs"), read("python/src/drpipe/protocol/tags.py"));
    let document = read("docs/WIRE.md");
    let in_rust = tags(&rust, |line| {
        let (_, rest) = line.split_once(" const ")?;
        let (name, value) = rest.split_once(": ")?;
        Some((name, value.split_once(" = ")?.1.strip_suffix(';')?))
    });
    let in_python = tags(&python, |line| line.split_once(" = "));
    let (_, table) = document.split_once("## Tags").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let in_document =
        tags(table, |line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    assert!(in_rust.len() > 20, "the tags were not found: {in_rust:?}");
    assert_eq!(in_rust, in_document);
    assert_eq!(in_rust, without_extensions(&in_python));
}

#[test]
fn the_extension_types_are_the_same_in_rust_in_python_and_in_the_document() {
    let (python, document) = (read("python/src/drpipe/protocol/tags.py"), read("docs/WIRE.md"));
    let in_python = tags(&python, |line| line.split_once(" = "));
    let in_python: BTreeMap<_, _> =
        in_python.into_iter().filter(|(name, _)| name.starts_with("EXTENSION_")).collect();
    let in_document = tags(&document, |line| {
        let mut cells = line.strip_prefix("| EXTENSION_").map(|_| line.split(" | "))?;
        Some((cells.next()?.strip_prefix("| ")?, cells.next()?))
    });
    assert_eq!(in_document.len(), 4);
    assert_eq!(in_document, in_python);
    let rust = [read("src/codec/messagepack/mod.rs"), read("src/memory/array.rs")].concat();
    for (name, number) in in_document {
        let declared = format!("const {}: i8 = {number};", name.trim_start_matches("EXTENSION_"));
        assert!(rust.contains(&declared), "{declared}");
    }
}

#[test]
fn the_document_names_every_transcript_and_no_other() {
    let document = read("docs/WIRE.md");
    let is_name =
        |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || "-0123456789".contains(c));
    let named: BTreeSet<&str> = document
        .split('[')
        .skip(1)
        .filter_map(|rest| rest.split_once(']').map(|(name, _)| name))
        .filter(is_name)
        .collect();
    let all = transcript::all();
    let known: BTreeSet<&str> = all.iter().map(|transcript| transcript.name.as_str()).collect();
    assert_eq!(named, known);
}
