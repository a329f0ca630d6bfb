//! The program as a process: its signals, its memory, its command line, who started it.

pub(crate) mod driver;
pub(crate) mod memory;
pub(crate) mod signals;
pub(crate) mod token;
