//! The commands and their arguments; the options of each command are in its own file.

use clap::{Parser, Subcommand};

use super::check::CheckArgs;
use super::ctl::CtlArgs;
use super::graph::GraphArgs;
use super::monitor::MonitorArgs;
use super::quarantine::QuarantineArgs;
use super::report::ReportArgs;
use super::run::args::RunCommand;
use super::stages::StagesArgs;
use super::top::TopArgs;
use super::why::WhyArgs;

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
    Check(CheckArgs),
    /// Print the graph of a configuration
    Graph(GraphArgs),
    /// List the stages, or show one with its parameters
    Stages(StagesArgs),
    /// Show the inputs that failed, or retry them
    Quarantine(QuarantineArgs),
    /// Show all runs of this user on this machine to browsers, also after their end
    Monitor(MonitorArgs),
    /// Show a run in the terminal and steer it
    Top(TopArgs),
    /// Show the state of a run, or steer it: pause, workers, retry, drain, stop
    Ctl(CtlArgs),
    /// Show what became of an input, or which input a product came from
    Why(WhyArgs),
    /// Write the report of a run that has ended or was killed, as one HTML page
    Report(ReportArgs),
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Print a completion script
    Completions {
        /// The shell to print it for
        shell: clap_complete::Shell,
    },
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
