//! Behaviour seen from outside: one binary, a module per subject.

mod config;
mod examples;
mod faults;
mod fits_reference;
mod night;
mod program;
mod runs;
mod support;
mod tidy;
