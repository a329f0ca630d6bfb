//! `drpipe monitor`, and the monitor that each run has.

use std::process::ExitCode;

use super::args::{MonitorArgs, RunArgs};
use super::{STOPPED, complain, say, target};
use crate::event::Level;
use crate::monitor::{Elsewhere, Monitor, Options, show_all as serve};
use crate::pipeline::Handle;
use crate::plan::Plan;

/// Shows all runs until it is ended.
pub(super) fn show_all(args: MonitorArgs) -> ExitCode {
    let MonitorArgs { address, runs, token, monitor_token } = args;
    let elsewhere = |url| Elsewhere { url, token: token.clone() };
    let elsewhere: Vec<Elsewhere> = runs.into_iter().map(elsewhere).collect();
    let options = Options { address: Some(address), token: monitor_token };
    target::warn();
    match serve(options, &elsewhere, |_, text| say(text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => complain(STOPPED, format_args!("error: {why}")),
    }
}

/// How a run is to be shown: the command line beats the configuration.
pub(super) fn options(args: &RunArgs, plan: &Plan) -> Options {
    // What is no address was reported with the configuration.
    let configured = || plan.monitor.as_ref().and_then(|text| text.parse().ok());
    Options { address: args.monitor.clone().or_else(configured), token: args.monitor_token.clone() }
}

/// Shows the run. That it cannot be shown is said and ends nothing.
pub(super) fn start(handle: &Handle, options: Options) -> Option<Monitor> {
    let log = |level, text: &str| match level {
        Level::Debug => tracing::debug!("{text}"),
        Level::Info => tracing::info!("{text}"),
        Level::Warning => tracing::warn!("{text}"),
        Level::Error => tracing::error!("{text}"),
    };
    let started = Monitor::start(handle.stream().clone(), handle.control(), options, log);
    started.map_err(|error| tracing::warn!("the run cannot be shown: {error}")).ok()
}
