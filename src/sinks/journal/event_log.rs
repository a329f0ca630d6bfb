//! Writes the events of a run to its journal, so that a report can be made from the journal alone,
//! even of a run that was killed.
//!
//! They come from the run's stream, like those of every watcher. Snapshots of progress come ten
//! times a second: a few hundred are kept, spread over the whole run, and the last. Of events
//! without a limit, only the first are kept, and the number of the others.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};
use serde_json::json;

use crate::event::{Event, EventRecord};
use crate::status::stream::{Seen, Watcher};

/// The most rows of progress; a curve over a run needs no more.
const MAX_PROGRESS: usize = 480;
/// The time between rows of progress at the beginning; it doubles as they become too many.
const FIRST: Duration = Duration::from_millis(200);
/// The newest progress is brought up to date after this time.
const NEWEST_AFTER: Duration = Duration::from_secs(1);
/// Retention limits: failures, and every other kind of event without a limit of its own.
const MAX_FAILED: u64 = 10_000;
const MAX_OTHERS: u64 = 2_000;
/// How long to wait for the first event, which comes at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Collects the events to write.
pub(crate) struct EventLog {
    watcher: Watcher,
    waiting: Vec<(u64, Duration, String)>,
    /// The numbers of the rows of progress to remove.
    outdated: Vec<u64>,
    progress: Progress,
    /// The number of events of each kind that has a limit.
    seen: BTreeMap<&'static str, u64>,
    omitted: u64,
}

/// The rows of progress in the file.
struct Progress {
    rows: Vec<(u64, Duration)>,
    every: Duration,
}

impl EventLog {
    pub(crate) fn new(watcher: Watcher) -> Self {
        let progress = Progress { rows: Vec::new(), every: FIRST };
        let (waiting, outdated, seen) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { watcher, waiting, outdated, progress, seen, omitted: 0 }
    }

    pub(crate) fn await_first(&mut self) {
        let seen = self.watcher.next(Some(PATIENCE));
        self.take(seen);
    }

    /// Waits for one more event; false after the last.
    pub(crate) fn await_next(&mut self) -> bool {
        let seen = self.watcher.next(None);
        let more = seen != Seen::End;
        self.take(seen);
        more
    }

    fn take(&mut self, seen: Seen) {
        match seen {
            Seen::Event(record) => self.keep(&record),
            Seen::Missed(count) => self.omitted += count,
            Seen::Nothing | Seen::End => {}
        }
    }

    fn keep(&mut self, record: &EventRecord) {
        let (kind, most) = match &record.event {
            Event::Progress(_) => return self.progress(record),
            Event::Failed { .. } => ("failed", MAX_FAILED),
            Event::Retrying { .. } => ("retrying", MAX_OTHERS),
            Event::Deferred { .. } => ("deferred", MAX_OTHERS),
            Event::Said { .. } => ("said", MAX_OTHERS),
            Event::WorkerLost { .. } => ("lost", MAX_OTHERS),
            Event::Requeued { .. } => ("requeued", MAX_FAILED),
            // Items and products have tables of their own.
            Event::Decided { .. } | Event::Product { .. } => return,
            _ => ("", u64::MAX),
        };
        let count = self.seen.entry(kind).or_default();
        *count += 1;
        if *count > most {
            self.omitted += 1;
        } else {
            self.push(record);
        }
        if matches!(record.event, Event::Ended(_) | Event::Error { .. }) {
            self.omission(record);
        }
    }

    fn push(&mut self, record: &EventRecord) {
        if let Ok(text) = serde_json::to_string(record) {
            self.waiting.push((record.number, record.at, text));
        }
    }

    /// Adds at the end the number of events that are missing.
    fn omission(&mut self, last: &EventRecord) {
        if self.omitted > 0 {
            let line = json!({"event": "omitted", "count": self.omitted});
            self.waiting.push((last.number + 1, last.at, line.to_string()));
        }
    }

    fn progress(&mut self, record: &EventRecord) {
        let Progress { rows, every } = &mut self.progress;
        let due = rows
            .last()
            .is_none_or(|(_, last)| record.at.saturating_sub(*last) >= NEWEST_AFTER.min(*every));
        if !due {
            return;
        }
        // The last row was only there to keep the file up to date.
        if let [.., (_, before), (number, last)] = rows[..]
            && last.saturating_sub(before) < *every
        {
            rows.pop();
            self.outdated.push(number);
        }
        rows.push((record.number, record.at));
        if rows.len() > MAX_PROGRESS {
            *every *= 2;
            let mut place = 0;
            rows.retain(|(number, _)| {
                place += 1;
                let stays = place % 2 == 1;
                if !stays {
                    self.outdated.push(*number);
                }
                stays
            });
        }
        self.push(record);
    }

    /// Writes the events that have come since the last call.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn write(&mut self, connection: &Connection, run: i64) -> rusqlite::Result<()> {
        loop {
            match self.watcher.next(Some(Duration::ZERO)) {
                Seen::Nothing | Seen::End => break,
                seen => self.take(seen),
            }
        }
        if self.waiting.is_empty() && self.outdated.is_empty() {
            return Ok(());
        }
        let transaction =
            rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare(
                "INSERT OR REPLACE INTO event (run, number, at_s, json) VALUES (?, ?, ?, ?)",
            )?;
            for (number, at, text) in self.waiting.drain(..) {
                insert.execute(params![run, number as i64, at.as_secs_f64(), text])?;
            }
            let mut delete =
                transaction.prepare("DELETE FROM event WHERE run = ? AND number = ?")?;
            for number in self.outdated.drain(..) {
                delete.execute(params![run, number as i64])?;
            }
        }
        transaction.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Snapshot;
    use crate::status::stream::Stream;

    fn record(number: u64, at: Duration, event: Event) -> EventRecord {
        EventRecord { number, at, event }
    }

    #[test]
    fn rows_of_progress_are_few_spread_over_the_run_and_up_to_date() {
        let mut kept = EventLog::new(Stream::new().watch());
        let connection = Connection::open_in_memory().unwrap();
        crate::sinks::journal::schema::upgrade(
            &connection,
            0,
            crate::sinks::journal::schema::VERSION,
        )
        .unwrap();
        connection
            .execute_batch(
                "INSERT INTO run (name, program, config_hash, work_hash, started)
                 VALUES ('r', '', '', '', '')",
            )
            .unwrap();
        let seconds = 10_000.0;
        for number in 0..100_000_u64 {
            let at = Duration::from_millis(100 * number);
            kept.keep(&record(number, at, Event::Progress(Snapshot::default())));
            if number % 1000 == 0 {
                kept.write(&connection, 1).unwrap();
            }
        }
        kept.write(&connection, 1).unwrap();
        let mut statement = connection.prepare("SELECT at_s FROM event ORDER BY number").unwrap();
        let rows = statement.query_map([], |row| row.get::<_, f64>(0)).unwrap();
        let times: Vec<f64> = rows.map(Result::unwrap).collect();
        assert!((MAX_PROGRESS / 3..=MAX_PROGRESS).contains(&times.len()), "{}", times.len());
        assert!(seconds - times.last().unwrap() <= 1.1, "{:?}", times.last());
        let widest = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
        assert!(widest < 3.0 * seconds / times.len() as f64, "{widest}");
    }

    #[test]
    fn what_has_no_end_is_cut_and_counted() {
        let mut kept = EventLog::new(Stream::new().watch());
        for number in 1..=MAX_OTHERS + 7 {
            let (step, level) = ("S".into(), crate::event::Level::Info);
            let said =
                Event::Said { step, worker: 0, level, logger: String::new(), text: "x".into() };
            kept.keep(&record(number, Duration::ZERO, said));
        }
        kept.keep(&record(9999, Duration::ZERO, Event::Error { exit_code: 3, reason: "r".into() }));
        assert_eq!(kept.waiting.len() as u64, MAX_OTHERS + 2);
        let (number, _, last) = kept.waiting.last().unwrap();
        assert_eq!((*number, &**last), (10_000, r#"{"event":"omitted","count":7}"#));
    }
}
