//! Restores reals that were stored as integers (FITS 4.0, 10.2).

use std::sync::LazyLock;

use crate::stages::fits::values::integer;

/// The integer that means exactly 0 with the second way of dithering.
const ZERO: i64 = -2_147_483_646;
/// The number of random numbers.
const COUNT: usize = 10_000;

/// The random numbers between 0 and 1 that the standard defines (appendix I).
static RANDOM: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let mut seed = 1.0_f64;
    let next = || {
        let product = 16_807.0 * seed;
        seed = product - 2_147_483_647.0 * (product / 2_147_483_647.0).trunc();
        (seed / 2_147_483_647.0) as f32
    };
    std::iter::repeat_with(next).take(COUNT).collect()
});

/// The way in which reals were made integers, from `ZQUANTIZ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dither {
    None,
    First,
    /// As the first, but 0 stays exactly 0.
    Second,
}

impl Dither {
    pub(super) fn named(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("NO_DITHER" | "NONE") => Some(Dither::None),
            Some("SUBTRACTIVE_DITHER_1") => Some(Dither::First),
            Some("SUBTRACTIVE_DITHER_2") => Some(Dither::Second),
            Some(_) => None,
        }
    }
}

/// The conversion of the integers of one tile to reals.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    pub(super) scale: f64,
    pub(super) zero: f64,
    pub(super) blank: Option<i64>,
    pub(super) dither: Dither,
    /// The number of the tile from 0, plus `ZDITHER0`.
    pub(super) row: i64,
}

impl Tile {
    /// Converts integers of `size` bytes each; missing ones become NaN.
    pub(super) fn reals(&self, integers: &[u8], size: usize) -> impl Iterator<Item = f64> {
        let mut seed = (self.row - 1).rem_euclid(COUNT as i64) as usize;
        let mut at = start(seed);
        integers.chunks_exact(size).map(move |bytes| {
            let stored = integer(bytes);
            let random = RANDOM.get(at).copied().unwrap_or_default();
            at += 1;
            if at == COUNT {
                seed = (seed + 1) % COUNT;
                at = start(seed);
            }
            if self.blank == Some(stored) {
                return f64::NAN;
            }
            match self.dither {
                Dither::None => stored as f64 * self.scale + self.zero,
                Dither::Second if stored == ZERO && size == 4 => 0.0,
                _ => (stored as f64 - f64::from(random) + 0.5) * self.scale + self.zero,
            }
        })
    }
}

/// The first random number of a seed.
fn start(seed: usize) -> usize {
    (RANDOM.get(seed).copied().unwrap_or_default() * 500.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard gives the last seed to check with.
    #[test]
    fn the_random_numbers_are_those_of_the_standard() {
        assert_eq!(RANDOM[COUNT - 1], (1_043_618_065.0_f64 / 2_147_483_647.0) as f32);
    }

    #[test]
    fn blanks_and_zeros_are_kept_apart() {
        let dither = Dither::Second;
        let tile = Tile { scale: 2.0, zero: 100.0, blank: Some(7), dither, row: 0 };
        let stored: Vec<u8> =
            [ZERO as i32, 7, 1].into_iter().flat_map(|value: i32| value.to_be_bytes()).collect();
        let reals: Vec<f64> = tile.reals(&stored, 4).collect();
        assert!(reals[0] == 0.0 && reals[1].is_nan() && reals[2] > 100.0);
    }
}
