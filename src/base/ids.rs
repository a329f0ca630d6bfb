//! The numbers that name steps, routes, messages and workers within one run. Each has a
//! type of its own, so that swapped arguments do not compile.

use serde::{Deserialize, Serialize};

/// A step, by its position in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StepId(pub(crate) u32);

/// One of a step's next steps, by its position in the step's list of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RouteId(pub(crate) u32);

/// A message. Numbers are unique within the run and follow the order of commitment,
/// from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MessageId(pub(crate) u64);

/// The place of a worker among all workers of the run. When a worker is lost or let go,
/// another one may take its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Slot(pub(crate) u32);

/// A worker: its slot and its epoch, which grows with each worker in the slot. A report
/// of an earlier epoch is never attributed to a successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct WorkerId {
    #[serde(rename = "worker")]
    pub(crate) slot: Slot,
    #[serde(rename = "incarnation")]
    pub(crate) epoch: u32,
}

/// The epoch of the first worker in a slot.
pub(crate) const FIRST: u32 = 1;

impl StepId {
    pub(crate) fn at(index: usize) -> Self {
        Self(index as u32)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl RouteId {
    /// No edge: what is sent there belongs to the results of its item.
    pub(crate) const RESULTS: Self = Self(u32::MAX);

    pub(crate) fn at(index: usize) -> Self {
        Self(index as u32)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl Slot {
    pub(crate) fn at(index: usize) -> Self {
        Self(index as u32)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl MessageId {
    /// The message `count` numbers further.
    pub(crate) fn plus(self, count: usize) -> Self {
        Self(self.0.wrapping_add(count as u64))
    }

    pub(crate) fn minus(self, count: usize) -> Self {
        Self(self.0.wrapping_sub(count as u64))
    }

    /// `count` successive messages, of which this is the first.
    pub(crate) fn successive(self, count: usize) -> impl Iterator<Item = Self> + Clone {
        (self.0..).take(count).map(Self)
    }
}
