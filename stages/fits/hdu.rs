//! Reads the HDUs of a FITS file one after the other.

use super::source::{RECORD, Source};
use crate::prelude::*;
use crate::stages::frames::card::{CARD, keyword, text_value, to_f64, to_i64, value};

/// Limits the cards of a header: more are taken for damage.
const MOST_CARDS: usize = 200_000;

/// A header and the data that it describes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unit {
    /// The number, 0 is the primary HDU.
    pub(super) number: u32,
    /// The header, a card of at most 80 characters each, in order, without `END`. A byte
    /// beyond ASCII is taken as Latin-1.
    pub(super) cards: Vec<String>,
    /// `EXTNAME` and `EXTVER`.
    pub(super) name: Option<String>,
    pub(super) version: Option<i64>,
    /// The bytes of data, without the fill of the last record.
    pub(super) bytes: u64,
    /// The image, if it has one.
    pub(super) image: Option<Layout>,
    /// The sum of the header's 32-bit words, for its checksum.
    pub(super) sum: Checksum,
}

/// The layout of an image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    /// The type of the stored values: 8, 16, 32, 64, -32 or -64.
    pub(super) bitpix: i64,
    /// `NAXIS1` first.
    pub(super) shape: Vec<usize>,
    /// The product of the shape.
    pub(super) pixels: usize,
    /// Whether the image is stored in compressed tiles.
    pub(super) tiled: bool,
}

/// The ones' complement sum of 32-bit words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Checksum {
    sum: u64,
    /// The number of bytes of the current word that have been added.
    begun: usize,
}

impl Checksum {
    /// Adds bytes; a portion continues where the last one ended.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let whole = if self.begun == 0 { bytes.len() / 4 * 4 } else { 0 };
        let (words, rest) = bytes.split_at(whole);
        for word in words.as_chunks::<4>().0 {
            self.sum += u64::from(u32::from_be_bytes(*word));
        }
        for byte in rest {
            self.sum += u64::from(*byte) << (24 - 8 * self.begun);
            self.begun = (self.begun + 1) % 4;
        }
        self.sum = (self.sum & 0xffff_ffff) + (self.sum >> 32);
    }

    /// Sums up whole words.
    pub(super) fn of(words: impl Iterator<Item = u32>) -> Self {
        let mut sum = 0_u64;
        for word in words {
            sum += u64::from(word);
            if sum >= 1 << 63 {
                sum = (sum & 0xffff_ffff) + (sum >> 32);
            }
        }
        Self { sum, begun: 0 }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { sum: u64::from(self.value()) + u64::from(other.value()), begun: 0 }
    }

    pub(super) fn value(self) -> u32 {
        let mut sum = self.sum;
        while sum > u64::from(u32::MAX) {
            sum = (sum & 0xffff_ffff) + (sum >> 32);
        }
        sum as u32
    }
}

/// Reads the next header; `None` behind the last HDU.
///
/// # Errors
/// If it is damaged or promises data beyond the end of the file.
pub(super) fn next_hdu(source: &mut Source, number: u32) -> Result<Option<Unit>> {
    let Some((cards, sum)) = read_cards(source, number)? else { return Ok(None) };
    let header = Header { source: source.name(), number, cards: &cards };
    let (bitpix, axes) = header.axes("BITPIX", "NAXIS")?;
    let bytes = header.data_size(bitpix, &axes)?;
    let tiled = number > 0 && value(&cards, "ZIMAGE") == Some("T");
    let xtension = text_value(&cards, "XTENSION");
    let image = if tiled {
        let (bitpix, axes) = header.axes("ZBITPIX", "ZNAXIS")?;
        header.layout(bitpix, &axes, true)?
    } else if number == 0 || xtension.as_deref() == Some("IMAGE") {
        // Random groups have no axis of their own: `NAXIS1` is 0.
        header.layout(bitpix, &axes, false)?
    } else {
        None
    };
    let version = value(&cards, "EXTVER").and_then(to_i64);
    let hdu =
        Unit { number, name: text_value(&cards, "EXTNAME"), version, bytes, image, sum, cards };
    check_extent(source, &hdu)?;
    Ok(Some(hdu))
}

/// Reads the cards of the next header; `None` if there is none.
fn read_cards(source: &mut Source, number: u32) -> Result<Option<(Vec<String>, Checksum)>> {
    let mut cards: Vec<String> = Vec::new();
    let mut sum = Checksum::default();
    let mut record = [0; RECORD as usize];
    loop {
        let read = source.read(&mut record)?;
        let begins = if number == 0 { &b"SIMPLE"[..] } else { b"XTENSION" };
        if cards.is_empty() && !record.get(..read).unwrap_or_default().starts_with(begins) {
            return if number > 0 { Ok(None) } else { Err(no_fits(source, &record)) };
        }
        if read < record.len() {
            return Err(Failure::permanent(format!(
                "{}: truncated within the header of HDU {number}; fetch it again",
                source.name()
            )));
        }
        sum.add(&record);
        for card in record.chunks(CARD) {
            if card.starts_with(b"END") && card.iter().skip(3).all(|b| matches!(b, b' ' | 0)) {
                while cards.last().is_some_and(String::is_empty) {
                    cards.pop();
                }
                return Ok(Some((cards, sum)));
            }
            let card: String = card.iter().map(|byte| char::from(*byte)).collect();
            cards.push(card.trim_end().to_owned());
        }
        if cards.len() > MOST_CARDS {
            return Err(Failure::permanent(format!(
                "{}: the header of HDU {number} has no END among its first {MOST_CARDS} cards",
                source.name()
            )));
        }
    }
}

fn no_fits(source: &Source, start: &[u8]) -> Failure {
    Failure::permanent(format!(
        "{} is not a FITS file: it starts with \"{}\", not with SIMPLE",
        source.name(),
        start.get(..30).unwrap_or_default().escape_ascii()
    ))
}

/// A header with what error messages need.
pub(super) struct Header<'a> {
    pub(super) source: &'a str,
    pub(super) number: u32,
    pub(super) cards: &'a [String],
}

impl Header<'_> {
    /// Returns the value of a keyword that holds a whole number.
    ///
    /// # Errors
    /// If it holds something else.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>> {
        self.parsed(name, to_i64, "a whole number")
    }

    /// Returns the value of a keyword that holds a real number; infinite if it is too large.
    ///
    /// # Errors
    /// As [`Header::integer`].
    pub(super) fn real(&self, name: &str) -> Result<Option<f64>> {
        self.parsed(name, to_f64, "a number")
    }

    fn parsed<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>> {
        let Some(text) = value(self.cards, name) else { return Ok(None) };
        match parse(text.trim_matches('\0').trim()) {
            Some(value) => Ok(Some(value)),
            None => Err(self.failure(format!("{name} is {text}, expected {expected}"))),
        }
    }

    pub(super) fn needed(&self, name: &str) -> Result<i64> {
        self.integer(name)?.ok_or_else(|| self.failure(format!("{name} is missing")))
    }

    pub(super) fn failure(&self, message: impl std::fmt::Display) -> Failure {
        Failure::permanent(format!("{}: HDU {}: {message}", self.source, self.number))
    }

    /// Returns the type of the values and the lengths of the axes.
    fn axes(&self, bitpix: &str, naxis: &str) -> Result<(i64, Vec<u64>)> {
        let bits = self.needed(bitpix)?;
        if !matches!(bits, 8 | 16 | 32 | 64 | -32 | -64) {
            return Err(
                self.failure(format!("{bitpix} is {bits}, which is not a pixel type of FITS"))
            );
        }
        let count = self.needed(naxis)?;
        if !(0..=999).contains(&count) {
            return Err(self.failure(format!("{naxis} is {count}, expected 0 to 999")));
        }
        let mut axes = Vec::new();
        for axis in 1..=count {
            let name = format!("{naxis}{axis}");
            let length = self.needed(&name)?;
            axes.push(u64::try_from(length).map_err(|_| {
                self.failure(format!("{name} is {length}, which is not a valid axis length"))
            })?);
        }
        Ok((bits, axes))
    }

    /// Computes the bytes of data behind the header.
    fn data_size(&self, bitpix: i64, axes: &[u64]) -> Result<u64> {
        let groups = axes.first() == Some(&0) && value(self.cards, "GROUPS") == Some("T");
        let axes = if groups { axes.get(1..).unwrap_or_default() } else { axes };
        let parameters = self.integer("PCOUNT")?.unwrap_or(0);
        let copies = self.integer("GCOUNT")?.unwrap_or(1);
        let size = || {
            let values = if axes.is_empty() {
                0
            } else {
                axes.iter().try_fold(1_u64, |product, n| product.checked_mul(*n))?
            };
            let values = values.checked_add(u64::try_from(parameters).ok()?)?;
            let values = values.checked_mul(u64::try_from(copies).ok()?)?;
            values.checked_mul(bitpix.unsigned_abs() / 8)
        };
        size().filter(|size| *size < 1 << 62).ok_or_else(|| {
            self.failure(format!("NAXISn, PCOUNT and GCOUNT give no valid size: {axes:?}"))
        })
    }

    fn layout(&self, bitpix: i64, axes: &[u64], tiled: bool) -> Result<Option<Layout>> {
        if axes.is_empty() || axes.contains(&0) {
            return Ok(None);
        }
        let shape: Option<Vec<usize>> = axes.iter().map(|n| usize::try_from(*n).ok()).collect();
        let product = |shape: &Vec<usize>| {
            shape.iter().try_fold(1_usize, |product, n| product.checked_mul(*n))
        };
        let pixels = shape.as_ref().and_then(product).filter(|pixels| *pixels < 1 << 60);
        match (shape, pixels) {
            (Some(shape), Some(pixels)) => Ok(Some(Layout { bitpix, shape, pixels, tiled })),
            _ => Err(self.failure(format!("NAXISn give no valid size: {axes:?}"))),
        }
    }
}

/// Checks that the data lie within the file. The fill after them may be missing.
fn check_extent(source: &Source, hdu: &Unit) -> Result<()> {
    let Some(size) = source.size() else { return Ok(()) };
    let end = source.position().saturating_add(hdu.bytes);
    if end <= size {
        return Ok(());
    }
    Err(Failure::permanent(format!(
        "{}: truncated: the header promises {} bytes, the file has {size}; fetch it again",
        source.name(),
        source.position().saturating_add(hdu.bytes.next_multiple_of(RECORD))
    )))
}

impl Unit {
    pub(super) fn header<'a>(&'a self, source: &'a str) -> Header<'a> {
        Header { source, number: self.number, cards: &self.cards }
    }

    /// The names of the HDU: for people, and for choosing one.
    pub(super) fn title(&self) -> String {
        let version = self.version.map(|version| format!(",{version}")).unwrap_or_default();
        match &self.name {
            Some(name) => format!("{} ({name}{version})", self.number),
            None => self.number.to_string(),
        }
    }

    /// Compares the sum of the data with `DATASUM`, if there is one, and on request the sum of
    /// the HDU with `CHECKSUM`.
    ///
    /// # Errors
    /// A permanent failure if one does not agree.
    pub(super) fn verify(&self, source: &str, data: Checksum, with_header: bool) -> Result<()> {
        let promised = text_value(&self.cards, "DATASUM");
        let promised = promised.or_else(|| value(&self.cards, "DATASUM").map(str::to_owned));
        let wrong = match promised.as_deref().map(str::trim).and_then(to_f64) {
            Some(sum) if sum != f64::from(data.value()) => "DATASUM",
            _ if !with_header || !self.cards.iter().any(|card| keyword(card) == "CHECKSUM") => {
                return Ok(());
            }
            _ if matches!(self.sum.plus(data).value(), 0 | u32::MAX) => return Ok(()),
            _ => "CHECKSUM",
        };
        Err(Failure::permanent(format!(
            "{source}: damaged: the contents of HDU {} do not agree with its {wrong}; fetch it \
             again",
            self.number
        )))
    }
}
