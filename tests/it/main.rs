//! Behavior seen from outside: one binary, a module per subject.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod config;
mod conformance;
mod control;
mod driver;
mod events;
mod examples;
mod fault_stages;
mod faults;
mod first_call;
mod fits;
mod fits_reference;
mod imports;
mod messagepack;
mod mock;
mod monitor;
mod night;
mod ordered;
mod own;
mod processes;
mod program;
mod python;
mod quarantine;
mod report;
mod resume;
mod runs;
mod shown;
mod steering;
mod support;
mod surroundings;
mod tidy;
mod top;
mod trace;
mod whole_files;
mod why;
