//! A pipeline runner for scientific data reduction.
//!
//! A pipeline has a producer, stages and a consumer; each of its steps runs on
//! a number of workers behind a router that keeps a bounded queue per step and
//! hands each message to the least recently used idle worker.
//!
//! - To write a stage, begin with [`stage`] and the [`prelude`].
//! - To have a program with the whole command line over your own stages: [`cli::Cli`].
//! - To run a pipeline from a program: [`pipeline::Pipeline`].
//! - The stages that come with drpipe: [`stages`].

pub mod buffer;
pub mod cli;
mod codec;
pub mod config;
pub mod data;
pub mod error;
pub mod event;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod home;
mod journal;
pub mod ledger;
pub mod message;
pub mod monitor;
mod name;
mod nearest;
pub mod note;
mod observe;
mod ours;
mod parcel;
pub mod pipeline;
mod plain;
mod pool;
mod python;
mod quarantine;
pub mod registry;
mod report;
mod router;
mod scratch;
mod secret;
mod segment;
mod shown;
pub mod stage;
#[path = "../stages/mod.rs"]
pub mod stages;
pub mod status;
pub mod stream;
pub mod summary;
mod trace;
mod transport;
mod worker;

/// What a stage needs: `use drpipe::prelude::*;`.
pub mod prelude {
    pub use crate::buffer::Buffer;
    pub use crate::data::{Any, Data};
    pub use crate::error::{Context as _, Failure, Result};
    pub use crate::name::{name_of_path, path_of_name};
    pub use crate::note::{announce_product, announce_warning};
    pub use crate::pipeline::{Mode, Pipeline};
    pub use crate::registry::Registry;
    pub use crate::stage::{Consumer, Context, Emitter, Next, Producer, Stage};
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
}

/// The example in README is run like every other.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
