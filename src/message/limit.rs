//! The time limit of one message, which stands in front of its header: tasks of a pool have them.

use std::time::Duration;

use super::payload::{Header, Payload};

/// The length of a limit in bytes: nanoseconds, 0 for none.
const LENGTH: usize = size_of::<u64>();

/// Begins a header with this limit.
pub(crate) fn write(limit: Option<Duration>, header: &mut Vec<u8>) {
    let nanoseconds = limit.map_or(0, |limit| {
        // A limit of nothing is a limit too.
        u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX).max(1)
    });
    header.extend_from_slice(&nanoseconds.to_le_bytes());
}

/// Takes the limit from the front of the header; none if there is none.
pub(crate) fn take(payload: &mut Payload) -> Option<Duration> {
    let (bytes, _) = payload.header.split_first_chunk::<LENGTH>()?;
    let nanoseconds = u64::from_le_bytes(*bytes);
    payload.header = match &payload.header {
        Header::Shared(bytes) => Header::from(bytes.slice(LENGTH..)),
        short => Header::from(&short[LENGTH..]),
    };
    (nanoseconds != 0).then(|| Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_taken_and_the_header_stays() {
        let second = Some(Duration::from_secs(1));
        let least = Some(Duration::from_nanos(1));
        let cases = [(None, None), (second, second), (Some(Duration::ZERO), least)];
        for (written, taken) in cases {
            for length in [0, 3, 14, 15, 100] {
                let mut header = Vec::new();
                write(written, &mut header);
                header.extend(vec![7; length]);
                let mut payload = Payload { header: header.into(), buffers: Vec::new() };
                assert_eq!(take(&mut payload), taken);
                assert_eq!(payload.header[..], vec![7; length]);
            }
        }
    }

    #[test]
    fn a_header_that_is_too_short_has_none() {
        let mut payload = Payload { header: vec![1, 2].into(), buffers: Vec::new() };
        assert_eq!(take(&mut payload), None);
        assert_eq!(payload.header[..], [1, 2]);
    }
}
