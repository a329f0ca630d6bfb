//! The wire format. docs/WIRE.md specifies every frame: a message of the protocol is one head frame,
//! followed by the frames that the head refers to, in order.

mod messages;
mod reader;
mod tags;
mod writer;

pub(crate) use messages::{FromWorker, ToWorker};
pub(crate) use reader::{Reader, WireError};
pub(crate) use tags::VERSION;
pub(crate) use writer::{Sharing, Writer};

const _: () = assert!(tags::RESULTS == crate::base::ids::RouteId::RESULTS.0);

/// The longest bytes that stand in a head; longer ones travel as a frame of their own, which
/// libzmq hands over without a copy.
const INLINE_UP_TO: usize = 4096;
/// The shortest item of any list, in bytes.
const SHORTEST_ITEM: usize = 4;
