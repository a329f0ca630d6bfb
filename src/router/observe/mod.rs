//! What is told about a run: by item, by message, and as a whole. Nothing here changes a
//! queue.
//!
//! - `items`: what becomes of each item, for the journal
//! - `order`: the keys of the open messages, where results come in order
//! - `snapshot`: where everything stands
//! - `spans`: when each message waited and ran, for the trace and the journal

pub(super) mod items;
mod order;
mod snapshot;
pub(super) mod spans;
