//! Arrays beside the messages: shared between steps, threads and processes without a copy.

#[cfg_attr(not(feature = "python"), path = "array_not_built.rs")]
pub(crate) mod array;
pub(crate) mod array_ref;
pub mod buffer;
pub(crate) mod collect;
mod free_list;
pub mod huge_pages;
pub(crate) mod segment;
