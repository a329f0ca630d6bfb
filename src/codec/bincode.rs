//! The codec between Rust workers: bincode in its legacy layout (fixed-width little-endian
//! integers, u64 lengths), which later libraries can read byte for byte.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Codec;
use crate::base::failure::{Failure, Result};
use crate::memory::collect::{ArrayForm, collect_frames, provide_frames, within};
use crate::message::{Header, Payload};

/// Limits the bytes of a header that is decoded: otherwise a forged length would make the
/// decoder allocate that much.
const HEADER_LIMIT: usize = 256 << 20;

pub(super) struct Bincode;

fn layout() -> Configuration<LittleEndian, Fixint, Limit<HEADER_LIMIT>> {
    bincode::config::legacy().with_limit::<HEADER_LIMIT>()
}

impl Codec for Bincode {
    const NAME: &'static str = "bincode";

    fn encode_onto<T: Serialize>(value: &T, _: &str, header: &mut Vec<u8>) -> Result<Vec<Bytes>> {
        let write = || bincode::serde::encode_into_std_write(value, header, layout());
        let (written, buffers) = collect_frames(ArrayForm::Reference, write);
        written.map_err(|error| {
            Failure::permanent(format!("{} cannot be serialized: {error}", type_name::<T>()))
        })?;
        Ok(buffers)
    }

    fn decode<T: DeserializeOwned>(payload: Payload, _: &str) -> Result<T> {
        let Payload { header, buffers } = payload;
        let decode = || bincode::serde::borrow_decode_from_slice::<T, _>(&header, layout());
        let decode = || match &header {
            Header::Shared(bytes) => within(bytes, decode),
            Header::InPlace { .. } => decode(),
        };
        let decoded = provide_frames(ArrayForm::Reference, buffers, decode);
        let (value, used) = decoded.map_err(|error| {
            Failure::permanent(format!("the message is not a {}: {error}", type_name::<T>()))
        })?;
        if used != header.len() {
            return Err(Failure::permanent(format!(
                "the message is not a {}: {} of its {} bytes are left over",
                type_name::<T>(),
                header.len() - used,
                header.len()
            )));
        }
        Ok(value)
    }
}

fn type_name<T>() -> &'static str {
    std::any::type_name::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::encode;

    fn decode<T: DeserializeOwned>(payload: Payload) -> Result<T> {
        Bincode::decode(payload, "")
    }

    #[test]
    fn the_layout_is_that_of_bincode_1() {
        // Fixed-width little-endian integers, u64 lengths, one byte for Option.
        let payload = encode(&(1_u16, -2_i64, "ab".to_owned(), Some(3_u8))).unwrap();
        let mut expected = vec![1, 0];
        expected.extend((-2_i64).to_le_bytes());
        expected.extend(2_u64.to_le_bytes());
        expected.extend(b"ab");
        expected.extend([1, 3]);
        assert_eq!(payload.header[..], expected);
    }

    #[test]
    fn a_forged_length_is_an_error_and_allocates_nothing() {
        let mut header = u64::MAX.to_le_bytes().to_vec();
        header.extend([0; 16]);
        let payload = Payload { header: header.into(), buffers: Vec::new() };
        assert!(decode::<Vec<u64>>(payload.clone()).is_err());
        assert!(decode::<String>(payload).is_err());
    }

    #[test]
    fn left_over_bytes_are_an_error() {
        let payload = encode(&(1_u8, 2_u8)).unwrap();
        assert!(decode::<u8>(payload).unwrap_err().to_string().contains("left over"));
    }
}
