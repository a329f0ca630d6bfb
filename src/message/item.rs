//! A message, and the item that it descends from.

use std::sync::Arc;

use super::payload::Payload;
use super::priority::Priority;
use crate::base::ids::MessageId;

/// The name of the producer's item that a message descends from, for example the path of a
/// raw frame. Shared by all descendants of the item.
pub(crate) type ItemKey = Option<Arc<str>>;

/// The number of no item. Only a producer that is told what became of its items numbers them,
/// from 1.
pub(crate) const NO_ITEM: u64 = 0;

/// A payload with its number and origin, on its way through the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: MessageId,
    /// 0 at first, 1 at the first retry.
    pub(crate) attempt: u32,
    pub(crate) priority: Priority,
    /// The number of the item that it descends from, or [`NO_ITEM`].
    pub(crate) item: u64,
    pub(crate) origin: ItemKey,
    pub(crate) payload: Payload,
}
