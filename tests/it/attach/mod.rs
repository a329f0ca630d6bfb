//! Runs with a caller: a program that starts the run, stays attached to it, and provides workers.

mod caller;
mod ends;
mod hello;
mod workers;
