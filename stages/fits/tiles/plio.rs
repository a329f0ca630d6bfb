//! PLIO_1: IRAF's lists of runs, for masks (FITS 4.0, 10.4.3).

/// Decodes a list of 16-bit words; missing pixels are 0. `None` if it is damaged.
pub(super) fn decode(words: &[i16], pixels: usize) -> Option<Vec<i32>> {
    let word = |number: usize| words.get(number).map(|word| i32::from(*word));
    // The old form has its length in the third word, the new one in the fourth and fifth.
    let (length, first) = match word(2)? {
        length if length > 0 => (length, 3),
        _ => ((word(4)? << 15) + word(3)?, word(1)?),
    };
    let (length, first) = (usize::try_from(length).ok()?, usize::try_from(first).ok()?);
    let mut values = vec![0; pixels];
    let mut level = 1_i32;
    let mut at = 0_usize;
    let mut number = first;
    while number < length && at < pixels {
        let instruction = word(number)?;
        let count = (instruction & 4095) as usize;
        match instruction / 4096 {
            0 => at += count,
            4 => {
                let end = (at + count).min(pixels);
                values.get_mut(at..end)?.fill(level);
                at += count;
            }
            5 => {
                at += count;
                if count > 0
                    && let Some(last) = values.get_mut(at - 1)
                {
                    *last = level;
                }
            }
            1 => {
                number += 1;
                level = (word(number)? << 12).wrapping_add(count as i32);
            }
            2 => level = level.wrapping_add(count as i32),
            3 => level = level.wrapping_sub(count as i32),
            up_or_down @ (6 | 7) => {
                let step = if up_or_down == 6 { count as i32 } else { -(count as i32) };
                level = level.wrapping_add(step);
                *values.get_mut(at)? = level;
                at += 1;
            }
            _ => return None,
        }
        number += 1;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_levels_and_gaps_are_decoded() {
        // Two zeros, three of 1, up to 5 at once, a gap that ends with 5.
        let list = [0, 7, -100, 11, 0, 0, 0, 2, 0x4000 | 3, 0x6000 | 4, 0x5000 | 2];
        assert_eq!(decode(&list, 9), Some(vec![0, 0, 1, 1, 1, 5, 0, 5, 0]));
        assert_eq!(decode(&list[..9], 9), None);
        assert_eq!(decode(&[], 9), None);
    }
}
