//! `drpipe report`, and the page that `drpipe run --report` writes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::output::{CommandError, print, say};
use super::run_files;
use crate::report::{self, ReportData};

const REPORT_HELP: &str = "\
Examples:
  drpipe report night7.journal
  drpipe report night7.journal --run 20250314T021530Z-ftm08c -o night7.html
  drpipe report events.jsonl -o -
  drpipe run --config pipeline.json --report night7.html";

#[derive(Debug, ClapArgs)]
#[command(after_help = REPORT_HELP)]
pub(super) struct ReportArgs {
    /// A journal, or a file that --events has written
    #[arg(value_name = "SOURCE")]
    pub(super) source: PathBuf,
    /// Report this run of a journal instead of the last: its name, or the beginning or end of
    /// its name
    #[arg(long, value_name = "RUN")]
    pub(super) run: Option<String>,
    /// The page; default: the run's name with .html, in the current directory; - prints it
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

pub(super) fn report(args: &ReportArgs) -> ExitCode {
    let report_data = match report::read(&args.source, args.run.as_deref()) {
        Ok(report_data) => report_data,
        Err(error) => return CommandError::usage(error).exit(),
    };
    let page = report_data.html();
    let file = match &args.output {
        Some(file) if file.as_os_str() == "-" => return print(page.as_bytes()),
        Some(file) => file.clone(),
        // The name comes from the journal and must not lead to another directory.
        None => PathBuf::from(report_data.run().unwrap_or("run").replace('/', "_") + ".html"),
    };
    match write(&page, &file) {
        Ok(()) => {
            if args.output.is_none() {
                say(format_args!("the report is {}", file.display()));
            }
            ExitCode::SUCCESS
        }
        Err(error) => error.exit(),
    }
}

/// Writes the page of a run that has just ended.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write_page(report_data: &ReportData, file: &Path) -> Result<(), CommandError> {
    write(&report_data.html(), file)
}

fn write(page: &str, file: &Path) -> Result<(), CommandError> {
    run_files::write_text(page, file).map_err(|error| {
        CommandError::stopped(format_args!("cannot write the report {}: {error}", file.display()))
    })
}
