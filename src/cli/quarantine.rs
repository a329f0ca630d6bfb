//! `drpipe quarantine`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use clap::{Args as ClapArgs, Subcommand};

use super::output::{CommandError, complain, print, print_text, say, table};
use super::run::args::RunArgs;
use super::run::{self, Performed};
use crate::base::escape::one_line;
use crate::codec::{self, CodecId};
use crate::event::Verdict;
use crate::event::exit_code::{DONE, SOME_FAILED, USAGE};
use crate::pipeline::Pipeline;
use crate::sinks::quarantine::{Contents, Entry, Taken, find, is_pickle, read_payload, remove};

const QUARANTINE_EXAMPLES: &str = "\
Examples:
  drpipe quarantine list quarantine
  drpipe quarantine show quarantine/20250314T021530Z-ftm08c/000001-CLEAN
  drpipe quarantine retry quarantine --config pipeline.json
  drpipe quarantine retry quarantine/20250314T021530Z-ftm08c --set CLEAN.sigma=4";

#[derive(Debug, ClapArgs)]
#[command(after_help = QUARANTINE_EXAMPLES)]
pub(super) struct QuarantineArgs {
    #[command(subcommand)]
    pub(super) command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum QuarantineCommand {
    /// List failed inputs, a line each, the newest run last
    List(EntriesArgs),
    /// Show everything that is known about failed inputs
    Show(EntriesArgs),
    /// Feed failed inputs through the pipeline again, each from the step at which it failed
    ///
    /// The pipeline's own producer does not run. When the run reaches its end, drpipe removes the
    /// entries; inputs that failed again are in the quarantine of the new run. The options and
    /// the exit codes are those of a run; the code is at least 1 if an entry could not be read.
    Retry(Box<RetryArgs>),
}

#[derive(Debug, ClapArgs)]
pub(super) struct EntriesArgs {
    /// A quarantine directory, the directory of one run in it, or one entry
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct RetryArgs {
    /// A quarantine directory, the directory of one run in it, or one entry
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

const HEADINGS: [&str; 7] = ["entry", "step", "cause", "attempts", "time", "origin", "reason"];
/// The longest header that `show` prints, in bytes.
const MAX_HEADER_BYTES: u64 = 1 << 20;

pub(super) fn list(args: &EntriesArgs) -> ExitCode {
    with_entries(args, |entries| {
        let rows: Vec<[String; 7]> = entries.iter().map(row).collect();
        table(HEADINGS, &rows)
    })
}

pub(super) fn show(args: &EntriesArgs) -> ExitCode {
    with_entries(args, |entries| entries.iter().map(details).collect::<Vec<_>>().join("\n"))
}

fn with_entries(args: &EntriesArgs, text: impl FnOnce(&[Entry]) -> String) -> ExitCode {
    let entries = match find(&args.directory) {
        Ok(entries) => entries,
        Err(error) => return CommandError::usage(error).exit(),
    };
    if args.json {
        let entries: Value = entries.iter().map(as_json).collect();
        return print(format!("{entries:#}\n").as_bytes());
    }
    if entries.is_empty() {
        say(nothing_in(&args.directory));
        return ExitCode::SUCCESS;
    }
    print_text(&text(&entries))
}

fn nothing_in(directory: &Path) -> String {
    format!("there is no failed input in {}", directory.display())
}

fn row(entry: &Entry) -> [String; 7] {
    let path = one_line(&entry.path.display().to_string());
    let reason = match &entry.contents {
        Ok(contents) => &contents.reason,
        Err(error) => {
            let unknown = || "-".to_owned();
            let error = one_line(&format!("cannot be used: {error}"));
            return [path, unknown(), "corrupt".into(), unknown(), unknown(), unknown(), error];
        }
    };
    [
        path,
        one_line(&reason.step),
        one_line(&reason.cause),
        reason.attempts.to_string(),
        one_line(&reason.time),
        one_line(reason.origin.as_deref().unwrap_or("-")),
        one_line(why(&reason.reason)),
    ]
}

/// The sentence that gives the reason: the innermost one that is not a traceback.
fn why(reason: &[String]) -> &str {
    let last = reason.iter().rfind(|sentence| !sentence.contains('\n'));
    last.or(reason.first()).map_or("-", String::as_str)
}

/// All fields of `reason.json` and the sizes of the files.
fn details(entry: &Entry) -> String {
    let mut text = one_line(&entry.path.display().to_string()) + "\n";
    match &entry.contents {
        Err(error) => text += &field("corrupt", &Value::from(error.to_string())),
        Ok(contents) => {
            text +=
                &contents.fields.iter().map(|(name, value)| field(name, value)).collect::<String>();
            text += &field("header.bin", &json!(format!("{} bytes", contents.header_bytes)));
            for (index, bytes) in contents.buffer_bytes.iter().enumerate() {
                text += &field(&format!("buffer-{index}.bin"), &json!(format!("{bytes} bytes")));
            }
            if let Some(value) = value(&entry.path, contents) {
                text += &field("value", &json!(value));
            }
        }
    }
    text
}

/// The input in words, if its codec is self-describing and it is not too long.
fn value(path: &Path, contents: &Contents) -> Option<String> {
    let wanted =
        contents.reason.codec == CodecId::MessagePack && contents.header_bytes <= MAX_HEADER_BYTES;
    let payload = wanted.then(|| read_payload(path, 0))?.ok()?;
    Some(codec::readable(&payload.header))
}

/// A field, with a line for each item of a list.
fn field(name: &str, value: &Value) -> String {
    let lines: Vec<String> = match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        value => vec![plain(value)],
    };
    let line = |(index, line): (usize, &String)| {
        let name = if index == 0 { one_line(name) } else { String::new() };
        format!("  {name:13} {line}").trim_end().to_owned() + "\n"
    };
    lines.iter().enumerate().map(line).collect()
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => one_line(text),
        Value::Object(members) => past(members).unwrap_or_else(|| one_line(&value.to_string())),
        value => one_line(&value.to_string()),
    }
}

/// An entry of `retried_from` in words.
fn past(members: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| members.get(key)?.as_str();
    let (run, entry, time) = (text("run")?, text("entry")?, text("time")?);
    let reason = members.get("reason")?.as_array()?.iter().filter_map(Value::as_str);
    let reason: Vec<&str> = reason.collect();
    Some(one_line(&format!("{run}/{entry} at {time}: {}", reason.join(": "))))
}

fn as_json(entry: &Entry) -> Value {
    let mut object = Map::from_iter([("path".to_owned(), json!(entry.path.display().to_string()))]);
    match &entry.contents {
        Err(error) => {
            object.insert("corrupt".into(), json!(error.to_string()));
        }
        Ok(contents) => {
            object.extend(contents.fields.clone());
            object.insert("header_bytes".into(), json!(contents.header_bytes));
            object.insert("buffer_bytes".into(), json!(contents.buffer_bytes));
        }
    }
    Value::Object(object)
}

pub(super) fn retry(pipeline: Pipeline, args: &RetryArgs) -> ExitCode {
    if args.run.journal.is_some() || args.run.resume {
        let error = CommandError::usage(
            "a retry cannot keep a journal, because it processes only part of an item; run the \
             pipeline itself with --resume to process failed items again from the beginning",
        );
        return error.exit();
    }
    let (entries, _taken) = match take(&args.directory) {
        Ok(taken) => taken,
        Err(error) => return error.exit(),
    };
    if entries.is_empty() {
        say(nothing_in(&args.directory));
        return ExitCode::SUCCESS;
    }
    let (inputs, skipped) = usable(entries);
    let paths: Vec<PathBuf> = inputs.iter().map(|(path, _)| path.clone()).collect();
    let inputs = newest_of_each(inputs);
    if inputs.len() < paths.len() {
        let older = paths.len() - inputs.len();
        say(format_args!(
            "note: {older} older entries of the same inputs are removed together with the newest"
        ));
    }
    if paths.is_empty() {
        return complain(SOME_FAILED, "error: no entry is left to retry");
    }
    let pipeline = match pipeline.retrying(inputs) {
        Ok((pipeline, note)) => {
            note.into_iter().for_each(|note| say(format_args!("note: {note}")));
            pipeline
        }
        Err(errors) => {
            errors.iter().for_each(|error| say(format_args!("error: {error}")));
            return ExitCode::from(USAGE);
        }
    };
    match run::perform(pipeline, &args.run) {
        Ok(performed) => conclude(&performed, &paths, skipped, args),
        Err(error) => error.exit(),
    }
}

/// The entries that can be tried again, and the number of those that cannot.
fn usable(entries: Vec<Entry>) -> (Vec<(PathBuf, Contents)>, usize) {
    let mut inputs = Vec::new();
    let (mut skipped, mut pickles) = (0, 0);
    for Entry { path, contents } in entries {
        let judged = contents.and_then(|contents| Ok((is_pickle(&path, &contents)?, contents)));
        match judged {
            Ok((pickle, contents)) => {
                pickles += usize::from(pickle);
                inputs.push((path, contents));
            }
            Err(error) => {
                skipped += 1;
                say(format_args!("warning: {} is skipped: {error}", path.display()));
            }
        }
    }
    if pickles > 0 {
        say(format_args!(
            "note: {} are Python objects (pickles): loading one runs code that its author chose, \
             so retry only what your own runs have kept",
            entries_of(pickles)
        ));
    }
    (inputs, skipped)
}

/// Locks the entries, so that no other program retries them at the same time.
fn take(directory: &Path) -> Result<(Vec<Entry>, Taken), CommandError> {
    let find = |directory| find(directory).map_err(CommandError::usage);
    let taken = |paths: &[PathBuf]| {
        Taken::of(paths.iter().map(PathBuf::as_path)).map_err(CommandError::usage)
    };
    let paths: Vec<PathBuf> = find(directory)?.into_iter().map(|entry| entry.path).collect();
    if paths.is_empty() {
        return Ok((Vec::new(), taken(&[])?));
    }
    let taken = taken(&paths)?;
    // Another program may have processed some since the first look; those that are new since then
    // are left out.
    let mut entries = if directory.exists() { find(directory)? } else { Vec::new() };
    entries.retain(|entry| paths.contains(&entry.path));
    Ok((entries, taken))
}

/// Keeps the newest of several entries of one input at one step, from successive runs: the input
/// is tried again once.
fn newest_of_each(inputs: Vec<(PathBuf, Contents)>) -> Vec<(PathBuf, Contents)> {
    let buffers = |contents: &Contents| contents.buffer_bytes.len();
    let mut newest: Vec<(PathBuf, Contents)> = Vec::new();
    for (path, contents) in inputs {
        let same = |(other, known): &(PathBuf, Contents)| {
            known.reason.run != contents.reason.run
                && known.reason.step == contents.reason.step
                && known.reason.origin == contents.reason.origin
                && known.header_bytes == contents.header_bytes
                && known.buffer_bytes == contents.buffer_bytes
                && read_payload(other, buffers(known)).ok()
                    == read_payload(&path, buffers(&contents)).ok()
        };
        newest.retain(|known| !same(known));
        newest.push((path, contents));
    }
    newest
}

/// Prints what became of the run, then removes the entries whose inputs were processed.
fn conclude(
    performed: &Performed,
    paths: &[PathBuf],
    skipped: usize,
    args: &RetryArgs,
) -> ExitCode {
    let (code, report) = (run::conclude(performed, &args.run), &performed.report);
    let ended = matches!(report.verdict, Verdict::Done | Verdict::SomeFailed);
    if !ended || !report.finish_failures.is_empty() {
        let why = if ended { "a finish failed" } else { "the run did not reach its end" };
        say(format_args!("left as they are, because {why}: {}", entries_of(paths.len())));
        return code.into();
    }
    for path in paths {
        let shown = path.display();
        match remove(path) {
            Ok(others) if others.is_empty() => {}
            Ok(others) => say(format_args!(
                "note: {shown} is kept, because it has files that drpipe did not write: {}",
                others.join(", ")
            )),
            Err(error) => {
                let what = "which was processed";
                let error = format_args!("cannot remove {shown}, {what}: {error}");
                return CommandError::stopped(error).exit();
            }
        }
    }
    if !args.run.quiet {
        say(format_args!("tried again and removed: {}", entries_of(paths.len())));
    }
    ExitCode::from(if code == DONE && skipped > 0 { SOME_FAILED } else { code })
}

fn entries_of(count: usize) -> String {
    format!("{count} {}", if count == 1 { "entry" } else { "entries" })
}
