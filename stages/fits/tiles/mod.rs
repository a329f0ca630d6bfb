//! Images in compressed tiles (FITS 4.0, 10): a table with one tile in each row.

mod dither;
mod hcompress;
mod plio;
mod rice;
mod table;

use std::io::Read;

use flate2::read::MultiGzDecoder;

use super::hdu::{Header, Layout};
use super::values::{Pixel, Scaling, integer};
use crate::prelude::*;
use crate::stages::frames::card::text_value;
use dither::{Dither, Tile};
use table::Table;

/// The compression of the tiles of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Gzip { shuffled: bool },
    Rice { block: usize, size: usize },
    Plio,
    Hcompress { smooth: bool },
    Stored,
}

/// The contents of a tile: big-endian numbers of `size` bytes each.
struct Numbers {
    bytes: Vec<u8>,
    size: usize,
    /// Whether the method knows integers only.
    integers: bool,
    /// Whether a lossy method may have left the range of the stored type.
    lossy: bool,
}

impl Numbers {
    fn of(integers: Vec<i32>) -> Self {
        let bytes = integers.into_iter().flat_map(i32::to_be_bytes).collect();
        Self { bytes, size: 4, integers: true, lossy: false }
    }
}

struct Image<'a> {
    header: Header<'a>,
    table: Table<'a>,
    layout: &'a Layout,
    method: Method,
    /// The lengths of a whole tile.
    tile: Vec<usize>,
    dither: Dither,
    seed: i64,
}

/// Reads the pixels of the image from `data`, the table behind the header.
///
/// # Errors
/// A permanent failure if it is damaged or compressed in an unknown way.
pub(super) fn read<T: Pixel>(
    header: Header<'_>,
    data: &[u8],
    layout: &Layout,
    scaling: &Scaling,
    mut pixels: Vec<T>,
) -> Result<Vec<T>> {
    let image = Image::of(header, data, layout)?;
    let counts: Vec<usize> =
        layout.shape.iter().zip(&image.tile).map(|(all, tile)| all.div_ceil(*tile)).collect();
    let tiles: usize = counts.iter().product();
    if image.table.rows() < tiles {
        let rows = image.table.rows();
        return Err(image.header.failure(format!("{tiles} tiles are needed, {rows} are there")));
    }
    pixels.resize(layout.pixels, T::default());
    let mut values = Vec::new();
    for row in 0..tiles {
        let (start, shape) = image.place(row, &counts);
        let bytes = image.stored(row, &shape)?;
        values.clear();
        T::append(&bytes, scaling, &mut values).map_err(|value| {
            image.header.failure(format!("values such as {value:e} {}", T::ADVICE))
        })?;
        copy(&values, &shape, &start, &layout.shape, &mut pixels);
    }
    Ok(pixels)
}

/// Copies the pixels of a tile to their place in the image.
fn copy<T: Pixel>(tile: &[T], shape: &[usize], start: &[usize], image: &[usize], pixels: &mut [T]) {
    let width = shape.first().copied().unwrap_or(1);
    for (number, line) in tile.chunks_exact(width).enumerate() {
        let (mut at, mut stride, mut rest) = (0, 1, number);
        for (axis, ((length, first), all)) in shape.iter().zip(start).zip(image).enumerate() {
            let along = if axis == 0 { 0 } else { rest % length };
            rest = if axis == 0 { rest } else { rest / length };
            at += (first + along) * stride;
            stride *= all;
        }
        if let Some(place) = pixels.get_mut(at..at + width) {
            place.copy_from_slice(line);
        }
    }
}

impl<'a> Image<'a> {
    fn of(header: Header<'a>, data: &'a [u8], layout: &'a Layout) -> Result<Self> {
        let table = Table::of(&header, data)?;
        let method = method(&header)?;
        let mut tile = Vec::new();
        for (axis, length) in layout.shape.iter().enumerate() {
            let name = format!("ZTILE{}", axis + 1);
            let whole = if axis == 0 { *length } else { 1 };
            let asked = header.integer(&name)?.unwrap_or(whole as i64);
            let size = usize::try_from(asked).ok().filter(|size| *size > 0);
            tile.push(
                size.ok_or_else(|| header.failure(format!("{name} is {asked}")))?.min(*length),
            );
        }
        let quantization = text_value(header.cards, "ZQUANTIZ");
        let dither = Dither::named(quantization.as_deref()).ok_or_else(|| {
            header.failure(format!(
                "ZQUANTIZ is {}, which is not known here: unpack the file with funpack",
                quantization.unwrap_or_default()
            ))
        })?;
        let seed = header.integer("ZDITHER0")?.unwrap_or(0);
        Ok(Self { header, table, layout, method, tile, dither, seed })
    }

    /// Returns the first pixel of a tile and its lengths; those at the far ends may be shorter.
    fn place(&self, row: usize, counts: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let mut rest = row;
        let mut start = Vec::new();
        for (count, length) in counts.iter().zip(&self.tile) {
            start.push(rest % count * length);
            rest /= count;
        }
        let ends = start.iter().zip(&self.tile).zip(&self.layout.shape);
        let shape = ends.map(|((start, tile), all)| (*tile).min(all - start)).collect();
        (start, shape)
    }

    /// Returns the stored values of a tile as in a plain image.
    fn stored(&self, row: usize, shape: &[usize]) -> Result<Vec<u8>> {
        let pixels = shape.iter().product();
        let wanted = self.layout.bitpix.unsigned_abs() as usize / 8;
        let damaged = || {
            self.header.failure(format!(
                "tile {} of {}: the compressed data are damaged; fetch the file again",
                row + 1,
                self.table.rows()
            ))
        };
        let compressed = self.table.bytes("COMPRESSED_DATA", row).ok_or_else(damaged)?;
        if compressed.is_empty() {
            // Reals that did not fit integers without loss are kept as they are.
            let numbers = self.unquantized(row, pixels).ok_or_else(damaged)?;
            return self.widened(numbers, wanted).ok_or_else(damaged);
        }
        let numbers = self.decode(compressed, shape, pixels)?.ok_or_else(damaged)?;
        if numbers.bytes.len() != pixels * numbers.size {
            return Err(damaged());
        }
        let real = |name: &str| match self.table.real(name, row) {
            None => self.header.real(name),
            value => Ok(value),
        };
        match (self.layout.bitpix < 0, real("ZSCALE")?) {
            (true, Some(scale)) => {
                let blank = self.table.integer("ZBLANK", row);
                let tile = Tile {
                    scale,
                    zero: real("ZZERO")?.unwrap_or(0.0),
                    blank: if blank.is_some() { blank } else { self.header.integer("ZBLANK")? },
                    dither: self.dither,
                    row: self.seed.saturating_add(row as i64),
                };
                let reals = tile.reals(&numbers.bytes, numbers.size);
                Ok(match wanted {
                    4 => reals.flat_map(|value| (value as f32).to_be_bytes()).collect(),
                    _ => reals.flat_map(f64::to_be_bytes).collect(),
                })
            }
            _ => self.widened(numbers, wanted).ok_or_else(damaged),
        }
    }

    fn unquantized(&self, row: usize, pixels: usize) -> Option<Numbers> {
        let bytes = match self.table.bytes("GZIP_COMPRESSED_DATA", row) {
            Some(packed) if !packed.is_empty() => unpack(packed, pixels)?,
            _ => self.table.bytes("UNCOMPRESSED_DATA", row)?.to_vec(),
        };
        numbers(bytes, pixels)
    }

    /// Unpacks the numbers of a tile as the method stores them; `None` if it is damaged.
    fn decode(&self, bytes: &[u8], shape: &[usize], pixels: usize) -> Result<Option<Numbers>> {
        Ok(match self.method {
            Method::Stored => numbers(bytes.to_vec(), pixels),
            Method::Gzip { shuffled } => {
                let numbers = unpack(bytes, pixels).and_then(|bytes| numbers(bytes, pixels));
                numbers.map(|numbers| if shuffled { unshuffled(numbers, pixels) } else { numbers })
            }
            Method::Rice { block, size } => {
                rice::decode(bytes, pixels, block, size).map(Numbers::of)
            }
            Method::Plio => {
                let words: Vec<i16> =
                    bytes.as_chunks().0.iter().map(|word| i16::from_be_bytes(*word)).collect();
                plio::decode(&words, pixels).map(Numbers::of)
            }
            Method::Hcompress { smooth } => {
                let axes: Vec<usize> =
                    shape.iter().copied().filter(|length| *length != 1).collect();
                let (columns, rows) = match (axes.as_slice(), shape) {
                    ([columns, rows], _) | ([] | [_], [columns, rows, ..]) => (*columns, *rows),
                    _ => {
                        return Err(self.header.failure(
                            "tiles of HCOMPRESS_1 have two axes, these have others: unpack the \
                             file with funpack",
                        ));
                    }
                };
                let integers = hcompress::decode(bytes, rows, columns, smooth);
                integers.map(|integers| Numbers { lossy: true, ..Numbers::of(integers) })
            }
        })
    }

    /// Converts the numbers to the image's own type; `None` if they do not fit.
    fn widened(&self, numbers: Numbers, wanted: usize) -> Option<Vec<u8>> {
        let Numbers { bytes, size, integers: only_integers, lossy } = numbers;
        if size == wanted && !(self.layout.bitpix < 0 && only_integers) {
            return Some(bytes);
        }
        let integers = bytes.chunks_exact(size).map(integer);
        match self.layout.bitpix {
            -32 if only_integers => {
                Some(integers.flat_map(|value| (value as f32).to_be_bytes()).collect())
            }
            -64 if only_integers => {
                Some(integers.flat_map(|value| (value as f64).to_be_bytes()).collect())
            }
            bits @ (8 | 16 | 32 | 64) => {
                let (low, high) = match bits {
                    8 => (0, 255),
                    _ => (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)),
                };
                let mut all = Vec::with_capacity(bytes.len() / size * wanted);
                for value in integers {
                    let fitting = value.clamp(low, high);
                    if fitting != value && !lossy {
                        return None;
                    }
                    all.extend_from_slice(fitting.to_be_bytes().get(8 - wanted..)?);
                }
                Some(all)
            }
            _ => None,
        }
    }
}

fn method(header: &Header<'_>) -> Result<Method> {
    let name = text_value(header.cards, "ZCMPTYPE").unwrap_or_default();
    let parameter = |wanted: &str| -> Result<Option<i64>> {
        for number in 1..1000 {
            match text_value(header.cards, &format!("ZNAME{number}")) {
                Some(name) if name.eq_ignore_ascii_case(wanted) => {
                    return header.integer(&format!("ZVAL{number}"));
                }
                Some(_) => {}
                None => break,
            }
        }
        Ok(None)
    };
    let size = |value: i64| usize::try_from(value).unwrap_or(0);
    Ok(match name.as_str() {
        "GZIP_1" => Method::Gzip { shuffled: false },
        "GZIP_2" => Method::Gzip { shuffled: true },
        "RICE_1" | "RICE_ONE" => {
            let bytes = parameter("BYTEPIX")?.unwrap_or(4);
            if !matches!(bytes, 1 | 2 | 4) {
                return Err(header.failure(format!(
                    "RICE_1 has a BYTEPIX of {bytes}, expected 1, 2 or 4: unpack the file with funpack"
                )));
            }
            Method::Rice { block: size(parameter("BLOCKSIZE")?.unwrap_or(32)), size: size(bytes) }
        }
        "PLIO_1" => Method::Plio,
        "HCOMPRESS_1" => Method::Hcompress { smooth: parameter("SMOOTH")?.unwrap_or(0) != 0 },
        "NOCOMPRESS" => Method::Stored,
        _ => {
            return Err(header.failure(format!(
                "ZCMPTYPE is '{name}', a compression that is not known here: unpack the file with \
                 funpack"
            )));
        }
    })
}

/// Unpacks gzip: at most eight bytes per pixel.
fn unpack(packed: &[u8], pixels: usize) -> Option<Vec<u8>> {
    let most = 8 * pixels as u64;
    let mut bytes = Vec::new();
    MultiGzDecoder::new(packed).take(most + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}

/// Interprets bytes as numbers, one per pixel, whose size follows from their count.
fn numbers(bytes: Vec<u8>, pixels: usize) -> Option<Numbers> {
    let size = [1, 2, 4, 8].into_iter().find(|size| size * pixels == bytes.len())?;
    Some(Numbers { bytes, size, integers: false, lossy: false })
}

/// GZIP_2 packs the first bytes of all numbers, then the second ones, and so on.
fn unshuffled(numbers: Numbers, pixels: usize) -> Numbers {
    let mut together = vec![0; numbers.bytes.len()];
    for (place, plane) in numbers.bytes.chunks_exact(pixels).enumerate() {
        for (number, byte) in together.chunks_exact_mut(numbers.size).zip(plane) {
            if let Some(to) = number.get_mut(place) {
                *to = *byte;
            }
        }
    }
    Numbers { bytes: together, ..numbers }
}
