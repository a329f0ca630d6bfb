//! How messages, failures and workers are treated, whatever the stages do.

mod acknowledged;
mod actions;
mod barrier;
mod contracts;
mod control;
mod deferred;
mod driver;
mod fault_stages;
mod faults;
mod messagepack;
mod ordered;
mod priorities;
mod process_runs;
mod processes;
mod runs;
mod worker_deaths;
