//! The bytes of MessagePack, one piece at a time.

use rmp::Marker;

/// What is wrong with bytes that are no MessagePack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Malformed(pub(super) &'static str);

/// The beginning of a value; the elements of a list or map follow it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'de> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    /// Below zero.
    Signed(i64),
    F32(f32),
    F64(f64),
    Text(&'de str),
    Bytes(&'de [u8]),
    List(usize),
    Map(usize),
    Extension(i8, &'de [u8]),
}

/// Takes the next piece off `rest`. A list has at most as many elements as bytes are left, so
/// a forged count cannot make a reader allocate more.
///
/// # Errors
/// If the bytes are no MessagePack.
pub(super) fn read<'de>(rest: &mut &'de [u8]) -> Result<Token<'de>, Malformed> {
    let [byte] = fixed(rest)?;
    Ok(match Marker::from_u8(byte) {
        Marker::Null => Token::Nil,
        Marker::True => Token::Bool(true),
        Marker::False => Token::Bool(false),
        Marker::FixPos(number) => Token::Unsigned(number.into()),
        Marker::FixNeg(number) => Token::Signed(number.into()),
        Marker::U8 => Token::Unsigned(unsigned::<1>(rest)?),
        Marker::U16 => Token::Unsigned(unsigned::<2>(rest)?),
        Marker::U32 => Token::Unsigned(unsigned::<4>(rest)?),
        Marker::U64 => Token::Unsigned(unsigned::<8>(rest)?),
        Marker::I8 => signed(i8::from_be_bytes(fixed(rest)?).into()),
        Marker::I16 => signed(i16::from_be_bytes(fixed(rest)?).into()),
        Marker::I32 => signed(i32::from_be_bytes(fixed(rest)?).into()),
        Marker::I64 => signed(i64::from_be_bytes(fixed(rest)?)),
        Marker::F32 => Token::F32(f32::from_be_bytes(fixed(rest)?)),
        Marker::F64 => Token::F64(f64::from_be_bytes(fixed(rest)?)),
        Marker::FixStr(length) => text(rest, length.into())?,
        Marker::Str8 => length::<1>(rest).and_then(|length| text(rest, length))?,
        Marker::Str16 => length::<2>(rest).and_then(|length| text(rest, length))?,
        Marker::Str32 => length::<4>(rest).and_then(|length| text(rest, length))?,
        Marker::Bin8 => length::<1>(rest).and_then(|length| bytes(rest, length))?,
        Marker::Bin16 => length::<2>(rest).and_then(|length| bytes(rest, length))?,
        Marker::Bin32 => length::<4>(rest).and_then(|length| bytes(rest, length))?,
        Marker::FixArray(count) => list(rest, count.into())?,
        Marker::Array16 => length::<2>(rest).and_then(|count| list(rest, count))?,
        Marker::Array32 => length::<4>(rest).and_then(|count| list(rest, count))?,
        Marker::FixMap(count) => map(rest, count.into())?,
        Marker::Map16 => length::<2>(rest).and_then(|count| map(rest, count))?,
        Marker::Map32 => length::<4>(rest).and_then(|count| map(rest, count))?,
        Marker::FixExt1 => extension(rest, 1)?,
        Marker::FixExt2 => extension(rest, 2)?,
        Marker::FixExt4 => extension(rest, 4)?,
        Marker::FixExt8 => extension(rest, 8)?,
        Marker::FixExt16 => extension(rest, 16)?,
        Marker::Ext8 => length::<1>(rest).and_then(|length| extension(rest, length))?,
        Marker::Ext16 => length::<2>(rest).and_then(|length| extension(rest, length))?,
        Marker::Ext32 => length::<4>(rest).and_then(|length| extension(rest, length))?,
        Marker::Reserved => return Err(Malformed("found a byte that cannot start a value")),
    })
}

fn cut_off() -> Malformed {
    Malformed("the bytes end in the middle of a value")
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (first, after) = rest.split_first_chunk::<N>().ok_or_else(cut_off)?;
    *rest = after;
    Ok(*first)
}

fn take<'de>(rest: &mut &'de [u8], length: usize) -> Result<&'de [u8], Malformed> {
    let (first, after) = rest.split_at_checked(length).ok_or_else(cut_off)?;
    *rest = after;
    Ok(first)
}

fn unsigned<const N: usize>(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let digits: [u8; N] = fixed(rest)?;
    Ok(digits.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn length<const N: usize>(rest: &mut &[u8]) -> Result<usize, Malformed> {
    unsigned::<N>(rest).map(|length| length as usize)
}

fn signed<'de>(number: i64) -> Token<'de> {
    u64::try_from(number).map_or(Token::Signed(number), Token::Unsigned)
}

fn text<'de>(rest: &mut &'de [u8], length: usize) -> Result<Token<'de>, Malformed> {
    let text = std::str::from_utf8(take(rest, length)?);
    text.map(Token::Text).map_err(|_| Malformed("found text that is not UTF-8"))
}

fn bytes<'de>(rest: &mut &'de [u8], length: usize) -> Result<Token<'de>, Malformed> {
    take(rest, length).map(Token::Bytes)
}

fn list<'de>(rest: &mut &[u8], count: usize) -> Result<Token<'de>, Malformed> {
    if count > rest.len() { Err(cut_off()) } else { Ok(Token::List(count)) }
}

fn map<'de>(rest: &mut &[u8], count: usize) -> Result<Token<'de>, Malformed> {
    if count > rest.len() / 2 { Err(cut_off()) } else { Ok(Token::Map(count)) }
}

fn extension<'de>(rest: &mut &'de [u8], length: usize) -> Result<Token<'de>, Malformed> {
    let [kind] = fixed(rest)?;
    Ok(Token::Extension(kind as i8, take(rest, length)?))
}
