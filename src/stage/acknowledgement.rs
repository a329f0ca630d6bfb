//! What a producer is told of the items that it has emitted.

use std::sync::Arc;

use super::data::Data;
use crate::base::cause::Cause;
use crate::base::failure::{Failure, Result};
use crate::codec::CodecId;
use crate::message::Payload;

/// What became of one item: everything that descends from one value that a producer emitted.
///
/// A producer whose class says [`Producer::ACKNOWLEDGES`](super::Producer::ACKNOWLEDGES) is told
/// of each item once, when nothing of it is queued or in hand any more.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Acknowledgement {
    /// The item: the first value that the producer emitted has the number 1.
    pub number: u64,
    /// The item's name, if the producer gave it one.
    pub origin: Option<Arc<str>>,
    /// What became of it.
    pub outcome: Acknowledged,
}

/// How an item ended: by what went worst with its messages.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Acknowledged {
    /// Every message of it is done.
    #[non_exhaustive]
    Done {
        /// What the steps with `results` made of it.
        results: Results,
    },
    /// A message of it has failed for good: the first that did.
    #[non_exhaustive]
    Failed {
        /// The step that failed.
        step: Arc<str>,
        /// How the last attempt went wrong.
        cause: Cause,
        /// What the last attempt failed with.
        failure: Failure,
        /// The number of attempts.
        attempts: u32,
        /// Its entry in the quarantine, if it is kept there.
        entry: Option<String>,
    },
    /// Messages of it were left when the run took no more input, or was stopped.
    Dropped,
    /// The producer has cancelled it.
    Cancelled,
}

/// What the steps with `results` made of one item, in the order in which it was reported.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    pub(crate) payloads: Vec<Payload>,
    pub(crate) codec: CodecId,
}

impl Results {
    /// The number of values.
    pub fn len(&self) -> usize {
        self.payloads.len()
    }

    /// Whether nothing was made of the item.
    pub fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }

    /// Reads one of the values; the first has the index 0.
    ///
    /// # Errors
    /// If there is no such value, or it is of another type.
    pub fn get<T: Data>(&self, index: usize) -> Result<T> {
        let Some(payload) = self.payloads.get(index) else {
            let count = self.len();
            return Err(Failure::permanent(format!(
                "there are {count} results, no number {index}"
            )));
        };
        T::from_payload(payload.clone(), self.codec)
    }
}

impl Acknowledgement {
    /// The size of the results, in bytes.
    pub(crate) fn result_bytes(&self) -> u64 {
        match &self.outcome {
            Acknowledged::Done { results } => {
                results.payloads.iter().map(|payload| payload.len() as u64).sum()
            }
            _ => 0,
        }
    }

    /// Says how the results are serialized.
    pub(crate) fn in_codec(&mut self, codec: CodecId) {
        if let Acknowledged::Done { results } = &mut self.outcome {
            results.codec = codec;
        }
    }
}
