//! Checks a journal before it is trusted. It may be damaged or come from elsewhere: it must not
//! hang a command, run code that it contains, or remove a file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Params, Row, ffi};

use super::JournalError;
use super::schema::{VERSION, upgrade, version};

/// The most SQLite steps that reading may take: for each byte of the file, and as a minimum. An
/// intact journal takes about a hundredth of them.
const STEPS_PER_BYTE: u64 = 200;
const STEPS: u64 = 20_000_000;
/// The number of steps between two checks of that limit.
const CHECK_EVERY: u32 = 10_000;
/// The end of a rollback journal that names another file, which SQLite would open and might
/// remove.
const NAMES_ANOTHER: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Opens the file without looking at its contents.
///
/// # Errors
/// If it cannot be a journal.
pub(crate) fn open(path: &Path, flags: OpenFlags) -> Result<Connection, JournalError> {
    let unusable = |reason: String| JournalError::Unusable { path: path.to_owned(), reason };
    for file in [path, &beside(path, "-wal"), &beside(path, "-journal"), &beside(path, "-shm")] {
        match fs::metadata(file) {
            Ok(metadata) if metadata.is_file() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(metadata) => {
                let is = if metadata.is_dir() { "a directory" } else { "not a regular file" };
                let which = if file == path { "it".to_owned() } else { file.display().to_string() };
                return Err(unusable(format!("{which} is {is}")));
            }
            Err(error) => return Err(unusable(format!("{}: {error}", file.display()))),
        }
    }
    let rollback = beside(path, "-journal");
    if names_another(&rollback).is_ok_and(|names| names) {
        let reason = format!("{} does not come from drpipe", rollback.display());
        return Err(damaged(path, reason));
    }
    let explained = |error| explain(path, &error);
    let mut connection = Connection::open_with_flags(path, flags).map_err(explained)?;
    restrict(&mut connection, size(path)).map_err(explained)?;
    Ok(connection)
}

/// The name of a file that SQLite keeps beside the database.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

fn names_another(rollback: &Path) -> io::Result<bool> {
    let mut file = File::open(rollback)?;
    let mut end = [0; NAMES_ANOTHER.len()];
    file.seek(SeekFrom::End(-(end.len() as i64)))?;
    file.read_exact(&mut end)?;
    Ok(end == NAMES_ANOTHER)
}

/// The size of the journal in bytes, with what SQLite keeps beside its file.
pub(crate) fn size(path: &Path) -> u64 {
    let of = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    of(path).saturating_add(of(&beside(path, "-wal")))
}

/// Keeps SQLite from running code that the file contains, and from reading without end.
fn restrict(connection: &mut Connection, bytes: u64) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    let steps = bytes.saturating_mul(STEPS_PER_BYTE).saturating_add(STEPS);
    let mut looks = steps / u64::from(CHECK_EVERY);
    let is_enough = move || {
        looks = looks.saturating_sub(1);
        looks == 0
    };
    connection.progress_handler(CHECK_EVERY as i32, Some(is_enough))
}

/// Lifts the limit of steps, for a trusted journal.
pub(crate) fn release(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.progress_handler(0, None::<fn() -> bool>)
}

/// Reads the version of the tables, 0 if the file is empty. A database with anything that drpipe
/// does not create is not a journal.
///
/// # Errors
/// If it is not a journal that this program can use.
pub(crate) fn version_of(path: &Path, connection: &Connection) -> Result<i64, JournalError> {
    let explained = |error| explain(path, &error);
    let found = match version(connection).map_err(explained)? {
        None => return Err(JournalError::Foreign { path: path.to_owned() }),
        Some(found) if found > VERSION => {
            return Err(JournalError::Newer { path: path.to_owned(), found, known: VERSION });
        }
        Some(found) => found,
    };
    if found > 0 {
        let expected = Connection::open_in_memory().and_then(|own| {
            upgrade(&own, 0, found)?;
            shape(&own)
        });
        let (expected, has) = (expected.map_err(explained)?, shape(connection).map_err(explained)?);
        let differs = |name: &&String| expected.get(*name) != has.get(*name);
        if let Some(name) = expected.keys().chain(has.keys()).find(differs) {
            let reason = format!("{name} differs from what drpipe creates");
            return Err(damaged(path, reason));
        }
    }
    Ok(found)
}

/// What a database contains, by kind and name, with the SQL that created it.
fn shape(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let sql = "SELECT type || ' ' || name, coalesce(sql, '') FROM sqlite_schema
               WHERE name NOT LIKE 'sqlite~_%' ESCAPE '~'";
    let mut statement = connection.prepare(sql)?;
    let made = statement.query_map([], |row| {
        let text: String = row.get(1)?;
        let uncommented = text.lines().flat_map(|line| line.split("--").next());
        let words: Vec<&str> = uncommented.flat_map(str::split_whitespace).collect();
        Ok((row.get(0)?, words.join(" ")))
    })?;
    made.collect()
}

/// Calls `take` with each row. Ends with an error once the rows have more bytes than the file:
/// then its pages refer to each other in a circle.
///
/// # Errors
/// If SQLite or `take` fails.
pub(crate) fn each_row(
    connection: &Connection,
    bytes: u64,
    sql: &str,
    params: impl Params,
    mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query(params)?;
    let mut left = bytes;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            let length = row.get_ref(column)?.as_bytes_or_null();
            let length = length.ok().flatten().map_or(1, <[u8]>::len) as u64;
            left = left.checked_sub(length).ok_or_else(corrupt)?;
        }
        take(row)?;
    }
    Ok(())
}

fn corrupt() -> rusqlite::Error {
    let reason = "it yields more data than a file of its size can hold".to_owned();
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(reason))
}

fn damaged(path: &Path, reason: String) -> JournalError {
    JournalError::Damaged { path: path.to_owned(), reason }
}

/// Says what an error of SQLite means for the journal.
pub(crate) fn explain(path: &Path, error: &rusqlite::Error) -> JournalError {
    let path = path.to_owned();
    let reason = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => JournalError::Foreign { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => JournalError::Locked { path },
        Some(ErrorCode::OperationInterrupted) => {
            let reason = "reading it takes longer than a file of its size needs".to_owned();
            JournalError::Damaged { path, reason }
        }
        _ if is_damage(error) => JournalError::Damaged { path, reason },
        _ => JournalError::Unusable { path, reason },
    }
}

/// Whether the cause of the error is the file itself, not its surroundings.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::TooBig
                | ErrorCode::TypeMismatch
                | ErrorCode::ConstraintViolation
                | ErrorCode::Unknown
        ),
        // A value whose type differs from what drpipe writes.
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A journal without a run.
    fn make(path: &Path) {
        let connection = Connection::open(path).unwrap();
        upgrade(&connection, 0, VERSION).unwrap();
    }

    fn refused(change: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.journal");
        make(&path);
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(change).unwrap();
        drop(connection);
        crate::sinks::journal::read::Journal::open(&path)
            .err()
            .map_or(String::new(), |e| e.to_string())
    }

    #[test]
    fn what_drpipe_does_not_make_is_refused_by_its_name() {
        for (change, name) in [
            ("CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM item; END", "trigger t"),
            ("CREATE VIEW v AS SELECT 1", "view v"),
            ("CREATE INDEX i ON item (lower(origin))", "index i"),
            ("CREATE VIRTUAL TABLE f USING fts5 (x)", "table f"),
            ("ALTER TABLE run ADD COLUMN more BLOB AS (zeroblob(1000000000))", "table run"),
            (
                "ALTER TABLE item RENAME TO item_;
                 CREATE VIEW item AS WITH RECURSIVE x (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x)
                 SELECT item_.* FROM x, item_",
                "table item",
            ),
            ("DROP TABLE event", "table event"),
        ] {
            let error = refused(change);
            assert!(error.contains(name) && error.contains("differs from what drpipe creates"), "{error}");
        }
        assert_eq!(refused("ANALYZE"), "");
        assert_eq!(refused("VACUUM"), "");
    }

    #[test]
    fn reading_ends_though_a_query_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let connection = open(&path, OpenFlags::default()).unwrap();
        let endless = "WITH RECURSIVE x (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x)
                       SELECT count(*) FROM x";
        let error = connection.query_row(endless, [], |_| Ok(())).unwrap_err();
        let error = explain(&path, &error).to_string();
        assert!(error.contains("takes longer than a file of its size needs"), "{error}");
        let rows = endless.replace("count(*)", "'a text', n");
        let error = each_row(&connection, 1000, &rows, [], |_| Ok(())).unwrap_err();
        let error = explain(&path, &error).to_string();
        assert!(
            error.contains("is damaged") && error.contains("more data than a file of its size"),
            "{error}"
        );
    }

    #[test]
    fn a_rollback_journal_that_names_another_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.journal");
        make(&path);
        fs::write(beside(&path, "-journal"), [&[7; 100][..], &NAMES_ANOTHER].concat()).unwrap();
        let error = open(&path, OpenFlags::default()).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
        fs::remove_file(beside(&path, "-journal")).unwrap();
        fs::create_dir(beside(&path, "-wal")).unwrap();
        let error = open(&path, OpenFlags::default()).unwrap_err();
        assert!(error.to_string().contains("x.journal-wal is a directory"), "{error}");
    }
}
