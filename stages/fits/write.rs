//! Writes a frame as a FITS file of one image.
//!
//! No card contains the time: equal frames make equal files.

use std::io::{self, Write};

use super::hdu::Checksum;
use super::header::portable;
use super::source;
use crate::prelude::*;
use crate::stages::frames::card::{
    CARD, commentary_cards, keyword, plain_card, text_card, text_value,
};
use crate::stages::frames::{Frame, Pixels, describe_shape};

const RECORD: usize = source::RECORD as usize;
/// The column in which the 16 characters of a checksum begin in its card.
const CHECKSUM_AT: usize = 11;

/// Writes `frame` to `writer`: one image of 32-bit or 64-bit reals, the cards
/// of its header that stay true, its history, `DATASUM` and `CHECKSUM`. The
/// bytes depend on the frame and drpipe's version only.
///
/// # Errors
/// Those of the writer; a permanent failure if the number of pixels is not the
/// product of the frame's axes.
pub fn write_frame(frame: &Frame, writer: impl Write) -> Result<()> {
    write_noting(frame, writer).map(drop)
}

/// As [`write_frame`]; returns the keywords of the cards that had to be changed or left out.
/// `HISTORY` names them too.
///
/// # Errors
/// As [`write_frame`].
pub(crate) fn write_noting(frame: &Frame, mut writer: impl Write) -> Result<Vec<String>> {
    let product = frame.shape.iter().try_fold(1_usize, |product, n| product.checked_mul(*n));
    if product != Some(frame.pixels.len()) {
        return Err(Failure::permanent(format!(
            "{}: {} pixels do not fill axes of {}",
            frame.source,
            frame.pixels.len(),
            describe_shape(&frame.shape)
        )));
    }
    let (data, length) = match &frame.pixels {
        Pixels::F32(pixels) => {
            (Checksum::of(pixels.iter().map(|pixel| pixel.to_bits())), 4 * pixels.len())
        }
        Pixels::F64(pixels) => {
            let words = pixels.iter().map(|pixel| pixel.to_bits());
            (
                Checksum::of(words.flat_map(|word| [(word >> 32) as u32, word as u32])),
                8 * pixels.len(),
            )
        }
    };
    let (kept, noted) = portable(&frame.cards);
    writer.write_all(&header_records(frame, kept, &noted, data))?;
    match &frame.pixels {
        Pixels::F32(pixels) => write_big_endian(&mut writer, pixels, |pixel| pixel.to_be_bytes())?,
        Pixels::F64(pixels) => write_big_endian(&mut writer, pixels, |pixel| pixel.to_be_bytes())?,
    }
    let fill = length.next_multiple_of(RECORD) - length;
    writer.write_all(&vec![0; fill])?;
    Ok(noted)
}

fn write_big_endian<T: Copy, const N: usize>(
    writer: &mut impl Write,
    pixels: &[T],
    to_bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(16 * 1024 * N);
    for part in pixels.chunks(16 * 1024) {
        bytes.clear();
        bytes.extend(part.iter().flat_map(|pixel| to_bytes(*pixel)));
        writer.write_all(&bytes)?;
    }
    Ok(())
}

/// Makes the whole header with its checksums, padded to full records.
fn header_records(frame: &Frame, kept: Vec<String>, noted: &[String], data: Checksum) -> Vec<u8> {
    let mut cards = layout_cards(frame);
    cards.extend(with_unit(kept, frame.unit.as_deref()));
    for text in &frame.history {
        cards.extend(commentary_cards("HISTORY", text));
    }
    if !noted.is_empty() {
        let text = format!("cards mended, or left out as duplicates: {}", noted.join(", "));
        cards.extend(commentary_cards("HISTORY", &text));
    }
    let program = concat!("written by drpipe ", env!("CARGO_PKG_VERSION"));
    cards.extend(commentary_cards("HISTORY", program));
    cards.push(text_card("DATASUM", &data.value().to_string(), "data unit checksum"));
    let checksum_card = cards.len();
    cards.push(text_card("CHECKSUM", &"0".repeat(16), "HDU checksum"));
    cards.push("END".into());

    let mut bytes = Vec::with_capacity((cards.len() * CARD).next_multiple_of(RECORD));
    for card in &cards {
        bytes.extend_from_slice(format!("{card:CARD$}").as_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(RECORD), b' ');
    let mut header = Checksum::default();
    header.add(&bytes);
    let total = header.plus(data).value();
    let at = checksum_card * CARD + CHECKSUM_AT;
    if let Some(place) = bytes.get_mut(at..at + 16) {
        place.copy_from_slice(&encode(!total));
    }
    bytes
}

fn layout_cards(frame: &Frame) -> Vec<String> {
    let bitpix = match &frame.pixels {
        Pixels::F32(_) => -32,
        Pixels::F64(_) => -64,
    };
    let mut cards = vec![
        plain_card("SIMPLE", "T", "conforms to the FITS standard"),
        plain_card("BITPIX", bitpix, "IEEE reals"),
        plain_card("NAXIS", frame.shape.len(), "number of axes"),
    ];
    for (axis, length) in frame.shape.iter().enumerate() {
        cards.push(plain_card(&format!("NAXIS{}", axis + 1), length, "length of the axis"));
    }
    cards
}

/// Makes the cards, with `BUNIT` as the frame has it.
fn with_unit(mut cards: Vec<String>, unit: Option<&str>) -> Vec<String> {
    let Some(unit) = unit else { return cards };
    if text_value(&cards, "BUNIT").as_deref() == Some(unit) {
        return cards;
    }
    let card = text_card("BUNIT", unit, "unit of the pixels");
    match cards.iter_mut().find(|card| keyword(card) == "BUNIT") {
        Some(place) => *place = card,
        None => cards.push(card),
    }
    cards
}

/// Makes the 16 characters whose words sum up to `value`: the ASCII encoding of the FITS
/// checksum proposal. Each byte is spread over four characters beyond
/// "0", moved in pairs until all are letters or digits; the string is rotated
/// by one because its card puts it at an odd place.
fn encode(value: u32) -> [u8; 16] {
    let mut text = [0_u8; 16];
    for (i, byte) in value.to_be_bytes().into_iter().enumerate() {
        let mut parts = [byte / 4 + b'0'; 4];
        parts[0] += byte % 4;
        while !parts.iter().all(u8::is_ascii_alphanumeric) {
            let [a, b, c, d] = &mut parts;
            for (one, other) in [(a, b), (c, d)] {
                if !(one.is_ascii_alphanumeric() && other.is_ascii_alphanumeric()) {
                    *one += 1;
                    *other -= 1;
                }
            }
        }
        for (j, part) in parts.into_iter().enumerate() {
            text[(4 * j + i + 1) % 16] = part;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(pixels: Pixels, cards: &[&str]) -> Frame {
        Frame {
            name: "x".into(),
            source: "x.fits".into(),
            shape: vec![pixels.len()],
            pixels,
            unit: None,
            cards: cards.iter().map(|card| (*card).to_owned()).collect(),
            history: vec!["read from x.fits".into()],
        }
    }

    fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
        bytes.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap()))
    }

    proptest! {
        #[test]
        fn the_encoding_sums_up_to_the_value(value: u32) {
            let mut text = encode(value);
            prop_assert!(text.iter().all(u8::is_ascii_alphanumeric));
            text.rotate_left(1);
            // Each character stands for its distance from "0".
            let total = Checksum::of(words(&text).map(|w| w - 0x3030_3030)).value();
            prop_assert_eq!(total, value);
        }
    }

    #[test]
    fn a_file_sums_up_to_minus_zero_and_is_the_same_each_time() {
        let pixels = Pixels::F32(Buffer::from(vec![1.5, f32::NAN, -3.25e10]));
        let frame = frame(pixels, &["OBJECT  = 'M31'", "SIMPLE  = T"]);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        write_frame(&frame, &mut first).unwrap();
        write_frame(&frame, &mut second).unwrap();
        assert_eq!(first, second);
        assert_eq!(first.len() % RECORD, 0);
        assert_eq!(Checksum::of(words(&first)).value(), u32::MAX);
    }

    #[test]
    fn a_frame_that_does_not_fill_its_axes_is_refused() {
        let mut frame = frame(Pixels::F32(Buffer::from(vec![1.0; 6])), &[]);
        frame.shape = vec![2, 4];
        let error = write_frame(&frame, Vec::new()).unwrap_err();
        assert!(error.to_string().contains("6 pixels do not fill axes of 2 x 4"), "{error}");
    }

    #[test]
    fn the_unit_of_the_frame_wins() {
        let mut frame = frame(Pixels::F64(Buffer::from(vec![1.0])), &["BUNIT   = 'ADU'"]);
        frame.unit = Some("electron".into());
        let mut bytes = Vec::new();
        write_frame(&frame, &mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("BUNIT   = 'electron'"));
        assert!(!text.contains("ADU"));
    }
}
