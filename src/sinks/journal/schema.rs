//! The tables of a journal and their versions.

use rusqlite::Connection;

/// "drpj": the mark of a journal in the database's header.
const APPLICATION: i64 = 0x6472_706a;
/// The version of the tables that this program writes.
pub(crate) const VERSION: i64 = 3;
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

/// What version 2 adds.
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

/// What version 3 adds. Names are strings that keep every byte; if a name of an older version may
/// mean another file now, the item is done again.
const THIRD: &str = "
    ALTER TABLE product ADD COLUMN size INTEGER;     -- in bytes, when the item was done: -1
                                                     -- if it is no file, NULL if it has gone
    CREATE INDEX product_of_item ON product (item);
    UPDATE item SET state = 'in flight', done = 0
        WHERE origin GLOB '*\\x[0-9A-F][0-9A-F]*' OR instr(origin, char(65533));
";

/// Reads the version of the tables, 0 if the file is empty; none if it is not a journal.
///
/// # Errors
/// That of SQLite.
pub(crate) fn version(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let application = pragma("application_id")?;
    let version = pragma("user_version")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_empty = (application, version, tables) == (0, 0, 0);
    let is_journal = application == APPLICATION && version > 0;
    Ok((is_empty || is_journal).then_some(version))
}

/// Turns the tables of version `found`, 0 if there are none, into those of version `wanted`.
///
/// # Errors
/// That of SQLite.
pub(crate) fn upgrade(connection: &Connection, found: i64, wanted: i64) -> rusqlite::Result<()> {
    for (version, tables) in (1..).zip([TABLES, SECOND, THIRD]) {
        if found < version && version <= wanted {
            connection.execute_batch(tables)?;
        }
    }
    connection.pragma_update(None, "application_id", APPLICATION)?;
    connection.pragma_update(None, "user_version", wanted)
}
