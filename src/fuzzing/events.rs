//! Server-sent events.

use crate::monitor::{LineSplitter, SseEvent, SseParser};

/// Server-sent events are the same however the connection cuts them, or are refused.
pub fn events(data: &[u8]) {
    let size = usize::from(data.first().copied().unwrap_or_default()).max(1);
    assert_eq!(events_of(data.chunks(size)), events_of([data].into_iter()));
}

fn events_of<'d>(pieces: impl Iterator<Item = &'d [u8]>) -> Vec<SseEvent> {
    let (mut lines, mut parser) = (LineSplitter::default(), SseParser::default());
    let mut events = Vec::new();
    for piece in pieces {
        let Ok(()) = lines.add(piece) else { return events };
        while let Some(line) = lines.next() {
            let Ok(event) = parser.add(&line) else { return events };
            events.extend(event);
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn events_are_the_same_however_the_connection_cuts_them(
            data in prop::collection::vec(any::<u8>(), 0..400),
            text in "(event:|data: ?|id: |: |[a-z{\u{e9}]{1,3}|\r|\n|\n\n){0,60}",
        ) {
            events(&data);
            events(text.as_bytes());
        }
    }
}
