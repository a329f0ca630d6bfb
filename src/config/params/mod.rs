//! The parameters of a step.

mod check;
mod declared;
mod fault;
mod given;
#[cfg(feature = "config")]
mod strict;
#[cfg_attr(not(feature = "config"), path = "validate_not_built.rs")]
mod validate;

pub(crate) use given::{Params, in_home};
