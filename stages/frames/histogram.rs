//! Histograms of pixels, bin by bin those of `numpy.histogram`.

use super::outliers::Within;

/// Pixels whose bins are found together, in the processor's vectors, before they are used one
/// by one.
const BLOCK: usize = 512;

/// Finds the bin of each pixel and gives them to `take`, block by block and in order.
#[inline]
pub(super) fn by_blocks(image: &[f32], bin: impl Fn(f32) -> u32, mut take: impl FnMut(&[u32])) {
    let mut bins = [0; BLOCK];
    for block in image.chunks(BLOCK) {
        for (place, pixel) in bins.iter_mut().zip(block) {
            *place = bin(*pixel);
        }
        take(bins.get(..block.len()).unwrap_or_default());
    }
}

/// Counts the pixels in each bin. A pixel whose bin is beyond the last does not count.
#[inline]
pub(super) fn count(image: &[f32], counts: &mut [u64], bin: impl Fn(f32) -> u32) {
    by_blocks(image, bin, |bins| {
        for bin in bins {
            if let Some(count) = counts.get_mut(*bin as usize) {
                *count += 1;
            }
        }
    });
}

/// Bins of equal width over a range.
pub(super) struct Bins {
    within: Within,
    per_unit: f32,
    start: f64,
    step: f64,
    last: i32,
}

impl Bins {
    /// Divides a range; `None` if it is empty or too small to be divided.
    pub(super) fn new(within: Within, bins: u32) -> Option<Self> {
        let Within { min, max, .. } = within;
        let per_unit = (f64::from(bins) / f64::from(max - min)) as f32;
        if min == max || !per_unit.is_finite() {
            return None;
        }
        let step = (f64::from(max) - f64::from(min)) / f64::from(bins);
        Some(Self { within, per_unit, start: f64::from(min), step, last: bins as i32 - 1 })
    }

    /// The left edge of a bin.
    pub(super) fn edge(&self, bin: usize) -> f32 {
        (bin as f64 * self.step + self.start) as f32
    }

    /// Counts the pixels of the range.
    pub(super) fn count(&self, image: &[f32]) -> Vec<u64> {
        let mut counts = vec![0; self.last as usize + 1];
        count(image, &mut counts, |pixel| self.of(pixel));
        counts
    }

    /// The product may round to a neighbor of the right bin, so the edges decide.
    #[inline]
    fn of(&self, pixel: f32) -> u32 {
        let bin = (((pixel - self.within.min) * self.per_unit) as i32).min(self.last);
        let edge = |bin: i32| (f64::from(bin) * self.step + self.start) as f32;
        let down = pixel < edge(bin);
        let up = (pixel >= edge(bin + 1)) & (bin != self.last);
        // Outside of the range it may be any number, the least included.
        let bin = bin.wrapping_sub(i32::from(down)) + i32::from(up);
        (if self.within.has(pixel) { bin } else { self.last + 1 }) as u32
    }
}

/// Empties the first and the last bin, where cut-off values pile up.
pub(super) fn blank_ends(counts: &mut [u64]) {
    if let [first, .., last] = counts {
        (*first, *last) = (0, 0);
    }
}

/// Returns the mean bin and the standard deviation; for an empty histogram half of its length
/// and its length.
pub(super) fn centroid(counts: &[u64]) -> (f64, f64) {
    // Exact: within a part the sums fit 64 bits, and there are few parts.
    const PART: usize = 256;
    let (mut sum, mut first, mut second) = (0_u128, 0_u128, 0_u128);
    for (start, part) in (0_u128..).step_by(PART).zip(counts.chunks(PART)) {
        let mut sums = [0; 3];
        for (index, count) in (0..).zip(part) {
            sums = [sums[0] + count, sums[1] + count * index, sums[2] + count * index * index];
        }
        let sums = sums.map(u128::from);
        sum += sums[0];
        first += start * sums[0] + sums[1];
        second += start * start * sums[0] + 2 * start * sums[1] + sums[2];
    }
    if sum == 0 {
        return (counts.len() as f64 / 2.0, counts.len() as f64);
    }
    let centroid = first as f64 / sum as f64;
    let variance = second as f64 / sum as f64 - centroid * centroid;
    (centroid, variance.max(0.0).sqrt())
}

/// Counts the levels in as many bins over the range that they span.
pub(super) fn count_levels(levels: Vec<u64>) -> Vec<u64> {
    let bins = levels.len();
    let lowest = levels.iter().position(|count| *count != 0).unwrap_or(0);
    let highest = levels.iter().rposition(|count| *count != 0).unwrap_or(0);
    if highest == lowest || (lowest == 0 && highest + 1 == bins) {
        return levels;
    }
    let step = (highest - lowest) as f64 / bins as f64;
    let per_level = bins as f64 / (highest - lowest) as f64;
    let edge = |index: usize| index as f64 * step + lowest as f64;
    let mut counts = vec![0; bins];
    for (level, count) in levels.iter().enumerate().filter(|(_, count)| **count != 0) {
        let mut index = (((level - lowest) as f64 * per_level) as usize).min(bins - 1);
        if (level as f64) < edge(index) {
            index = index.saturating_sub(1);
        }
        if index != bins - 1 && level as f64 >= edge(index + 1) {
            index += 1;
        }
        if let Some(place) = counts.get_mut(index) {
            *place += count;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: the bin that is found by its product, corrected by one at its edges.
    fn slowly(image: &[f32], within: Within, bins: usize) -> Vec<u64> {
        let (min, max) = (f64::from(within.min), f64::from(within.max));
        let per_unit = (bins as f64 / f64::from(within.max - within.min)) as f32;
        let step = (max - min) / bins as f64;
        let mut edges: Vec<f32> = (0..bins).map(|n| (n as f64 * step + min) as f32).collect();
        edges.push(within.max);
        let mut counts = vec![0; bins];
        for pixel in image.iter().filter(|pixel| within.has(**pixel)) {
            let mut bin = (((pixel - within.min) * per_unit) as usize).min(bins - 1);
            if *pixel < edges[bin] {
                bin -= 1;
            }
            if *pixel >= edges[bin + 1] && bin != bins - 1 {
                bin += 1;
            }
            counts[bin] += 1;
        }
        counts
    }

    #[test]
    fn each_pixel_is_counted_in_the_bin_whose_edges_it_lies_between() {
        let mut state = 1_u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 40
        };
        for bins in [16, 1000, 65_536] {
            for scale in [1.0_f32, 1e-3, 1e6, 0.062_5] {
                let mut image: Vec<f32> =
                    (0..3000).map(|_| 1000.0 + random() as f32 * scale).collect();
                image.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0]);
                let within = Within { min: 1000.0, max: image[0].max(1001.0), count: 0 };
                let counts = Bins::new(within, bins).unwrap().count(&image);
                assert_eq!(counts, slowly(&image, within, bins as usize), "{bins}, {scale}");
            }
        }
    }

    #[test]
    fn the_centroid_is_exact_in_every_part() {
        let mut counts = vec![0; 1000];
        (counts[10], counts[700], counts[999]) = (3, 5, 2);
        let (sum, first) = (10.0, 30.0 + 3500.0 + 1998.0);
        let second = 300.0 + 5.0 * 490_000.0 + 2.0 * 998_001.0;
        let mean: f64 = first / sum;
        assert_eq!(centroid(&counts), (mean, (second / sum - mean * mean).sqrt()));
        assert_eq!(centroid(&[0; 8]), (4.0, 8.0));
    }
}
