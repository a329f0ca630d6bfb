//! Splits an answer into lines, whatever pieces it arrives in.

use std::collections::VecDeque;

/// The longest line, in bytes: a view of a large run takes a hundredth of it.
const LONGEST: usize = 16 << 20;

/// The answer has something longer than a monitor ever sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("received {what} of more than {limit} bytes")]
pub(crate) struct TooLong {
    pub(crate) what: &'static str,
    pub(crate) limit: usize,
}

/// Assembles lines from pieces.
#[derive(Debug, Default)]
pub(crate) struct LineSplitter {
    lines: VecDeque<String>,
    /// The line that has not ended yet.
    rest: Vec<u8>,
}

impl LineSplitter {
    /// Takes the next piece.
    ///
    /// # Errors
    /// If a line is too long.
    pub(crate) fn add(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        let mut parts = piece.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            if self.rest.len() + part.len() > LONGEST {
                return Err(TooLong { what: "a line", limit: LONGEST });
            }
            self.rest.extend_from_slice(part);
            if parts.peek().is_some() {
                self.lines.push_back(String::from_utf8_lossy(&self.rest).into_owned());
                self.rest.clear();
            }
        }
        Ok(())
    }

    /// The next whole line, without its end.
    pub(crate) fn next(&mut self) -> Option<String> {
        self.lines.pop_front()
    }

    /// The unfinished last line, if there is one.
    pub(crate) fn last(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.rest);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines_wherever_they_are_cut() {
        let text = "one\n\ntwo\u{e9}\nlast";
        for size in 1..text.len() {
            let mut splitter = LineSplitter::default();
            text.as_bytes().chunks(size).for_each(|piece| splitter.add(piece).unwrap());
            let mut lines: Vec<String> = std::iter::from_fn(|| splitter.next()).collect();
            lines.extend(splitter.last());
            assert_eq!(lines, ["one", "", "two\u{e9}", "last"], "in pieces of {size}");
        }
    }
}
