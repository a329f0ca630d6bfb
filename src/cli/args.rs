//! The arguments.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use super::ctl::CtlArgs;
use super::source::{Named, Source};
use super::top::TopArgs;
use crate::cli::run::driving_process::DriverArgs;
use crate::pipeline::Mode;
use crate::plan::address::Address;

const EXAMPLES: &str = "\
Examples:
  drpipe pipeline.json
  drpipe examples/fits2png.json night7/*.fits
  drpipe --config pipeline.json --set CLEAN.nb_thread=4 --summary run.json
  drpipe --config pipeline.json --resume --explain
  drpipe pipeline.json --inline
  drpipe check pipeline.json
  drpipe check --config pipeline.json --mock fail=0.1,panic=0.05,slow=0.02
  drpipe graph --config pipeline.json --format mermaid
  drpipe stages NoiseRemoval
  drpipe stages --python lab.reduction
  drpipe quarantine list quarantine
  drpipe quarantine retry quarantine --config pipeline.json
  drpipe --config pipeline.json --monitor
  drpipe monitor
  drpipe top
  drpipe ctl pause CLEAN
  drpipe why out/png/n7_0042.png
  drpipe report pipeline.journal

Exit codes:
  0  every input was processed
  1  the run reached its end, but some inputs failed
  2  the configuration, the command line or the journal is wrong; nothing was run
  3  stopped by policy, a failing producer, init or journal, or an internal error
  130  interrupted";

const MOCK_HELP: &str = "\
With --mock the graph, the workers, the queue limits and the policies are run with mocks in
the place of the stages; no stage of the pipeline is. Producers emit numbered messages, stages
pass each on to one of the next steps, and things go wrong as often as FAULTS says:
  fail=P, panic=P     a message fails, or its stage panics
  undeclared=P        it is sent to a step that is not among the next steps
  slow=P              it takes 5 ms
  messages=N          how many messages each producer emits; default 100
  seed=N              other messages go wrong; default 0
P is a part of 1. What goes wrong depends on the seed, the step and the message only, so it is
known what the ledger must be; the run is compared with that. Waits before retries are short.

Examples:
  drpipe check --config pipeline.json
  drpipe check --config pipeline.json --mock fail=0.1,panic=0.05,slow=0.02,messages=500

Exit codes:
  0  the configuration is valid, and the mocks' ledger is the expected one
  2  the configuration or the command line is wrong
  3  the mocks' ledger is another one
  130  interrupted";

const QUARANTINE_EXAMPLES: &str = "\
Examples:
  drpipe quarantine list quarantine
  drpipe quarantine show quarantine/20250314T021530Z-ftm08c/000001-CLEAN
  drpipe quarantine retry quarantine --config pipeline.json
  drpipe quarantine retry quarantine/20250314T021530Z-ftm08c --set CLEAN.threshold=4";

const WHY_HELP: &str = "\
It is taken from the journal that runs keep with --journal or --resume.

Examples:
  drpipe why raw/n7_0042.fits
  drpipe why out/png/n7_0042.png --journal night7.journal

Exit codes:
  0  the journal knows the path
  1  it does not
  2  the command line or the journal is wrong";

const REPORT_HELP: &str = "\
Examples:
  drpipe report night7.journal
  drpipe report night7.journal --run 20250314T021530Z-ftm08c -o night7.html
  drpipe report events.jsonl -o -
  drpipe run --config pipeline.json --report night7.html";

/// Runs pipelines of scientific data reduction.
#[derive(Debug, Parser)]
#[command(name = "drpipe", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) run: RunCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a pipeline (the default)
    Run(Box<RunCommand>),
    /// Check a configuration and print the plan; run nothing, or only mocks
    #[command(after_help = MOCK_HELP)]
    Check(CheckArgs),
    /// Print the graph of a configuration
    Graph(GraphArgs),
    /// List the stages, or show one with its parameters
    Stages(StagesArgs),
    /// Look at the inputs that failed, or try them again
    #[command(after_help = QUARANTINE_EXAMPLES)]
    Quarantine(QuarantineArgs),
    /// Show all runs of this user on this machine to browsers, also after their end
    Monitor(MonitorArgs),
    /// Show a run in the terminal and steer it
    Top(TopArgs),
    /// Say where a run stands, or steer it: pause, workers, retry, drain, stop
    Ctl(CtlArgs),
    /// Say what became of an input, or from which input a product came
    #[command(after_help = WHY_HELP)]
    Why(WhyArgs),
    /// Make a page of a run that is over, or was killed
    #[command(after_help = REPORT_HELP)]
    Report(ReportArgs),
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Print a completion script
    Completions {
        /// The shell to print it for
        shell: clap_complete::Shell,
    },
}

/// A run as a person asks for it: `drpipe night.json raw/*.fits`.
#[derive(Debug, ClapArgs)]
pub(super) struct RunCommand {
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
    /// What was named without an option.
    pub(super) fn words(&self) -> impl Iterator<Item = &Path> {
        self.file.iter().chain(&self.frames).map(PathBuf::as_path)
    }

    /// The options, with the configuration and the frames in their places.
    pub(super) fn into_run(self) -> RunArgs {
        let Self { file, frames, mut run } = self;
        run.source.take_words(file, frames);
        run
    }
}

#[derive(Debug, ClapArgs)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) source: Source,
    /// How the workers are placed
    #[arg(long, value_enum)]
    pub(super) mode: Option<ModeArg>,
    /// Run the steps in Python in one interpreter that has this terminal, one message
    /// after the other: for pdb and breakpoint()
    #[arg(long, conflicts_with = "mode")]
    pub(super) inline: bool,
    /// Give results to the last steps in the order of the producer's messages
    #[arg(long)]
    pub(super) ordered: bool,
    /// Write what became of the run as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) summary: Option<PathBuf>,
    /// Write a page to keep of what became of the run, in HTML
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Write every event of the run as a line of JSON, what became of it as the last
    #[arg(long, value_name = "FILE")]
    pub(super) events: Option<PathBuf>,
    /// Write when each message waited and ran, at which worker, for ui.perfetto.dev or
    /// chrome://tracing
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    /// Keep failed inputs here instead of where the configuration says
    #[arg(long, value_name = "DIR")]
    pub(super) quarantine: Option<PathBuf>,
    /// Record in this file what becomes of each item
    #[arg(long, value_name = "FILE")]
    pub(super) journal: Option<PathBuf>,
    /// Skip what the journal has as done with the same configuration; without
    /// --journal it is the configuration's name with .journal, in the current directory
    #[arg(long)]
    pub(super) resume: bool,
    /// Print for each item whether it is skipped, and why
    #[arg(long, requires = "resume")]
    pub(super) explain: bool,
    /// After the first signal, wait this long for what was begun [s]
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    pub(super) drain_limit: f64,
    /// The form of log lines
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace, also per module
    #[arg(long, value_name = "FILTER", default_value = "info", env = "DRPIPE_LOG")]
    pub(super) log_level: String,
    /// Print no progress and no ledger
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Show the run to browsers while it lasts, at host:port, a port or a host; without
    /// one at localhost:5565
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = Address::DEFAULT)]
    pub(super) monitor: Option<Address>,
    /// What steering over the network takes, from this machine too; without one, others only
    /// look. Better given as DRPIPE_MONITOR_TOKEN, which no other user can read
    #[arg(long, value_name = "TOKEN", env = "DRPIPE_MONITOR_TOKEN", hide_env_values = true, value_parser = token)]
    pub(super) monitor_token: Option<String>,
    #[command(flatten)]
    pub(super) driver: DriverArgs,
}

impl RunArgs {
    /// The journal, if one is to be kept.
    pub(super) fn journal(&self) -> Option<PathBuf> {
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

/// A token travels in a header, and a short one is guessed.
fn token(text: &str) -> Result<String, String> {
    const SHORTEST: usize = 8;
    if text.len() < SHORTEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "expected {SHORTEST} or more letters, digits and signs without blanks"
        ));
    }
    Ok(text.to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    if (0.0..=1e9).contains(&value) { Ok(value) } else { Err("expected 0 to 1e9 seconds".into()) }
}

#[derive(Debug, ClapArgs)]
pub(super) struct QuarantineArgs {
    #[command(subcommand)]
    pub(super) command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum QuarantineCommand {
    /// List failed inputs, a line each, the newest run last
    List(EntriesArgs),
    /// Show all that is known of failed inputs
    Show(EntriesArgs),
    /// Feed failed inputs through the pipeline again, each from the step at which it failed
    ///
    /// The pipeline's own producer is not run. Entries are removed when the run has reached
    /// its end: what failed again is in the quarantine of the new run. The options are those
    /// of a run, and so are the exit codes; it is 1 at least if an entry could not be read.
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

#[derive(Debug, ClapArgs)]
pub(super) struct MonitorArgs {
    /// Where they are shown: host:port, a port or a host
    #[arg(value_name = "ADDRESS", default_value = Address::DEFAULT)]
    pub(super) address: Address,
    /// Show this run too, or the runs of this monitor, such as http://tel2:5565/
    #[arg(long = "run", value_name = "URL")]
    pub(super) runs: Vec<String>,
    /// The token that the runs given by --run were given; better given as DRPIPE_TOKEN
    #[arg(long, env = "DRPIPE_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
    /// What steering over the network takes, from this machine too; without one, others only
    /// look. Better given as DRPIPE_MONITOR_TOKEN, which no other user can read
    #[arg(long, value_name = "TOKEN", env = "DRPIPE_MONITOR_TOKEN", hide_env_values = true, value_parser = token)]
    pub(super) monitor_token: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct WhyArgs {
    /// An input or a product, as the run named it or as it is found from here
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

#[derive(Debug, ClapArgs)]
pub(super) struct ReportArgs {
    /// A journal, or a file that --events has written
    #[arg(value_name = "SOURCE")]
    pub(super) source: PathBuf,
    /// Of several runs in a journal take this one instead of the last: its name, or the
    /// beginning or end of it
    #[arg(long, value_name = "RUN")]
    pub(super) run: Option<String>,
    /// The page; default: the run's name with .html, in the current directory. With - it is
    /// printed
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) named: Named,
    /// Run the graph with mocks that go wrong, such as fail=0.1,panic=0.05,messages=500
    #[arg(long, value_name = "FAULTS")]
    pub(super) mock: Option<String>,
    /// How the mocks' workers are placed
    #[arg(long, value_enum, requires = "mock", default_value_t = ModeArg::Threads)]
    pub(super) mode: ModeArg,
    /// What the mocks' run logs
    #[arg(long, value_name = "FILTER", requires = "mock", default_value = "off")]
    pub(super) log_level: String,
}

#[derive(Debug, ClapArgs)]
pub(super) struct GraphArgs {
    #[command(flatten)]
    pub(super) named: Named,
    /// The language of the graph
    #[arg(long, value_enum, default_value_t = GraphFormat::Dot)]
    pub(super) format: GraphFormat,
}

#[derive(Debug, ClapArgs)]
pub(super) struct StagesArgs {
    /// The class to show
    pub(super) name: Option<String>,
    /// Look into this Python module instead of drpipe's own stages
    #[arg(long, value_name = "MODULE")]
    pub(super) python: Option<String>,
    /// The Python interpreter, or the directory of a virtual environment
    #[arg(long, value_name = "PROGRAM", requires = "python")]
    pub(super) interpreter: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ModeArg {
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
pub(super) enum LogFormat {
    /// Lines to read
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum GraphFormat {
    /// Graphviz
    Dot,
    /// Mermaid, as GitHub and GitLab draw it
    Mermaid,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }
}
