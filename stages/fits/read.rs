//! Reads images with their headers.

use std::path::Path;

use super::hdu::{Checksum, Layout, Unit, next_hdu};
use super::header::is_inherited;
use super::select::{Hdu, Selection};
use super::source::{PORTION, RECORD, Source};
use super::tiles;
use super::values::{Pixel, Scaling};
use crate::prelude::*;
use crate::stages::frames::card::{keyword, text_value, value};
use crate::stages::frames::{Frame, Pixels, describe_shape};

/// Limits the bytes that the table of a gzipped image in tiles may have beyond its pixels.
const MOST_OVERHEAD: u64 = 16 << 20;

/// The precision in which pixels are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 significant bits: exact for 8-bit and 16-bit integers and 32-bit
    /// reals; stored values of 32 and 64 bits lose digits.
    #[default]
    F32,
    /// 53 significant bits: exact for all but 64-bit integers.
    F64,
}

/// Selects what to read of a FITS file, and sets limits.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadOptions {
    /// The HDU, or none for the first one with an image.
    pub hdu: Option<Hdu>,
    /// The type of the pixels.
    pub precision: Precision,
    /// The largest image to read, in pixels.
    pub max_pixels: u64,
    /// How many bytes a gzipped file may unpack to.
    pub max_bytes: u64,
    /// Whether to compare the file with its `CHECKSUM` and `DATASUM`.
    pub verify_checksum: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            hdu: None,
            precision: Precision::F32,
            max_pixels: 1 << 28,
            max_bytes: 1 << 32,
            verify_checksum: false,
        }
    }
}

/// Reads an image: value = stored * BSCALE + BZERO, `NAXIS1` fastest, missing
/// pixels (`BLANK`) as NaN. `name` is what the frame's products are called.
///
/// The values are those that astropy gives: for 8-bit and 16-bit integers and
/// 32-bit reals the scaling is done in single precision, otherwise in double.
/// With [`Precision::F64`] it is always done in double. Where several images are
/// meant it is the first one: see [`read_frames`].
///
/// # Errors
/// A permanent failure if the file is no FITS file, damaged, has no such image
/// or one beyond the limits, or values that do not fit the precision; a retryable
/// one if the system refused memory or a file descriptor.
pub fn read_frame(path: &Path, name: &str, options: &ReadOptions) -> Result<Frame> {
    let mut first = None;
    read_frames(path, name, options, |frame| {
        first.get_or_insert(frame);
        Ok(())
    })?;
    first.ok_or_else(|| Failure::permanent(format!("{}: no image", path.display())))
}

/// Reads the selected images in order, each as [`read_frame`] does, and passes them to `give`.
/// Returns warnings about the file.
///
/// Of a gzipped file only the selected images are kept in memory. It is read to its end,
/// where its checksum stands: after an error, drop the frames that were given before.
///
/// # Errors
/// As [`read_frame`], and those of `give`.
pub fn read_frames(
    path: &Path,
    name: &str,
    options: &ReadOptions,
    mut give: impl FnMut(Frame) -> Result<()>,
) -> Result<Vec<String>> {
    let mut source = Source::open(path, options.max_bytes)?;
    let mut selection = Selection::new(options.hdu.as_ref());
    let mut warnings = Vec::new();
    let mut primary: Vec<String> = Vec::new();
    let mut number = 0;
    while !selection.is_complete() {
        let unit = match next_hdu(&mut source, number) {
            Ok(Some(unit)) => unit,
            Ok(None) => break,
            // What is behind the image cannot damage it.
            Err(failure) if selection.has_taken() && source.size().is_some() => {
                warnings.push(format!("{failure}; everything before it was read"));
                break;
            }
            Err(failure) => return Err(failure),
        };
        if number == 0 {
            warnings.extend(nonconforming(source.name(), &unit));
            primary.clone_from(&unit.cards);
        }
        if selection.takes(&unit) {
            let name = selection.product(name, &unit);
            give(read_unit(&mut source, unit, &primary, name, options)?)?;
        } else {
            source.skip(unit.bytes.next_multiple_of(RECORD))?;
        }
        number += 1;
    }
    source.finish()?;
    if !selection.has_taken() {
        return Err(selection.nothing(source.name(), number));
    }
    warnings.extend(selection.warning(source.name()));
    Ok(warnings)
}

fn nonconforming(source: &str, primary: &Unit) -> Option<String> {
    (value(&primary.cards, "SIMPLE") != Some("T")).then(|| {
        format!("{source} states that it does not follow the FITS standard (SIMPLE is not T)")
    })
}

fn read_unit(
    source: &mut Source,
    unit: Unit,
    primary: &[String],
    name: String,
    options: &ReadOptions,
) -> Result<Frame> {
    let Some(layout) = &unit.image else {
        return Err(unit.header(source.name()).failure("no image"));
    };
    if layout.pixels as u64 > options.max_pixels {
        return Err(unit.header(source.name()).failure(format!(
            "{} pixels are more than the limit of {}: raise the parameter \"max_pixels\" of \
             ReadFits if the header is right",
            describe_shape(&layout.shape),
            options.max_pixels
        )));
    }
    let verify = options.verify_checksum;
    let pixels = match options.precision {
        Precision::F32 => Pixels::F32(read_pixels(source, &unit, layout, verify)?.into()),
        Precision::F64 => Pixels::F64(read_pixels(source, &unit, layout, verify)?.into()),
    };
    let shape = layout.shape.clone();
    let path = source.name().to_owned();
    let origin = if unit.number == 0 { String::new() } else { format!(", HDU {}", unit.number) };
    let cards = with_inherited(unit.cards, primary);
    Ok(Frame {
        name,
        history: vec![format!("read from {path}{origin}")],
        source: path,
        unit: text_value(&cards, "BUNIT"),
        shape,
        pixels,
        cards,
    })
}

/// Merges the cards of an extension with those that it inherits from the primary HDU, if it
/// says so (FITS 4.0, 4.4.2.6). Its own take precedence.
fn with_inherited(mut cards: Vec<String>, primary: &[String]) -> Vec<String> {
    if value(&cards, "INHERIT") != Some("T") {
        return cards;
    }
    let mut inherited = Vec::new();
    let mut goes_on = false;
    for card in primary {
        // A long string stays with its first card.
        if keyword(card) != "CONTINUE" {
            goes_on = is_inherited(card, &cards);
        }
        if goes_on {
            inherited.push(card.clone());
        }
    }
    cards.extend(inherited);
    cards
}

fn read_pixels<T: Pixel>(
    source: &mut Source,
    unit: &Unit,
    layout: &Layout,
    verify: bool,
) -> Result<Vec<T>> {
    let name = source.name().to_owned();
    let header = unit.header(&name);
    let scaling = Scaling::of(&header, layout.bitpix, layout.tiled)?;
    let mut pixels = reserve(layout)?;
    let mut sum = Checksum::default();
    if layout.tiled {
        // A table much larger than its image would only exhaust the memory.
        let most = MOST_OVERHEAD.saturating_add(16 * layout.pixels as u64);
        if source.size().is_none() && unit.bytes > most {
            return Err(header.failure(format!(
                "its table of {} bytes is more than an image of {} can need ({most}): unpack the \
                 file with gunzip if it is right",
                unit.bytes,
                describe_shape(&layout.shape)
            )));
        }
        let data = source.read_vec(unit.bytes)?;
        sum.add(&data);
        finish_data(source, unit, unit.bytes, Some(&mut sum))?;
        // DATASUM is always checked, because damaged tiles may still unpack; CHECKSUM on request
        // only, because the header may have been edited since.
        unit.verify(&name, sum, verify)?;
        return tiles::read(header, &data, layout, &scaling, pixels);
    }
    let bytes = layout.pixels as u64 * scaling.size() as u64;
    let mut buffer = vec![0; PORTION.min(bytes as usize)];
    let mut left = bytes;
    while left > 0 {
        let portion = (PORTION as u64).min(left) as usize;
        let part = buffer.get_mut(..portion).unwrap_or_default();
        source.read_exact(part)?;
        if verify {
            sum.add(part);
        }
        T::append(part, &scaling, &mut pixels)
            .map_err(|value| header.failure(format!("values such as {value:e} {}", T::ADVICE)))?;
        left -= portion as u64;
    }
    finish_data(source, unit, bytes, verify.then_some(&mut sum))?;
    if verify {
        unit.verify(&name, sum, true)?;
    }
    Ok(pixels)
}

/// Skips the rest of the data after `done` bytes; the fill of the last record may be missing.
fn finish_data(
    source: &mut Source,
    unit: &Unit,
    done: u64,
    sum: Option<&mut Checksum>,
) -> Result<()> {
    let mut left = unit.bytes.next_multiple_of(RECORD) - done;
    let Some(sum) = sum else { return source.skip(left).map(drop) };
    let mut buffer = vec![0; PORTION.min(left as usize)];
    while left > 0 {
        let portion = (PORTION as u64).min(left) as usize;
        let part = buffer.get_mut(..portion).unwrap_or_default();
        let read = source.read(part)?;
        sum.add(part.get(..read).unwrap_or_default());
        if read < portion {
            break;
        }
        left -= portion as u64;
    }
    Ok(())
}

/// Reserves memory for the image, or fails instead of aborting. Pages that are not written to
/// cost no memory.
fn reserve<T: Pixel>(layout: &Layout) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(layout.pixels).map_err(|error| {
        Failure::retryable(format!("no memory for {}: {error}", describe_shape(&layout.shape)))
    })?;
    Ok(values)
}
