//! The log of a worker process in Rust: warnings and errors that code in it logs through `tracing`
//! become lines on standard error, which the supervisor reads as log records.

use std::fmt;
use std::io::{self, Write};

use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::log_pipe::RECORD;

/// Sends what code logs from now on to the run's log. A program that has a subscriber of its own
/// keeps it.
pub(super) fn install() {
    let _ = tracing::subscriber::set_global_default(RecordLines);
}

struct RecordLines;

impl Subscriber for RecordLines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let is_error = *event.metadata().level() == Level::ERROR;
        let level = if is_error { "error" } else { "warning" };
        let record =
            json!({"level": level, "logger": event.metadata().target(), "message": text.0});
        // Fails only if the program has died, and this process ends with it.
        let _ = writeln!(io::stderr(), "{}{record}", char::from(RECORD));
    }

    // Spans are not shown.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message of an event, then its other fields.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.insert_str(0, &format!("{value:?}"));
        } else {
            self.0.push_str(&format!(" {}={value:?}", field.name()));
        }
    }
}
