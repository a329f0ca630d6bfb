//! The options of a run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, ValueEnum};

use crate::cli::process::driving_program::DriverArgs;
use crate::cli::process::token;
use crate::cli::source::Source;
use crate::pipeline::Mode;
use crate::plan::address::Address;

/// A run requested without options: `drpipe night.json raw/*.fits`.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct RunCommand {
    /// The configuration, unless --config names it
    #[arg(value_name = "CONFIG")]
    file: Option<PathBuf>,
    /// Frames for the producer, files or directories, instead of those that the
    /// configuration names
    #[arg(value_name = "FRAMES")]
    frames: Vec<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

impl RunCommand {
    /// The arguments without an option.
    pub(in crate::cli) fn words(&self) -> impl Iterator<Item = &Path> {
        self.file.iter().chain(&self.frames).map(PathBuf::as_path)
    }

    /// The options, with the configuration and the frames in their places.
    pub(in crate::cli) fn into_run(self) -> RunArgs {
        let Self { file, frames, mut run } = self;
        run.source.take_words(file, frames);
        run
    }
}

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct RunArgs {
    #[command(flatten)]
    pub(in crate::cli) source: Source,
    /// Where the workers run
    #[arg(long, value_enum)]
    pub(in crate::cli) mode: Option<ModeArg>,
    /// Run the steps in Python in one interpreter that has this terminal, one message
    /// after the other: for pdb and breakpoint()
    #[arg(long, conflicts_with = "mode")]
    pub(in crate::cli) inline: bool,
    /// Give results to the last steps in the order of the producer's messages
    #[arg(long)]
    pub(in crate::cli) ordered: bool,
    /// Write the summary of the run as JSON
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) summary: Option<PathBuf>,
    /// Write a report of the run as one HTML page
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) report: Option<PathBuf>,
    /// Write every event of the run as a line of JSON; the last line is the summary
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) events: Option<PathBuf>,
    /// Write when each message waited and ran, and on which worker, for ui.perfetto.dev or
    /// chrome://tracing
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) trace: Option<PathBuf>,
    /// Keep failed inputs here instead of where the configuration says
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) quarantine: Option<PathBuf>,
    /// Record in this file what becomes of each item
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) journal: Option<PathBuf>,
    /// Skip items that the journal records as done with the same configuration; without --journal,
    /// the journal is the configuration's name with .journal, in the current directory
    #[arg(long)]
    pub(in crate::cli) resume: bool,
    /// Print for each item whether it is skipped, and why
    #[arg(long, requires = "resume")]
    pub(in crate::cli) explain: bool,
    /// After the first signal, wait this long for work in progress [s]
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    pub(in crate::cli) drain_limit: f64,
    /// The format of log lines
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(in crate::cli) log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace, also per module
    #[arg(long, value_name = "FILTER", default_value = "info", env = "DRPIPE_LOG")]
    pub(in crate::cli) log_level: String,
    /// Print no progress and no ledger
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    /// Show the run to browsers while it lasts, at host:port, a port or a host; without
    /// a value, at localhost:5565
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = Address::DEFAULT)]
    pub(in crate::cli) monitor: Option<Address>,
    /// Token required to steer over the network, also from this machine; without one, other
    /// machines can only watch. Prefer DRPIPE_MONITOR_TOKEN, which other users cannot read
    #[arg(long, value_name = "TOKEN", env = "DRPIPE_MONITOR_TOKEN", hide_env_values = true, value_parser = token::parse)]
    pub(in crate::cli) monitor_token: Option<String>,
    /// Standard input is a socket of the program that starts this run, feeds it, and provides the
    /// workers of steps of class Caller (docs/ATTACH.md)
    #[arg(long, conflicts_with = "inline")]
    pub(in crate::cli) attach: bool,
    #[command(flatten)]
    pub(in crate::cli) driver: DriverArgs,
}

impl RunArgs {
    /// The journal, if the run keeps one.
    pub(in crate::cli) fn journal(&self) -> Option<PathBuf> {
        let default = || {
            let stem = match self.source.is_standard_input() {
                true => OsStr::new("stdin"),
                false => self.source.config().file_stem().unwrap_or_default(),
            };
            PathBuf::from(stem).with_added_extension("journal")
        };
        self.journal.clone().or_else(|| self.resume.then(default))
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    if (0.0..=1e9).contains(&value) { Ok(value) } else { Err("expected 0 to 1e9 seconds".into()) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ModeArg {
    /// Every worker on a thread of its own
    Threads,
    /// Every worker on one thread, one message after the other
    Sequential,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Threads => Mode::Threads,
            ModeArg::Sequential => Mode::Sequential,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}
