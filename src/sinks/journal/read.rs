//! Reads a journal that no run writes to: its runs, inputs and products. Reading changes nothing; a
//! journal of an older version is upgraded in memory only.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params};
use serde::Serialize;

use super::JournalError;
use super::schema::{VERSION, upgrade};
use super::store::lock;
use super::trust::{self, explain};

/// A journal that is open for reading.
pub(crate) struct Journal {
    connection: Connection,
    path: PathBuf,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Run {
    #[serde(skip)]
    pub(crate) id: i64,
    pub(crate) run: String,
    /// The version of drpipe.
    pub(crate) version: String,
    pub(crate) started: String,
    /// None if the run was killed.
    pub(crate) ended: Option<String>,
    pub(crate) verdict: Option<String>,
}

/// One input: what a producer emits with an origin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Item {
    #[serde(skip)]
    pub(crate) id: i64,
    pub(crate) origin: String,
    /// Its state in the last run that began it: in flight, done, gathered, dropped or failed.
    pub(crate) state: String,
    #[serde(skip)]
    pub(crate) run: i64,
    /// The step at which it failed or was gathered.
    pub(crate) step: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) time: String,
}

/// One attempt of a step on a message of an input.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Attempt {
    #[serde(skip)]
    pub(crate) run: i64,
    pub(crate) step: String,
    pub(crate) attempt: u32,
    /// done, retrying, failed or dropped.
    pub(crate) outcome: String,
    pub(crate) reason: Option<String>,
    pub(crate) worker: Option<u32>,
    pub(crate) waited_s: Option<f64>,
    pub(crate) busy_s: Option<f64>,
    pub(crate) time: String,
}

/// One file that a step has made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Product {
    #[serde(skip)]
    pub(crate) run: i64,
    /// None if the product is made of more than one input.
    #[serde(skip)]
    pub(crate) item: Option<i64>,
    pub(crate) step: String,
    pub(crate) path: String,
    pub(crate) time: String,
    /// Whether the file is gone.
    pub(crate) missing: bool,
}

impl Journal {
    /// Opens a journal.
    ///
    /// # Errors
    /// If the file is not a journal, or a run writes to it.
    pub(crate) fn open(path: &Path) -> Result<Self, JournalError> {
        if !path.exists() {
            let reason = "there is no such file".to_owned();
            return Err(JournalError::Unusable { path: path.to_owned(), reason });
        }
        let explained = |error| explain(path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = trust::open(path, flags)?;
        match lock(&connection) {
            // No run writes to a file that cannot be written.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ReadOnly) => {
                connection.execute_batch("BEGIN").map_err(explained)?;
            }
            locked => locked.map_err(explained)?,
        }
        match trust::version_of(path, &connection)? {
            0 => return Err(JournalError::Foreign { path: path.to_owned() }),
            // Nothing is committed, so closing the connection undoes this.
            found if found < VERSION => {
                upgrade(&connection, found, VERSION).map_err(explained)?;
            }
            _ => {}
        }
        Ok(Self { connection, path: path.to_owned() })
    }

    /// The runs, the oldest first.
    ///
    /// # Errors
    /// If the file cannot be read. This holds for every method here.
    pub(crate) fn runs(&self) -> Result<Vec<Run>, JournalError> {
        let sql = "SELECT id, name, program, started, ended, verdict FROM run ORDER BY id";
        self.rows(sql, [], |row| {
            Ok(Run {
                id: row.get(0)?,
                run: row.get(1)?,
                version: row.get(2)?,
                started: row.get(3)?,
                ended: row.get(4)?,
                verdict: row.get(5)?,
            })
        })
    }

    /// All inputs.
    pub(crate) fn items(&self) -> Result<Vec<Item>, JournalError> {
        let sql = "SELECT id, origin, state, run, step, reason, time FROM item ORDER BY id";
        self.rows(sql, [], |row| {
            Ok(Item {
                id: row.get(0)?,
                origin: row.get(1)?,
                state: row.get(2)?,
                run: row.get(3)?,
                step: row.get(4)?,
                reason: row.get(5)?,
                time: row.get(6)?,
            })
        })
    }

    /// All attempts on an input, in all runs.
    pub(crate) fn attempts(&self, item: i64) -> Result<Vec<Attempt>, JournalError> {
        let sql = "SELECT run, step, attempt, outcome, reason, worker, waited_s, busy_s, time
                   FROM outcome WHERE item = ? ORDER BY id";
        self.rows(sql, [item], |row| {
            Ok(Attempt {
                run: row.get(0)?,
                step: row.get(1)?,
                attempt: row.get(2)?,
                outcome: row.get(3)?,
                reason: row.get(4)?,
                worker: row.get(5)?,
                waited_s: row.get(6)?,
                busy_s: row.get(7)?,
                time: row.get(8)?,
            })
        })
    }

    /// All products of all runs.
    pub(crate) fn products(&self) -> Result<Vec<Product>, JournalError> {
        let sql = "SELECT run, item, step, path, time FROM product ORDER BY id";
        self.rows(sql, [], |row| {
            Ok(Product {
                run: row.get(0)?,
                item: row.get(1)?,
                step: row.get(2)?,
                path: row.get(3)?,
                time: row.get(4)?,
                missing: false,
            })
        })
    }

    /// The inputs that a step did in a run.
    pub(crate) fn done_at(&self, run: i64, step: &str) -> Result<Vec<String>, JournalError> {
        let sql = "SELECT DISTINCT item.origin FROM outcome JOIN item ON item.id = outcome.item
                   WHERE outcome.run = ? AND outcome.step = ? AND outcome.outcome = 'done'
                   ORDER BY item.id";
        self.rows(sql, params![run, step], |row| row.get(0))
    }

    /// The events of a run, each as JSON, in order.
    pub(crate) fn events(&self, run: i64) -> Result<Vec<String>, JournalError> {
        let sql = "SELECT json FROM event WHERE run = ? ORDER BY number";
        self.rows(sql, [run], |row| row.get(0))
    }

    fn rows<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        mut make: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, JournalError> {
        let mut rows = Vec::new();
        let take = |row: &Row<'_>| {
            rows.push(make(row)?);
            Ok(())
        };
        trust::each_row(&self.connection, trust::size(&self.path), sql, params, take)
            .map_err(|error| explain(&self.path, &error))?;
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sinks::journal::Opened;
    use crate::sinks::{RunEnd, Sink};

    /// A journal as version 1 wrote it, with one run and one item.
    fn old(path: &Path) {
        let connection = Connection::open(path).unwrap();
        upgrade(&connection, 0, 1).unwrap();
        connection
            .execute_batch(
                "INSERT INTO run VALUES (1, 'old', '0.1', 'c', 'w', 'T1', 'T2', 'done');
                 INSERT INTO item VALUES (1, 'x.fits', 1, 'done', 1, NULL, NULL, NULL, NULL, 'T2');
                 INSERT INTO outcome VALUES (1, 1, 1, 'CLEAN', 1, 'done', NULL, 'T2');",
            )
            .unwrap();
    }

    fn user_version(path: &Path) -> i64 {
        let connection = Connection::open(path).unwrap();
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_older_journal_is_read_and_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.journal");
        old(&path);
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.runs().unwrap()[0].run, "old");
        let item = &journal.items().unwrap()[0];
        let attempt = &journal.attempts(item.id).unwrap()[0];
        assert_eq!((&*attempt.step, attempt.worker, attempt.busy_s), ("CLEAN", None, None));
        assert!(journal.products().unwrap().is_empty() && journal.events(1).unwrap().is_empty());
        drop(journal);
        assert_eq!(user_version(&path), 1);
    }

    #[test]
    fn a_run_brings_an_older_journal_to_this_version() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.journal");
        old(&path);
        let owner = crate::sinks::journal::Owner { run: "new", config_hash: "c", work_hash: "w" };
        let stream = crate::status::stream::Stream::new();
        let halt = |reason: String| panic!("{reason}");
        let Opened { journal: run, skip, thread } =
            crate::sinks::journal::Journal::open(&path, &owner, true, &stream, halt).unwrap();
        assert!(matches!(Journal::open(&path), Err(JournalError::Locked { .. })));
        let error = crate::event::Event::Error { exit_code: 3, reason: "given up".to_owned() };
        stream.publish(error);
        assert_eq!(skip.finish(), 0);
        let requeued = BTreeSet::new();
        let end = RunEnd { verdict: "stopped", is_complete: false, requeued: &requeued };
        assert_eq!(Box::new(run).finish(&end).lost, None);
        thread.join().unwrap();
        assert_eq!(user_version(&path), VERSION);
        let journal = Journal::open(&path).unwrap();
        let runs = journal.runs().unwrap();
        assert_eq!((&*runs[0].run, &*runs[1].run), ("old", "new"));
        assert_eq!(journal.attempts(1).unwrap().len(), 1);
        assert!(journal.events(runs[1].id).unwrap()[0].contains("given up"));
    }

    #[test]
    fn what_is_no_journal_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.journal");
        assert!(matches!(Journal::open(&path), Err(JournalError::Unusable { .. })));
        for text in ["", "a text that is longer than the header of a database file is, by far"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(Journal::open(&path), Err(JournalError::Foreign { .. })), "{text:?}");
        }
    }
}
