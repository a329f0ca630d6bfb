//! What the workers and the router of a run say to each other (docs/WIRE.md).

pub(crate) mod lifeline;
pub(crate) mod report;
pub(crate) mod wire;
