//! The codec of steps in other languages: MessagePack with the extension types of
//! docs/WIRE.md.

mod decoder;
mod elements;
mod error;
mod show;
mod token;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Codec;
use crate::base::failure::{Failure, Result};
use crate::memory::collect::{ArrayForm, collect_frames, provide_frames, within};
use crate::message::{Header, Payload};

use decoder::Decoder;
use token::{Token, read};

pub(crate) use show::readable;

/// The extension type of a value with the name of its type.
const TYPED: i8 = 2;
/// The extension type of a tuple, which some languages tell from a list.
const TUPLE: i8 = 3;
/// The extension type of a complex number.
const COMPLEX: i8 = 4;

/// The first byte of a header that holds a pickle, which only steps in Python open. No value
/// in MessagePack begins with it.
const PICKLE: u8 = 0xc1;

/// The types that every language has: they travel without their names.
const BARE: [&str; 3] = ["drpipe/Integer/1", "drpipe/Real/1", "drpipe/Text/1"];

/// The marker of an extension whose length has 32 bits, to be filled in afterwards.
const EXTENSION: u8 = 0xc9;
const LENGTH: usize = size_of::<u32>();

pub(super) struct MessagePack;

impl Codec for MessagePack {
    const NAME: &'static str = "MessagePack";

    #[inline(never)]
    fn encode_onto<T: Serialize>(
        value: &T,
        name: &str,
        header: &mut Vec<u8>,
    ) -> Result<Vec<Bytes>> {
        let write = || {
            let length_at =
                if BARE.contains(&name) { None } else { Some(begin_typed(name, header)) };
            let mut serializer = rmp_serde::Serializer::new(&mut *header).with_struct_map();
            value.serialize(&mut serializer).map_err(|error| error.to_string())?;
            length_at.map_or(Ok(()), |at| end_typed(at, header))
        };
        let (written, buffers) = collect_frames(ArrayForm::Extension, write);
        match written {
            Ok(()) => Ok(buffers),
            Err(error) => {
                Err(Failure::permanent(format!("a {name} cannot be serialized: {error}")))
            }
        }
    }

    #[inline(never)]
    fn decode<T: DeserializeOwned>(payload: Payload, name: &str) -> Result<T> {
        let Payload { header, buffers } = payload;
        if let Some(found) = pickled(&header) {
            return Err(Failure::permanent(format!(
                "the message is a Python object ({found}), which only steps in Python can open, \
                 but the step takes a {name}: send numbers, text, bytes, lists, dicts or arrays \
                 here"
            )));
        }
        let (found, value) = open(&header);
        if let Some(found) = found.filter(|found| *found != name) {
            return Err(Failure::permanent(format!(
                "the message is a {found}, but the step takes a {name}"
            )));
        }
        let decode = || Decoder::new(value).whole::<T>();
        let decode = || match &header {
            Header::Shared(bytes) => within(bytes, decode),
            Header::InPlace { .. } => decode(),
        };
        provide_frames(ArrayForm::Extension, buffers, decode).map_err(|error| {
            let outer = match found {
                Some(_) => format!("the message is not a valid {name}"),
                None => {
                    format!(
                        "the message is {}, but the step takes a {name}",
                        show::describe(&header)
                    )
                }
            };
            Failure::permanent(error.to_string()).wrap(outer)
        })
    }
}

/// Begins a typed value; returns the place of its length.
fn begin_typed(name: &str, header: &mut Vec<u8>) -> usize {
    header.push(EXTENSION);
    let at = header.len();
    header.extend([0; LENGTH]);
    header.push(TYPED as u8);
    // Writing to memory does not fail.
    let _ = rmp::encode::write_str(header, name);
    at
}

fn end_typed(at: usize, header: &mut [u8]) -> Result<(), String> {
    // Between the length and the contents stands the type of the extension.
    let length = header.len() - at - LENGTH - 1;
    let length = u32::try_from(length).map_err(|_| "it has more than 4 GiB".to_owned())?;
    header[at..at + LENGTH].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Describes what a pickle contains, in the words of the step that sent it; `None` if the
/// header is no pickle.
pub(crate) fn pickled(header: &[u8]) -> Option<&str> {
    let (&PICKLE, mut rest) = header.split_first()? else { return None };
    match (read(&mut rest), read(&mut rest)) {
        (Ok(Token::List(_)), Ok(Token::Text(name))) => Some(name),
        _ => Some("a pickle that cannot be read"),
    }
}

/// Splits a header into the name of the type, if there is one, and the value.
fn open(header: &[u8]) -> (Option<&str>, &[u8]) {
    let mut rest = header;
    if let Ok(Token::Extension(TYPED, mut content)) = read(&mut rest)
        && rest.is_empty()
        && let Ok(Token::Text(name)) = read(&mut content)
    {
        return (Some(name), content);
    }
    (None, header)
}

#[cfg(test)]
mod tests;
