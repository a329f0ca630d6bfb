//! A pipeline runner for scientific data reduction.
//!
//! A pipeline has a producer, stages and a consumer; each of its steps runs on
//! a number of workers behind a router that keeps a bounded queue per step and
//! hands each message to the least recently used idle worker.
//!
//! - To write a stage, begin with [`stage`] and the [`prelude`]; to write files in it:
//!   [`product`]; to test it: [`testing`].
//! - To have a program with the whole command line over your own stages: [`cli::Cli`].
//! - To run a pipeline from a program: [`pipeline::Pipeline`].
//! - To call functions on workers and get their results: [`pool::Pool`].
//! - The stages that come with drpipe: [`stages`].

// What is dead in a build with fewer features is alive in the whole one.
#![cfg_attr(not(feature = "default"), allow(dead_code, unused_imports))]

pub mod base;
#[cfg(feature = "cli")]
pub mod cli;
mod codec;
pub mod config;
mod driver;
pub mod event;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod memory;
pub mod message;
mod mock;
#[cfg(feature = "monitor")]
pub mod monitor;
pub mod pipeline;
pub mod plan;
pub mod pool;
pub mod product;
mod protocol;
#[cfg_attr(not(feature = "python"), path = "python/not_built.rs")]
mod python;
#[cfg(feature = "cli")]
mod report;
mod router;
mod sinks;
pub mod stage;
#[path = "../stages/mod.rs"]
pub mod stages;
pub mod status;
pub mod testing;
mod transport;
mod worker;

/// What a stage needs: `use drpipe::prelude::*;`.
pub mod prelude {
    pub use crate::base::failure::{Context as _, Failure, Result};
    pub use crate::base::path_name::{name_of_path, path_of_name};
    pub use crate::memory::buffer::Buffer;
    pub use crate::pipeline::{Mode, Pipeline};
    pub use crate::stage::data::{Any, Data};
    pub use crate::stage::notes::{announce_product, announce_warning, count_action};
    pub use crate::stage::registry::Registry;
    pub use crate::stage::{
        Acknowledged, Acknowledgement, ActionOutcome, Consumer, Context, Emitter, Next, Priority,
        Producer, Results, Stage,
    };
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
}

/// The example in README is run like every other.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So are those of pools in Rust.
#[cfg(doctest)]
#[doc = include_str!("../docs/POOLS.md")]
struct Pools;

/// So is the one in the contract.
#[cfg(doctest)]
#[doc = include_str!("../docs/BEHAVIOR.md")]
struct Behavior;
