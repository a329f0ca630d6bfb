//! A pipeline runner for scientific data reduction.
pub mod buffer;
pub mod cli;
mod codec;
pub mod config;
pub mod data;
pub mod error;
pub mod event;
pub mod ledger;
pub mod message;
mod nearest;
mod observe;
pub mod pipeline;
mod quarantine;
pub mod registry;
mod router;
pub mod stage;
mod transport;
mod worker;

/// What a stage needs: `use drpipe::prelude::*;`.
pub mod prelude {
    pub use crate::buffer::Buffer;
    pub use crate::data::{Any, Data};
    pub use crate::error::{Context as _, Failure, Result};
    pub use crate::pipeline::{Mode, Pipeline};
    pub use crate::registry::Registry;
    pub use crate::stage::{Consumer, Context, Emitter, Next, Producer, Stage};
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
}

/// The stages that come with drpipe.
#[path = "../stages/mod.rs"]
pub mod stages;
