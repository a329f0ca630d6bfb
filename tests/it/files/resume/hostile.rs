//! Journals that are damaged, or made to do harm: refused in a moment, with a reason.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::{FRAMES, Night};
use crate::support::program::{Finished, drpipe, finish};

/// What each command says that reads the night's journal.
fn ask(night: &Night) -> [Finished; 3] {
    let run = |args: &[&str]| finish(drpipe(night.path()).args(args));
    [
        run(&["report", "copy.journal", "-o", "r.html"]),
        run(&["why", "raw/synth_0000.fits", "--journal", "copy.journal"]),
        run(&["--config", "copy.json", "-q", "--resume"]),
    ]
}

#[track_caller]
fn assert_refused(night: &Night, what: &str) {
    let journal = fs::read(night.at("copy.journal")).ok();
    for finished in ask(night) {
        let finished = finished.expect_code(2);
        assert!(finished.err.contains(what), "{what} in {}", finished.err);
    }
    assert_eq!(fs::read(night.at("copy.journal")).ok(), journal, "it was changed");
}

fn after_a_run() -> Night {
    let night = Night::new();
    night.resume(&[]).expect(0, 0, FRAMES);
    night
}

#[test]
fn a_journal_with_code_of_its_own_is_refused() {
    for (change, what) in [
        (
            "ALTER TABLE item RENAME TO item_;
             CREATE VIEW item AS WITH RECURSIVE x (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x)
             SELECT item_.* FROM x, item_",
            "item differs from what drpipe creates",
        ),
        (
            "CREATE TRIGGER more AFTER INSERT ON run BEGIN
                 INSERT INTO item SELECT NULL, hex(randomblob(8)), 1, 'done', 1, 1, 1, '', '', ''
                 FROM (WITH RECURSIVE x (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) SELECT n FROM x);
             END",
            "trigger more differs from what drpipe creates",
        ),
    ] {
        let night = after_a_run();
        Connection::open(night.at("copy.journal")).unwrap().execute_batch(change).unwrap();
        assert_refused(&night, what);
    }
}

/// Puts other bytes into a file.
fn overwrite(file: &Path, at: usize, bytes: &[u8]) {
    let mut contents = fs::read(file).unwrap();
    contents[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(file, contents).unwrap();
}

#[test]
fn a_journal_whose_pages_lead_to_each_other_is_refused() {
    let night = after_a_run();
    let journal = night.at("copy.journal");
    let connection = Connection::open(&journal).unwrap();
    let page = |name: &str| -> i64 {
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?";
        connection.query_row(sql, [name], |row| row.get(0)).unwrap()
    };
    let size: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
    let (item, outcome) = (page("item"), page("outcome"));
    connection.execute_batch("PRAGMA journal_mode = DELETE").unwrap();
    drop(connection);
    // Interior pages of two tables, each of whose many children is the other.
    for (here, there) in [(item, outcome), (outcome, item)] {
        let cells = 400_u16;
        let mut content = vec![0; usize::try_from(size).unwrap()];
        let start = content.len() - 5 * usize::from(cells);
        content[0] = 5;
        content[3..5].copy_from_slice(&cells.to_be_bytes());
        content[5..7].copy_from_slice(&u16::try_from(start).unwrap().to_be_bytes());
        let child = u32::try_from(there).unwrap().to_be_bytes();
        content[8..12].copy_from_slice(&child);
        for cell in 0..usize::from(cells) {
            let at = start + 5 * cell;
            content[12 + 2 * cell..14 + 2 * cell]
                .copy_from_slice(&u16::try_from(at).unwrap().to_be_bytes());
            content[at..at + 4].copy_from_slice(&child);
            content[at + 4] = 1;
        }
        overwrite(&journal, usize::try_from((here - 1) * size).unwrap(), &content);
    }
    for finished in ask(&night) {
        let finished = finished.expect_code(2);
        assert!(finished.err.contains("it is damaged"), "{}", finished.err);
    }
}

#[test]
fn what_is_no_regular_file_is_no_journal() {
    let night = Night::new();
    let journal = night.at("copy.journal");
    fs::create_dir(&journal).unwrap();
    for finished in ask(&night) {
        finished.expect_code(2);
    }
    fs::remove_dir(&journal).unwrap();
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, &journal, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    for finished in ask(&night) {
        let finished = finished.expect_code(2);
        assert!(finished.err.contains("not a regular file"), "{}", finished.err);
    }
}

#[test]
fn a_damaged_journal_is_called_so() {
    let night = after_a_run();
    let journal = night.at("copy.journal");
    let length = fs::read(&journal).unwrap().len();
    overwrite(&journal, 4096, &vec![0xa5; length - 4096]);
    for finished in ask(&night) {
        let finished = finished.expect_code(2);
        assert!(finished.err.contains("it is damaged"), "{}", finished.err);
        assert!(!finished.err.contains("writable directory"), "{}", finished.err);
    }
}

#[test]
fn a_report_is_not_made_of_an_endless_file() {
    let night = Night::new();
    fs::File::create(night.at("events")).unwrap().set_len(1 << 42).unwrap();
    let finished = finish(drpipe(night.path()).args(["report", "events"])).expect_code(2);
    assert!(finished.err.contains("no event of a run"), "{}", finished.err);
}
