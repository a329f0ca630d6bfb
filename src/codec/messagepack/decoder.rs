//! Decodes MessagePack. `rmp-serde` does not suffice: it knows neither arrays nor typed values
//! within a value, and its errors name markers.

use rmp_serde::MSGPACK_EXT_STRUCT_NAME;
use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};

use super::elements::Elements;
use super::error::Error;
use super::token::{Token, read};
use super::{TUPLE, TYPED, show};
use crate::memory::array::{ARRAY, Array};

/// Limits the nesting of values, because a worker's stack is limited.
const DEPTH: u32 = 128;
/// The magnitude below which every whole number has a float of its own.
const EXACT: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;

/// The values that stand at the beginning of `rest`, one after the other.
pub(super) struct Decoder<'de> {
    rest: &'de [u8],
    /// The nesting that is still allowed.
    depth: u32,
}

impl<'de> Decoder<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self { rest: bytes, depth: DEPTH }
    }

    /// Decodes one value, which must use all bytes.
    pub(super) fn whole<T: DeserializeOwned>(mut self) -> Result<T, Error> {
        let value = T::deserialize(&mut self)?;
        self.end()?;
        Ok(value)
    }

    fn end(&self) -> Result<(), Error> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(Error::custom(format!("{left} bytes are left over"))),
        }
    }

    fn read(&mut self) -> Result<Token<'de>, Error> {
        Ok(read(&mut self.rest)?)
    }

    fn peek(&self) -> Result<Token<'de>, Error> {
        Ok(read(&mut { self.rest })?)
    }

    fn deeper<R>(&mut self, work: impl FnOnce(&mut Self) -> Result<R, Error>) -> Result<R, Error> {
        self.depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| Error::custom(format!("it is nested more than {DEPTH} values deep")))?;
        let result = work(self);
        self.depth += 1;
        result
    }

    /// Runs `work` on the contents of an extension, which it must use up.
    fn within<R>(
        &mut self,
        content: &'de [u8],
        work: impl FnOnce(&mut Self) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.deeper(|decoder| {
            let mut inner = Decoder { rest: content, depth: decoder.depth };
            let result = work(&mut inner)?;
            inner.end()?;
            Ok(result)
        })
    }

    /// Removes the extensions around the next value that name its type, and returns the rest
    /// behind them, if there are any.
    fn open(&mut self) -> Result<Option<&'de [u8]>, Error> {
        let mut behind = self.rest;
        match read(&mut behind)? {
            Token::Extension(TYPED, mut content) => {
                let Token::Text(_) = read(&mut content)? else {
                    return Err(Error::broken("a typed value has no name"));
                };
                self.rest = behind;
                Ok(Some(content))
            }
            Token::Extension(TUPLE, content) => {
                self.rest = behind;
                Ok(Some(content))
            }
            _ => Ok(None),
        }
    }

    /// Runs `work` on the next value without its type. An error that does not describe what it
    /// found is about that value.
    fn value<R>(&mut self, work: impl FnOnce(&mut Self) -> Result<R, Error>) -> Result<R, Error> {
        let start = self.rest;
        let result = match self.open()? {
            Some(content) => self.within(content, |inner| inner.value(work)),
            None => work(self),
        };
        result.map_err(|error| error.at(start))
    }

    fn any<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.read()? {
            Token::Nil => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Unsigned(number) => visitor.visit_u64(number),
            Token::Signed(number) => visitor.visit_i64(number),
            Token::F32(number) => visitor.visit_f32(number),
            Token::F64(number) => visitor.visit_f64(number),
            Token::Text(text) => visitor.visit_borrowed_str(text),
            Token::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::List(count) => self.deeper(|decoder| {
                let mut items = Items { decoder, count, taken: 0 };
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }),
            Token::Map(count) => self.deeper(|decoder| {
                let mut entries = Entries { decoder, left: count, key: &[] };
                let value = visitor.visit_map(&mut entries)?;
                entries.end()?;
                Ok(value)
            }),
            Token::Extension(ARRAY, content) => {
                self.within(content, |inner| visitor.visit_newtype_struct(inner))
            }
            Token::Extension(..) => Err(Error::expected(&visitor)),
        }
    }

    /// As `any`, for a number or a list of them; accepts an array too.
    fn numbers<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let Token::Extension(ARRAY, content) = self.peek()? else { return self.any(visitor) };
        self.read()?;
        let array = self.within(content, |inner| Array::deserialize(inner))?;
        let Array { dtype, shape, bytes } = &array;
        Elements { dtype: *dtype, shape, bytes }.deserialize_any(visitor)
    }

    /// Accepts a float that is whole too.
    fn integer<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let whole = |float: f64| (float.fract() == 0.0 && float.abs() < EXACT).then_some(float);
        let float = match self.peek()? {
            Token::F64(float) => whole(float),
            Token::F32(float) => whole(float.into()),
            _ => None,
        };
        match float {
            Some(float) => {
                self.read()?;
                match u64::try_from(float as i64) {
                    Ok(number) => visitor.visit_u64(number),
                    Err(_) => visitor.visit_i64(float as i64),
                }
            }
            None => self.numbers(visitor),
        }
    }

    fn wide_integer<V: Visitor<'de>>(
        &mut self,
        visitor: V,
        visit: impl FnOnce(V, [u8; 16]) -> Result<V::Value, Error>,
    ) -> Result<V::Value, Error> {
        if let Token::Bytes(bytes) = self.peek()?
            && let Ok(bytes) = bytes.try_into()
        {
            self.read()?;
            return visit(visitor, bytes);
        }
        self.integer(visitor)
    }
}

/// Methods that do the same for several types.
macro_rules! each {
    ($($method:ident)* => $work:ident) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.value(|decoder| decoder.$work(visitor))
        })*
    };
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = Error;

    each! { deserialize_any => any }
    each! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 => integer
    }
    each! { deserialize_bool deserialize_f32 deserialize_f64 => numbers }
    each! { deserialize_seq => list }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let visit = |visitor: V, bytes| visitor.visit_i128(i128::from_be_bytes(bytes));
        self.value(|decoder| decoder.wide_integer(visitor, visit))
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let visit = |visitor: V, bytes| visitor.visit_u128(u128::from_be_bytes(bytes));
        self.value(|decoder| decoder.wide_integer(visitor, visit))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, v: V) -> Result<V::Value, Error> {
        self.deserialize_seq(v)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek()? {
            Token::Nil => {
                self.read()?;
                visitor.visit_none()
            }
            _ => self.deeper(|decoder| visitor.visit_some(decoder)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value(|decoder| match decoder.read()? {
            Token::Nil | Token::List(0) => visitor.visit_unit(),
            _ => Err(Error::expected(&visitor)),
        })
    }

    /// Gives a buffer the parts of an array.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name != MSGPACK_EXT_STRUCT_NAME {
            return self.deeper(|decoder| visitor.visit_newtype_struct(decoder));
        }
        self.value(|decoder| match decoder.peek()? {
            Token::Extension(ARRAY, _) => decoder.any(visitor),
            _ => Err(Error::expected(&visitor)),
        })
    }

    /// Refuses a list: its elements' meaning would be a guess.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value(|decoder| match decoder.peek()? {
            Token::Map(_) => decoder.any(visitor),
            _ => Err(Error::expected(&visitor)),
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value(|decoder| match decoder.read()? {
            Token::Text(name) => visitor.visit_enum(BorrowedStrDeserializer::new(name)),
            Token::Map(1) => decoder.deeper(|decoder| visitor.visit_enum(Variant { decoder })),
            _ => Err(Error::expected(&visitor)),
        })
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit map identifier ignored_any
    }
}

impl<'de> Decoder<'de> {
    /// Accepts bytes and an array too.
    fn list<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let Token::Bytes(bytes) = self.peek()? else { return self.numbers(visitor) };
        self.read()?;
        let mut items = SeqDeserializer::<_, Error>::new(bytes.iter().copied());
        let value = visitor.visit_seq(&mut items)?;
        items.end()?;
        Ok(value)
    }
}

struct Items<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    count: usize,
    taken: usize,
}

impl Items<'_, '_> {
    fn end(&self) -> Result<(), Error> {
        let Self { count, taken, .. } = self;
        if count == taken {
            return Ok(());
        }
        Err(Error::custom(format!("a list of {count} where a list of {taken} is expected")))
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if self.taken == self.count {
            return Ok(None);
        }
        let index = self.taken;
        self.taken += 1;
        let item = seed.deserialize(&mut *self.decoder);
        item.map(Some).map_err(|error| error.in_element(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.count - self.taken)
    }
}

struct Entries<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    left: usize,
    /// The bytes from the latest key on.
    key: &'de [u8],
}

impl Entries<'_, '_> {
    fn end(&self) -> Result<(), Error> {
        match self.left {
            0 => Ok(()),
            left => Err(Error::custom(format!("{left} entries of a map are left over"))),
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        self.key = self.decoder.rest;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let value = seed.deserialize(&mut *self.decoder);
        value.map_err(|error| error.in_key(show::key(self.key)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// A variant with contents: a map from its name to them.
struct Variant<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
}

impl<'d, 'de> EnumAccess<'de> for Variant<'d, 'de> {
    type Error = Error;
    type Variant = Held<'d, 'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Held<'d, 'de>), Error> {
        let key = self.decoder.rest;
        let name = seed.deserialize(&mut *self.decoder)?;
        Ok((name, Held { decoder: self.decoder, key }))
    }
}

/// The contents of a variant.
struct Held<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    key: &'de [u8],
}

impl<'de> VariantAccess<'de> for Held<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.newtype_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        let value = seed.deserialize(self.decoder);
        value.map_err(|error| error.in_key(show::key(self.key)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        let value = self.decoder.deserialize_seq(visitor);
        value.map_err(|error| error.in_key(show::key(self.key)))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let value = self.decoder.deserialize_struct("", fields, visitor);
        value.map_err(|error| error.in_key(show::key(self.key)))
    }
}
