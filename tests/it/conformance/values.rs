//! Values of messages: JSON of the transcripts to MessagePack of docs/WIRE.md and back.

use serde_json::{Value, json};

/// The extension types.
const ARRAY: i8 = 1;
const TYPED: i8 = 2;

/// A header and the sizes of the arrays that it refers to. `{"array": size}` stands for an array.
pub fn encode(value: &Value) -> (Vec<u8>, Vec<usize>) {
    let (mut header, mut arrays) = (Vec::new(), Vec::new());
    write(value, &mut header, &mut arrays);
    (header, arrays)
}

fn write(value: &Value, out: &mut Vec<u8>, arrays: &mut Vec<usize>) {
    match value {
        Value::String(text) => rmp::encode::write_str(out, text).unwrap(),
        Value::Number(number) => {
            rmp::encode::write_uint(out, number.as_u64().unwrap()).map(drop).unwrap();
        }
        Value::Array(items) => {
            rmp::encode::write_array_len(out, items.len() as u32).map(drop).unwrap();
            items.iter().for_each(|item| write(item, out, arrays));
        }
        Value::Object(members) => match members.get("array").and_then(Value::as_u64) {
            Some(size) => {
                let mut content = Vec::new();
                write(&json!(["|u1", [size], arrays.len()]), &mut content, arrays);
                arrays.push(size as usize);
                let length = content.len() as u32;
                rmp::encode::write_ext_meta(out, length, ARRAY).map(drop).unwrap();
                out.extend(content);
            }
            None => {
                rmp::encode::write_map_len(out, members.len() as u32).map(drop).unwrap();
                for (key, member) in members {
                    rmp::encode::write_str(out, key).unwrap();
                    write(member, out, arrays);
                }
            }
        },
        other => panic!("transcripts have no {other}"),
    }
}

/// The bytes of an array of this size.
pub fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index % 251) as u8).collect()
}

/// What a worker has sent.
#[derive(Debug)]
pub enum Received {
    Text(String),
    /// The bytes, in the header, or the number of the buffer.
    InHeader(Vec<u8>),
    Buffer(usize),
}

enum Token {
    Text(String),
    Number(u64),
    List(Vec<Token>),
    Bytes(Vec<u8>),
    Extension(i8, Vec<u8>),
}

/// The name of the type, where there is one, is not looked at.
pub fn decode(header: &[u8]) -> Received {
    let mut rest = header;
    let token = read(&mut rest);
    assert!(rest.is_empty(), "{} bytes of a header are left over", rest.len());
    match token {
        Token::Text(text) => Received::Text(text),
        Token::Extension(TYPED, content) => {
            let mut rest = &content[..];
            let Token::Text(_) = read(&mut rest) else { panic!("a type without a name") };
            decode(rest)
        }
        Token::Extension(ARRAY, content) => {
            let Token::List(fields) = read(&mut &content[..]) else { panic!("no array") };
            let [Token::Text(dtype), Token::List(shape), place] = &fields[..] else {
                panic!("an array has {} fields", fields.len())
            };
            let [Token::Number(size)] = shape[..] else { panic!("an array of another shape") };
            assert_eq!(dtype, "|u1");
            match place {
                Token::Bytes(bytes) if bytes.len() as u64 == size => {
                    Received::InHeader(bytes.clone())
                }
                Token::Number(number) => Received::Buffer(*number as usize),
                _ => panic!("an array of another size"),
            }
        }
        _ => panic!("neither a text nor an array: {header:?}"),
    }
}

fn read(rest: &mut &[u8]) -> Token {
    use rmp::Marker;
    let bytes = |rest: &mut &[u8], length: usize| {
        let (taken, left) = rest.split_at(length);
        *rest = left;
        taken.to_vec()
    };
    match Marker::from_u8(rest[0]) {
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
            let length = rmp::decode::read_str_len(rest).unwrap() as usize;
            Token::Text(String::from_utf8(bytes(rest, length)).unwrap())
        }
        Marker::FixArray(_) | Marker::Array16 => {
            let length = rmp::decode::read_array_len(rest).unwrap();
            Token::List((0..length).map(|_| read(rest)).collect())
        }
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
            let length = rmp::decode::read_bin_len(rest).unwrap() as usize;
            Token::Bytes(bytes(rest, length))
        }
        Marker::FixPos(_) | Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => {
            Token::Number(rmp::decode::read_int(rest).unwrap())
        }
        _ => {
            let meta = rmp::decode::read_ext_meta(rest).unwrap();
            Token::Extension(meta.typeid, bytes(rest, meta.size as usize))
        }
    }
}
