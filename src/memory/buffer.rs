//! Arrays that pass between steps beside the serialized header.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytemuck::Pod;
use bytes::Bytes;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::array_ref::ArrayRef;
use super::collect::{self, ArrayForm};
use super::{array, segment};

/// The size in bytes below which an array is copied into the header: a frame of its own would
/// cost more than the copies (measured: docs/PERFORMANCE.md).
const INLINE_BELOW: usize = 16 << 10;

/// An array of numbers in native byte order.
///
/// As a field of a message type it travels as a raw frame beside the serialized
/// rest: made from a `Vec` without a copy, read as a slice without a copy.
/// Cloning shares the memory; [`Buffer::to_mut`] copies only if it is shared.
///
/// ```
/// use drpipe::prelude::*;
///
/// let mut counts = Buffer::from(vec![1.0_f32, 2.0, 3.0]);
/// let raw = counts.clone();
/// counts.to_mut()[0] = 10.0;
/// assert_eq!(counts[..], [10.0, 2.0, 3.0]);
/// assert_eq!(raw[..], [1.0, 2.0, 3.0]);
/// ```
#[derive(Clone)]
pub struct Buffer<T: Pod> {
    storage: Storage<T>,
}

#[derive(Clone)]
enum Storage<T> {
    Vec(Arc<Owned<T>>),
    /// A received frame whose address and length suit `T`.
    Frame(Bytes),
}

struct Owned<T> {
    vec: Vec<T>,
    /// The same array in a segment, once it was sent to another process: an array that is sent
    /// again is not copied again.
    segment: OnceLock<Bytes>,
}

impl<T: Clone> Clone for Owned<T> {
    fn clone(&self) -> Self {
        Self { vec: self.vec.clone(), segment: OnceLock::new() }
    }
}

/// Lets a frame own the vector behind a `Buffer`.
struct VecOwner<T>(Arc<Owned<T>>);

impl<T: Pod> AsRef<[u8]> for VecOwner<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0.vec)
    }
}

impl<T: Pod> Buffer<T> {
    /// Returns the elements for writing in place. They are copied first if another holder (a
    /// clone, or the router that keeps the input for a retry) shares them.
    pub fn to_mut(&mut self) -> &mut [T] {
        if let Storage::Frame(bytes) = &self.storage {
            *self = Self::from(bytemuck::cast_slice(bytes).to_vec());
        }
        match &mut self.storage {
            Storage::Vec(owned) => {
                let owned = Arc::make_mut(owned);
                owned.segment = OnceLock::new();
                owned.vec.as_mut_slice()
            }
            Storage::Frame(_) => unreachable!("turned into a vector above"),
        }
    }

    /// Returns the elements as an owned vector, without a copy if nobody shares them.
    pub fn into_vec(self) -> Vec<T> {
        match self.storage {
            Storage::Vec(owned) => Arc::unwrap_or_clone(owned).vec,
            Storage::Frame(bytes) => bytemuck::cast_slice(&bytes).to_vec(),
        }
    }
}

impl<T: Pod + Send + Sync> Buffer<T> {
    fn to_frame(&self) -> Bytes {
        match &self.storage {
            Storage::Vec(owned) => {
                owned.in_segment().unwrap_or_else(|| Bytes::from_owner(VecOwner(Arc::clone(owned))))
            }
            Storage::Frame(bytes) => bytes.clone(),
        }
    }

    /// Checks the length. An address that does not suit `T`, as frames from other processes may
    /// have, costs one copy.
    fn from_frame(bytes: Bytes) -> Result<Self, String> {
        let size = size_of::<T>();
        if !bytes.len().is_multiple_of(size) {
            return Err(format!(
                "a buffer of {} bytes cannot hold whole elements of {size} bytes",
                bytes.len()
            ));
        }
        if bytemuck::try_cast_slice::<u8, T>(&bytes).is_ok() {
            return Ok(Self { storage: Storage::Frame(bytes) });
        }
        Ok(Self::from(bytemuck::pod_collect_to_vec::<u8, T>(&bytes)))
    }
}

impl<T: Pod> Owned<T> {
    /// Returns the array in a segment, if that is wanted and possible.
    fn in_segment(&self) -> Option<Bytes> {
        let array: &[u8] = bytemuck::cast_slice(&self.vec);
        if !segment::is_wanted(array.len()) {
            return None;
        }
        let made = || segment::create(array).ok();
        let segment = self.segment.get().cloned().or_else(made)?;
        Some(self.segment.get_or_init(|| segment).clone())
    }
}

impl<T: Pod> From<Vec<T>> for Buffer<T> {
    fn from(vec: Vec<T>) -> Self {
        Self { storage: Storage::Vec(Arc::new(Owned { vec, segment: OnceLock::new() })) }
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.storage {
            Storage::Vec(owned) => &owned.vec,
            Storage::Frame(bytes) => bytemuck::cast_slice(bytes),
        }
    }
}

impl<T: Pod> Default for Buffer<T> {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl<T: Pod + PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Pod> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} x {})", self.len(), std::any::type_name::<T>())
    }
}

impl<T: Pod + Send + Sync> Serialize for Buffer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: &[u8] = bytemuck::cast_slice(self);
        let form = collect::form();
        let beside = form.is_some() && bytes.len() >= INLINE_BELOW;
        let frame = beside.then(|| u32::try_from(collect::add(self.to_frame())));
        let frame = frame.transpose().map_err(S::Error::custom)?;
        match (form, frame) {
            (Some(ArrayForm::Extension), frame) => array::write::<T, S>(self, frame, serializer),
            (_, Some(number)) => ArrayRef::frame(number).serialize(serializer),
            (_, None) => ArrayRef::inline(bytes).serialize(serializer),
        }
    }
}

impl<'de, T: Pod + Send + Sync> Deserialize<'de> for Buffer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = match collect::form() {
            Some(ArrayForm::Extension) => array::read::<T, D>(deserializer)?,
            _ => ArrayRef::deserialize(deserializer)?.bytes().map_err(D::Error::custom)?,
        };
        Self::from_frame(bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, CodecId};
    use crate::memory::collect::{SHARE_FROM, collect_frames};

    #[test]
    fn a_large_buffer_travels_without_a_copy() {
        let buffer = Buffer::from(vec![1.5_f32; 10_000]);
        let address = buffer.as_ptr();
        let payload = codec::encode(&buffer).unwrap();
        drop(buffer);
        assert_eq!(payload.buffers.len(), 1);
        assert!(payload.header.len() < 64);
        let received: Buffer<f32> = codec::decode(payload, CodecId::Bincode, "").unwrap();
        assert_eq!(received.as_ptr(), address);
    }

    #[test]
    fn a_small_buffer_stays_in_the_header() {
        let payload = codec::encode(&Buffer::from(vec![7_u16; 10])).unwrap();
        assert!(payload.buffers.is_empty());
        assert_eq!(
            codec::decode::<Buffer<u16>>(payload, CodecId::Bincode, "").unwrap()[..],
            [7; 10]
        );
    }

    #[test]
    fn an_array_in_a_header_shares_its_memory_from_a_certain_size_on() {
        for (size, shares) in [(SHARE_FROM, true), (SHARE_FROM - 1, false)] {
            let payload = codec::encode(&(7_u16, Buffer::from(vec![3_u8; size]))).unwrap();
            let header = payload.header.as_ptr_range();
            let (number, received): (u16, Buffer<u8>) =
                codec::decode(payload.clone(), CodecId::Bincode, "").unwrap();
            assert_eq!((number, &received[..]), (7, &vec![3; size][..]));
            assert_eq!(header.contains(&received.as_ptr()), shares);
            let mut changed = received.clone();
            changed.to_mut()[0] = 4;
            drop(payload);
            assert_eq!((received[0], changed[0]), (3, 4));
        }
    }

    #[test]
    fn a_misaligned_frame_is_copied() {
        let bytes = Bytes::from(vec![0_u8; 4001]).slice(1..);
        let odd =
            if (bytes.as_ptr() as usize).is_multiple_of(4) { bytes.slice(..0) } else { bytes };
        let buffer = Buffer::<f32>::from_frame(odd).unwrap();
        assert!(buffer.iter().all(|value| *value == 0.0));
    }

    #[test]
    fn a_frame_of_a_wrong_length_is_refused() {
        let error = Buffer::<f64>::from_frame(Bytes::from_static(b"12345")).unwrap_err();
        assert!(error.contains("5 bytes"), "{error}");
    }

    #[test]
    fn a_missing_frame_is_an_error() {
        let mut payload = codec::encode(&Buffer::from(vec![0_u8; 50_000])).unwrap();
        payload.buffers.clear();
        let error = codec::decode::<Buffer<u8>>(payload, CodecId::Bincode, "").unwrap_err();
        assert!(error.to_string().contains("frame 0"), "{error}");
    }

    #[test]
    fn frames_of_a_value_never_reach_another() {
        /// Encodes another value while it is being encoded itself.
        struct Nested(Buffer<u8>);
        impl Serialize for Nested {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let inner = codec::encode(&Buffer::from(vec![2_u8; 30_000])).unwrap();
                assert_eq!(inner.buffers.len(), 1);
                assert_eq!(
                    codec::decode::<Buffer<u8>>(inner, CodecId::Bincode, "").unwrap()[..],
                    [2; 30_000]
                );
                self.0.serialize(serializer)
            }
        }
        let pair = (Buffer::from(vec![1_u8; 20_000]), Nested(vec![3; 40_000].into()));
        let payload = codec::encode(&pair).unwrap();
        assert_eq!(payload.buffers.iter().map(Bytes::len).collect::<Vec<_>>(), [20_000, 40_000]);
        let panicked = std::panic::catch_unwind(|| {
            collect_frames(ArrayForm::Reference, || panic!("while encoding"))
        });
        assert!(panicked.is_err());
        assert!(codec::encode(&7_u8).unwrap().buffers.is_empty());
        assert_eq!(
            serde_json::to_value(Buffer::from(vec![0_u8; 2000])).unwrap()["frame"],
            serde_json::Value::Null
        );
    }

    #[test]
    fn what_is_sent_to_processes_again_is_copied_once_unless_it_changed() {
        let sent = std::thread::spawn(|| {
            segment::share_from_here();
            let mut buffer = Buffer::from(vec![1_u8; segment::SHARED_FROM]);
            let frames = [buffer.to_frame(), buffer.clone().to_frame()];
            assert!(segment::of(&frames[0]).is_some());
            assert_eq!(frames[0].as_ptr(), frames[1].as_ptr());
            buffer.to_mut()[0] = 2;
            [frames[0].clone(), buffer.to_frame()]
        });
        let [before, after] = sent.join().unwrap();
        assert_eq!((before[0], after[0]), (1, 2));
        let here = Buffer::from(vec![1_u8; segment::SHARED_FROM]);
        assert!(segment::of(&here.to_frame()).is_none(), "not wanted on this thread");
    }

    #[test]
    fn writing_to_a_shared_buffer_leaves_the_other_holder_alone() {
        let payload = codec::encode(&Buffer::from(vec![1_i32; 10_000])).unwrap();
        let mut first: Buffer<i32> = codec::decode(payload.clone(), CodecId::Bincode, "").unwrap();
        first.to_mut()[0] = 9;
        assert_eq!(codec::decode::<Buffer<i32>>(payload, CodecId::Bincode, "").unwrap()[0], 1);
    }
}
