//! Arrays in MessagePack in a build without steps in Python: there are none.

use bytemuck::Pod;
use bytes::Bytes;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserializer, Serializer};

use crate::base::not_built::NotBuilt;

const ARRAYS: NotBuilt = NotBuilt { feature: "python" };

pub(crate) fn write<T: Pod, S: Serializer>(
    _: &[T],
    _: Option<u32>,
    _: S,
) -> Result<S::Ok, S::Error> {
    Err(S::Error::custom(ARRAYS))
}

pub(crate) fn read<'de, T: Pod, D: Deserializer<'de>>(_: D) -> Result<Bytes, D::Error> {
    Err(D::Error::custom(ARRAYS))
}
