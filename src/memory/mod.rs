//! Arrays beside the messages: shared between steps, threads and processes without a copy.

pub(crate) mod array;
pub(crate) mod array_ref;
pub mod buffer;
pub(crate) mod collect;
pub(crate) mod segment;
