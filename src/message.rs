//! What travels between steps.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One value in serialized form: a header made by the codec and the large
/// arrays that travel beside it, uncopied.
///
/// The router moves payloads and never looks inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    pub(crate) header: Bytes,
    pub(crate) buffers: Vec<Bytes>,
}

impl Payload {
    /// The size of the header and every buffer, in bytes.
    pub fn len(&self) -> usize {
        self.header.len() + self.buffers.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether the payload holds no byte at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a person calls the producer's item that a message descends from, for
/// example the path of a raw frame. Shared by all descendants of the item.
pub type Origin = Option<Arc<str>>;

/// What a stage emitted: the payload and which of the step's next steps gets it
/// (an index into the plan's list of that step's next steps).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub(crate) route: u32,
    pub(crate) payload: Payload,
    /// Set by producers only: descendants inherit it from their input.
    pub(crate) origin: Origin,
}

/// A payload on its way through the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Unique in the run, in the order of commitment.
    pub(crate) id: u64,
    /// 0 at first, 1 at the first retry.
    pub(crate) attempt: u32,
    pub(crate) origin: Origin,
    pub(crate) payload: Payload,
}
