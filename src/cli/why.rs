//! `drpipe why`: what became of an input, or which input a product came from.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;

use super::output::{CommandError, print, print_text, say};
use crate::base::escape::one_line;
use crate::base::format::duration;
use crate::event::exit_code::NOT_FOUND;
use crate::sinks::journal::JournalError;
use crate::sinks::journal::lineage::{Gathered, Input, Lineage, Part, like};
use crate::sinks::journal::read::{Attempt, Journal};

const WHY_HELP: &str = "\
The answer comes from the journal that runs keep with --journal or --resume.

Examples:
  drpipe why raw/n7_0042.fits
  drpipe why out/png/n7_0042.png --journal night7.journal

Exit codes:
  0  the journal knows the path
  1  it does not
  2  the command line or the journal is wrong";

#[derive(Debug, ClapArgs)]
#[command(after_help = WHY_HELP)]
pub(super) struct WhyArgs {
    /// An input or a product: the path that the run used, or its path from this directory
    #[arg(value_name = "PATH")]
    pub(super) path: PathBuf,
    /// The journal; default: the only one in the current directory
    #[arg(long, value_name = "FILE")]
    pub(super) journal: Option<PathBuf>,
    /// Take the journal that goes with this configuration: its name with .journal
    #[arg(short, long, value_name = "FILE", conflicts_with = "journal")]
    pub(super) config: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn why(args: &WhyArgs) -> ExitCode {
    answer(args).unwrap_or_else(|error| error.exit())
}

fn answer(args: &WhyArgs) -> Result<ExitCode, CommandError> {
    let here = std::env::current_dir().map_err(|error| {
        CommandError::stopped(format_args!("there is no current directory: {error}"))
    })?;
    let place = journal(args, &here)?;
    look_up(args, &place, &here).map_err(|error| match error {
        JournalError::Locked { path } => CommandError::usage(format_args!(
            "a run is writing into {}, or another program has it open; ask again when it has \
             ended. Until then, its dashboard (drpipe run --monitor), its log and --events show \
             each failure and product",
            path.display()
        )),
        error => CommandError::usage(error),
    })
}

fn look_up(args: &WhyArgs, place: &Path, here: &Path) -> Result<ExitCode, JournalError> {
    let journal = Journal::open(place)?;
    let lineage = Lineage::of(&journal, &args.path, here)?;
    if args.json {
        let text = serde_json::to_string_pretty(&lineage).unwrap_or_default() + "\n";
        let printed = print(text.as_bytes());
        return Ok(if lineage.is_empty() { ExitCode::from(NOT_FOUND) } else { printed });
    }
    if !lineage.is_empty() {
        return Ok(print_text(&in_words(&lineage)));
    }
    let near = like(&journal, &args.path)?;
    let hint = match &near[..] {
        [] => String::new(),
        near => format!(
            "; near are:\n  {}",
            near.iter().map(|n| one_line(n)).collect::<Vec<_>>().join("\n  ")
        ),
    };
    say(format_args!(
        "{} knows no input and no product {:?}{hint}",
        place.display(),
        args.path.display().to_string()
    ));
    Ok(ExitCode::from(NOT_FOUND))
}

/// Finds the journal to ask.
fn journal(args: &WhyArgs, here: &Path) -> Result<PathBuf, CommandError> {
    if let Some(journal) = &args.journal {
        return Ok(journal.clone());
    }
    if let Some(config) = &args.config {
        let stem = config.file_stem().unwrap_or_default();
        return Ok(PathBuf::from(stem).with_added_extension("journal"));
    }
    let entries = std::fs::read_dir(here).map_err(CommandError::usage)?;
    let names = entries.flatten().map(|entry| PathBuf::from(entry.file_name()));
    let is_journal = |name: &PathBuf| name.extension().is_some_and(|end| end == "journal");
    let mut found: Vec<PathBuf> = names.filter(is_journal).collect();
    found.sort();
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => Err(CommandError::usage(
            "there is no journal here; name one with --journal FILE. A run keeps one with \
             --journal or --resume",
        )),
        several => {
            let names: Vec<_> = several.iter().map(|name| name.display().to_string()).collect();
            Err(CommandError::usage(format_args!(
                "there are several journals here: {}; name one with --journal FILE",
                names.join(", ")
            )))
        }
    }
}

fn in_words(lineage: &Lineage) -> String {
    let mut text = String::new();
    for input in &lineage.inputs {
        if !text.is_empty() {
            text.push('\n');
        }
        if let Some(product) = &input.product {
            let _ = writeln!(
                text,
                "{} was made from {}\n",
                one_line(product),
                one_line(&input.item.origin)
            );
        }
        describe(&mut text, input);
    }
    for gathered in &lineage.gathered {
        if !text.is_empty() {
            text.push('\n');
        }
        describe_gathered(&mut text, gathered);
    }
    text
}

fn describe(text: &mut String, input: &Input) {
    let item = &input.item;
    let _ = writeln!(text, "{}: {}", one_line(&item.origin), state(input));
    for part in &input.runs {
        describe_run(text, part);
    }
}

/// What became of an input, in words.
fn state(input: &Input) -> String {
    let (item, run) = (&input.item, &input.run);
    let step = one_line(item.step.as_deref().unwrap_or("a step"));
    let run = one_line(run);
    match item.state.as_str() {
        "done" => format!("done in run {run} at {}", item.time),
        "gathered" => format!("processed in run {run}, and gathered by {step}"),
        "dropped" => format!("dropped when run {run} was stopped"),
        "failed" => {
            let reason = item.reason.as_deref().unwrap_or("the reason is not known");
            format!("failed in run {run} at {step}: {}", one_line(reason))
        }
        _ => format!("under way when run {run} ended or was killed"),
    }
}

fn describe_run(text: &mut String, part: &Part) {
    let run = &part.run;
    let ended = match (&run.ended, &run.verdict) {
        (Some(ended), Some(verdict)) => format!("ended {ended} ({})", verdict.replace('_', " ")),
        _ => "killed, or given up".to_owned(),
    };
    let _ = writeln!(text, "  run {}, started {}, {ended}", run.run, run.started);
    let width = part.attempts.iter().map(|attempt| attempt.step.chars().count()).max().unwrap_or(0);
    for attempt in &part.attempts {
        let _ = writeln!(text, "    {:<width$}  {}", one_line(&attempt.step), attempted(attempt));
    }
    for product in &part.products {
        let gone = if product.missing { ", no longer there" } else { "" };
        let _ = writeln!(
            text,
            "    made {} ({}{gone})",
            one_line(&product.path),
            one_line(&product.step)
        );
    }
    for entry in &part.quarantine {
        let gone = if entry.exists() { "" } else { " (no longer there)" };
        let _ = writeln!(text, "    kept in {}{gone}", one_line(&entry.display().to_string()));
    }
}

fn attempted(attempt: &Attempt) -> String {
    let mut text = attempt.outcome.clone();
    if attempt.attempt > 1 || attempt.outcome != "done" {
        let _ = write!(text, ", attempt {}", attempt.attempt);
    }
    if let Some(worker) = attempt.worker {
        let _ = write!(text, ", worker {worker}");
    }
    let seconds = |seconds: f64| duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    if let (Some(waited), Some(busy)) = (attempt.waited_s, attempt.busy_s) {
        let _ = write!(text, ", waited {}, ran {}", seconds(waited), seconds(busy));
    }
    if let Some(reason) = &attempt.reason {
        let _ = write!(text, ": {}", one_line(reason));
    }
    text
}

fn describe_gathered(text: &mut String, gathered: &Gathered) {
    let Gathered { product, run, made_from } = gathered;
    let count = made_from.len();
    let inputs = if count == 1 { "input" } else { "inputs" };
    let _ = writeln!(
        text,
        "{} was made by {} in run {run} at {} from {count} {inputs}:",
        one_line(&product.path),
        one_line(&product.step),
        one_line(&product.time)
    );
    for origin in made_from {
        let _ = writeln!(text, "  {}", one_line(origin));
    }
}
