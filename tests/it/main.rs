//! Behaviour seen from outside: one binary, a module per subject.

mod config;
mod faults;
mod runs;
mod support;
