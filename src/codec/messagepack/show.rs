//! Shows MessagePack to people, in a few words or as a whole.

use std::fmt::Write;

use super::token::{Token, read};
use super::{COMPLEX, TUPLE, TYPED, pickled};
use crate::memory::array::{ARRAY, Dtype};

/// Limits the characters of a quoted text.
const LONGEST: usize = 60;
/// Limits the keys of a map that are named.
const MOST_KEYS: usize = 8;

/// Describes the value that the bytes begin with.
pub(super) fn describe(bytes: &[u8]) -> String {
    let mut rest = bytes;
    let Ok(token) = read(&mut rest) else { return "no MessagePack".to_owned() };
    match token {
        Token::Nil => "nil (None)".to_owned(),
        Token::Bool(value) => value.to_string(),
        Token::Unsigned(number) => format!("the integer {number}"),
        Token::Signed(number) => format!("the integer {number}"),
        Token::F32(number) => format!("the float {number:?}"),
        Token::F64(number) => format!("the float {number:?}"),
        Token::Text(text) => format!("the text {}", quoted(text)),
        Token::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Token::List(count) => format!("a list of {count}"),
        Token::Map(0) => "an empty map".to_owned(),
        Token::Map(count) => format!("a map with keys {}", keys(rest, count)),
        Token::Extension(ARRAY, content) => array(content),
        Token::Extension(TYPED, mut content) => match read(&mut content) {
            Ok(Token::Text(name)) => format!("a {}", cut(name)),
            _ => "a typed value without a name".to_owned(),
        },
        Token::Extension(TUPLE, mut content) => match read(&mut content) {
            Ok(Token::List(count)) => format!("a tuple of {count}"),
            _ => "a tuple that holds no list".to_owned(),
        },
        Token::Extension(COMPLEX, _) => "a complex number".to_owned(),
        Token::Extension(kind, _) => format!("an extension of the unknown type {kind}"),
    }
}

/// Shows the key that the bytes begin with, as a part of a path.
pub(super) fn key(bytes: &[u8]) -> String {
    match read(&mut { bytes }) {
        Ok(Token::Text(text)) => cut(text),
        _ => format!("[{}]", describe(bytes)),
    }
}

fn quoted(text: &str) -> String {
    format!("{:?}", cut(text))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn array(mut content: &[u8]) -> String {
    let unknown = || "an array that cannot be read".to_owned();
    let Ok(Token::List(3)) = read(&mut content) else { return unknown() };
    let Ok(Token::Text(text)) = read(&mut content) else { return unknown() };
    let Ok(Token::List(axes)) = read(&mut content) else { return unknown() };
    let axes = (0..axes.min(LONGEST)).map_while(|_| match read(&mut content) {
        Ok(Token::Unsigned(length)) => Some(length),
        _ => None,
    });
    let axes: Vec<u64> = axes.collect();
    match Dtype::parse(text) {
        Some(dtype) => format!("an array of {dtype} {axes:?}"),
        None => format!("an array of the dtype {} {axes:?}", quoted(text)),
    }
}

/// The names of the first keys of a map.
fn keys(mut rest: &[u8], count: usize) -> String {
    let mut names = Vec::new();
    for _ in 0..count.min(MOST_KEYS) {
        names.push(key(rest));
        if skip(&mut rest, 2).is_none() {
            break;
        }
    }
    let more = if count > names.len() { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}

/// Skips `count` values.
fn skip(rest: &mut &[u8], count: usize) -> Option<()> {
    let mut open = count;
    while let Some(left) = open.checked_sub(1) {
        open = left;
        open += match read(rest).ok()? {
            Token::List(count) => count,
            Token::Map(count) => count * 2,
            _ => 0,
        };
    }
    Some(())
}

/// Limits the bytes of a text that [`readable`] makes, and the nesting that it shows.
const ROOM: usize = 4000;
const DEPTH: usize = 20;

/// Shows the value in a notation close to JSON, cut off if it is long.
pub(crate) fn readable(header: &[u8]) -> String {
    if let Some(name) = pickled(header) {
        return format!("<a Python object: {}>", cut(name));
    }
    let mut text = String::new();
    let whole = write(&mut { header }, DEPTH, &mut text);
    if whole.is_none() {
        text += " …";
    }
    text
}

/// `None` means cut off.
fn write(rest: &mut &[u8], depth: usize, out: &mut String) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    if out.len() > ROOM {
        return None;
    }
    let start = *rest;
    match read(rest).ok()? {
        Token::Nil => *out += "null",
        Token::Bool(value) => *out += &value.to_string(),
        Token::Unsigned(number) => *out += &number.to_string(),
        Token::Signed(number) => *out += &number.to_string(),
        Token::F32(number) => *out += &format!("{number:?}"),
        Token::F64(number) => *out += &format!("{number:?}"),
        Token::Text(text) => *out += &format!("{:?}", text.chars().take(ROOM).collect::<String>()),
        Token::List(count) => {
            *out += "[";
            for index in 0..count {
                *out += if index == 0 { "" } else { ", " };
                write(rest, depth, out)?;
            }
            *out += "]";
        }
        Token::Map(count) => {
            *out += "{";
            for index in 0..count {
                *out += if index == 0 { "" } else { ", " };
                write(rest, depth, out)?;
                *out += ": ";
                write(rest, depth, out)?;
            }
            *out += "}";
        }
        Token::Extension(TYPED, mut content) => {
            let Ok(Token::Text(name)) = read(&mut content) else { return None };
            let _ = write!(out, "{} ", cut(name));
            write(&mut content, depth, out)?;
        }
        Token::Extension(TUPLE, mut content) => write(&mut content, depth, out)?,
        Token::Bytes(_) | Token::Extension(..) => {
            let _ = write!(out, "<{}>", describe(start));
        }
    }
    Some(())
}
