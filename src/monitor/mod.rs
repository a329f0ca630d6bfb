//! Seeing and steering a run from other programs: over HTTP, on a socket for the programs
//! of this user and, if it is asked for, on the network.

mod client;
mod socket;

pub use client::{Client, ClientError, Lines, NextLine};
pub use socket::{LiveRun, find_run, live_runs};
