//! The journal's file: an SQLite database with the tables `run`, `item`, `outcome`, `product` and
//! `event`. The run holds a lock of the system on it, which ends with the program, even if it is
//! killed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Row, Statement, TransactionBehavior, params};

use super::event_log::EventLog;
use super::previous::{Item, Made, Past, Run, State};
use super::schema::{VERSION, upgrade};
use super::{Entry, FileState, JournalError, Owner, size_of, trust};
use crate::base::path_name::name_of_path;
use crate::router::{AttemptOutcome, End, Record};

/// How long to wait for another program that holds the file, such as a reader.
const PATIENCE: Duration = Duration::from_secs(1);
/// Entries are committed after this time, or when the thread is unparked: this limits what the next
/// run does again after a kill.
const COMMIT_AFTER: Duration = Duration::from_millis(50);
/// The most entries in one transaction, which are all in memory at once.
const COMMIT_ENTRIES: usize = 10_000;
/// Events are committed after this time if no entry comes.
const EVENTS_AFTER: Duration = Duration::from_millis(500);
/// The number of runs, the latest, whose events are kept.
const MAX_RUNS: i64 = 20;

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

// The worst outcome of an item in a run stays: if one of its messages has failed, later messages
// that succeed do not make the item done.
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

// Products of an earlier run no longer count once their item is done anew.
const ANEW: &str = "
    UPDATE product SET size = NULL
    WHERE run <> ?2 AND item = (SELECT id FROM item WHERE origin = ?1)";
const SIZE: &str = "UPDATE product SET size = ?2 WHERE id = ?1";

const RUNS: &str = "SELECT id, name, work_hash FROM run";
const ITEMS: &str =
    "SELECT origin, run, state, done, size, modified_ns, time, step, reason, id FROM item";
const PRODUCTS: &str = "
    SELECT item, path, size FROM product WHERE size IS NOT NULL AND item IS NOT NULL ORDER BY id";
// A file that several inputs add to, such as a table, grows after the first is done.
const SHARED: &str = "
    SELECT path FROM product WHERE size IS NOT NULL GROUP BY path HAVING count(DISTINCT item) > 1";

/// For each item that is not done yet, its products and the numbers of their rows.
type Open = HashMap<Arc<str>, Vec<(i64, PathBuf)>>;

/// The open file.
pub(crate) struct Store {
    connection: Connection,
    path: PathBuf,
    /// The number of this run.
    run: i64,
    open: Open,
}

impl Store {
    /// Opens or creates the file, and records that a run begins.
    ///
    /// # Errors
    /// If the file cannot serve as the journal; it is then unchanged.
    pub(crate) fn open(path: &Path, owner: &Owner<'_>) -> Result<Self, JournalError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = trust::open(path, flags)?;
        let explained = |error| trust::explain(path, &error);
        lock(&connection).map_err(explained)?;
        let found = trust::version_of(path, &connection)?;
        let run = begin(&mut connection, found, owner).map_err(explained)?;
        Ok(Self { connection, path: path.to_owned(), run, open: Open::new() })
    }

    /// Reads what earlier runs recorded.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn past(&self, work_hash: &str) -> Result<Past, JournalError> {
        self.read_past(work_hash).map_err(|error| trust::explain(&self.path, &error))
    }

    fn read_past(&self, work_hash: &str) -> rusqlite::Result<Past> {
        let bytes = trust::size(&self.path);
        let mut runs = HashMap::new();
        let mut last_other = 0;
        trust::each_row(&self.connection, bytes, RUNS, [], |row| {
            let (id, hash): (i64, String) = (row.get(0)?, row.get(2)?);
            runs.insert(id, Run { name: row.get(1)? });
            if hash != work_hash {
                last_other = last_other.max(id);
            }
            Ok(())
        })?;
        let mut shared = HashSet::<Box<str>>::new();
        trust::each_row(&self.connection, bytes, SHARED, [], |row| {
            shared.insert(row.get(0)?);
            Ok(())
        })?;
        let mut made = HashMap::<i64, BTreeMap<Box<str>, Option<i64>>>::new();
        trust::each_row(&self.connection, bytes, PRODUCTS, [], |row| {
            let (path, size): (Box<str>, i64) = (row.get(1)?, row.get(2)?);
            let size = (!shared.contains(&path)).then_some(size);
            made.entry(row.get(0)?).or_default().insert(path, size);
            Ok(())
        })?;
        let mut items = HashMap::new();
        trust::each_row(&self.connection, bytes, ITEMS, [], |row| {
            let made = made.remove(&row.get(9)?).unwrap_or_default();
            let made = made.into_iter().map(|(path, size)| Made { path, size }).collect();
            items.insert(row.get(0)?, item(row, made)?);
            Ok(())
        })?;
        Ok(Past { runs, last_other, items })
    }

    /// Writes entries until the last sender is gone. To write them soon, set `at_once`, then unpark
    /// the thread; unparking alone is not enough, because the channel unparks it too.
    ///
    /// # Errors
    /// If the file cannot be written. What was committed stays.
    pub(crate) fn write(
        &mut self,
        entries: &Receiver<Entry>,
        at_once: &AtomicBool,
        events: &mut EventLog,
    ) -> rusqlite::Result<()> {
        trust::release(&mut self.connection)?;
        events.await_first();
        loop {
            events.write(&self.connection, self.run)?;
            let first = match entries.recv_timeout(EVENTS_AFTER) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            // Waking for each entry would take the processor from the stages.
            if !at_once.swap(false, Ordering::AcqRel) {
                std::thread::park_timeout(COMMIT_AFTER);
            }
            let transaction =
                self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut batch = Batch::new(&transaction, self.run, &mut self.open)?;
            let rest = entries.try_iter().take(COMMIT_ENTRIES);
            std::iter::once(first).chain(rest).try_for_each(|entry| batch.entry(entry))?;
            drop(batch);
            transaction.commit()?;
        }
    }

    /// Waits for the last event, and writes all up to it.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub(crate) fn write_rest(&mut self, events: &mut EventLog) -> rusqlite::Result<()> {
        while events.await_next() {
            events.write(&self.connection, self.run)?;
        }
        events.write(&self.connection, self.run)
    }
}

/// Takes the lock, which lasts until the connection is closed.
pub(crate) fn lock(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    // The first program to begin gets the file: two readers would block each other.
    connection.execute_batch("BEGIN EXCLUSIVE")
}

/// Upgrades the tables to this version, records that a run begins, and returns its number.
fn begin(connection: &mut Connection, found: i64, owner: &Owner<'_>) -> rusqlite::Result<i64> {
    connection.execute_batch("COMMIT")?;
    let new = found == 0;
    if new {
        // A new file holds nothing yet that is worth a wait for the disk.
        connection.pragma_update(None, "synchronous", "OFF")?;
    }
    // A commit reaches the file at once, and the disk when SQLite or the system sees fit. That is
    // enough, whatever ends the program.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if found < VERSION {
        upgrade(&transaction, found, VERSION)?;
    }
    transaction.execute(
        "INSERT INTO run (name, program, config_hash, work_hash, started) VALUES (?, ?, ?, ?, ?)",
        params![owner.run, env!("CARGO_PKG_VERSION"), owner.config_hash, owner.work_hash, now()],
    )?;
    let run = transaction.last_insert_rowid();
    transaction.execute("DELETE FROM event WHERE run <= ?", [run - MAX_RUNS])?;
    transaction.commit()?;
    Ok(run)
}

fn item(row: &Row<'_>, made: Vec<Made>) -> rusqlite::Result<Item> {
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
        made,
        seen: 0,
        outdated: None,
    })
}

/// The current time as text, to the millisecond.
fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// A transaction: what is committed together.
struct Batch<'a> {
    run: i64,
    time: String,
    begun: Statement<'a>,
    done: Statement<'a>,
    outcome: Statement<'a>,
    product: Statement<'a>,
    anew: Statement<'a>,
    size: Statement<'a>,
    connection: &'a Connection,
    open: &'a mut Open,
}

impl<'a> Batch<'a> {
    fn new(connection: &'a Connection, run: i64, open: &'a mut Open) -> rusqlite::Result<Self> {
        Ok(Self {
            run,
            time: now(),
            begun: connection.prepare(BEGUN)?,
            done: connection.prepare(DONE)?,
            outcome: connection.prepare(OUTCOME)?,
            product: connection.prepare(PRODUCT)?,
            anew: connection.prepare(ANEW)?,
            size: connection.prepare(SIZE)?,
            connection,
            open,
        })
    }

    fn entry(&mut self, entry: Entry) -> rusqlite::Result<()> {
        match entry {
            Entry::Begun { origin, done, file } => {
                let (size, modified) = file.map(|file| (file.size, file.modified)).unzip();
                self.begun.execute(params![origin, self.run, done, size, modified, self.time])?;
                if done == 0 {
                    self.anew.execute(params![origin, self.run])?;
                }
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
                let name = name_of_path(&path);
                self.product.execute(params![self.run, origin, step, name, self.time])?;
                if let Some(origin) = origin {
                    let row = self.connection.last_insert_rowid();
                    self.open.entry(origin).or_default().push((row, path));
                }
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
        let made = self.open.remove(origin).filter(|_| *end == End::Done);
        for (row, path) in made.unwrap_or_default() {
            // A later step may have removed or moved a product, which is not an error.
            let size = fs::metadata(path).ok().map(|metadata| size_of(&metadata));
            self.size.execute(params![row, size])?;
        }
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
