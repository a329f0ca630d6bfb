//! What serde cannot hand to a field: the frames beside the header, the form of
//! the header, and the memory that it stands in.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use bytes::Bytes;

use crate::message::Codec;

thread_local! {
    /// The form of the value that is being encoded or decoded with frames beside
    /// its header on this thread. Serde has no other way to reach beyond the header
    /// from inside a field.
    static ACTIVE: Cell<Option<Codec>> = const { Cell::new(None) };
    /// Whether there are frames: looked at for every message, and cheaper than
    /// the frames themselves.
    static ANY: Cell<bool> = const { Cell::new(false) };
    static FRAMES: RefCell<Vec<Bytes>> = const { RefCell::new(Vec::new()) };
    /// The header that is being decoded, if arrays in it may share its memory.
    static SOURCE: RefCell<Bytes> = const { RefCell::new(Bytes::new()) };
}

/// Runs `encode` and returns the frames of the buffers that it met.
pub(crate) fn collect_frames<R>(codec: Codec, encode: impl FnOnce() -> R) -> (R, Vec<Bytes>) {
    let outer = Outer::suspend(codec);
    let result = encode();
    let frames = if ANY.get() { FRAMES.take() } else { Vec::new() };
    drop(outer);
    (result, frames)
}

/// Runs `decode` with `frames` within reach of the buffers that it makes.
pub(crate) fn provide_frames<R>(codec: Codec, frames: Vec<Bytes>, decode: impl FnOnce() -> R) -> R {
    if frames.is_empty() && codec == Codec::Bincode && ACTIVE.get().is_none() {
        // A buffer that asks for a frame finds it missing.
        return decode();
    }
    let _outer = Outer::suspend(codec);
    FRAMES.set(frames);
    ANY.set(true);
    decode()
}

/// The frames of the value around this one, put back when this one is done,
/// also if that is by a panic.
struct Outer {
    active: Option<Codec>,
    frames: Option<Vec<Bytes>>,
}

impl Outer {
    fn suspend(codec: Codec) -> Self {
        let frames = ANY.replace(false).then(|| FRAMES.take());
        Self { active: ACTIVE.replace(Some(codec)), frames }
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        ACTIVE.set(self.active);
        let left = ANY.replace(self.frames.is_some());
        if left || self.frames.is_some() {
            FRAMES.set(self.frames.take().unwrap_or_default());
        }
    }
}

/// The form of the value around a buffer; none where it is not for a message.
pub(crate) fn form() -> Option<Codec> {
    ACTIVE.get()
}

/// Adds a frame; its number.
pub(crate) fn add(frame: Bytes) -> usize {
    ANY.set(true);
    FRAMES.with_borrow_mut(|frames| {
        frames.push(frame);
        frames.len() - 1
    })
}

/// # Errors
/// If there is no frame of this number.
pub(crate) fn get(number: u64) -> Result<Bytes, String> {
    let index = usize::try_from(number).unwrap_or(usize::MAX);
    FRAMES
        .with_borrow(|frames| frames.get(index).cloned())
        .ok_or_else(|| format!("frame {number} of a buffer is missing"))
}

/// Arrays within a header share its memory from this size on, in bytes; smaller
/// ones are copied, lest a few bytes that a stage keeps hold a whole pack.
pub(crate) const SHARE_FROM: usize = 4 << 10;

/// Runs `decode` on a header; its larger arrays share the header's memory.
pub(crate) fn within<R>(header: &Bytes, decode: impl FnOnce() -> R) -> R {
    if header.len() < SHARE_FROM {
        return decode();
    }
    let outer = SOURCE.replace(header.clone());
    let result = decode();
    SOURCE.set(outer);
    result
}

/// The bytes as a part of the header that they were borrowed from, or as a copy.
pub(crate) fn shared_with_source(inline: Cow<'_, [u8]>) -> Bytes {
    let bytes = match inline {
        Cow::Owned(bytes) => return bytes.into(),
        Cow::Borrowed(bytes) => bytes,
    };
    SOURCE.with_borrow(|source| {
        let (all, part) = (source.as_ptr_range(), bytes.as_ptr_range());
        let within = all.start <= part.start && part.end <= all.end;
        if within && bytes.len() >= SHARE_FROM {
            source.slice_ref(bytes)
        } else {
            Bytes::copy_from_slice(bytes)
        }
    })
}
