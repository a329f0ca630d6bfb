//! The reference to a buffer's elements in a header of bincode.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::collect::{self, MissingFrame};

#[derive(Serialize, Deserialize)]
pub(crate) struct ArrayRef<'a> {
    /// The number of the frame; `None` if the bytes follow in `inline`.
    frame: Option<u32>,
    #[serde(borrow)]
    inline: ByteString<'a>,
}

impl<'a> ArrayRef<'a> {
    pub(crate) fn inline(bytes: &'a [u8]) -> Self {
        Self { frame: None, inline: ByteString(bytes.into()) }
    }

    pub(crate) fn frame(number: u32) -> Self {
        Self { frame: Some(number), inline: ByteString(Cow::Borrowed(&[])) }
    }

    pub(crate) fn bytes(self) -> Result<Bytes, MissingFrame> {
        match self.frame {
            None => Ok(collect::shared_with_source(self.inline.0)),
            Some(number) => collect::get(number.into()),
        }
    }
}

/// Bytes as one byte string: serde encodes each byte of a sequence on its own.
pub(crate) struct ByteString<'a>(pub(crate) Cow<'a, [u8]>);

impl Serialize for ByteString<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ByteString<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Visitor).map(Self)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(Cow::Owned(bytes))
    }
}
