//! The program as a process: its signals, its memory, its command line, and the process that
//! started it.

pub(crate) mod attached;
pub(crate) mod driving_program;
pub(crate) mod memory;
pub(crate) mod signals;
mod standard_input;
pub(crate) mod token;
