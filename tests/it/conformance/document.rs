//! docs/WIRE.md against the transcripts and the tags; docs/BEHAVIOR.md against the tests it names.

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

#[test]
fn the_tags_are_the_same_in_rust_and_in_the_document() {
    let (rust, document) = (read("src/protocol/wire/tags.rs"), read("docs/WIRE.md"));
    let in_rust = tags(&rust, |line| {
        let (_, rest) = line.split_once(" const ")?;
        let (name, value) = rest.split_once(": ")?;
        Some((name, value.split_once(" = ")?.1.strip_suffix(';')?))
    });
    let (_, table) = document.split_once("## Tags").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let in_document =
        tags(table, |line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    assert!(in_rust.len() > 20, "the tags were not found: {in_rust:?}");
    assert_eq!(in_rust, in_document);
}

#[test]
fn the_extension_types_are_the_same_in_rust_and_in_the_document() {
    let document = read("docs/WIRE.md");
    let in_document = tags(&document, |line| {
        let mut cells = line.strip_prefix("| EXTENSION_").map(|_| line.split(" | "))?;
        Some((cells.next()?.strip_prefix("| ")?, cells.next()?))
    });
    assert_eq!(in_document.len(), 4);
    let rust = [read("src/codec/messagepack/mod.rs"), read("src/memory/array.rs")].concat();
    for (name, number) in in_document {
        let declared = format!("const {}: i8 = {number};", name.trim_start_matches("EXTENSION_"));
        assert!(rust.contains(&declared), "{declared}");
    }
}

/// The names in brackets that are not links.
fn names_in_brackets(document: &str) -> BTreeSet<&str> {
    let is_name =
        |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || "-_0123456789".contains(c));
    let opened = document.split('[').skip(1);
    let closed = opened.filter_map(|rest| rest.split_once(']'));
    closed
        .filter(|(_, rest)| !rest.starts_with('('))
        .map(|(name, _)| name)
        .filter(is_name)
        .collect()
}

#[test]
fn the_document_names_every_transcript_and_no_other() {
    let all = transcript::all();
    let known: BTreeSet<&str> = all.iter().map(|transcript| transcript.name.as_str()).collect();
    assert_eq!(names_in_brackets(&read("docs/WIRE.md")), known);
}

#[test]
fn every_test_that_the_contract_rests_on_is_there() {
    let document = read("docs/BEHAVIOR.md");
    let mut missing = names_in_brackets(&document);
    assert!(missing.len() > 40, "the names were not found: {missing:?}");
    for transcript in transcript::all() {
        missing.remove(transcript.name.as_str());
    }
    for folder in ["src", "tests/it", "python/tests"] {
        for entry in walkdir::WalkDir::new(package().join(folder)) {
            let path = entry.unwrap().into_path();
            if path.extension().is_some_and(|extension| extension == "rs" || extension == "py") {
                let text = fs::read_to_string(&path).unwrap();
                let is_defined = |name: &str| {
                    text.contains(&format!("fn {name}(")) || text.contains(&format!("def {name}("))
                };
                missing.retain(|name| !is_defined(name));
            }
        }
    }
    assert!(missing.is_empty(), "docs/BEHAVIOR.md names tests that are not there: {missing:?}");
}
