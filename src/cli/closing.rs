//! What is said when a run has ended: where its products are, and what to do next.

use std::collections::BTreeMap;
use std::path::Path;

use super::words::one_line;
use crate::pipeline::{Report, Verdict};

/// So many directories are named.
const MOST_NAMED: usize = 4;

/// Where the products are, the directory with the most of them first.
fn products(directories: &BTreeMap<String, u64>) -> String {
    let total: u64 = directories.values().sum();
    if total == 0 {
        return String::new();
    }
    let mut named: Vec<(&String, &u64)> = directories.iter().collect();
    named.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let files = if total == 1 { "file" } else { "files" };
    let here = std::env::current_dir().unwrap_or_default();
    let places = named.iter().take(MOST_NAMED).map(|(directory, count)| {
        let below = Path::new(directory).strip_prefix(&here).ok();
        let below = below.filter(|path| *path != Path::new(""));
        let shown = shown(below.unwrap_or(Path::new(directory)));
        if named.len() == 1 { shown } else { format!("{shown} ({count})") }
    });
    let places: Vec<String> = places.collect();
    let more = match named.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        1 => " and 1 other directory".to_owned(),
        count => format!(" and {count} other directories"),
    };
    format!("products: {total} {files} in {}{more}\n", places.join(", "))
}

/// The last lines, below the ledger.
pub(super) fn text(report: &Report, config: &Path, journal: bool) -> String {
    let mut text = products(&report.products);
    let config = quoted(&shown(config));
    if let Some(directory) = &report.quarantine {
        let inputs = if report.quarantined == 1 { "input" } else { "inputs" };
        let kept = quoted(&shown(directory));
        text += &format!(
            "quarantine: {} failed {inputs} in {}; next:\n\
             \x20 drpipe quarantine show {kept}\n\
             \x20 drpipe quarantine retry {kept} --config {config}\n",
            report.quarantined,
            shown(directory),
        );
    }
    let ended = matches!(report.verdict, Verdict::Done | Verdict::SomeFailed);
    if journal && !ended {
        text += &format!("to do the rest:\n  drpipe {config} --resume\n");
    }
    text
}

fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_counted_by_directory() {
        let text = |places: &[(&str, u64)]| {
            products(&places.iter().map(|(place, count)| (place.to_string(), *count)).collect())
        };
        assert_eq!(text(&[]), "");
        assert_eq!(text(&[(".", 1)]), "products: 1 file in .\n");
        assert_eq!(text(&[(".", 1), ("out/png", 3)]), "products: 4 files in out/png (3), . (1)\n");
        let many = text(&[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1), ("f", 1)]);
        assert!(many.ends_with("d (1) and 2 other directories\n"), "{many}");
    }

    #[test]
    fn a_shell_takes_what_is_quoted_as_it_is() {
        assert_eq!(quoted("quarantine/20250314T021530Z-47"), "quarantine/20250314T021530Z-47");
        assert_eq!(quoted("my night's"), "'my night'\\''s'");
    }
}
