//! The program as its users meet it: commands, options, messages, exit codes.

mod events;
mod examples;
mod first_call;
mod mock;
mod program;
mod report;
mod shown;
mod steering;
mod top;
mod trace;
mod why;
