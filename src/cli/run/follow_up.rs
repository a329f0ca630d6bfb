//! The lines after the ledger: where the products are, and what to do next.

use std::collections::BTreeMap;
use std::path::Path;

use super::args::RunArgs;
use crate::base::escape::one_line;
use crate::base::format::shell_word;
use crate::event::{Report, Verdict};

/// The most directories of products that are named.
const MAX_NAMED: usize = 4;

/// Where the products are; the directory with the most comes first.
fn products(directories: &BTreeMap<String, u64>) -> String {
    let total: u64 = directories.values().sum();
    if total == 0 {
        return String::new();
    }
    let mut named: Vec<(&String, &u64)> = directories.iter().collect();
    named.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let files = if total == 1 { "file" } else { "files" };
    let here = std::env::current_dir().unwrap_or_default();
    let places = named.iter().take(MAX_NAMED).map(|(directory, count)| {
        let below = Path::new(directory).strip_prefix(&here).ok();
        let below = below.filter(|path| *path != Path::new(""));
        let shown = shown(below.unwrap_or(Path::new(directory)));
        if named.len() == 1 { shown } else { format!("{shown} ({count})") }
    });
    let places: Vec<String> = places.collect();
    let more = match named.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        1 => " and 1 other directory".to_owned(),
        count => format!(" and {count} other directories"),
    };
    format!("products: {total} {files} in {}{more}\n", places.join(", "))
}

/// The command that completes an interrupted run: the same one, with its journal.
fn rest(args: &RunArgs) -> String {
    let Some(mut words) = args.source.again() else {
        return "to process the rest, run the same command with --resume\n".to_owned();
    };
    if let Some(journal) = &args.journal {
        words.extend(["--journal".to_owned(), journal.display().to_string()]);
    }
    format!("to process the rest:\n  drpipe {} --resume\n", command(words))
}

/// The lines below the ledger.
pub(crate) fn text(report: &Report, args: &RunArgs) -> String {
    let mut text = products(&report.products);
    if let Some(directory) = &report.quarantine {
        let inputs = if report.quarantined == 1 { "input" } else { "inputs" };
        let kept = shell_word(&shown(directory));
        let config = std::iter::once(args.source.config().display().to_string());
        let config = command(config.chain(args.source.settings_again()));
        text += &format!(
            "quarantine: {} failed {inputs} in {}; next:\n\
             \x20 drpipe quarantine show {kept}\n\
             \x20 drpipe quarantine retry {kept} --config {config}\n",
            report.quarantined,
            shown(directory),
        );
    }
    let ended = matches!(report.verdict, Verdict::Done | Verdict::SomeFailed);
    if args.journal().is_some() && !ended {
        text += &rest(args);
    }
    text
}

fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// Words as a shell reads them.
fn command(words: impl IntoIterator<Item = String>) -> String {
    words.into_iter().map(|word| shell_word(&one_line(&word))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::Args;

    fn rest_of(line: &[&str]) -> String {
        rest(&Args::try_parse_from([&["drpipe"], line].concat()).unwrap().run.into_run())
    }

    #[test]
    fn the_rest_is_of_the_same_frames_settings_and_journal() {
        assert_eq!(
            rest_of(&["a.json", "--resume"]),
            "to process the rest:\n  drpipe a.json --resume\n"
        );
        let line = ["a.json", "my x.fits", "y.fits", "--set", "A.b=1", "--journal", "x.journal"];
        assert_eq!(
            rest_of(&line),
            "to process the rest:\n  drpipe a.json 'my x.fits' y.fits --set A.b=1 --journal \
             x.journal --resume\n"
        );
        let secret = rest_of(&["a.json", "--set", "A.api_token=s", "--resume"]);
        assert!(secret.contains("--set 'A.api_token=[hidden]'"), "{secret}");
        let generic = "to process the rest, run the same command with --resume\n";
        assert_eq!(rest_of(&["-c", "-", "--journal", "x.journal"]), generic);
        let many = ["a.json", "1.fits", "2.fits", "3.fits", "4.fits", "5.fits", "--resume"];
        assert_eq!(rest_of(&many), generic);
    }

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
}
