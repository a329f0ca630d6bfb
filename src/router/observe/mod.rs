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

use super::policy::ordering::Order;
use crate::plan::Plan;
use items::Items;
use spans::Marks;

/// Those that are told about the run; each is none where nobody asks for it.
pub(super) struct Observers {
    /// The journal's.
    pub(super) items: Option<Items>,
    /// The trace's and the journal's.
    pub(super) marks: Option<Marks>,
    /// Of a run that gives its results in order.
    pub(super) order: Option<Order>,
}

impl Observers {
    pub(super) fn new(plan: &Plan) -> Self {
        let order = plan.options.ordered.then(|| Order::new(plan));
        Self { items: None, marks: None, order }
    }
}
