//! What serde cannot pass to a field: the frames beside the header, the form of arrays in it,
//! and the memory that it stands in.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use bytes::Bytes;

/// The form that arrays take in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArrayForm {
    /// The number of a frame, or the bytes: the reader's type says what they are.
    Reference,
    /// An extension of MessagePack that contains the type and shape of the elements.
    Extension,
}

thread_local! {
    /// The form of arrays in the value that is being encoded or decoded on this thread. Serde
    /// gives a field no other way to reach beyond the header.
    static ACTIVE: Cell<Option<ArrayForm>> = const { Cell::new(None) };
    /// Whether there are frames: read for every message, and cheaper than the frames.
    static ANY: Cell<bool> = const { Cell::new(false) };
    static FRAMES: RefCell<Vec<Bytes>> = const { RefCell::new(Vec::new()) };
    /// The header that is being decoded, if arrays in it may share its memory.
    static SOURCE: RefCell<Bytes> = const { RefCell::new(Bytes::new()) };
}

/// Runs `encode` and returns the frames of the buffers that it encoded.
pub(crate) fn collect_frames<R>(form: ArrayForm, encode: impl FnOnce() -> R) -> (R, Vec<Bytes>) {
    let outer = Outer::suspend(form);
    let result = encode();
    let frames = if ANY.get() { FRAMES.take() } else { Vec::new() };
    drop(outer);
    (result, frames)
}

/// Runs `decode`; the buffers that it makes take their elements from `frames`.
pub(crate) fn provide_frames<R>(
    form: ArrayForm,
    frames: Vec<Bytes>,
    decode: impl FnOnce() -> R,
) -> R {
    if frames.is_empty() && form == ArrayForm::Reference && ACTIVE.get().is_none() {
        // A buffer that asks for a frame finds it missing.
        return decode();
    }
    let _outer = Outer::suspend(form);
    FRAMES.set(frames);
    ANY.set(true);
    decode()
}

/// The frames of the enclosing value, restored when the inner value is done, also after a
/// panic.
struct Outer {
    active: Option<ArrayForm>,
    frames: Option<Vec<Bytes>>,
}

impl Outer {
    fn suspend(form: ArrayForm) -> Self {
        let frames = ANY.replace(false).then(|| FRAMES.take());
        Self { active: ACTIVE.replace(Some(form)), frames }
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

/// The form for an array at this place; `None` if it is not part of a message.
pub(crate) fn form() -> Option<ArrayForm> {
    ACTIVE.get()
}

/// Adds a frame and returns its number.
pub(crate) fn add(frame: Bytes) -> usize {
    ANY.set(true);
    FRAMES.with_borrow_mut(|frames| {
        frames.push(frame);
        frames.len() - 1
    })
}

/// The number of a frame that the message does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame {0} of a buffer is missing")]
pub(crate) struct MissingFrame(u64);

/// Returns the frame of this number.
///
/// # Errors
/// If there is none.
pub(crate) fn get(number: u64) -> Result<Bytes, MissingFrame> {
    let index = usize::try_from(number).unwrap_or(usize::MAX);
    FRAMES.with_borrow(|frames| frames.get(index).cloned()).ok_or(MissingFrame(number))
}

/// The size in bytes from which an array in a header shares its memory. Smaller ones are
/// copied: otherwise a few bytes that a stage keeps would hold a whole batch.
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

/// Returns the bytes as a part of the header that they were borrowed from, or as a copy.
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
