//! Reading an image with its header.

use std::path::Path;

use super::super::frame::{Frame, Pixels, describe_shape};
use super::cfitsio::{Element, FitsFile, Hdu, ImageLayout};
use super::header;
use crate::prelude::*;

/// How many pixels are converted at a time where a wider type is between.
const CHUNK: usize = 64 * 1024;

/// In which precision pixels are kept.
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

/// What to read of a FITS file, and within which limits.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadOptions {
    /// The HDU, or none for the first one with an image.
    pub hdu: Option<Hdu>,
    /// The type of the pixels.
    pub precision: Precision,
    /// The largest image to read, in pixels.
    pub max_pixels: u64,
    /// Whether to compare the file with its `CHECKSUM` and `DATASUM`.
    pub verify_checksum: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { hdu: None, precision: Precision::F32, max_pixels: 1 << 28, verify_checksum: false }
    }
}

/// Reads an image: value = stored * BSCALE + BZERO, `NAXIS1` fastest, missing
/// pixels (`BLANK`) as NaN. `name` is what the frame's products are called.
///
/// The values are those that astropy gives: for 8-bit and 16-bit integers and
/// 32-bit reals the scaling is done in single precision, otherwise in double.
/// With [`Precision::F64`] it is always done in double.
///
/// # Errors
/// A permanent failure if the file is no FITS file, damaged, has no such image
/// or one beyond the limit; a retryable one if the system refused memory or a
/// file descriptor.
pub fn read_frame(path: &Path, name: &str, options: &ReadOptions) -> Result<Frame> {
    let source = path.display().to_string();
    let mut file = FitsFile::open(path)?;
    let layout = file.select(options.hdu.as_ref())?;
    if layout.pixels as u64 > options.max_pixels {
        return Err(Failure::permanent(format!(
            "{source}: {} pixels are more than the limit of {}: raise the parameter \"max_pixels\" \
             of ReadFits if the header is right",
            describe_shape(&layout.shape),
            options.max_pixels
        )));
    }
    // CFITSIO's decompressors do not stand every damage, so tiles are always
    // compared with their DATASUM; a header may have been edited since.
    if options.verify_checksum || layout.tiled {
        file.verify_checksums(options.verify_checksum)?;
    }
    let cards = file.cards()?;
    let pixels = match options.precision {
        Precision::F32 => Pixels::F32(read_f32(&mut file, &layout)?.into()),
        Precision::F64 => Pixels::F64(read_f64(&mut file, &layout)?.into()),
    };
    let origin = if layout.hdu == 0 { String::new() } else { format!(", HDU {}", layout.hdu) };
    Ok(Frame {
        name: name.to_owned(),
        history: vec![format!("read from {source}{origin}")],
        source,
        unit: header::text_value(&cards, "BUNIT"),
        shape: layout.shape,
        pixels,
        cards,
    })
}

fn read_f32(file: &mut FitsFile, layout: &ImageLayout) -> Result<Vec<f32>> {
    if !matches!(layout.bitpix, 8 | 16 | -32) {
        return read_through_f64(file, layout);
    }
    let mut values = reserve::<f32>(layout)?;
    file.read_stored(layout, 0, &mut values)?;
    let (scale, zero) = (layout.scale as f32, layout.zero as f32);
    if scale != 1.0 {
        values.iter_mut().for_each(|value| *value *= scale);
    }
    if zero != 0.0 {
        values.iter_mut().for_each(|value| *value += zero);
    }
    Ok(values)
}

/// Values of more than 24 bits are scaled in double precision first.
fn read_through_f64(file: &mut FitsFile, layout: &ImageLayout) -> Result<Vec<f32>> {
    let mut values = reserve::<f32>(layout)?;
    let mut wide = vec![0.0_f64; CHUNK.min(layout.pixels)];
    let mut first = 0;
    for part in values.chunks_mut(CHUNK) {
        let (wide, _) = wide.split_at_mut(part.len());
        file.read_stored(layout, first, wide)?;
        scale_f64(wide, layout);
        for (value, wide) in part.iter_mut().zip(wide) {
            *value = *wide as f32;
        }
        first += part.len();
    }
    Ok(values)
}

fn read_f64(file: &mut FitsFile, layout: &ImageLayout) -> Result<Vec<f64>> {
    let mut values = reserve::<f64>(layout)?;
    file.read_stored(layout, 0, &mut values)?;
    scale_f64(&mut values, layout);
    Ok(values)
}

fn scale_f64(values: &mut [f64], layout: &ImageLayout) {
    if layout.scale != 1.0 {
        values.iter_mut().for_each(|value| *value *= layout.scale);
    }
    if layout.zero != 0.0 {
        values.iter_mut().for_each(|value| *value += layout.zero);
    }
}

/// Memory for the image, or a failure instead of an abort.
fn reserve<T: Element + Default>(layout: &ImageLayout) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(layout.pixels).map_err(|error| {
        Failure::retryable(format!("no memory for {}: {error}", describe_shape(&layout.shape)))
    })?;
    values.resize(layout.pixels, T::default());
    Ok(values)
}
