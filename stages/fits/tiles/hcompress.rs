//! HCOMPRESS_1: the H-transform, a wavelet in whole numbers, with the bits of its
//! coefficients as quadtrees (White 1992; FITS 4.0, 10.4.4). Decodes with the same digits as
//! the programs of R. White and CFITSIO.

use std::num::Wrapping;

/// Wraps around: a damaged file may make any number, and none may panic.
type Number = Wrapping<i64>;

const fn number(value: i64) -> Number {
    Wrapping(value)
}

const ZERO: Number = number(0);

/// Bits, the highest of each byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    held: u32,
    count: u32,
}

impl<'a> Bits<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, held: 0, count: 0 }
    }

    /// Takes the next bits, eight at most.
    fn take(&mut self, bits: u32) -> Option<u8> {
        if self.count < bits {
            let (byte, rest) = self.bytes.split_first()?;
            self.held = (self.held << 8) | u32::from(*byte);
            self.count += 8;
            self.bytes = rest;
        }
        self.count -= bits;
        Some((self.held >> self.count & ((1 << bits) - 1)) as u8)
    }

    /// Takes four bits, in a code of three to six.
    fn coded(&mut self) -> Option<u8> {
        let mut code = self.take(3)?;
        if code < 4 {
            return Some(1 << code);
        }
        for (first, values) in
            [(8, &[3, 5, 10, 12, 15][..]), (26, &[6, 7, 9, 11, 13]), (62, &[0, 14])]
        {
            code = code << 1 | self.take(1)?;
            let index: Option<u8> = code.checked_sub(first);
            if let Some(value) = index.and_then(|index| values.get(usize::from(index))) {
                return Some(*value);
            }
        }
        None
    }
}

/// Part of the coefficients: a rectangle of `rows` x `columns` from `first` on.
#[derive(Clone, Copy)]
struct Quadrant {
    first: usize,
    rows: usize,
    columns: usize,
}

/// An array of coefficients, and at the end of pixels.
struct Transform {
    values: Vec<Number>,
    rows: usize,
    columns: usize,
}

/// Decodes a tile of `rows` lines of `columns` pixels; `None` if it is damaged.
pub(super) fn decode(bytes: &[u8], rows: usize, columns: usize, smooth: bool) -> Option<Vec<i32>> {
    let (head, body) = bytes.split_at_checked(25)?;
    let (magic, head) = head.split_at_checked(2)?;
    let (words, rest) = head.as_chunks::<4>();
    let [nx, ny, scale, high, low] = words else { return None };
    let size = |word: &[u8; 4]| usize::try_from(i32::from_be_bytes(*word)).ok();
    if magic != [0xdd, 0x99] || size(nx)? != rows || size(ny)? != columns {
        return None;
    }
    let planes: [u8; 3] = rest.try_into().ok()?;
    if rows == 0 || columns == 0 || planes.iter().any(|count| *count > 62) {
        return None;
    }
    let sum = i64::from(i32::from_be_bytes(*high)) << 32 | i64::from(u32::from_be_bytes(*low));
    let scale = i64::from(i32::from_be_bytes(*scale));
    let mut transform = Transform { values: vec![ZERO; rows * columns], rows, columns };
    transform.read(body, planes)?;
    if let Some(first) = transform.values.first_mut() {
        *first = number(sum);
    }
    if scale > 1 {
        transform.values.iter_mut().for_each(|value| *value *= scale);
    }
    transform.invert(if smooth { scale >> 1 } else { 0 });
    Some(transform.values.into_iter().map(|value| value.0 as i32).collect())
}

impl Transform {
    /// Reads the bits of all coefficients, quadrant by quadrant, then their signs.
    fn read(&mut self, bytes: &[u8], planes: [u8; 3]) -> Option<()> {
        let (rows, columns) = (self.rows, self.columns);
        let (top, left) = (rows.div_ceil(2), columns.div_ceil(2));
        let mut bits = Bits::of(bytes);
        for (row, column, planes) in
            [(0, 0, planes[0]), (0, left, planes[1]), (top, 0, planes[1]), (top, left, planes[2])]
        {
            let part = Quadrant {
                first: row * columns + column,
                rows: if row == 0 { top } else { rows / 2 },
                columns: if column == 0 { left } else { columns / 2 },
            };
            for plane in (0..planes).rev() {
                let nybbles = read_plane(&mut bits, part)?;
                self.insert(&nybbles, part, plane);
            }
        }
        if bits.take(4)? != 0 {
            return None;
        }
        // The signs begin at the next byte.
        let mut bits = Bits::of(bits.bytes);
        for value in self.values.iter_mut().filter(|value| **value != ZERO) {
            if bits.take(1)? == 1 {
                *value = -*value;
            }
        }
        Some(())
    }

    /// Puts a plane of bits into the coefficients of a quadrant.
    fn insert(&mut self, nybbles: &[u8], part: Quadrant, plane: u8) {
        let across = part.columns.div_ceil(2);
        for row in 0..part.rows {
            let start = part.first + row * self.columns;
            let line = self.values.get_mut(start..start + part.columns).unwrap_or_default();
            let nybbles = nybbles.get(row / 2 * across..).unwrap_or_default();
            for (column, value) in line.iter_mut().enumerate() {
                let nybble = nybbles.get(column / 2).copied().unwrap_or_default();
                *value |= number(i64::from(bit_of(nybble, row, column)) << plane);
            }
        }
    }

    /// The inverse transform, from the whole image's sum down to single pixels.
    fn invert(&mut self, smooth: i64) {
        let steps = self.rows.max(self.columns).next_power_of_two().trailing_zeros() as usize;
        if steps == 0 {
            return;
        }
        let mut bit = number(1) << (steps - 1);
        if let Some(sum) = self.values.first_mut() {
            *sum = rounded(*sum, bit << 2, false);
        }
        for step in (0..steps).rev() {
            // The part of the array that holds coefficients halves each time, rounded up.
            let (rows, columns) = (self.rows.div_ceil(1 << step), self.columns.div_ceil(1 << step));
            self.interleave(rows, columns);
            if smooth > 0 {
                self.smooth(rows, columns, number(smooth));
            }
            self.expand(rows, columns, bit, step == 0);
            bit >>= 1;
        }
    }

    /// Puts sums and differences, which are kept in halves, side by side.
    fn interleave(&mut self, rows: usize, columns: usize) {
        let mut scratch = vec![ZERO; rows.max(columns)];
        for row in 0..rows {
            unshuffle(&mut self.values, row * self.columns, columns, 1, &mut scratch);
        }
        for column in 0..columns {
            unshuffle(&mut self.values, column, rows, self.columns, &mut scratch);
        }
    }

    /// Turns each block of a sum and its three differences into four sums or pixels.
    fn expand(&mut self, rows: usize, columns: usize, bit: Number, last: bool) {
        let shift = if last { 2 } else { 1 };
        let wide = bit << 1;
        for row in (0..rows).step_by(2) {
            for column in (0..columns).step_by(2) {
                let here = row * self.columns + column;
                let (below, beside) = (row + 1 < rows, column + 1 < columns);
                let a = &mut self.values;
                let mut sum = a[here];
                match (below, beside) {
                    (true, true) => {
                        let under = here + self.columns;
                        let mut x = rounded(a[under], wide, false);
                        let mut y = rounded(a[here + 1], wide, false);
                        let both = rounded(a[under + 1], bit, last);
                        let low = both & bit;
                        x = if x >= ZERO { x - low } else { x + low };
                        y = if y >= ZERO { y - low } else { y + low };
                        let next = (both ^ x ^ y) & wide;
                        sum = match (sum >= ZERO, low == ZERO) {
                            (true, _) => sum + low - next,
                            (false, true) => sum + next,
                            (false, false) => sum + low - next,
                        };
                        a[under + 1] = (sum + x + y + both) >> shift;
                        a[under] = (sum + x - y - both) >> shift;
                        a[here + 1] = (sum - x + y - both) >> shift;
                        a[here] = (sum - x - y + both) >> shift;
                    }
                    (false, false) => a[here] = sum >> shift,
                    _ => {
                        let other = if below { here + self.columns } else { here + 1 };
                        let difference = rounded(a[other], wide, false);
                        let next = difference & wide;
                        sum = if sum >= ZERO { sum - next } else { sum + next };
                        a[other] = (sum + difference) >> shift;
                        a[here] = (sum - difference) >> shift;
                    }
                }
            }
        }
    }

    /// Moves differences towards those of a smooth image, at most by what their division lost.
    fn smooth(&mut self, rows: usize, columns: usize, most: Number) {
        let n = self.columns;
        let within = |length: usize| (2..length.saturating_sub(2)).step_by(2);
        let all = |length: usize| (0..length).step_by(2);
        for row in within(rows) {
            for at in all(columns).map(|column| row * n + column) {
                slope(&mut self.values, at, 2 * n, at + n, most);
            }
        }
        for row in all(rows) {
            for at in within(columns).map(|column| row * n + column) {
                slope(&mut self.values, at, 2, at + 1, most);
            }
        }
        for row in within(rows) {
            for at in within(columns).map(|column| row * n + column) {
                curvature(&mut self.values, at, n, most);
            }
        }
    }
}

/// A plane of bits of a quadrant, four pixels to a number: written as it is, or as a tree.
fn read_plane(bits: &mut Bits<'_>, part: Quadrant) -> Option<Vec<u8>> {
    let (rows, columns) = (part.rows.div_ceil(2), part.columns.div_ceil(2));
    match bits.take(4)? {
        0 => (0..rows * columns).map(|_| bits.take(4)).collect(),
        0xf => {
            let longest = part.rows.max(part.columns).max(1);
            let steps = longest.next_power_of_two().trailing_zeros();
            let mut tree = vec![bits.coded()?];
            let mut across = 1;
            for step in (1..steps).rev() {
                let size = |length: usize| length.div_ceil(1 << step).max(1);
                let (rows, columns) = (size(part.rows), size(part.columns));
                let expanded = |at: usize| {
                    let (row, column) = (at / columns, at % columns);
                    let nybble = tree.get(row / 2 * across + column / 2).copied();
                    bit_of(nybble.unwrap_or_default(), row, column)
                };
                let mut next: Vec<u8> = (0..rows * columns).map(expanded).collect();
                // The codes come from the last to the first.
                for value in next.iter_mut().rev().filter(|value| **value != 0) {
                    *value = bits.coded()?;
                }
                (tree, across) = (next, columns);
            }
            Some(tree)
        }
        _ => None,
    }
}

/// The bit of one of the 2 x 2 pixels that a number stands for.
fn bit_of(nybble: u8, row: usize, column: usize) -> u8 {
    nybble >> (3 - 2 * (row % 2) - column % 2) & 1
}

/// Rounds to the nearest multiple of a power of two, halves away from 0. In the last step the unit
/// is 1 and nothing is rounded: `half - 1` would then move negative values.
fn rounded(value: Number, unit: Number, last: bool) -> Number {
    let half = unit >> 1;
    let less = if last { ZERO } else { half - number(1) };
    (value + if value >= ZERO { half } else { less }) & -unit
}

/// Puts the first half of `count` numbers at even places and the second at odd ones.
fn unshuffle(a: &mut [Number], first: usize, count: usize, step: usize, scratch: &mut [Number]) {
    let half = count.div_ceil(2);
    for (index, place) in scratch.iter_mut().take(count).enumerate() {
        let from = if index % 2 == 0 { index / 2 } else { half + index / 2 };
        *place = a[first + from * step];
    }
    for (index, value) in scratch.iter().take(count).enumerate() {
        a[first + index * step] = *value;
    }
}

/// Adjusts the difference at `change` to the slope between the neighbors of `at`.
fn slope(a: &mut [Number], at: usize, step: usize, change: usize, most: Number) {
    let (before, here, after) = (a[at - step], a[at], a[at + step]);
    let high = (after - here).min(here - before).max(ZERO) << 2;
    let low = (after - here).max(here - before).min(ZERO) << 2;
    if low < high {
        let wanted = (after - before).min(high).max(low) - (a[change] << 3);
        let up = if wanted >= ZERO { ZERO } else { number(7) };
        a[change] += ((wanted + up) >> 3).min(most).max(-most);
    }
}

/// Adjusts the mixed difference of the block at `at` to its neighbors across.
fn curvature(a: &mut [Number], at: usize, n: usize, most: Number) {
    let (mm, pm) = (a[at - 2 * n - 2], a[at + 2 * n - 2]);
    let (mp, pp) = (a[at - 2 * n + 2], a[at + 2 * n + 2]);
    let here = a[at];
    let (x, y) = (a[at + n] << 1, a[at + 1] << 1);
    let high = ((pp - here).max(ZERO) - x - y).min((here - pm).max(ZERO) + x - y);
    let high = high.min(((here - mp).max(ZERO) - x + y).min((mm - here).max(ZERO) + x + y)) << 4;
    let low = ((pp - here).min(ZERO) - x - y).max((here - pm).min(ZERO) + x - y);
    let low = low.max(((here - mp).min(ZERO) - x + y).max((mm - here).min(ZERO) + x + y)) << 4;
    if low < high {
        let wanted = (pp + mm - mp - pm).min(high).max(low) - (a[at + n + 1] << 6);
        let up = if wanted >= ZERO { ZERO } else { number(63) };
        a[at + n + 1] += ((wanted + up) >> 6).min(most).max(-most);
    }
}
