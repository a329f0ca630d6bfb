//! The protocol between the workers and the router of a run (docs/WIRE.md).

pub(crate) mod control;
pub(crate) mod lifeline;
pub(crate) mod report;
pub(crate) mod wire;
