//! The parameters of a step.

mod check;
mod given;
mod strict;
mod validate;

pub(crate) use given::{Params, in_home};
