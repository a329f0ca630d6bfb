//! One value in serialized form.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One value in serialized form: a header made by the codec, and the large arrays that travel
/// beside it without a copy.
///
/// The router moves payloads and never looks inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    pub(crate) header: Header,
    pub(crate) buffers: Vec<Bytes>,
}

impl Payload {
    /// The size of the header and every buffer, in bytes.
    pub fn len(&self) -> usize {
        self.header.len() + self.buffers.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether the payload holds no byte at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Limits the bytes of a header that is kept in place: with this value both variants of
/// [`Header`] have the same size.
const IN_PLACE: usize = 22;
/// The size in bytes from which a header shares its memory.
pub(crate) const IN_PLACE_AND_MORE: usize = IN_PLACE + 1;

/// The bytes that the codec made. Short ones, such as a number's, are kept in place and cost
/// neither an allocation nor a reference count.
#[derive(Clone)]
pub(crate) enum Header {
    InPlace { length: u8, bytes: [u8; IN_PLACE] },
    Shared(Bytes),
}

impl Deref for Header {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::InPlace { length, bytes } => &bytes[..usize::from(*length)],
            Self::Shared(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Header {
    fn from(slice: &[u8]) -> Self {
        if slice.len() > IN_PLACE {
            return Self::Shared(Bytes::copy_from_slice(slice));
        }
        let mut bytes = [0; IN_PLACE];
        bytes[..slice.len()].copy_from_slice(slice);
        Self::InPlace { length: slice.len() as u8, bytes }
    }
}

impl From<Bytes> for Header {
    fn from(bytes: Bytes) -> Self {
        if bytes.len() > IN_PLACE { Self::Shared(bytes) } else { Self::from(&bytes[..]) }
    }
}

impl From<Vec<u8>> for Header {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Bytes::from(bytes))
    }
}

impl Header {
    /// The bytes as a frame of their own.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::InPlace { .. } => Bytes::copy_from_slice(&self),
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Default for Header {
    fn default() -> Self {
        Self::InPlace { length: 0, bytes: [0; IN_PLACE] }
    }
}

impl PartialEq for Header {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Header {}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self[..], f)
    }
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Bytes::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_headers_cost_no_more_room_than_shared_ones() {
        assert_eq!(size_of::<Header>(), size_of::<Bytes>());
    }

    #[test]
    fn headers_of_every_length_are_what_they_were_made_from() {
        for length in 0..=IN_PLACE + 2 {
            let bytes: Vec<u8> = (0..length as u8).collect();
            let header = Header::from(&bytes[..]);
            assert_eq!(header[..], bytes);
            assert_eq!(header, Header::from(Bytes::from(bytes.clone())));
            assert_eq!(header.into_bytes(), bytes);
        }
    }
}
