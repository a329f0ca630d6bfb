//! `drpipe report`, and the page that `drpipe run --report` leaves.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::args::ReportArgs;
use super::{STOPPED, USAGE, complain, print, say};
use crate::cli::run::run_files;
use crate::report::{self, ReportData};

pub(super) fn report(args: &ReportArgs) -> ExitCode {
    let report_data = match report::read(&args.source, args.run.as_deref()) {
        Ok(report_data) => report_data,
        Err(error) => return complain(USAGE, format_args!("error: {error}")),
    };
    let page = report_data.html();
    let file = match &args.output {
        Some(file) if file.as_os_str() == "-" => return print(page.as_bytes()),
        Some(file) => file.clone(),
        // Whatever a journal says, the page is written here.
        None => PathBuf::from(report_data.run().unwrap_or("run").replace('/', "_") + ".html"),
    };
    match run_files::write_text(&page, &file) {
        Ok(()) => {
            if args.output.is_none() {
                say(format_args!("the report is {}", file.display()));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            let file = file.display();
            complain(STOPPED, format_args!("error: cannot write the report {file}: {error}"))
        }
    }
}

/// Writes the page of a run that has just ended.
///
/// # Errors
/// What the system says, in words.
pub(super) fn leave(report_data: &ReportData, file: &Path) -> Result<(), String> {
    run_files::write_text(&report_data.html(), file)
        .map_err(|error| format!("cannot write the report {}: {error}", file.display()))
}
