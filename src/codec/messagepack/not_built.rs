//! MessagePack in a build without steps in Python: no message in it can be opened.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::failure::{Failure, Result};
use crate::base::not_built::NotBuilt;
use crate::codec::Codec;
use crate::message::Payload;

const LACKS: NotBuilt = NotBuilt { feature: "python" };

/// A placeholder, because the journals and quarantines of other builds may name this codec.
pub(crate) struct MessagePack;

impl Codec for MessagePack {
    const NAME: &'static str = "MessagePack";

    fn encode_onto<T: Serialize>(_: &T, name: &str, _: &mut Vec<u8>) -> Result<Vec<Bytes>> {
        Err(Failure::permanent(format!("a {name} cannot be serialized: {LACKS}")))
    }

    fn decode<T: DeserializeOwned>(_: Payload, name: &str) -> Result<T> {
        Err(Failure::permanent(format!("the message is not a valid {name}: {LACKS}")))
    }
}

/// Finds no pickle: only steps in Python, which this build lacks, send and open them.
pub(crate) fn pickled(_: &[u8]) -> Option<&str> {
    None
}

/// Explains why the contents cannot be shown.
pub(crate) fn readable(_: &[u8]) -> String {
    LACKS.to_string()
}
