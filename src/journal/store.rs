//! The journal's file: an SQLite database with the tables `run`, `item`, `outcome`,
//! `product` and `event`. It is locked as long as the run lives, by the system: whatever
//! kills the program frees it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Statement, TransactionBehavior, params};

use super::past::{Item, Past, Run, State};
use super::told::TellTale;
use super::{Entry, FileState, JournalError, Owner};
use crate::router::{AttemptOutcome, End, Record};

/// "drpj": the mark of a journal in the database's header.
const APPLICATION: i64 = 0x6472_706a;
/// The version of the tables.
pub(super) const VERSION: i64 = 2;
/// How long another program may hold the file, a reader say.
const PATIENCE: Duration = Duration::from_secs(1);
/// What has gathered is committed after this time, or when the thread is unparked.
const COMMIT_AFTER: Duration = Duration::from_millis(50);
/// The most entries in one transaction.
const COMMIT_ENTRIES: usize = 10_000;
/// Events alone are committed after this time.
const EVENTS_AFTER: Duration = Duration::from_millis(500);
/// The events of so many runs are kept, the last ones.
const MOST_RUNS: i64 = 20;

const TABLES: &str = "
    CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        program TEXT NOT NULL,      -- the version of drpipe
        config_hash TEXT NOT NULL,
        work_hash TEXT NOT NULL,    -- of what the products depend on
        started TEXT NOT NULL,
        ended TEXT,                 -- NULL: it is under way, or was killed
        verdict TEXT
    ) STRICT;
    CREATE TABLE item (
        id INTEGER PRIMARY KEY,
        origin TEXT NOT NULL UNIQUE,
        run INTEGER NOT NULL REFERENCES run (id),  -- the last that began it
        state TEXT NOT NULL,        -- in flight, done, gathered, dropped or failed
        done INTEGER NOT NULL,      -- how many of the producer's messages with this origin
        size INTEGER,               -- of the file, when it was begun
        modified_ns INTEGER,
        step TEXT,                  -- where it failed or was gathered
        reason TEXT,
        time TEXT NOT NULL
    ) STRICT;
    CREATE TABLE outcome (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES run (id),
        item INTEGER NOT NULL REFERENCES item (id),
        step TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        outcome TEXT NOT NULL,      -- done, retrying, failed or dropped
        reason TEXT,
        time TEXT NOT NULL
    ) STRICT;
";

/// What version 2 has beyond version 1.
const SECOND: &str = "
    ALTER TABLE outcome ADD COLUMN worker INTEGER;   -- its number within the step
    ALTER TABLE outcome ADD COLUMN busy_s REAL;      -- how long the attempt took
    ALTER TABLE outcome ADD COLUMN waited_s REAL;    -- from the queue to its beginning
    CREATE TABLE product (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES run (id),
        item INTEGER REFERENCES item (id),           -- NULL: it is made of more than one
        step TEXT NOT NULL,
        path TEXT NOT NULL,
        time TEXT NOT NULL
    ) STRICT;
    CREATE TABLE event (
        run INTEGER NOT NULL REFERENCES run (id),
        number INTEGER NOT NULL,
        at_s REAL NOT NULL,
        json TEXT NOT NULL,                          -- as --events writes it
        PRIMARY KEY (run, number)
    ) STRICT, WITHOUT ROWID;
";

const BEGUN: &str = "
    INSERT INTO item (origin, run, state, done, size, modified_ns, time)
    VALUES (?1, ?2, 'in flight', ?3, ?4, ?5, ?6)
    ON CONFLICT (origin) DO UPDATE SET
        state = CASE WHEN run = excluded.run AND state <> 'done' THEN state ELSE 'in flight' END,
        done = CASE WHEN run = excluded.run THEN done ELSE excluded.done END,
        size = CASE WHEN run = excluded.run THEN size ELSE excluded.size END,
        modified_ns = CASE WHEN run = excluded.run THEN modified_ns ELSE excluded.modified_ns END,
        step = CASE WHEN run = excluded.run THEN step END,
        reason = CASE WHEN run = excluded.run THEN reason END,
        run = excluded.run,
        time = excluded.time";

// What went worst with an item in a run stays: messages that come to a good end
// after one of the same item has failed do not make the item done.
const DONE: &str = "
    UPDATE item SET state = 'done', done = done + ?2, time = ?3
    WHERE origin = ?1 AND state IN ('in flight', 'done')";
const GATHERED: &str = "
    UPDATE item SET state = 'gathered', step = ?2, time = ?3
    WHERE origin = ?1 AND state IN ('in flight', 'done')";
const DROPPED: &str = "
    UPDATE item SET state = 'dropped', time = ?2
    WHERE origin = ?1 AND state <> 'failed'";
const FAILED: &str = "
    UPDATE item SET state = 'failed', step = ?2, reason = ?3, time = ?4 WHERE origin = ?1";
const OUTCOME: &str = "
    INSERT INTO outcome (run, item, step, attempt, outcome, reason, time, worker, busy_s, waited_s)
    SELECT ?1, id, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 FROM item WHERE origin = ?2";
const PRODUCT: &str = "
    INSERT INTO product (run, item, step, path, time)
    VALUES (?1, (SELECT id FROM item WHERE origin = ?2), ?3, ?4, ?5)";

/// The open file.
pub(super) struct Store {
    connection: Connection,
    path: std::path::PathBuf,
    /// The number of this run.
    run: i64,
}

impl Store {
    /// # Errors
    /// Why the file cannot serve; then it is as it was.
    pub(super) fn open(path: &Path, owner: &Owner<'_>) -> Result<Self, JournalError> {
        if path.is_dir() {
            let reason = "it is a directory".to_owned();
            return Err(JournalError::Unusable { path: path.to_owned(), reason });
        }
        let explain = |error| explain(path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(explain)?;
        lock(&connection).map_err(explain)?;
        let version = version(&connection).map_err(explain)?;
        let run = match version {
            None => Err(JournalError::Foreign { path: path.to_owned() }),
            Some(found) if found > VERSION => {
                Err(JournalError::Newer { path: path.to_owned(), found, known: VERSION })
            }
            Some(found) => begin(&mut connection, found, owner).map_err(explain),
        }?;
        Ok(Self { connection, path: path.to_owned(), run })
    }

    /// What the runs before this one left.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn past(&self, work_hash: &str) -> Result<Past, JournalError> {
        self.read_past(work_hash).map_err(|error| explain(&self.path, &error))
    }

    fn read_past(&self, work_hash: &str) -> rusqlite::Result<Past> {
        let mut runs = HashMap::new();
        let mut last_other = 0;
        let mut statement = self.connection.prepare("SELECT id, name, work_hash FROM run")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (id, hash): (i64, String) = (row.get(0)?, row.get(2)?);
            runs.insert(id, Run { name: row.get(1)? });
            if hash != work_hash {
                last_other = last_other.max(id);
            }
        }
        let mut items = HashMap::new();
        let mut statement = self.connection.prepare(
            "SELECT origin, run, state, done, size, modified_ns, time, step, reason FROM item",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            items.insert(row.get(0)?, item(row)?);
        }
        Ok(Past { runs, last_other, items })
    }

    /// Writes what comes until nothing more does. Whoever wants it to be written
    /// soon sets `at_once`, then unparks the thread: the channel unparks it too, so
    /// that alone might go unnoticed.
    ///
    /// # Errors
    /// Why the file takes no more. What has been committed stays.
    pub(super) fn write(
        &mut self,
        entries: &Receiver<Entry>,
        at_once: &AtomicBool,
        events: &mut TellTale,
    ) -> rusqlite::Result<()> {
        events.await_first();
        loop {
            events.write(&self.connection, self.run)?;
            let first = match entries.recv_timeout(EVENTS_AFTER) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            // Not woken by each entry, which would take the processor from the stages.
            if !at_once.swap(false, Ordering::AcqRel) {
                std::thread::park_timeout(COMMIT_AFTER);
            }
            let transaction =
                self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut batch = Batch::new(&transaction, self.run)?;
            let rest = entries.try_iter().take(COMMIT_ENTRIES);
            std::iter::once(first).chain(rest).try_for_each(|entry| batch.entry(entry))?;
            drop(batch);
            transaction.commit()?;
        }
    }

    /// Writes the events up to the last one, for which it waits.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub(super) fn write_rest(&mut self, events: &mut TellTale) -> rusqlite::Result<()> {
        while events.await_next() {
            events.write(&self.connection, self.run)?;
        }
        events.write(&self.connection, self.run)
    }
}

/// Takes the lock, which is kept until the connection is closed.
pub(super) fn lock(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    // Whoever begins first has the file: two that only read would hold each other up.
    connection.execute_batch("BEGIN EXCLUSIVE")
}

/// The version of the tables, 0 if the file is empty; none if it is not a journal.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let application = pragma("application_id")?;
    let version = pragma("user_version")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_empty = (application, version, tables) == (0, 0, 0);
    let is_journal = application == APPLICATION && version > 0;
    Ok((is_empty || is_journal).then_some(version))
}

/// Makes of the tables of version `found`, 0 if there are none, those of this version.
pub(super) fn upgrade(connection: &Connection, found: i64) -> rusqlite::Result<()> {
    if found < 1 {
        connection.execute_batch(TABLES)?;
    }
    if found < 2 {
        connection.execute_batch(SECOND)?;
    }
    connection.pragma_update(None, "application_id", APPLICATION)?;
    connection.pragma_update(None, "user_version", VERSION)
}

/// Brings the tables to this version and notes the run; returns its number.
fn begin(connection: &mut Connection, found: i64, owner: &Owner<'_>) -> rusqlite::Result<i64> {
    connection.execute_batch("COMMIT")?;
    let new = found == 0;
    if new {
        // There is nothing yet that waiting for the disk would save.
        connection.pragma_update(None, "synchronous", "OFF")?;
    }
    // What is committed reaches the file at once, and the disk when SQLite or the
    // system sees fit: enough for whatever ends the program.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if found < VERSION {
        upgrade(&transaction, found)?;
    }
    transaction.execute(
        "INSERT INTO run (name, program, config_hash, work_hash, started) VALUES (?, ?, ?, ?, ?)",
        params![owner.run, env!("CARGO_PKG_VERSION"), owner.config_hash, owner.work_hash, now()],
    )?;
    let run = transaction.last_insert_rowid();
    transaction.execute("DELETE FROM event WHERE run <= ?", [run - MOST_RUNS])?;
    transaction.commit()?;
    Ok(run)
}

fn item(row: &Row<'_>) -> rusqlite::Result<Item> {
    let size: Option<i64> = row.get(4)?;
    let modified: Option<i64> = row.get(5)?;
    Ok(Item {
        run: row.get(1)?,
        state: State::parse(row.get_ref(2)?.as_str()?),
        done: row.get(3)?,
        file: size.zip(modified).map(|(size, modified)| FileState { size, modified }),
        time: row.get(6)?,
        step: row.get(7)?,
        reason: row.get(8)?,
        seen: 0,
        outdated: None,
    })
}

pub(super) fn explain(path: &Path, error: &rusqlite::Error) -> JournalError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => JournalError::Foreign { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => JournalError::Locked { path },
        _ => JournalError::Unusable { path, reason: error.to_string() },
    }
}

/// The time as text, to the millisecond.
fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// What is committed together.
struct Batch<'a> {
    run: i64,
    time: String,
    begun: Statement<'a>,
    done: Statement<'a>,
    outcome: Statement<'a>,
    product: Statement<'a>,
    connection: &'a Connection,
}

impl<'a> Batch<'a> {
    fn new(connection: &'a Connection, run: i64) -> rusqlite::Result<Self> {
        Ok(Self {
            run,
            time: now(),
            begun: connection.prepare(BEGUN)?,
            done: connection.prepare(DONE)?,
            outcome: connection.prepare(OUTCOME)?,
            product: connection.prepare(PRODUCT)?,
            connection,
        })
    }

    fn entry(&mut self, entry: Entry) -> rusqlite::Result<()> {
        match entry {
            Entry::Begun { origin, done, file } => {
                let (size, modified) = file.map(|file| (file.size, file.modified)).unzip();
                self.begun.execute(params![origin, self.run, done, size, modified, self.time])?;
            }
            Entry::Record(Record::Attempt { origin, step, attempt, outcome, ran }) => {
                let (outcome, failure) = match &outcome {
                    AttemptOutcome::Done => ("done", None),
                    AttemptOutcome::Retrying(failure) => ("retrying", Some(failure.to_string())),
                    AttemptOutcome::Failed(failure) => ("failed", Some(failure.to_string())),
                    AttemptOutcome::Dropped => ("dropped", None),
                };
                self.outcome.execute(params![
                    self.run,
                    origin,
                    step,
                    attempt,
                    outcome,
                    failure,
                    self.time,
                    ran.worker.and_then(|worker| i64::try_from(worker).ok()),
                    ran.busy.as_secs_f64(),
                    ran.waited.as_secs_f64()
                ])?;
            }
            Entry::Product { origin, step, path } => {
                let path = path.to_string_lossy();
                self.product.execute(params![self.run, origin, step, path, self.time])?;
            }
            Entry::Record(Record::Closed { origin, occurrences, end }) => {
                self.closed(&origin, occurrences, &end)?;
            }
            Entry::Ended { verdict } => {
                self.connection.execute(
                    "UPDATE run SET ended = ?, verdict = ? WHERE id = ?",
                    params![now(), verdict, self.run],
                )?;
            }
        }
        Ok(())
    }

    fn closed(&mut self, origin: &str, occurrences: u32, end: &End) -> rusqlite::Result<()> {
        let time = &self.time;
        match end {
            End::Done => self.done.execute(params![origin, occurrences, time]),
            End::Gathered { step } => {
                self.connection.execute(GATHERED, params![origin, step, time])
            }
            End::Dropped => self.connection.execute(DROPPED, params![origin, time]),
            End::Failed { step, failure } => {
                self.connection.execute(FAILED, params![origin, step, failure.to_string(), time])
            }
        }?;
        Ok(())
    }
}
