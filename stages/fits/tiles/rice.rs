//! RICE_1: differences of neighbors in blocks, each with as many low bits as suit it
//! (Rice, Yeh and Miller 1993; FITS 4.0, 10.4.1).

/// Bits, the highest of each byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits that were taken from `bytes` and not returned yet, the highest first.
    held: u64,
    count: u32,
}

impl Bits<'_> {
    fn fill(&mut self) {
        while self.count <= 56
            && let Some((byte, rest)) = self.bytes.split_first()
        {
            self.held |= u64::from(*byte) << (56 - self.count);
            self.count += 8;
            self.bytes = rest;
        }
    }

    /// Takes the next bits, 32 at most; `None` if there are fewer.
    fn take(&mut self, bits: u32) -> Option<u32> {
        if self.count < bits {
            self.fill();
        }
        if bits == 0 {
            return Some(0);
        }
        self.count = self.count.checked_sub(bits)?;
        let taken = self.held >> (64 - bits);
        self.held <<= bits;
        Some(taken as u32)
    }

    /// Counts the zeros before the next one, and takes them with it.
    fn zeros(&mut self) -> Option<u32> {
        let mut zeros = 0_u32;
        loop {
            self.fill();
            let here = self.held.leading_zeros();
            if here < self.count {
                self.held = (self.held << here) << 1;
                self.count -= here + 1;
                return Some(zeros + here);
            }
            if self.bytes.is_empty() {
                return None;
            }
            zeros += self.count;
            (self.held, self.count) = (0, 0);
        }
    }
}

/// Decodes the integers of a tile, originally of `size` bytes each; `None` if it is damaged.
pub(super) fn decode(bytes: &[u8], pixels: usize, block: usize, size: usize) -> Option<Vec<i32>> {
    let (width, direct) = match size {
        1 => (3, 6),
        2 => (4, 14),
        4 => (5, 25),
        _ => return None,
    };
    if block == 0 {
        return None;
    }
    let mut bits = Bits { bytes, held: 0, count: 0 };
    let mut last = bits.take(8 * size as u32)?;
    let mut values = Vec::new();
    while values.len() < pixels {
        let low = bits.take(width)?;
        for _ in 0..block.min(pixels - values.len()) {
            if low > 0 {
                let coded = if low == direct + 1 {
                    bits.take(1 << width)?
                } else {
                    let high = bits.zeros()?;
                    (high << (low - 1)) | bits.take(low - 1)?
                };
                // Even ones are positive, odd ones negative.
                let difference = if coded & 1 == 0 { coded >> 1 } else { !(coded >> 1) };
                last = last.wrapping_add(difference);
            }
            values.push(match size {
                1 => i32::from(last as u8),
                2 => i32::from(last as i16),
                _ => last as i32,
            });
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_each_kind_are_decoded() {
        // 7, then blocks of two: no difference; low bits 1 (+1, -1); direct (+2, 0).
        let bits = concat!("00000111", "000", "010", "010", "11", "111", "00000100", "00000000");
        let bytes: Vec<u8> = bits
            .as_bytes()
            .chunks(8)
            .map(|bits| {
                bits.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0')) << (8 - bits.len())
            })
            .collect();
        assert_eq!(decode(&bytes, 6, 2, 1), Some(vec![7, 7, 8, 7, 9, 9]));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length], 6, 2, 1), None, "{length}");
        }
        assert_eq!(decode(&[0; 8], 1000, 32, 8), None);
    }
}
