//! Behaviour seen from outside: one binary, a module per subject.

mod config;
mod examples;
mod faults;
mod program;
mod runs;
mod support;
