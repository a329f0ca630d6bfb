//! What travels between steps, unopened.

pub(crate) mod batch;
mod item;
pub(crate) mod limit;
pub(crate) mod output;
mod payload;
mod priority;
pub(crate) mod recycle;

pub(crate) use item::ItemKey;
pub(crate) use item::{Message, NO_ITEM};
pub use payload::Payload;
pub(crate) use payload::{Header, IN_PLACE_AND_MORE};
pub(crate) use priority::ByPriority;
pub use priority::Priority;
