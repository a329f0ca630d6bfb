//! `drpipe monitor`, and the monitor of each run.

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::output::{CommandError, say};
use super::process::token;
use super::run::args::RunArgs;
use super::target;
use crate::base::not_built::NotBuilt;
use crate::event::Level;
use crate::monitor::{Elsewhere, Monitor, Options, show_all as serve};
use crate::pipeline::Handle;
use crate::plan::Plan;
use crate::plan::address::Address;

#[derive(Debug, ClapArgs)]
pub(super) struct MonitorArgs {
    /// Where to show them: host:port, a port or a host
    #[arg(value_name = "ADDRESS", default_value = Address::DEFAULT)]
    pub(super) address: Address,
    /// Show this run too, or the runs of this monitor, such as http://tel2:5565/
    #[arg(long = "run", value_name = "URL")]
    pub(super) runs: Vec<String>,
    /// The token of the runs that --run names; prefer DRPIPE_TOKEN
    #[arg(long, env = "DRPIPE_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
    /// Token required to steer over the network, also from this machine; without one, other
    /// machines can only watch. Prefer DRPIPE_MONITOR_TOKEN, which other users cannot read
    #[arg(long, value_name = "TOKEN", env = "DRPIPE_MONITOR_TOKEN", hide_env_values = true, value_parser = token::parse)]
    pub(super) monitor_token: Option<String>,
}

/// Shows all runs until the program ends.
pub(super) fn show_all(args: MonitorArgs) -> ExitCode {
    let MonitorArgs { address, runs, token, monitor_token } = args;
    let elsewhere = |url| Elsewhere { url, token: token.clone() };
    let elsewhere: Vec<Elsewhere> = runs.into_iter().map(elsewhere).collect();
    let options = Options { address: Some(address), token: monitor_token };
    target::warn();
    match serve(options, &elsewhere, |_, text| say(text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => CommandError::stopped(error).exit(),
    }
}

/// Where to show a run: the command line overrides the configuration.
///
/// # Errors
/// Never in a build that has the monitor.
pub(super) fn options(args: &RunArgs, plan: &Plan) -> Result<Options, NotBuilt> {
    // The check of the configuration has reported a wrong address.
    let configured = || plan.options.monitor.as_ref().and_then(|text| text.parse().ok());
    let address = args.monitor.clone().or_else(configured);
    Ok(Options { address, token: args.monitor_token.clone() })
}

/// Shows the run. If it cannot be shown, the run continues with a warning.
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
