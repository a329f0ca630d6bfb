//! Assembles server-sent events from their lines.

use super::lines::TooLong;

/// The most bytes of one event: more than a run's whole history takes.
const MOST_BYTES: usize = 64 << 20;

/// An event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SseEvent {
    /// Its type; empty if the stream names none.
    pub(crate) kind: String,
    /// Its data, with a line end between lines.
    pub(crate) data: String,
}

/// Assembles events from lines. Ignores comments, and fields other than `event` and `data`.
#[derive(Debug, Default)]
pub(crate) struct SseParser {
    kind: String,
    data: String,
    has_data: bool,
}

impl SseParser {
    /// Takes one line without its end; returns the event that ends with it, if one does.
    ///
    /// # Errors
    /// If the event is too long.
    pub(crate) fn add(&mut self, line: &str) -> Result<Option<SseEvent>, TooLong> {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            let Self { kind, data, has_data } = std::mem::take(self);
            return Ok(has_data.then_some(SseEvent { kind, data }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if self.data.len() + value.len() >= MOST_BYTES {
                    return Err(TooLong { what: "an event", limit: MOST_BYTES });
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_put_together_from_lines() {
        let mut parser = SseParser::default();
        let lines = [
            "retry: 1000",
            "event: snapshot",
            "data: {\"a\":",
            "data:1}",
            "",
            ": still here",
            "",
            "id: 7",
            "event: view",
            "data: {\"b\":\"x: y\"}\r",
            "",
        ];
        let events: Vec<_> = lines.iter().filter_map(|line| parser.add(line).unwrap()).collect();
        let event = |kind: &str, data: &str| SseEvent { kind: kind.into(), data: data.into() };
        let expected = [event("snapshot", "{\"a\":\n1}"), event("view", "{\"b\":\"x: y\"}")];
        assert_eq!(events, expected);
    }

    #[test]
    fn an_event_without_a_blank_line_behind_it_is_none() {
        let mut parser = SseParser::default();
        assert_eq!(parser.add("data: cut"), Ok(None));
        assert_eq!(parser.add("data"), Ok(None));
        let event = SseEvent { kind: String::new(), data: "cut\n".into() };
        assert_eq!(parser.add(""), Ok(Some(event)));
    }

    #[test]
    fn an_event_cannot_take_all_memory() {
        let mut parser = SseParser::default();
        let line = format!("data: {}", "x".repeat(MOST_BYTES / 4));
        let added: Vec<_> = (0..4).map(|_| parser.add(&line)).collect();
        assert!(added[..3].iter().all(Result::is_ok) && added[3].is_err());
    }
}
