//! Selects the pixels that a picture is made of: finite ones, without values far away from all
//! others, which stand for missing pixels.

use std::borrow::Cow;

use super::Pixels;
use crate::prelude::*;

/// Limits the filled bins of an image that is searched for outliers: an image with more shows
/// its contrast anyway.
const FEW: usize = 8;
/// Pixels that are compared side by side, in the processor's vectors.
const LANES: usize = 16;

/// The pixels in single precision. Doubles that all lie close together, or all beyond it,
/// are moved or scaled first: a picture shows differences.
pub(crate) fn single_precision(pixels: &Pixels) -> Cow<'_, [f32]> {
    let Pixels::F64(double) = pixels else { return pixels.to_f32() };
    let finite = || double.iter().copied().filter(|pixel| pixel.is_finite());
    let (min, max) =
        (finite().fold(f64::INFINITY, f64::min), finite().fold(-f64::INFINITY, f64::max));
    let nearest = finite().fold(f64::INFINITY, |least, pixel| least.min(pixel.abs()));
    let furthest = min.abs().max(max.abs());
    let moved = |by: f64, factor: f64| double.iter().map(|p| ((p - by) * factor) as f32).collect();
    let close = max > min && max - min < furthest / 4096.0;
    let beyond = nearest.is_finite() && nearest > f64::from(f32::MAX);
    match (close, beyond) {
        (true, _) => Cow::Owned(moved(min, if beyond { (max - min).recip() } else { 1.0 })),
        (false, true) => Cow::Owned(moved(0.0, furthest.recip())),
        (false, false) => pixels.to_f32(),
    }
}

/// The pixels that count in the histograms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Within {
    pub(crate) min: f32,
    pub(crate) max: f32,
    pub(crate) count: usize,
}

/// Neighboring bins that are not empty, with the pixels in them.
#[derive(Debug, Clone, Copy)]
struct Run {
    last: usize,
    within: Within,
}

impl Within {
    /// Selects all finite pixels.
    pub(crate) fn finite(image: &[f32]) -> Result<Self> {
        let count = image.iter().filter(|pixel| pixel.is_finite()).count();
        if count == 0 {
            return Err(Failure::permanent(format!(
                "no finite pixel: all {} are NaN or infinite",
                image.len()
            )));
        }
        let min = extreme(image, f32::INFINITY, |pixel, least| pixel < least);
        let max = extreme(image, f32::NEG_INFINITY, |pixel, most| pixel > most);
        Ok(Self { min, max, count })
    }

    pub(crate) fn has(&self, pixel: f32) -> bool {
        self.min <= pixel && pixel <= self.max
    }

    /// The gray value of a pixel that does not count.
    pub(crate) fn outside(&self, pixel: f32) -> Option<u8> {
        (!self.has(pixel)).then_some(if pixel > self.max { u8::MAX } else { 0 })
    }

    /// Leaves out outliers so far away that the other pixels share a few bins; `None` if there
    /// are no such outliers.
    pub(crate) fn without_outliers(self, image: &[f32], bins: usize) -> Option<Self> {
        let width = (f64::from(self.max) - f64::from(self.min)) / bins as f64;
        let mut runs: Vec<Run> = Vec::new();
        for pixel in image.iter().copied().filter(|pixel| self.has(*pixel)) {
            let bin = (((f64::from(pixel) - f64::from(self.min)) / width) as usize).min(bins - 1);
            let known = runs.iter().position(|run| run.last == bin);
            let Some(run) = known.and_then(|index| runs.get_mut(index)) else {
                // Most images end here, after a few pixels.
                if runs.len() == FEW {
                    return None;
                }
                runs.push(Run { last: bin, within: Self { min: pixel, max: pixel, count: 1 } });
                continue;
            };
            run.within.min = run.within.min.min(pixel);
            run.within.max = run.within.max.max(pixel);
            run.within.count += 1;
        }
        let varied = |run: &Run| run.within.min < run.within.max;
        let joined = joined(runs);
        let rest = joined.iter().filter(|run| varied(run)).max_by_key(|run| run.within.count)?;
        let others = joined.iter().filter(|run| varied(run) && run.last != rest.last);
        let noisy: usize = others.map(|run| run.within.count).sum();
        (joined.len() > 1 && noisy <= rest.within.count / 8).then_some(rest.within)
    }
}

/// Returns the finite pixel that is `beyond` all others, or `start` if there is none.
fn extreme(image: &[f32], start: f32, beyond: impl Fn(f32, f32) -> bool) -> f32 {
    let further = |known: f32, pixel: f32| match pixel.is_finite() & beyond(pixel, known) {
        true => pixel,
        false => known,
    };
    let mut lanes = [start; LANES];
    let (chunks, rest) = image.as_chunks::<LANES>();
    for chunk in chunks {
        for (known, pixel) in lanes.iter_mut().zip(chunk) {
            *known = further(*known, *pixel);
        }
    }
    lanes.iter().chain(rest).fold(start, |known, pixel| further(known, *pixel))
}

/// Merges adjacent bins, in order.
fn joined(mut bins: Vec<Run>) -> Vec<Run> {
    bins.sort_by_key(|run| run.last);
    let mut joined: Vec<Run> = Vec::new();
    for run in bins {
        match joined.last_mut().filter(|before| before.last + 1 == run.last) {
            Some(before) => {
                let (one, other) = (before.within, run.within);
                let count = one.count + other.count;
                *before = Run { within: Within { min: one.min, max: other.max, count }, ..run };
            }
            None => joined.push(run),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_beyond_single_precision_keep_their_differences() {
        for base in [1e8, 1e303, -1e15] {
            let step = f64::abs(base) / 1e9;
            let image = (0..4096).map(|n| base + step * f64::from(n * 37 % 97)).collect::<Vec<_>>();
            let mut values = single_precision(&Pixels::F64(image.into())).into_owned();
            values.sort_by(f32::total_cmp);
            values.dedup();
            assert!(values.len() == 97 && values[96].is_finite(), "{base:e}: {values:?}");
        }
    }

    #[test]
    fn groups_of_values_are_no_outliers() {
        let image: Vec<f32> = (0..3000).map(|n| (n % 3) as f32 + 1e-6 * (n % 7) as f32).collect();
        let within = Within::finite(&image).unwrap();
        assert_eq!(within.without_outliers(&image, 65_536), None);
        let mask = [0.0, 1.0, 1.0, 0.0];
        assert_eq!(Within::finite(&mask).unwrap().without_outliers(&mask, 65_536), None);
    }
}
