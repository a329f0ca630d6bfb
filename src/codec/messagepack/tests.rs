use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::memory::buffer::Buffer;
use crate::stage::data::{CodecId, Data};
use crate::stages::{FitsPath, Frame, Picture, Pixels};

fn encoded<T: Serialize>(value: &T, name: &str) -> Payload {
    let mut header = Vec::new();
    let buffers = MessagePack::encode_onto(value, name, &mut header).unwrap();
    Payload { header: header.into(), buffers }
}

/// What a step that takes `T` makes of these bytes.
fn taken<T: Data>(bytes: &[u8]) -> Result<T> {
    MessagePack::decode(Payload { header: bytes.into(), buffers: Vec::new() }, T::TYPE)
}

fn refused<T: Data + std::fmt::Debug>(bytes: &[u8]) -> String {
    let failure = taken::<T>(bytes).unwrap_err();
    assert!(!failure.is_retryable());
    failure.to_string()
}

/// As another language would write it: a value without a name.
fn bare<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

fn extension(kind: i8, content: &[u8]) -> Vec<u8> {
    [&[0xc7, content.len() as u8, kind as u8], content].concat()
}

fn array(dtype: &str, shape: &[u64], bytes: &[u8]) -> Vec<u8> {
    let mut content = rmp_serde::to_vec(&(dtype, shape)).unwrap();
    content[0] = 0x93;
    rmp::encode::write_bin(&mut content, bytes).unwrap();
    extension(1, &content)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Small {
    counts: Buffer<u16>,
}

impl Data for Small {
    const TYPE: &'static str = "lab/S/1";
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Mixed {
    name: String,
    pair: (i32, f64),
    numbers: Vec<f64>,
    maybe: Option<bool>,
    table: BTreeMap<i64, String>,
    kind: Kind,
    wide: (i128, u128),
    small: Buffer<i32>,
    large: Buffer<f64>,
    records: Buffer<[f32; 3]>,
    inner: Vec<Small>,
    marker: Marker,
    letter: char,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Marker;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Plain,
    One(Option<Box<Kind>>),
    Two(u8, String),
    Named { list: Vec<Kind>, buffer: Buffer<u8> },
}

impl Data for Mixed {
    const TYPE: &'static str = "lab/Mixed/1";
}

#[test]
fn what_every_language_has_travels_bare() {
    assert_eq!(encoded(&7_i64, i64::TYPE).header[..], [7]);
    assert_eq!(encoded(&-2_i64, i64::TYPE).header[..], [0xfe]);
    assert_eq!(encoded(&1.5_f64, f64::TYPE).header[..], [0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
    assert_eq!(encoded(&"ab".to_owned(), String::TYPE).header[..], *b"\xa2ab");
}

#[test]
fn the_bytes_are_the_documented_ones() {
    let small = Small { counts: vec![1, 258].into() };
    let array = b"\x93\xa3<u2\x91\x02\xc4\x04\x01\x00\x02\x01";
    let typed = [b"\xa7lab/S/1\x81\xa6counts\xc7\x0d\x01", &array[..]].concat();
    let length = (typed.len() as u32).to_be_bytes();
    let expected = [&b"\xc9"[..], &length, b"\x02", &typed].concat();
    let payload = encoded(&small, Small::TYPE);
    assert_eq!(payload.header[..], expected);
    assert!(payload.buffers.is_empty());

    let large = Small { counts: vec![9; 8192].into() };
    let payload = encoded(&large, Small::TYPE);
    let array = b"\xc7\x0a\x01\x93\xa3<u2\x91\xcd\x20\x00\x00";
    assert!(payload.header.ends_with(array), "{:x?}", &payload.header[..]);
    assert_eq!(payload.buffers.iter().map(Bytes::len).collect::<Vec<_>>(), [16_384]);
    let address = payload.buffers[0].as_ptr();
    let received: Small = MessagePack::decode(payload, Small::TYPE).unwrap();
    assert_eq!((received.counts.as_ptr().cast(), &received), (address, &large));
}

#[test]
fn a_value_without_its_name_is_taken_too() {
    assert_eq!(taken::<i64>(&bare(&7)), Ok(7));
    assert_eq!(taken::<i64>(&bare(&-7.0)), Ok(-7));
    assert_eq!(taken::<i64>(&bare(&-7.0_f32)), Ok(-7));
    assert_eq!(taken::<f64>(&bare(&7)), Ok(7.0));
    assert_eq!(taken::<f64>(&array("<f4", &[], &1.5_f32.to_le_bytes())), Ok(1.5));
    assert_eq!(taken::<i64>(&array("<i4", &[], &(-9_i32).to_le_bytes())), Ok(-9));
    let named = [b"\xb0drpipe/Integer/1".as_slice(), &[7]].concat();
    assert_eq!(taken::<i64>(&extension(2, &named)), Ok(7));
    let path = FitsPath { path: "a.fits".into(), name: "a".into() };
    let map = BTreeMap::from([("path", "a.fits"), ("name", "a"), ("more", "ignored")]);
    assert_eq!(taken(&bare(&map)), Ok(path));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Lists {
    pair: (i64, String),
    numbers: Vec<Vec<f64>>,
    bytes: Vec<u8>,
    small: Vec<Small>,
}

impl Data for Lists {
    const TYPE: &'static str = "lab/Lists/1";
}

#[test]
fn lists_tuples_and_arrays_become_lists_and_tuples() {
    let mut bytes = vec![0x84];
    bytes.extend(bare(&"pair"));
    bytes.extend(extension(3, &bare(&(7, "x"))));
    bytes.extend(bare(&"numbers"));
    bytes.extend(array("|u1", &[2, 3], &[1, 2, 3, 4, 5, 6]));
    bytes.extend(bare(&"bytes"));
    bytes.extend(b"\xc4\x02\x08\x09");
    bytes.extend(bare(&"small"));
    let mut small = b"\xa7lab/S/1\x81\xa6counts".to_vec();
    small.extend(array("<u2", &[2, 1], &[1, 0, 2, 0]));
    bytes.push(0x91);
    bytes.extend(extension(2, &small));
    let expected = Lists {
        pair: (7, "x".into()),
        numbers: vec![vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0]],
        bytes: vec![8, 9],
        small: vec![Small { counts: vec![1, 2].into() }],
    };
    assert_eq!(taken(&bytes), Ok(expected));
}

#[test]
fn a_failure_says_what_came_and_what_is_taken() {
    let frame =
        |found: &str| format!("the message is {found}, but the step takes a drpipe/Frame/1");
    for (bytes, found) in [
        (bare(&(1, 2, 3)), "a list of 3"),
        (bare(&"abc"), "the text \"abc\""),
        (bare(&7), "the integer 7"),
        (bare(&()), "nil (None)"),
        (array("<f8", &[1, 2], &[0; 16]), "an array of float64 [1, 2]"),
        (extension(3, &bare(&(1, 2))), "a tuple of 2"),
        (extension(4, &[0; 16]), "a complex number"),
    ] {
        let expected = frame(found) + ": ";
        let failure = refused::<Frame>(&bytes);
        assert!(failure.starts_with(&expected), "{failure}");
        assert!(
            failure.ends_with(" where a map with the fields of Frame is expected"),
            "{failure}"
        );
    }
    let map = bare(&BTreeMap::from([("a", 1), ("b", 2)]));
    assert_eq!(refused::<Frame>(&map), frame("a map with keys a, b") + ": missing field `name`");
    assert_eq!(
        refused::<Frame>(&encoded(&picture(3), Picture::TYPE).header),
        "the message is a drpipe/Picture/1, but the step takes a drpipe/Frame/1"
    );
    assert_eq!(
        refused::<i64>(&bare(&1.5)),
        "the message is the float 1.5, but the step takes a drpipe/Integer/1: the float 1.5 where \
         an integer (i64) is expected"
    );
    assert!(refused::<i64>(&bare(&u64::MAX)).contains("the integer 18446744073709551615"));
    assert!(refused::<f64>(&array("<c16", &[], &[0; 16])).contains("complex128"));
}

#[test]
fn a_failure_within_a_value_says_where() {
    let mut wrong = b"\xa7lab/S/1\x81\xa6counts".to_vec();
    wrong.extend(array("<f8", &[1, 2], &[0; 16]));
    assert_eq!(
        refused::<Small>(&extension(2, &wrong)),
        "the message is not a valid lab/S/1: counts: an array of float64 [1, 2] where uint16 is \
         expected"
    );
    let small = |value: &[u8]| refused::<Small>(&[b"\x81\xa6counts", value].concat());
    assert!(
        small(&bare(&[1, 2])).ends_with("counts: a list of 2 where an array of uint16 is expected")
    );
    assert!(small(&array(">u2", &[1], &[0; 2])).contains("the dtype \">u2\""));
    assert!(small(&array("<u2", &[3], &[0; 4])).contains("uint16 [3] cannot have 4 bytes"));
    assert!(small(&array("<u2", &[u64::MAX, 4], &[0; 4])).contains("cannot have 4 bytes"));
    let missing = extension(1, &rmp_serde::to_vec(&("<u2", [2], 5)).unwrap());
    assert!(small(&missing).contains("frame 5 of a buffer is missing"));
    let lists = BTreeMap::from([("numbers", vec![vec![Some(1.5)], vec![Some(1.0), None]])]);
    let failure = refused::<Lists>(&bare(&lists));
    assert!(failure.ends_with("numbers[1][1]: nil (None) where a number is expected"), "{failure}");
    let pair = BTreeMap::from([("pair", (1, "x", 2))]);
    assert!(
        refused::<Lists>(&bare(&pair)).ends_with("pair: a list of 3 where a list of 2 is expected")
    );
    let pair = BTreeMap::from([("pair", (1,))]);
    assert!(
        refused::<Lists>(&bare(&pair)).ends_with("pair: a list of 1 where a list of 2 is expected")
    );
}

#[test]
fn what_is_no_messagepack_is_refused() {
    assert!(refused::<i64>(&[]).contains("end in the middle"));
    assert!(refused::<i64>(&[7, 7]).ends_with("1 bytes are left over"));
    assert!(refused::<Lists>(&[0x81, 0xc1, 0]).contains("cannot start a value"));
    assert!(refused::<String>(b"\xa1\xff").contains("not UTF-8"));
    // Forged lengths: nothing is allocated for them.
    for bytes in [&b"\xdd\xff\xff\xff\xff"[..], b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"] {
        assert!(refused::<Lists>(bytes).contains("end in the middle"));
    }
    let empty = array("<f8", &[1 << 60, 0], &[]);
    let lists = [b"\x81\xa7numbers".as_slice(), &empty].concat();
    assert!(refused::<Lists>(&lists).contains("missing field"));
}

#[test]
fn what_is_nested_too_deep_is_refused() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Tree(Vec<Tree>);
    impl Data for Tree {
        const TYPE: &'static str = "lab/Tree/1";
    }
    let deep = [&[0x91; 100_000][..], &[0x90]].concat();
    assert!(refused::<Tree>(&deep).contains("128 values deep"));
    let typed = (0..50_000).fold(vec![7], |inner: Vec<u8>, _| {
        let length = (inner.len() as u32 + 2).to_be_bytes();
        if inner.len() > 60_000 {
            inner
        } else {
            [&[0xc9][..], &length, b"\x02\xa1x", &inner].concat()
        }
    });
    assert!(refused::<Tree>(&typed).contains("the message is a x"));
    assert!(refused::<Tree>(&array("|u1", &[1; 200], &[7])).contains("with 200 axes"));
    readable(&deep);
    readable(&typed);
}

#[test]
fn an_object_of_python_is_refused_by_its_name_with_a_way_out() {
    let fields = rmp_serde::to_vec(&("lab.Event", 7, Vec::<u32>::new())).unwrap();
    let header = [&[PICKLE], fields.as_slice()].concat();
    let text = refused::<Frame>(&header);
    for part in ["lab.Event", "only steps in Python", Frame::TYPE, "send numbers, text"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(readable(&header), "<a Python object: lab.Event>");
    assert!(refused::<i64>(&[PICKLE]).contains("a pickle that cannot be read"));
}

#[test]
fn a_value_is_readable() {
    let text = readable(&encoded(&picture(2), Picture::TYPE).header);
    let expected = "drpipe/Picture/1 {\"name\": \"p\", \"source\": \"p.fits\", \"width\": 2, \
                    \"height\": 1, \"pixels\": <an array of uint8 [2]>, \"file\": null}";
    assert_eq!(text, expected);
    let long = readable(&bare(&vec![7; 100_000]));
    assert!(long.len() < 5000 && long.ends_with(" …"));
    assert_eq!(readable(&[0x92, 7]), " …");
}

fn picture(pixels: usize) -> Picture {
    Picture {
        name: "p".into(),
        source: "p.fits".into(),
        width: pixels as u32,
        height: 1,
        pixels: vec![7; pixels].into(),
        file: None,
    }
}

/// Small ones, and a few that travel beside the header.
fn buffer<T: bytemuck::Pod + Arbitrary>() -> impl Strategy<Value = Buffer<T>> {
    let small = prop::collection::vec(any::<T>(), 0..20).boxed();
    let large = any::<T>().prop_map(|value| vec![value; 5000]).boxed();
    prop_oneof![9 => small, 1 => large].prop_map(Buffer::from)
}

fn kind() -> impl Strategy<Value = Kind> {
    let leaf = prop_oneof![
        Just(Kind::Plain),
        Just(Kind::One(None)),
        any::<(u8, String)>().prop_map(|(number, text)| Kind::Two(number, text)),
    ];
    leaf.prop_recursive(4, 20, 3, |inner| {
        let list = (prop::collection::vec(inner.clone(), 0..3), buffer());
        prop_oneof![
            inner.prop_map(|kind| Kind::One(Some(Box::new(kind)))),
            list.prop_map(|(list, buffer)| Kind::Named { list, buffer }),
        ]
    })
}

fn mixed() -> impl Strategy<Value = Mixed> {
    let small = buffer().prop_map(|counts| Small { counts });
    let records = any::<[f32; 3]>().prop_map(|record| vec![record; 7].into());
    let (first, second) = (
        (any::<String>(), any::<(i32, f64)>(), any::<Vec<f64>>(), any::<Option<bool>>()),
        (any::<BTreeMap<i64, String>>(), kind(), any::<(i128, u128)>()),
    );
    let third = (buffer(), buffer(), records, prop::collection::vec(small, 0..3), any::<char>());
    (first, second, third).prop_map(|(first, second, third)| {
        let ((name, pair, numbers, maybe), (table, kind, wide)) = (first, second);
        let (small, large, records, inner, letter) = third;
        let marker = Marker;
        Mixed {
            name,
            pair,
            numbers,
            maybe,
            table,
            kind,
            wide,
            small,
            large,
            records,
            inner,
            marker,
            letter,
        }
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    let pixels = prop_oneof![buffer().prop_map(Pixels::F32), buffer().prop_map(Pixels::F64)];
    let texts = prop::collection::vec(any::<String>(), 0..4);
    let rest = (any::<Vec<usize>>(), any::<Option<String>>(), texts.clone(), texts);
    (any::<(String, String)>(), pixels, rest).prop_map(|((name, source), pixels, rest)| {
        let (shape, unit, cards, history) = rest;
        Frame { name, source, shape, pixels, unit, cards, history }
    })
}

fn pictures() -> impl Strategy<Value = Picture> {
    let rest = any::<(String, String, u32, u32, Option<String>)>();
    (rest, buffer()).prop_map(|((name, source, width, height, file), pixels)| Picture {
        name,
        source,
        width,
        height,
        pixels,
        file,
    })
}

/// Also in the bytes of NaN.
#[track_caller]
fn survives<T: Data>(value: &T) {
    for codec in [CodecId::Bincode, CodecId::MessagePack] {
        let sent = value.to_payload(codec).unwrap();
        let received = T::from_payload(sent.clone(), codec).unwrap();
        assert_eq!(received.to_payload(codec), Ok(sent));
        let other = received.to_payload(CodecId::Bincode).unwrap();
        assert_eq!(value.to_payload(CodecId::Bincode), Ok(other));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_value_survives_in_both_codecs(mixed in mixed()) {
        survives(&mixed);
    }

    #[test]
    fn the_built_in_types_survive_in_both_codecs(
        frame in frame(),
        picture in pictures(),
        (path, name) in any::<(Vec<u8>, String)>(),
        (integer, real, text) in any::<(i64, f64, String)>(),
    ) {
        use std::os::unix::ffi::OsStringExt;
        let path = std::ffi::OsString::from_vec(path).into();
        survives(&frame);
        survives(&picture);
        survives(&FitsPath { path, name });
        survives(&integer);
        survives(&real);
        survives(&text);
    }

    #[test]
    fn any_bytes_are_readable_and_describable(bytes in any::<Vec<u8>>()) {
        readable(&bytes);
        show::describe(&bytes);
    }
}
