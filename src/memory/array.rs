//! Arrays in MessagePack: the extension type 1 of docs/WIRE.md.

use std::any::TypeId;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use bytemuck::Pod;
use bytes::Bytes;
use rmp_serde::MSGPACK_EXT_STRUCT_NAME;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::array_ref::ByteString;
use super::collect;

/// The extension type of arrays.
pub(crate) const ARRAY: i8 = 1;
/// Limits the axes of an array, as numpy does.
const MOST_AXES: usize = 64;

/// The type of the elements of an array, in numpy's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dtype {
    /// `f`, `i`, `u`, `b`, `c`, or `V` for bytes of any meaning.
    pub(crate) kind: char,
    /// In bytes.
    pub(crate) size: usize,
}

impl Dtype {
    pub(crate) fn of<T: Pod>() -> Self {
        let id = TypeId::of::<T>();
        let is = |ids: &[TypeId]| ids.contains(&id);
        let kind = if is(&[TypeId::of::<f32>(), TypeId::of::<f64>()]) {
            'f'
        } else if is(&[
            TypeId::of::<u8>(),
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
        ]) {
            'u'
        } else if is(&[
            TypeId::of::<i8>(),
            TypeId::of::<i16>(),
            TypeId::of::<i32>(),
            TypeId::of::<i64>(),
            TypeId::of::<isize>(),
        ]) {
            'i'
        } else {
            'V'
        };
        Self { kind, size: size_of::<T>() }
    }

    /// Parses a type in native byte order; `None` for any other text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut characters = text.chars();
        let (order, kind) = (characters.next()?, characters.next()?);
        let size = characters.as_str().parse().ok().filter(|size| (1..=1 << 20).contains(size))?;
        let native = match order {
            '|' => size == 1 || kind == 'V',
            '<' => cfg!(target_endian = "little"),
            '>' => cfg!(target_endian = "big"),
            '=' => true,
            _ => false,
        };
        let exists = match kind {
            'f' => matches!(size, 2 | 4 | 8),
            'i' | 'u' => matches!(size, 1 | 2 | 4 | 8),
            'c' => matches!(size, 8 | 16),
            'b' => size == 1,
            'V' => true,
            _ => false,
        };
        (native && exists).then_some(Self { kind, size })
    }

    fn text(self) -> String {
        let order = match self {
            Self { kind: 'V', .. } | Self { size: 1, .. } => '|',
            _ if cfg!(target_endian = "big") => '>',
            _ => '<',
        };
        format!("{order}{}{}", self.kind, self.size)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.size * 8;
        match self.kind {
            'f' => write!(f, "float{bits}"),
            'i' => write!(f, "int{bits}"),
            'u' => write!(f, "uint{bits}"),
            'c' => write!(f, "complex{bits}"),
            'b' => f.write_str("bool"),
            _ => write!(f, "records of {} bytes", self.size),
        }
    }
}

/// An array as it was received: any number of axes, the last varying fastest.
pub(crate) struct Array {
    pub(crate) dtype: Dtype,
    /// The lengths of the axes; their product is the number of elements.
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Bytes,
}

/// The contents of the extension.
#[derive(Serialize, Deserialize)]
struct Parts<'a>(#[serde(borrow)] Cow<'a, str>, Vec<usize>, #[serde(borrow)] Place<'a>);

enum Place<'a> {
    Frame(u64),
    Inline(Cow<'a, [u8]>),
}

impl<'de> Deserialize<'de> for Array {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Parts(text, shape, place) = Parts::deserialize(deserializer)?;
        let dtype = Dtype::parse(&text).ok_or_else(|| {
            D::Error::custom(format!("an array of the dtype {text:?} cannot be read here"))
        })?;
        let bytes = match place {
            Place::Inline(bytes) => collect::shared_with_source(bytes),
            Place::Frame(number) => collect::get(number).map_err(D::Error::custom)?,
        };
        let product = shape.iter().try_fold(dtype.size, |all, axis| all.checked_mul(*axis));
        if product != Some(bytes.len()) || shape.len() > MOST_AXES {
            return Err(D::Error::custom(format!(
                "an array of {dtype} {} cannot have {} bytes",
                shown(&shape),
                bytes.len()
            )));
        }
        Ok(Self { dtype, shape, bytes })
    }
}

/// Limits the axes that a message shows, so that it fits a line.
fn shown(shape: &[usize]) -> String {
    if shape.len() > MOST_AXES {
        format!("with {} axes", shape.len())
    } else {
        format!("{shape:?}")
    }
}

impl Serialize for Place<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Frame(number) => serializer.serialize_u64(*number),
            Self::Inline(bytes) => serializer.serialize_bytes(bytes),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Place<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlaceVisitor)
    }
}

struct PlaceVisitor;

impl<'de> de::Visitor<'de> for PlaceVisitor {
    type Value = Place<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number of a buffer, or bytes")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Place::Frame(number))
    }

    fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Place::Inline(bytes.into()))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Place::Inline(bytes.to_vec().into()))
    }
}

/// Writes the elements of a buffer, or the number of their frame.
pub(crate) fn write<T: Pod, S: Serializer>(
    elements: &[T],
    frame: Option<u32>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let place = match frame {
        Some(number) => Place::Frame(number.into()),
        None => Place::Inline(bytemuck::cast_slice(elements).into()),
    };
    let parts = Parts(Dtype::of::<T>().text().into(), vec![elements.len()], place);
    let content = rmp_serde::to_vec(&parts).map_err(S::Error::custom)?;
    let extension = (ARRAY, ByteString(content.into()));
    serializer.serialize_newtype_struct(MSGPACK_EXT_STRUCT_NAME, &extension)
}

/// Reads the elements of a buffer.
pub(crate) fn read<'de, T: Pod, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    deserializer.deserialize_newtype_struct(MSGPACK_EXT_STRUCT_NAME, ArrayVisitor::<T>(PhantomData))
}

struct ArrayVisitor<T>(PhantomData<T>);

impl<'de, T: Pod> de::Visitor<'de> for ArrayVisitor<T> {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of {}", Dtype::of::<T>())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        let Array { dtype, shape, bytes } = Array::deserialize(deserializer)?;
        let expected = Dtype::of::<T>();
        if dtype == expected {
            return Ok(bytes);
        }
        // Worded here, because serde's own message has no words for arrays.
        Err(D::Error::custom(format!("an array of {dtype} {shape:?} where {expected} is expected")))
    }
}
