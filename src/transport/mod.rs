//! What carries messages between the router's loop and the workers.

pub(crate) mod descriptors;
pub(crate) mod zmq;
