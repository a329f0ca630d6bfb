//! Behaviour seen from outside: one binary, a module per subject.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod config;
mod examples;
mod faults;
mod fits_reference;
mod night;
mod program;
mod runs;
mod support;
mod tidy;
