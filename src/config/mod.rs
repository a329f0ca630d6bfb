//! From a JSON file to a checked plan.

pub mod plan;
