//! Codecs: values to payloads and back.

mod bincode;
#[cfg_attr(not(feature = "python"), path = "messagepack/not_built.rs")]
mod messagepack;

use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::failure::Result;
use crate::message::Payload;

pub(crate) use messagepack::{pickled, readable};

use bincode::Bincode;
use messagepack::MessagePack;

/// A serialization format for the values on an edge.
///
/// # Contract
///
/// - `decode` of what `encode_onto` made is an equal value, for every serde type and whatever
///   thread or process decodes.
/// - The header describes itself or is described by the type: `decode` takes nothing else.
/// - Large [`Buffer`](crate::memory::buffer::Buffer)s do not go into the header. `encode_onto`
///   collects them with [`collect_frames`](crate::memory::collect::collect_frames), `decode`
///   lends them with [`provide_frames`](crate::memory::collect::provide_frames), both without a
///   copy.
/// - `encode_onto` appends; it does not read or change what `header` contains. After an error
///   the caller truncates `header` to its earlier length.
/// - Any bytes may come in. `decode` returns an error for those that are no such value, are
///   too few or too many; it does not panic and allocates no more than the payload justifies.
/// - Errors are permanent failures: another attempt sees the same bytes. The message contains
///   the expected type.
/// - Neither blocks. Both may be called on any thread, also while another value of the thread
///   is being encoded or decoded.
///
/// A codec is one file with this trait and one line in the list `codecs!` below; the tests
/// there play the contract against it.
pub trait Codec {
    /// The name in messages for users.
    const NAME: &'static str;

    /// Appends the serialized value to `header` and returns the arrays beside it, in order.
    /// `type_name` is [`Data::TYPE`](crate::stage::data::Data::TYPE).
    ///
    /// # Errors
    /// A permanent failure if the type refuses to be serialized.
    fn encode_onto<T: Serialize>(
        value: &T,
        type_name: &str,
        header: &mut Vec<u8>,
    ) -> Result<Vec<Bytes>>;

    /// Returns the value that [`encode_onto`](Self::encode_onto) made the payload from.
    ///
    /// # Errors
    /// A permanent failure if the payload is no `T`.
    fn decode<T: DeserializeOwned>(payload: Payload, type_name: &str) -> Result<T>;
}

/// Declares the codecs, in the order in which Rust workers prefer them: an identifier for
/// each, and the functions that dispatch by it.
macro_rules! codecs {
    ($($codec:ident: $doc:literal),+ $(,)?) => {
        /// The identifier of a codec.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(rename_all = "lowercase")]
        #[non_exhaustive]
        pub enum CodecId {
            $(#[doc = $doc] $codec),+
        }

        impl CodecId {
            /// All codecs, the preferred one first.
            pub const ALL: &'static [Self] = &[$(Self::$codec),+];

            /// The name in messages for users.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$codec => <$codec as Codec>::NAME),+
                }
            }
        }

        /// Encodes with the codec, as [`Codec::encode_onto`].
        ///
        /// # Errors
        /// A permanent failure if the type refuses to be serialized.
        pub(crate) fn encode_onto<T: Serialize>(
            value: &T,
            codec: CodecId,
            type_name: &str,
            header: &mut Vec<u8>,
        ) -> Result<Vec<Bytes>> {
            match codec {
                $(CodecId::$codec => <$codec as Codec>::encode_onto(value, type_name, header)),+
            }
        }

        /// Decodes with the codec, as [`Codec::decode`].
        ///
        /// # Errors
        /// A permanent failure if the payload is no `T`.
        pub(crate) fn decode<T: DeserializeOwned>(
            payload: Payload,
            codec: CodecId,
            type_name: &str,
        ) -> Result<T> {
            match codec {
                $(CodecId::$codec => <$codec as Codec>::decode(payload, type_name)),+
            }
        }
    };
}

codecs! {
    Bincode: "Between steps in Rust.",
    MessagePack: "Where a step in another language sends or receives.",
}

impl CodecId {
    /// The codecs of workers in other languages, the preferred one first.
    pub(crate) const FOREIGN: &'static [Self] = &[Self::MessagePack];
}

impl Default for CodecId {
    fn default() -> Self {
        Self::ALL[0]
    }
}

impl fmt::Display for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A payload of its own for `value`, in bincode.
#[cfg(test)]
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Payload> {
    let mut header = Vec::new();
    let buffers = encode_onto(value, CodecId::Bincode, "", &mut header)?;
    Ok(Payload { header: header.into(), buffers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::failure::Failure;
    use crate::memory::buffer::Buffer;
    use crate::memory::collect::{ArrayForm, collect_frames, provide_frames};

    /// A third codec, as simple as one can be.
    struct Json;

    impl Codec for Json {
        const NAME: &'static str = "JSON";

        fn encode_onto<T: Serialize>(
            value: &T,
            _: &str,
            header: &mut Vec<u8>,
        ) -> Result<Vec<Bytes>> {
            let write = || serde_json::to_writer(header, value);
            let (written, buffers) = collect_frames(ArrayForm::Reference, write);
            written.map_err(permanent::<T>)?;
            Ok(buffers)
        }

        fn decode<T: DeserializeOwned>(payload: Payload, _: &str) -> Result<T> {
            let Payload { header, buffers } = payload;
            let read = || serde_json::from_slice(&header);
            provide_frames(ArrayForm::Reference, buffers, read).map_err(permanent::<T>)
        }
    }

    fn permanent<T>(error: serde_json::Error) -> Failure {
        Failure::permanent(format!("this is no {}: {error}", std::any::type_name::<T>()))
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Spectrum {
        name: String,
        exposure: Option<f64>,
        counts: Buffer<u16>,
        errors: Buffer<f32>,
    }

    const TYPE: &str = "lab/Spectrum/1";

    fn spectrum(length: usize) -> Spectrum {
        Spectrum {
            name: "étoile".into(),
            exposure: Some(30.0),
            counts: vec![7; length].into(),
            errors: vec![0.5; length].into(),
        }
    }

    fn keeps_the_contract<C: Codec>() {
        let name = C::NAME;
        for length in [0, 10, 100_000] {
            let (value, mut header) = (spectrum(length), b"before".to_vec());
            let buffers = C::encode_onto(&value, TYPE, &mut header).unwrap();
            assert_eq!(buffers.len(), if length > 10 { 2 } else { 0 }, "{name}");
            assert_eq!(header[..6], *b"before", "{name}");
            let header = header.split_off(6);
            assert!(header.len() < 1000, "{name}: large arrays travel beside the header");
            let payload = Payload { header: header.clone().into(), buffers };
            let (addresses, decode) = (
                payload.buffers.iter().map(|b| b.as_ptr() as usize).collect::<Vec<_>>(),
                |payload| C::decode::<Spectrum>(payload, TYPE),
            );
            let decoded = decode(payload.clone()).unwrap();
            assert_eq!(decoded, value, "{name}");
            if let Some(address) = addresses.first() {
                assert_eq!(decoded.counts.as_ptr() as usize, *address, "{name}: not copied");
                let error = decode(Payload { buffers: Vec::new(), ..payload.clone() });
                assert!(!error.unwrap_err().is_retryable(), "{name}: a missing array");
            }
            for wrong in [&header[..header.len() - 1], &[&header[..], b"1"].concat(), b""] {
                let payload = Payload { header: wrong.into(), buffers: payload.buffers.clone() };
                let error = decode(payload).unwrap_err();
                assert!(!error.is_retryable() && error.to_string().contains("Spectrum"), "{error}");
            }
        }
    }

    #[test]
    fn every_codec_keeps_the_contract() {
        keeps_the_contract::<Bincode>();
        keeps_the_contract::<MessagePack>();
        keeps_the_contract::<Json>();
    }

    #[test]
    fn a_codec_is_one_line_in_the_list() {
        mod with_a_third {
            use super::{Codec, Json};
            use crate::base::failure::Result;
            use crate::codec::{Bincode, MessagePack, Payload};
            use bytes::Bytes;
            use serde::de::DeserializeOwned;
            use serde::{Deserialize, Serialize};

            codecs! { Bincode: "1", MessagePack: "2", Json: "The third." }
        }
        use with_a_third::{CodecId, decode, encode_onto};
        assert_eq!(CodecId::ALL.len(), 3);
        for codec in CodecId::ALL {
            let (value, mut header) = (spectrum(10), Vec::new());
            let buffers = encode_onto(&value, *codec, TYPE, &mut header).unwrap();
            let payload = Payload { header: header.into(), buffers };
            assert_eq!(decode::<Spectrum>(payload, *codec, TYPE), Ok(value), "{}", codec.name());
        }
        assert_eq!(serde_json::to_string(&CodecId::Json).unwrap(), "\"json\"");
    }

    #[test]
    fn codecs_keep_their_names_in_files() {
        let names = serde_json::to_string(CodecId::ALL).unwrap();
        assert_eq!(names, "[\"bincode\",\"messagepack\"]");
        assert_eq!(CodecId::default(), CodecId::Bincode);
        let shown: Vec<String> = CodecId::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["bincode", "MessagePack"]);
    }
}
