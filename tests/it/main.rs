//! Behavior seen from outside: one binary, a module per subject.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod attach;
mod commands;
mod config;
mod conformance;
mod engine;
mod files;
mod monitor;
mod pool;
mod python;
mod support;
mod tidy;
