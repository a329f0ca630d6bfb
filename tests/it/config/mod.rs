//! What is allowed in a configuration, and what is reported about one in error.

mod ctapipe;
mod drawings;
mod errors;
mod graph;
mod overrides;
mod params;
mod python;
mod random;
mod schema;
mod support;
