use super::{Frame, Pixels};
use crate::prelude::*;

/// Pixels that are compared together; most blocks have no outlier, and only the others are
/// looked through.
const BLOCK: usize = 64;

/// Replaces outliers, such as cosmic rays and hot pixels, by the median around them.
///
/// Takes and emits two-dimensional frames (axes of length 1 beyond the second do not count) in any
/// unit; others fail. In each pass every pixel that is farther than `sigma` standard deviations
/// from the mean of the image becomes the median of the 3 x 3 pixels around it, as they were
/// before the pass; at the upper and left border the window lies inside, at the others it is cut.
/// The algorithm is that of NoiseRemoval in the Keck DRP framework, pixel for pixel, with mean and
/// standard deviation in single precision. The statistics ignore missing (NaN) and infinite
/// pixels; missing pixels stay.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoiseRemoval {
    /// The smallest distance of an outlier from the mean.
    #[serde(default = "default_sigma")]
    #[schemars(range(min = 0), extend("unit" = "standard deviation"))]
    sigma: f32,
    /// The number of passes.
    #[serde(default = "default_passes")]
    #[schemars(range(min = 0, max = 100))]
    passes: u32,
}

fn default_sigma() -> f32 {
    3.0
}

fn default_passes() -> u32 {
    2
}

impl Stage for NoiseRemoval {
    type In = Frame;
    type Out = Frame;

    fn validate(&self) -> Result<()> {
        if self.sigma.is_finite() && self.sigma >= 0.0 {
            return Ok(());
        }
        Err(Failure::permanent(format!("\"sigma\" is {}, expected 0 or more", self.sigma)))
    }

    fn run(&mut self, mut frame: Frame, out: &mut Emitter<'_, Frame>) -> Result<()> {
        let (width, _) = frame.size()?;
        let (sigma, passes) = (self.sigma, self.passes);
        let replaced = match &mut frame.pixels {
            Pixels::F32(pixels) => remove_noise(pixels.to_mut(), width, sigma, passes, |_, _| ()),
            Pixels::F64(pixels) => {
                let mut single: Vec<f32> = pixels.iter().map(|pixel| *pixel as f32).collect();
                let double = pixels.to_mut();
                remove_noise(&mut single, width, sigma, passes, |index, value| {
                    if let Some(pixel) = double.get_mut(index) {
                        *pixel = f64::from(value);
                    }
                })
            }
        };
        frame.history.push(format!(
            "NoiseRemoval: {replaced} pixels replaced in {passes} passes at {sigma} sigma"
        ));
        out.send(frame)
    }
}

/// Replaces outliers in an image whose rows have `width` pixels. Calls `changed` for each and
/// returns their number; a pixel counts once per pass.
pub fn remove_noise(
    pixels: &mut [f32],
    width: usize,
    sigma: f32,
    passes: u32,
    mut changed: impl FnMut(usize, f32),
) -> usize {
    let mut replaced = 0;
    for _ in 0..passes {
        let medians = outliers(pixels, width, sigma);
        for (index, median) in &medians {
            if let Some(pixel) = pixels.get_mut(*index) {
                *pixel = *median;
            }
            changed(*index, *median);
        }
        replaced += medians.len();
    }
    replaced
}

/// Finds the outliers and the medians around them.
fn outliers(pixels: &[f32], width: usize, sigma: f32) -> Vec<(usize, f32)> {
    let Some((mean, sd)) = mean_and_sd(pixels) else { return Vec::new() };
    let (low, high) = (mean - sd * sigma, mean + sd * sigma);
    let outside = |pixel: f32| (pixel > high) | (pixel < low);
    let around = |(index, _): (usize, _)| Some((index, median_around(pixels, width, index)?));
    let mut found = Vec::new();
    for (start, block) in (0..).step_by(BLOCK).zip(pixels.chunks(BLOCK)) {
        if block.iter().fold(false, |any, pixel| any | outside(*pixel)) {
            let outliers = (start..).zip(block).filter(|(_, pixel)| outside(**pixel));
            found.extend(outliers.filter_map(around));
        }
    }
    found
}

/// Computes mean and standard deviation of the finite values in single precision, added up in
/// numpy's order; `None` if there are no such values.
fn mean_and_sd(pixels: &[f32]) -> Option<(f32, f32)> {
    match moments(pixels) {
        // A value that is not finite has made the mean so.
        Some((mean, _)) if !mean.is_finite() => {
            moments(&pixels.iter().copied().filter(|pixel| pixel.is_finite()).collect::<Vec<_>>())
        }
        found => found,
    }
}

fn moments(values: &[f32]) -> Option<(f32, f32)> {
    if values.is_empty() {
        return None;
    }
    let count = values.len() as f64;
    let sum = pairwise_sum(values, &|value| value);
    let mean = (f64::from(sum) / count) as f32;
    let squares = pairwise_sum(values, &|value| (value - mean) * (value - mean));
    Some((mean, ((f64::from(squares) / count) as f32).sqrt()))
}

/// Sums `term` over the values in the order of `numpy.sum`: halves down to blocks of 128,
/// which are added up in eight lanes.
fn pairwise_sum(values: &[f32], term: &impl Fn(f32) -> f32) -> f32 {
    if values.len() > 128 {
        let half = values.len() / 2;
        let (left, right) = values.split_at(half - half % 8);
        return pairwise_sum(left, term) + pairwise_sum(right, term);
    }
    let mut chunks = values.chunks_exact(8);
    let mut sum = match chunks.next() {
        None => 0.0,
        Some(first) => {
            let mut lanes = [0.0; 8];
            for (lane, value) in lanes.iter_mut().zip(first) {
                *lane = term(*value);
            }
            for chunk in chunks.by_ref() {
                for (lane, value) in lanes.iter_mut().zip(chunk) {
                    *lane += term(*value);
                }
            }
            let [a, b, c, d, e, f, g, h] = lanes;
            ((a + b) + (c + d)) + ((e + f) + (g + h))
        }
    };
    for value in chunks.remainder() {
        sum += term(*value);
    }
    sum
}

/// Computes the median of the finite pixels around a pixel; `None` if there are none.
fn median_around(pixels: &[f32], width: usize, index: usize) -> Option<f32> {
    let (row, column) = (index / width, index % width);
    let (top, left) = (row.saturating_sub(1), column.saturating_sub(1));
    let mut window = [0.0_f32; 9];
    let mut count = 0;
    for row in top..top + 3 {
        let start = row * width + left;
        let end = start + 3.min(width - left);
        for value in pixels.get(start..end).unwrap_or_default() {
            if value.is_finite()
                && let Some(place) = window.get_mut(count)
            {
                *place = *value;
                count += 1;
            }
        }
    }
    let values = window.get_mut(..count)?;
    values.sort_unstable_by(f32::total_cmp);
    let upper = *values.get(count / 2)?;
    if count % 2 == 1 {
        return Some(upper);
    }
    let lower = *values.get((count / 2).checked_sub(1)?)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_becomes_the_median_around_it() {
        let mut image = vec![1.0_f32; 400];
        image[210] = 1000.0;
        let mut changes = Vec::new();
        assert_eq!(remove_noise(&mut image, 20, 3.0, 1, |i, v| changes.push((i, v))), 1);
        assert_eq!(image, [1.0; 400]);
        assert_eq!(changes, [(210, 1.0)]);
    }

    #[test]
    fn windows_lie_inside_at_the_upper_left_and_are_cut_at_the_lower_right() {
        let image: Vec<f32> = (0..16).map(|n| n as f32).collect();
        assert_eq!(median_around(&image, 4, 0), Some(5.0));
        assert_eq!(median_around(&image, 4, 5), Some(5.0));
        assert_eq!(median_around(&image, 4, 15), Some(12.5));
        assert_eq!(median_around(&[3.0, 4.0], 1, 1), Some(3.5));
    }

    #[test]
    fn missing_pixels_stay_and_infinite_ones_are_outliers() {
        let mut image = vec![2.0_f32; 100];
        (image[3], image[50]) = (f32::NAN, f32::INFINITY);
        assert_eq!(remove_noise(&mut image, 10, 3.0, 2, |_, _| ()), 1);
        assert!(image[3].is_nan());
        assert_eq!(image[50], 2.0);
    }

    #[test]
    fn images_without_a_finite_pixel_stay() {
        let mut image = vec![f32::NAN, f32::INFINITY];
        assert_eq!(remove_noise(&mut image, 2, 3.0, 2, |_, _| ()), 0);
        assert_eq!(remove_noise(&mut [], 0, 3.0, 2, |_, _| ()), 0);
    }
}
