//! The control socket between a run and its caller, the program that started it and provides
//! workers for it (docs/ATTACH.md): its `frames`, and the `socket` that carries them.

mod frames;
mod socket;

pub(crate) use frames::{FromCaller, Hello, Manner, ToCaller, Verb};
pub(crate) use socket::{ControlSocket, Received};

/// The longest frame, in bytes.
const LONGEST: usize = 65_536;
