//! The elements of an array, for a type that has no [`Buffer`](crate::memory::buffer::Buffer) there: a
//! number, or lists of numbers.

use serde::Deserializer;
use serde::de::value::SeqDeserializer;
use serde::de::{Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::error::Error;
use crate::memory::array::Dtype;

pub(super) struct Elements<'a> {
    pub(super) dtype: Dtype,
    pub(super) shape: &'a [usize],
    pub(super) bytes: &'a [u8],
}

impl<'de> Deserializer<'de> for Elements<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Self { dtype, shape, bytes } = self;
        let Some((length, shape)) = shape.split_first() else {
            return scalar(dtype, bytes, visitor);
        };
        // An array without elements is an empty list, whatever its other axes are.
        let size = (bytes.len() / (*length).max(1)).max(1);
        let parts = bytes.chunks_exact(size).map(|bytes| Self { dtype, shape, bytes });
        let mut parts = SeqDeserializer::new(parts);
        let value = visitor.visit_seq(&mut parts)?;
        parts.end()?;
        Ok(value)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Elements<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn scalar<'de, V: Visitor<'de>>(dtype: Dtype, bytes: &[u8], visitor: V) -> Result<V::Value, Error> {
    macro_rules! number {
        ($number:ty, $visit:ident) => {
            visitor.$visit(bytemuck::pod_read_unaligned::<$number>(bytes))
        };
    }
    match (dtype.kind, dtype.size) {
        ('f', 4) => number!(f32, visit_f32),
        ('f', 8) => number!(f64, visit_f64),
        ('i', 1) => number!(i8, visit_i8),
        ('i', 2) => number!(i16, visit_i16),
        ('i', 4) => number!(i32, visit_i32),
        ('i', 8) => number!(i64, visit_i64),
        ('u', 1) => number!(u8, visit_u8),
        ('u', 2) => number!(u16, visit_u16),
        ('u', 4) => number!(u32, visit_u32),
        ('u', 8) => number!(u64, visit_u64),
        ('b', 1) => visitor.visit_bool(bytes != [0]),
        _ => Err(Error::custom(format!("numbers of the dtype {dtype} cannot be read one by one"))),
    }
}
