//! Turns stored values into physical ones: value = stored * `BSCALE` + `BZERO`.

use super::hdu::Header;
use crate::prelude::*;

/// The `BZERO` of unsigned 64-bit integers.
const UNSIGNED: f64 = 9_223_372_036_854_775_808.0;

/// The encoding of the stored values of an image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scaling {
    /// The type of the stored values: 8, 16, 32, 64, -32 or -64.
    bitpix: i64,
    scale: f64,
    zero: f64,
    /// The integer that stands for a missing pixel.
    blank: Option<i64>,
}

impl Scaling {
    pub(super) fn of(header: &Header<'_>, bitpix: i64, tiled: bool) -> Result<Self> {
        // Reals have NaN instead; BLANK means nothing there.
        let mut blank = None;
        for name in ["BLANK", "ZBLANK"] {
            if bitpix > 0 && blank.is_none() && (tiled || name == "BLANK") {
                blank = header.integer(name)?;
            }
        }
        Ok(Self {
            bitpix,
            scale: header.real("BSCALE")?.unwrap_or(1.0),
            zero: header.real("BZERO")?.unwrap_or(0.0),
            blank,
        })
    }

    /// The bytes of a stored value.
    pub(super) fn size(&self) -> usize {
        self.bitpix.unsigned_abs() as usize / 8
    }

    /// Whether single precision suffices: for values of at most 24 bits, and factors that it
    /// represents exactly.
    fn in_single(&self) -> bool {
        let fits = |x: f64| x == 0.0 || (x as f32).is_normal();
        matches!(self.bitpix, 8 | 16 | -32) && fits(self.scale) && fits(self.zero)
    }

    fn changes(&self) -> bool {
        self.scale != 1.0 || self.zero != 0.0
    }
}

/// The precision in which pixels are kept.
pub(super) trait Pixel: Copy + Default {
    /// The advice for a value that does not fit.
    const ADVICE: &str;

    /// Converts whole big-endian stored values and appends them.
    ///
    /// # Errors
    /// The first value that does not fit.
    fn append(bytes: &[u8], scaling: &Scaling, to: &mut Vec<Self>) -> Result<(), f64>;
}

impl Pixel for f32 {
    const ADVICE: &str = "do not fit single precision: set the parameter \"precision\" of ReadFits \
                          to \"f64\"";

    fn append(bytes: &[u8], scaling: &Scaling, to: &mut Vec<f32>) -> Result<(), f64> {
        let start = to.len();
        if scaling.bitpix == 64
            && let Some(offset) = whole_offset(scaling)
        {
            to.extend(values(bytes, |b| match offset {
                0 => i64::from_be_bytes(b) as f32,
                offset => (u64::from_be_bytes(b) ^ offset) as f32,
            }));
            blanks(bytes, scaling, to.get_mut(start..).unwrap_or_default(), f32::NAN);
            return Ok(());
        }
        if !scaling.in_single() {
            let mut wide = Vec::with_capacity(bytes.len() / scaling.size());
            f64::append(bytes, scaling, &mut wide)?;
            to.extend(wide.iter().map(|value| *value as f32));
            let lost = |(single, wide): (&f32, &f64)| single.is_infinite() && wide.is_finite();
            let new = to.get(start..).unwrap_or_default();
            return match new.iter().zip(&wide).position(lost) {
                Some(at) => Err(wide.get(at).copied().unwrap_or_default()),
                None => Ok(()),
            };
        }
        match scaling.bitpix {
            8 => to.extend(bytes.iter().map(|byte| f32::from(*byte))),
            16 => to.extend(values(bytes, |b| f32::from(i16::from_be_bytes(b)))),
            _ => to.extend(values(bytes, f32::from_be_bytes)),
        }
        let new = to.get_mut(start..).unwrap_or_default();
        if scaling.changes() {
            let (scale, zero) = (scaling.scale as f32, scaling.zero as f32);
            // 16-bit integers exceed it only with such factors.
            let far = scale.abs() > 1e32 || zero.abs() > 1e37;
            let before = scaling.bitpix < 0 && any_infinite(new);
            if scale != 1.0 {
                new.iter_mut().for_each(|value| *value *= scale);
            }
            if zero != 0.0 {
                new.iter_mut().for_each(|value| *value += zero);
            }
            if !before && (scaling.bitpix < 0 || far) && any_infinite(new) {
                return Err(largest(bytes, scaling));
            }
        }
        blanks(bytes, scaling, new, f32::NAN);
        Ok(())
    }
}

impl Pixel for f64 {
    const ADVICE: &str = "are beyond double precision: check BSCALE and BZERO";

    fn append(bytes: &[u8], scaling: &Scaling, to: &mut Vec<f64>) -> Result<(), f64> {
        let start = to.len();
        if scaling.bitpix == 64
            && let Some(offset) = whole_offset(scaling)
        {
            to.extend(values(bytes, |b| match offset {
                0 => i64::from_be_bytes(b) as f64,
                offset => (u64::from_be_bytes(b) ^ offset) as f64,
            }));
            blanks(bytes, scaling, to.get_mut(start..).unwrap_or_default(), f64::NAN);
            return Ok(());
        }
        match scaling.bitpix {
            8 => to.extend(bytes.iter().map(|byte| f64::from(*byte))),
            16 => to.extend(values(bytes, |b| f64::from(i16::from_be_bytes(b)))),
            32 => to.extend(values(bytes, |b| f64::from(i32::from_be_bytes(b)))),
            64 => to.extend(values(bytes, |b| i64::from_be_bytes(b) as f64)),
            -32 => to.extend(values(bytes, |b| f64::from(f32::from_be_bytes(b)))),
            _ => to.extend(values(bytes, f64::from_be_bytes)),
        }
        let new = to.get_mut(start..).unwrap_or_default();
        if scaling.changes() {
            let infinite =
                |values: &[f64]| values.iter().fold(false, |any, value| any | value.is_infinite());
            let before = infinite(new);
            if scaling.scale != 1.0 {
                new.iter_mut().for_each(|value| *value *= scaling.scale);
            }
            if scaling.zero != 0.0 {
                new.iter_mut().for_each(|value| *value += scaling.zero);
            }
            if !before && infinite(new) {
                return Err(f64::INFINITY);
            }
        }
        blanks(bytes, scaling, new, f64::NAN);
        Ok(())
    }
}

/// The offset of unscaled 64-bit integers, if they are unsigned, or 0. They become reals in one
/// step, because two roundings differ from one.
fn whole_offset(scaling: &Scaling) -> Option<u64> {
    match (scaling.scale, scaling.zero) {
        (1.0, 0.0) => Some(0),
        (1.0, UNSIGNED) => Some(1 << 63),
        _ => None,
    }
}

fn values<T, const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes.as_chunks::<N>().0.iter().map(move |bytes| of(*bytes))
}

/// Looks at all values: to stop at the first would take longer, one value at a time.
fn any_infinite(values: &[f32]) -> bool {
    values.iter().fold(false, |any, value| any | value.is_infinite())
}

/// The value furthest from 0, in double precision.
fn largest(bytes: &[u8], scaling: &Scaling) -> f64 {
    let mut wide = Vec::new();
    match f64::append(bytes, scaling, &mut wide) {
        Err(value) => value,
        Ok(()) => wide.into_iter().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a }),
    }
}

fn blanks<T: Copy>(bytes: &[u8], scaling: &Scaling, values: &mut [T], missing: T) {
    let Some(blank) = scaling.blank else { return };
    for (value, stored) in values.iter_mut().zip(bytes.chunks_exact(scaling.size())) {
        if integer(stored) == blank {
            *value = missing;
        }
    }
}

/// A big-endian integer of one, two, four or eight bytes. One byte is unsigned.
pub(super) fn integer(bytes: &[u8]) -> i64 {
    match bytes {
        [byte] => i64::from(*byte),
        _ => {
            let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
            bytes.iter().fold(if negative { -1 } else { 0 }, |all, b| all << 8 | i64::from(*b))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaling(bitpix: i64, scale: f64, zero: f64) -> Scaling {
        Scaling { bitpix, scale, zero, blank: None }
    }

    fn single(bytes: &[u8], scaling: &Scaling) -> Result<Vec<f32>, f64> {
        let mut all = Vec::new();
        f32::append(bytes, scaling, &mut all).map(|()| all)
    }

    #[test]
    fn unsigned_integers_of_64_bits_are_rounded_once() {
        // Halfway between two singles, and one more: through a double it would go down.
        let value = (1_u64 << 63) + (1 << 39) + 1;
        let stored = (value ^ (1 << 63)).to_be_bytes();
        let expected = [value as f32];
        assert_eq!(single(&stored, &scaling(64, 1.0, UNSIGNED)).unwrap(), expected);
        let stored = ((1_i64 << 62) + (1 << 38) + 1).to_be_bytes();
        let expected = [((1_i64 << 62) + (1 << 38) + 1) as f32];
        assert_eq!(single(&stored, &scaling(64, 1.0, 0.0)).unwrap(), expected);
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_infinities_are_kept() {
        let huge = 1e303_f64.to_be_bytes();
        assert_eq!(single(&huge, &scaling(-64, 1.0, 0.0)), Err(1e303));
        let infinite = f64::NEG_INFINITY.to_be_bytes();
        assert_eq!(single(&infinite, &scaling(-64, 1.0, 0.0)), Ok(vec![f32::NEG_INFINITY]));
        let large = 1e30_f32.to_be_bytes();
        assert!(single(&large, &scaling(-32, 1e20, 0.0)).is_err());
        let mut double = Vec::new();
        assert!(f64::append(&huge, &scaling(-64, 1e20, 0.0), &mut double).is_err());
    }

    #[test]
    fn integers_of_all_sizes_are_read() {
        assert_eq!(integer(&[200]), 200);
        assert_eq!(integer(&(-2_i16).to_be_bytes()), -2);
        assert_eq!(integer(&i64::MIN.to_be_bytes()), i64::MIN);
        let blank = Scaling { blank: Some(-2), ..scaling(16, 1.0, 0.0) };
        let pixels = single(&[0xff, 0xfe, 0, 3], &blank).unwrap();
        assert!(pixels[0].is_nan() && pixels[1] == 3.0);
    }
}
