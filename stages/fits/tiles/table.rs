//! The binary table that holds the tiles (FITS 4.0, 7.3).

use crate::prelude::*;
use crate::stages::fits::hdu::Header;
use crate::stages::frames::card::text_value;

/// Rows of columns, and a heap for values of variable length.
pub(super) struct Table<'a> {
    data: &'a [u8],
    heap: &'a [u8],
    row_length: usize,
    rows: usize,
    columns: Vec<Column>,
}

struct Column {
    name: String,
    /// The offset in a row.
    start: usize,
    /// The letter of its type, and of its elements in the heap.
    letter: char,
    element: char,
}

impl<'a> Table<'a> {
    pub(super) fn of(header: &Header<'_>, data: &'a [u8]) -> Result<Self> {
        let size = |name: &str, value: i64| {
            usize::try_from(value).map_err(|_| header.failure(format!("{name} is {value}")))
        };
        let row_length = size("NAXIS1", header.needed("NAXIS1")?)?;
        let rows = size("NAXIS2", header.needed("NAXIS2")?)?;
        let fields = header.needed("TFIELDS")?.clamp(0, 999);
        let mut columns = Vec::new();
        let mut start = 0_usize;
        for number in 1..=fields {
            let form = text_value(header.cards, &format!("TFORM{number}")).unwrap_or_default();
            let (letter, element, width) = parse(form.trim()).ok_or_else(|| {
                header.failure(format!("TFORM{number} is '{form}', which is not a column format"))
            })?;
            let name = text_value(header.cards, &format!("TTYPE{number}")).unwrap_or_default();
            columns.push(Column { name: name.to_ascii_uppercase(), start, letter, element });
            start = start.saturating_add(width);
        }
        let own =
            row_length.checked_mul(rows).filter(|own| start <= row_length && *own <= data.len());
        let own = own.ok_or_else(|| {
            header.failure(format!("{rows} rows of {row_length} bytes do not hold its columns"))
        })?;
        let heap = header.integer("THEAP")?.map_or(Ok(own), |start| size("THEAP", start))?;
        let heap = data.get(heap..).ok_or_else(|| header.failure("THEAP leads beyond the data"))?;
        Ok(Self { data, heap, row_length, rows, columns })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    fn cell(&self, name: &str, row: usize) -> Option<(&Column, &'a [u8])> {
        let column = self.columns.iter().find(|column| column.name == name)?;
        let end = (row + 1) * self.row_length;
        Some((column, self.data.get(row * self.row_length + column.start..end)?))
    }

    /// Returns the heap's bytes for a row; empty if there is no such column, `None` if they lie
    /// beyond the heap.
    pub(super) fn bytes(&self, name: &str, row: usize) -> Option<&'a [u8]> {
        let Some((column, cell)) = self.cell(name, row) else { return Some(&[]) };
        let (count, offset) = match column.letter {
            'P' => (unsigned(cell, 0, 4)?, unsigned(cell, 4, 4)?),
            'Q' => (unsigned(cell, 0, 8)?, unsigned(cell, 8, 8)?),
            _ => return None,
        };
        let length = count.checked_mul(width_of(column.element)? as u64)?;
        let (start, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
        if length == 0 {
            return Some(&[]);
        }
        self.heap.get(start..start.checked_add(length)?)
    }

    /// Returns a real number of a row.
    pub(super) fn real(&self, name: &str, row: usize) -> Option<f64> {
        let (column, cell) = self.cell(name, row)?;
        match column.letter {
            'D' => Some(f64::from_bits(unsigned(cell, 0, 8)?)),
            'E' => Some(f64::from(f32::from_bits(unsigned(cell, 0, 4)? as u32))),
            _ => None,
        }
    }

    /// Returns a whole number of a row.
    pub(super) fn integer(&self, name: &str, row: usize) -> Option<i64> {
        let (column, cell) = self.cell(name, row)?;
        match column.letter {
            'B' | 'I' | 'J' | 'K' => {
                cell.get(..width_of(column.letter)?).map(crate::stages::fits::values::integer)
            }
            _ => None,
        }
    }
}

fn unsigned(cell: &[u8], start: usize, length: usize) -> Option<u64> {
    let bytes = cell.get(start..start + length)?;
    Some(bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)))
}

/// Parses a column's format: the letter of its type, that of its elements in the heap, and its
/// width in bytes.
fn parse(form: &str) -> Option<(char, char, usize)> {
    let digits = form.bytes().take_while(u8::is_ascii_digit).count();
    let (count, rest) = form.split_at_checked(digits)?;
    let count: usize = if count.is_empty() { 1 } else { count.parse().ok()? };
    let mut letters = rest.chars();
    let letter = letters.next()?;
    let width = match letter {
        'X' => count.div_ceil(8),
        _ => count.checked_mul(width_of(letter)?)?,
    };
    Some((letter, letters.next().unwrap_or(letter), width))
}

/// The bytes of a value of this type.
fn width_of(letter: char) -> Option<usize> {
    match letter {
        'L' | 'B' | 'A' => Some(1),
        'I' => Some(2),
        'J' | 'E' => Some(4),
        'K' | 'D' | 'C' | 'P' => Some(8),
        'M' | 'Q' => Some(16),
        _ => None,
    }
}
