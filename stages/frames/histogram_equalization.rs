use super::histogram::{Bins, blank_ends, by_blocks, centroid, count, count_levels};
use super::outliers::{Within, single_precision};
use super::{Frame, Picture};
use crate::prelude::*;

/// Beyond, whole numbers are not exact in single precision.
const MAX_BINS: u32 = 1 << 24;

/// Turns a frame into an 8-bit gray picture by adaptive histogram equalization.
///
/// Takes two-dimensional frames (axes of length 1 beyond the second do not
/// count) in any unit; others fail. The algorithm is that of HistEqual2d in the
/// Keck DRP framework, pixel for pixel: the range around the centroid of the
/// histogram is stretched over `bins` levels, whose histogram, clipped at a
/// threshold, is cumulated to the gray values. It works in single precision.
///
/// Missing pixels (NaN) and -infinity are black, +infinity is white, and the histograms ignore
/// them. They also ignore values such as -1e30, which stand for missing pixels and are so far away
/// that all others would share one bin: these become black or white, and the log says so. A
/// constant image is black. If too few different values are left to equalize, the stretch is
/// linear. A frame without a finite pixel fails.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistogramEqualization {
    /// The number of bins of the histograms.
    #[serde(default = "default_bins")]
    #[schemars(range(min = 16, max = 16_777_216))]
    bins: u32,
    /// How far below the histogram's centroid the range begins.
    #[serde(default = "default_cut_low")]
    #[schemars(range(min = 0), extend("unit" = "standard deviation"))]
    cut_low: f64,
    /// How far above the histogram's centroid the range ends.
    #[serde(default = "default_cut_high")]
    #[schemars(range(min = 0), extend("unit" = "standard deviation"))]
    cut_high: f64,
    /// The clipping threshold as a multiple of the mean count within the range:
    /// a low one limits the contrast.
    #[serde(default = "default_t_factor")]
    #[schemars(range(min = 0))]
    t_factor: f64,
    /// Whether the first row of the FITS image is at the bottom of the picture, where DS9 and
    /// other viewers show it, instead of at the top.
    #[serde(default)]
    flip: bool,
}

fn default_bins() -> u32 {
    65_536
}

fn default_cut_low() -> f64 {
    1.0
}

fn default_cut_high() -> f64 {
    6.0
}

fn default_t_factor() -> f64 {
    1.0
}

impl Default for HistogramEqualization {
    fn default() -> Self {
        Self {
            bins: default_bins(),
            cut_low: default_cut_low(),
            cut_high: default_cut_high(),
            t_factor: default_t_factor(),
            flip: false,
        }
    }
}

impl Stage for HistogramEqualization {
    type In = Frame;
    type Out = Picture;

    fn validate(&self) -> Result<()> {
        if !(16..=MAX_BINS).contains(&self.bins) {
            return Err(Failure::permanent(format!(
                "\"bins\" is {}, expected 16 to {MAX_BINS}",
                self.bins
            )));
        }
        for (name, value) in
            [("cut_low", self.cut_low), ("cut_high", self.cut_high), ("t_factor", self.t_factor)]
        {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Failure::permanent(format!(
                    "\"{name}\" is {value}, expected 0 or more"
                )));
            }
        }
        Ok(())
    }

    fn run(&mut self, frame: Frame, out: &mut Emitter<'_, Picture>) -> Result<()> {
        let (width, height) = frame.size()?;
        let side = |length: usize| {
            u32::try_from(length).map_err(|_| {
                Failure::permanent(format!(
                    "{}: no picture can be {length} pixels long",
                    frame.source
                ))
            })
        };
        let (width, height) = (side(width)?, side(height)?);
        let image = single_precision(&frame.pixels);
        let (mut pixels, left_out) = self.equalize_noting(&image).context(frame.source.clone())?;
        if left_out > 0 {
            announce_warning(format!(
                "{}: {left_out} pixels are left out of the histogram, because they are too far \
                 from the others; they may be missing pixels written as numbers",
                frame.source
            ));
        }
        if self.flip {
            pixels = pixels.rchunks_exact(width as usize).flatten().copied().collect();
        }
        out.send(Picture {
            name: frame.name,
            source: frame.source,
            width,
            height,
            pixels: pixels.into(),
            file: None,
        })
    }
}

impl HistogramEqualization {
    /// Computes the gray values of an image's pixels, in the same order.
    ///
    /// # Errors
    /// A permanent failure if no pixel is finite, or if the range of values is
    /// beyond single precision.
    pub fn equalize(&self, image: &[f32]) -> Result<Vec<u8>> {
        self.equalize_noting(image).map(|(gray, _)| gray)
    }

    /// As [`HistogramEqualization::equalize`]; also returns the number of pixels that were left
    /// out because they are so far from the others.
    fn equalize_noting(&self, image: &[f32]) -> Result<(Vec<u8>, usize)> {
        let all = Within::finite(image)?;
        let bins = self.bins as usize;
        let mut within = all;
        while let Some(rest) = within.without_outliers(image, bins) {
            within = rest;
        }
        if !(within.max - within.min).is_finite() {
            return Err(Failure::permanent(format!(
                "pixels from {:e} to {:e} are too far apart for single precision",
                within.min, within.max
            )));
        }
        Ok((self.equalize_within(image, within), all.count - within.count))
    }

    fn equalize_within(&self, image: &[f32], within: Within) -> Vec<u8> {
        let flat = || image.iter().map(|pixel| within.outside(*pixel).unwrap_or(0)).collect();
        let Some(bins) = Bins::new(within, self.bins) else { return flat() };
        let mut counts = bins.count(image);
        blank_ends(&mut counts);
        let Some((low, high)) = self.range(&counts, &bins) else { return flat() };
        let inside: u64 = counts.iter().skip(low).take(high - low).sum();
        let threshold = inside as f64 / (high - low) as f64 * self.t_factor;
        let threshold = threshold.max(within.count as f64 / f64::from(self.bins));
        let stretch = Stretch::new(within, bins.edge(low), bins.edge(high), self.bins);
        counts.fill(0);
        count(image, &mut counts, |pixel| stretch.level(pixel));
        let mut gray = gray_values(counts, threshold);
        gray.extend(Stretch::OUTSIDE);
        let mut values = Vec::with_capacity(image.len());
        by_blocks(
            image,
            |pixel| stretch.level(pixel),
            |levels| {
                let value = |level: &u32| gray.get(*level as usize).copied().unwrap_or_default();
                values.extend(levels.iter().map(value));
            },
        );
        values
    }

    /// Returns the bins between whose left edges the image is stretched: at least one bin, and
    /// none of zero width. `None` if there is no such range.
    fn range(&self, counts: &[u64], bins: &Bins) -> Option<(usize, usize)> {
        let last = counts.len().checked_sub(1)?;
        let (centroid, sd) = centroid(counts);
        let low = (centroid - self.cut_low * sd).max(0.0) as usize;
        let high = (centroid + self.cut_high * sd).min(last as f64) as usize;
        let start = bins.edge(low);
        let high = (high.max(low + 1)..=last).find(|high| bins.edge(*high) > start)?;
        Some((low, high))
    }
}

/// Maps a range of pixels to whole levels 0 to `bins` - 1 and cuts the rest.
struct Stretch {
    within: Within,
    factor: f32,
    offset: f32,
    last: i32,
}

impl Stretch {
    /// The gray values of the two levels beyond the last, of pixels that do not count.
    const OUTSIDE: [u8; 2] = [0, u8::MAX];

    fn new(within: Within, low: f32, high: f32, bins: u32) -> Self {
        let factor = (f64::from(bins - 1) / f64::from(high - low)) as f32;
        Self { within, factor, offset: -factor * low, last: bins as i32 - 1 }
    }

    #[inline]
    fn level(&self, pixel: f32) -> u32 {
        let level = ((pixel * self.factor + self.offset) as i32).clamp(0, self.last);
        let outside = self.last + 1 + i32::from(pixel > self.within.max);
        (if self.within.has(pixel) { level } else { outside }) as u32
    }
}

/// The gray value of each level.
fn gray_values(levels: Vec<u64>, threshold: f64) -> Vec<u8> {
    let bins = levels.len();
    let mut counts = count_levels(levels);
    blank_ends(&mut counts);
    let clipped = counts.iter().map(|count| (*count as f64).min(threshold));
    let cumulated: Vec<f64> = clipped
        .scan(0.0, |sum, count| {
            *sum += count;
            Some(*sum)
        })
        .collect();
    let (first, last) = (cumulated.first().copied(), cumulated.last().copied());
    let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
    if first == last {
        let top = (bins - 1) as f64;
        return (0..bins).map(|level| (level as f64 * 255.0 / top) as u8).collect();
    }
    // One factor and one offset: in another order the last digit differs, and with it whether
    // white is 254 or 255.
    let factor = 255.0 / (last - first);
    let offset = -factor * first;
    // Through a whole number first, which is done for several at once.
    let gray = |sum: &f64| ((sum * factor + offset) as i32).clamp(0, 255) as u8;
    cumulated.iter().map(gray).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::frames::Pixels;
    use crate::testing::run;

    fn equalize(image: &[f32]) -> Result<Vec<u8>> {
        HistogramEqualization::default().equalize(image)
    }

    #[test]
    fn a_constant_image_is_black() {
        assert_eq!(equalize(&[7.0; 100]).unwrap(), [0; 100]);
    }

    #[test]
    fn a_mask_keeps_its_two_values() {
        assert_eq!(equalize(&[0.0, 1.0, 1.0, 0.0]).unwrap(), [0, 255, 255, 0]);
    }

    #[test]
    fn one_hot_pixel_does_not_blacken_the_image() {
        let mut image: Vec<f32> = (0..1000).map(|n| n as f32 / 1000.0).collect();
        image.push(1e9);
        assert!(equalize(&image).unwrap().iter().any(|value| *value > 0));
    }

    #[test]
    fn missing_pixels_are_black_and_infinite_ones_at_the_ends() {
        let mut image: Vec<f32> = (0..5000).map(|n| ((n * 37) % 1000) as f32).collect();
        let without = equalize(&image).unwrap();
        image.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        let with = equalize(&image).unwrap();
        assert_eq!(with[..5000], without);
        assert_eq!(with[5000..], [0, 255, 0]);
    }

    #[test]
    fn an_image_without_a_finite_pixel_fails_for_good() {
        for image in [&[f32::NAN, f32::INFINITY][..], &[]] {
            let error = equalize(image).unwrap_err();
            assert!(error.to_string().contains("no finite pixel"), "{error}");
            assert!(!error.is_retryable());
        }
    }

    #[test]
    fn a_border_of_sentinels_does_not_make_a_blank_picture() {
        let image: Vec<f32> = (0..4096).map(|n| 100.0 + ((n * 37) % 97) as f32).collect();
        let without = equalize(&image).unwrap();
        for (low, high) in [(-1e30, 1e30), (-1e30, -1e30), (f32::MIN, f32::MAX), (-1e10, 1e20)] {
            let mut bordered = image.clone();
            bordered.extend([low; 600]);
            bordered.extend([high; 5]);
            let stage = HistogramEqualization::default();
            let (gray, left_out) = stage.equalize_noting(&bordered).unwrap();
            assert_eq!((&gray[..4096], left_out), (&without[..], 605), "{low:e}, {high:e}");
            let white = if high > 0.0 { 255 } else { 0 };
            assert_eq!((gray[4096], gray[4696]), (0, white), "{low:e}, {high:e}");
        }
    }

    #[test]
    fn a_flipped_picture_has_its_first_row_at_the_bottom() {
        let stage = |flip: bool| HistogramEqualization { flip, ..Default::default() };
        let pixels: Vec<f32> = (0..6).map(|n| n as f32).collect();
        let frame = Frame {
            name: "x".into(),
            source: "x.fits".into(),
            shape: vec![3, 2],
            pixels: Pixels::F32(pixels.into()),
            unit: None,
            cards: Vec::new(),
            history: Vec::new(),
        };
        let picture =
            |flip: bool| run(stage(flip), [frame.clone()]).unwrap().outputs[0].1.pixels.to_vec();
        let (top, bottom) = (picture(false), picture(true));
        assert_eq!((&bottom[..3], &bottom[3..]), (&top[3..], &top[..3]));
        assert_ne!(top, bottom);
    }

    #[test]
    fn extreme_ranges_do_no_harm() {
        assert!(equalize(&[f32::MIN, f32::MAX]).is_err());
        assert_eq!(equalize(&[0.0, f32::from_bits(1)]).unwrap(), [0, 0]);
        equalize(&[1.0, f32::from_bits(1.0_f32.to_bits() + 1), 1.0]).unwrap();
        equalize(&[0.0, f32::MAX / 2.0, 1.0, 2.0]).unwrap();
    }
}
