//! Values to payloads and back.

mod bincode;
mod messagepack;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::failure::Result;
use crate::message::Payload;

pub use crate::message::Codec;
pub(crate) use messagepack::{pickled, readable};

/// Appends the serialized `value` to `header` and returns its
/// [`Buffer`](crate::memory::buffer::Buffer)s, which travel beside it. `name` is that of
/// its type.
///
/// # Errors
/// A permanent failure if the type refuses to be serialized; what `header` then
/// has more is of no use.
pub(crate) fn encode_onto<T: Serialize>(
    value: &T,
    codec: Codec,
    name: &str,
    header: &mut Vec<u8>,
) -> Result<Vec<Bytes>> {
    match codec {
        Codec::Bincode => bincode::encode_onto(value, header),
        Codec::MessagePack => messagepack::encode_onto(value, name, header),
    }
}

/// The value that [`encode_onto`] made the payload from.
///
/// # Errors
/// A permanent failure if the bytes are not those of a `T`, or some are left over.
pub(crate) fn decode<T: DeserializeOwned>(payload: Payload, codec: Codec, name: &str) -> Result<T> {
    match codec {
        Codec::Bincode => bincode::decode(payload),
        Codec::MessagePack => messagepack::decode(payload, name),
    }
}

/// A payload of its own for `value`, in bincode.
#[cfg(test)]
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Payload> {
    let mut header = Vec::new();
    let buffers = encode_onto(value, Codec::Bincode, "", &mut header)?;
    Ok(Payload { header: header.into(), buffers })
}
