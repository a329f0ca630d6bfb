//! The arguments.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::config::{ConfigError, Setting};
use crate::pipeline::Mode;

const EXAMPLES: &str = "\
Examples:
  drpipe --config pipeline.json
  drpipe --config examples/fits2png.json --set FitsFiles.directory=night7
  drpipe --config pipeline.json --set CLEAN.nb_thread=4 --summary run.json
  drpipe check --config pipeline.json
  drpipe graph --config pipeline.json --format mermaid
  drpipe stages NoiseRemoval

Exit codes:
  0  every input was processed
  1  the run reached its end, but some inputs failed
  2  the configuration or the command line is wrong; nothing was run
  3  stopped by policy, a failing producer or init, or an internal error
  130  interrupted";

/// Runs pipelines of scientific data reduction.
#[derive(Debug, Parser)]
#[command(name = "drpipe", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a pipeline (the default)
    Run(RunArgs),
    /// Check a configuration and print the plan; run nothing
    Check(CheckArgs),
    /// Print the graph of a configuration
    Graph(GraphArgs),
    /// List the stages, or show one with its parameters
    Stages(StagesArgs),
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Print a completion script
    Completions {
        /// The shell to print it for
        shell: clap_complete::Shell,
    },
}

/// Which configuration, with which settings.
#[derive(Debug, ClapArgs)]
pub(super) struct Source {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "pipeline.json")]
    pub(super) config: PathBuf,
    /// Set a step's key (CLEAN.nb_thread=4), a step's parameter or a parameter
    /// of a class (FitsFiles.directory=night7); beats the file. Also written
    /// as --FitsFiles.directory=night7
    #[arg(long, value_name = "NAME.KEY=VALUE")]
    set: Vec<String>,
}

impl Source {
    pub(super) fn settings(&self) -> Result<Vec<Setting>, ConfigError> {
        let (settings, errors): (Vec<_>, Vec<_>) =
            self.set.iter().map(|text| Setting::parse(text)).partition(Result::is_ok);
        let diagnostics: Vec<_> = errors.into_iter().filter_map(Result::err).collect();
        if diagnostics.is_empty() {
            Ok(settings.into_iter().flatten().collect())
        } else {
            Err(ConfigError { diagnostics })
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) source: Source,
    /// How the workers are placed
    #[arg(long, value_enum, default_value_t = ModeArg::Threads)]
    pub(super) mode: ModeArg,
    /// Write what became of the run as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) summary: Option<PathBuf>,
    /// Keep failed inputs here instead of where the configuration says
    #[arg(long, value_name = "DIR")]
    pub(super) quarantine: Option<PathBuf>,
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
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    if (0.0..=1e9).contains(&value) { Ok(value) } else { Err("expected 0 to 1e9 seconds".into()) }
}

#[derive(Debug, ClapArgs)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) source: Source,
}

#[derive(Debug, ClapArgs)]
pub(super) struct GraphArgs {
    #[command(flatten)]
    pub(super) source: Source,
    /// The language of the graph
    #[arg(long, value_enum, default_value_t = GraphFormat::Dot)]
    pub(super) format: GraphFormat,
}

#[derive(Debug, ClapArgs)]
pub(super) struct StagesArgs {
    /// The class to show
    pub(super) name: Option<String>,
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

/// `--FitsFiles.directory=night7`, as ctapipe writes it, becomes
/// `--set FitsFiles.directory=night7`.
pub(super) fn with_class_settings(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut all = Vec::new();
    let mut only_values = false;
    for arg in args {
        only_values |= arg == "--";
        let setting = arg.to_str().filter(|_| !only_values).and_then(|text| {
            let setting = text.strip_prefix("--")?;
            let (name, _) = setting.split_once('=')?;
            name.contains('.').then(|| setting.to_owned())
        });
        match setting {
            Some(setting) => all.extend(["--set".into(), setting.into()]),
            None => all.push(arg),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_class_option_is_a_setting() {
        let args = ["drpipe", "--FitsFiles.directory=n=1", "--summary=a.json", "--config", "x.y"];
        let args = with_class_settings(args.map(OsString::from));
        let expected =
            ["drpipe", "--set", "FitsFiles.directory=n=1", "--summary=a.json", "--config", "x.y"];
        assert_eq!(args, expected.map(OsString::from));
    }
}
