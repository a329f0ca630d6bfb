//! What a configuration may say, and what is said about one in error.

mod ctapipe;
mod errors;
mod graph;
mod params;
mod random;
mod settings;
mod support;
