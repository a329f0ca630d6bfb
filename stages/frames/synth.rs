//! Random numbers that are the same on every machine.
//!
//! Only operations that IEEE 754 rounds exactly (+ - * / and the square root)
//! are used: the logarithm and exponential of a system's mathematical library
//! may differ in their last digit from another's.

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The mean above which a rounded Gaussian replaces the Poisson distribution.
const GAUSSIAN_FROM: f64 = 50.0;

/// A stream of random numbers.
pub(crate) struct Random {
    generator: ChaCha8Rng,
    /// The second of a pair of Gaussian numbers.
    spare: Option<f64>,
}

impl Random {
    /// Opens stream `number` of a seed; streams do not overlap.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        for (place, byte) in key.iter_mut().zip(seed.to_le_bytes()) {
            *place = byte;
        }
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(stream);
        Self { generator, spare: None }
    }

    /// Draws from the uniform distribution over [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.generator.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Draws from the normal distribution with mean 0 and standard deviation 1, by Marsaglia's
    /// polar method.
    pub(crate) fn gaussian(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square < 1.0 && square > 0.0 {
                let factor = (-2.0 * ln(square) / square).sqrt();
                self.spare = Some(y * factor);
                return x * factor;
            }
        }
    }

    /// Draws a number of events from the Poisson distribution.
    pub(crate) fn poisson(&mut self, mean: f64) -> f64 {
        if mean >= GAUSSIAN_FROM {
            return (mean + mean.sqrt() * self.gaussian()).round().max(0.0);
        }
        // Knuth's method: counts events until their waiting times fill the unit of time.
        let end = exp(-mean);
        let (mut events, mut product) = (0.0, self.uniform());
        while product > end {
            events += 1.0;
            product *= self.uniform();
        }
        events
    }
}

/// The exponential function, to about 15 digits.
pub(crate) fn exp(x: f64) -> f64 {
    let power = (x * LOG2_E).round();
    if power < -1022.0 {
        return 0.0;
    }
    let rest = x - power * LN_2;
    let series = (1..=14).rev().fold(1.0, |sum, n| 1.0 + sum * rest / f64::from(n));
    let exponent = (power.min(1023.0) as i64 + 1023) as u64;
    series * f64::from_bits(exponent << 52)
}

/// The natural logarithm of a normal positive number, to about 15 digits.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as f64 - 1023.0;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > SQRT_2 {
        mantissa /= 2.0;
        exponent += 1.0;
    }
    // 2 artanh((m - 1) / (m + 1)) as a series.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..=10).rev().fold(0.0, |sum, n| sum * square + 1.0 / f64::from(2 * n + 1));
    exponent * LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_and_exponential_agree_with_the_library() {
        for n in 1..2000 {
            let x = f64::from(n) * 0.37 / f64::from(n % 7 + 1);
            assert!((ln(x) - x.ln()).abs() <= 1e-14 * x.ln().abs().max(1.0), "{x}");
            let y = -x / 10.0;
            assert!((exp(y) / y.exp() - 1.0).abs() < 1e-13, "{y}");
        }
        assert_eq!(exp(-1e6), 0.0);
    }

    #[test]
    fn a_faint_mean_has_the_variance_of_poisson() {
        let mut random = Random::new(3, 0);
        let events: Vec<f64> = (0..20_000).map(|_| random.poisson(4.0)).collect();
        let mean = events.iter().sum::<f64>() / 20_000.0;
        let variance = events.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!((mean - 4.0).abs() < 0.1 && (variance - 4.0).abs() < 0.2, "{mean} {variance}");
    }
}
