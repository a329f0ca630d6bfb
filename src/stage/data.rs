//! Types that may travel between steps.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::failure::{Failure, Result};
use crate::codec;
use crate::message::Payload;

pub use crate::codec::CodecId;

/// A type that may travel between steps.
///
/// `TYPE` is its stable name, `"group/Name/version"`, by which the edges of a plan are
/// checked before any work runs. Raise the version when the layout changes.
///
/// Large arrays belong into a [`Buffer`](crate::memory::buffer::Buffer): they travel beside
/// the serialized rest and are not copied between threads.
///
/// ```
/// use drpipe::prelude::*;
///
/// /// Counts of one exposure, in ADU, row by row.
/// #[derive(Serialize, Deserialize)]
/// struct Exposure { width: u32, counts: Buffer<f32> }
///
/// impl Data for Exposure {
///     const TYPE: &'static str = "lab/Exposure/1";
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between steps",
    label = "this type does not implement `Data`",
    note = "derive `Serialize` and `Deserialize` for it and write `impl drpipe::prelude::Data for \
            {Self} {{ const TYPE: &'static str = \"group/Name/1\"; }}`",
    note = "a type of another crate needs a struct of your own around it; `i64`, `f64`, `String` \
            and `Any` travel as they are"
)]
pub trait Data: Serialize + DeserializeOwned + 'static {
    /// The stable name of the type.
    const TYPE: &'static str;

    /// What people call this item, for example the path of a raw frame. Asked of what a
    /// producer emits; all that descends from it is logged and quarantined under this name.
    fn origin(&self) -> Option<String> {
        None
    }

    /// Appends the serialized value to `header` and returns the arrays that travel beside it.
    ///
    /// # Errors
    /// If the type refuses to be serialized.
    fn write_to(&self, codec: CodecId, header: &mut Vec<u8>) -> Result<Vec<Bytes>> {
        codec::encode_onto(self, codec, Self::TYPE, header)
    }

    /// Returns the value in serialized form.
    ///
    /// # Errors
    /// If the type refuses to be serialized.
    fn to_payload(&self, codec: CodecId) -> Result<Payload> {
        let mut header = Vec::new();
        let buffers = self.write_to(codec, &mut header)?;
        Ok(Payload { header: header.into(), buffers })
    }

    /// Returns the value that was serialized.
    ///
    /// # Errors
    /// If the bytes are not those of a `Self`.
    fn from_payload(payload: Payload, codec: CodecId) -> Result<Self> {
        codec::decode(payload, codec, Self::TYPE)
    }
}

/// A whole number.
impl Data for i64 {
    const TYPE: &'static str = "drpipe/Integer/1";
}

/// A real number.
impl Data for f64 {
    const TYPE: &'static str = "drpipe/Real/1";
}

/// A text.
impl Data for String {
    const TYPE: &'static str = "drpipe/Text/1";
}

/// Nothing: for a stage or a task that only does something.
impl Data for () {
    const TYPE: &'static str = "drpipe/Nothing/1";
}

/// A message of any type, unopened: for stages that pass on, count or delay messages. An edge
/// into `Any` accepts every type, and what a stage emits as `Any` keeps the type that came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Any {
    payload: Payload,
    codec: CodecId,
}

impl Any {
    /// The size of the message in bytes.
    pub fn size(&self) -> usize {
        self.payload.len()
    }

    /// Opens the message.
    ///
    /// # Errors
    /// If the message is not a `T`.
    pub fn open<T: Data>(&self) -> Result<T> {
        T::from_payload(self.payload.clone(), self.codec)
    }
}

impl Data for Any {
    const TYPE: &'static str = ANY;

    fn write_to(&self, codec: CodecId, header: &mut Vec<u8>) -> Result<Vec<Bytes>> {
        // The plan gives both sides one codec wherever a stage takes and emits `Any`.
        if self.codec != codec {
            return Err(Failure::permanent(format!(
                "an unopened message in {} cannot go to a step that takes {codec}: open it and \
                 send the value",
                self.codec
            )));
        }
        header.extend_from_slice(&self.payload.header);
        Ok(self.payload.buffers.clone())
    }

    fn from_payload(payload: Payload, codec: CodecId) -> Result<Self> {
        Ok(Self { payload, codec })
    }
}

/// The name of the type that accepts all.
pub(crate) const ANY: &str = "any";
