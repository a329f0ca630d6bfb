//! Inputs on their way to the router.

use super::*;

/// An input on its way to the router, ordered by its arrival.
pub(super) struct Pending {
    pub(super) at: Duration,
    pub(super) order: u64,
    /// The worker that sent it, perhaps before it died.
    pub(super) sender: Option<WorkerId>,
    pub(super) input: Input,
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Pending {}
impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
