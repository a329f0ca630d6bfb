//! Links, pipes and foreign files in a quarantine; two retries at once.

use super::*;

/// A pipe that nobody writes into.
fn make_pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[test]
fn a_link_in_a_quarantine_is_neither_followed_nor_removed() {
    let place = Place::after_failures();
    let run = place.entry(0).parent().unwrap().to_owned();
    let precious = place.path("precious");
    fs::rename(place.entry(0), &precious).unwrap();
    fs::write(precious.join("notes.txt"), "a year of work").unwrap();
    std::os::unix::fs::symlink(&precious, run.join("000001-FAIL")).unwrap();
    // A whole run that is somewhere else, and an entry with a file of another.
    std::os::unix::fs::symlink(&precious, place.path("quarantine/20200101T000000Z-1")).unwrap();
    let header = place.entry(2).join("header.bin");
    fs::rename(&header, place.path("header")).unwrap();
    std::os::unix::fs::symlink(place.path("header"), &header).unwrap();
    let before = files(&precious);
    let listed = place.run(&["quarantine", "list", "quarantine"]).expect_code(0);
    let corrupt = listed.out.lines().filter(|line| line.contains("corrupt"));
    assert!(corrupt.clone().all(|line| line.contains("link, which is not followed")));
    assert_eq!(corrupt.count(), 3, "{}", listed.out);
    // The one that is left is done.
    place.retry(&["--set", "FAIL.every=100"]).expect_code(1);
    assert_eq!(place.lines().len(), 1);
    assert_eq!(files(&precious), before);
    assert_eq!(place.entries().len(), 3);
    let named = place.run(&["quarantine", "retry", run.join("000001-FAIL").to_str().unwrap()]);
    assert!(named.expect_code(1).err.contains("no entry is left to retry"));
}

#[test]
fn only_what_drpipe_has_put_into_an_entry_is_removed() {
    let place = Place::after_failures();
    let entry = place.entry(1);
    fs::write(entry.join("notes.txt"), "why it failed").unwrap();
    fs::create_dir(entry.join("buffer-0.bin.old")).unwrap();
    let retry = place.retry(&["--set", "FAIL.every=100"]).expect_code(0);
    assert!(retry.err.contains("is kept, because it has files"), "{}", retry.err);
    let mut left: Vec<_> =
        fs::read_dir(&entry).unwrap().map(|file| file.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["buffer-0.bin.old", "notes.txt"]);
}

#[test]
fn pipes_and_endless_files_in_a_quarantine_make_nobody_wait() {
    let place = Place::after_failures();
    for (index, name) in [(0, "reason.json"), (1, "header.bin")] {
        let file = place.entry(index).join(name);
        fs::remove_file(&file).unwrap();
        make_pipe(&file);
    }
    let reason = place.entry(2).join("reason.json");
    fs::File::options().write(true).open(reason).unwrap().set_len(6 << 30).unwrap();
    for command in ["list", "show"] {
        let said = place.run(&["quarantine", command, "quarantine"]).expect_code(0);
        assert_eq!(said.out.matches("not a regular file").count(), 2, "{}", said.out);
        assert_eq!(said.out.matches("it is larger than").count(), 1, "{}", said.out);
    }
    place.retry(&[]).expect_code(1);
    assert_eq!(place.entries().len(), 3);
}

#[test]
fn two_retries_of_one_quarantine_exclude_each_other() {
    let place = Place::after_failures();
    let mut retry = drpipe(place.0.path());
    retry.args(["quarantine", "retry", "quarantine"]);
    retry.args(["--set", "FAIL.every=100", "--set", "SLEEP.seconds=600"]);
    let mut first = Logged::start(&mut retry);
    first.wait_for("every worker is ready");
    let run = place.entry(0).parent().unwrap().to_owned();
    let entry = place.entry(1);
    for directory in ["quarantine", run.to_str().unwrap(), entry.to_str().unwrap()] {
        let second = place.run(&["quarantine", "retry", directory, "--set", "SAVE.file=b.txt"]);
        let second = second.expect_code(2);
        let who = format!("another drpipe (process {})", first.pid());
        assert!(second.err.contains(&who), "{}", second.err);
    }
    assert!(!place.path("b.txt").exists());
    // Whatever ends it, the right is free again.
    first.kill();
    place.retry(&["--set", "FAIL.every=100"]).expect_code(0);
    assert_eq!(place.lines(), BTreeSet::from([10, 20, 30]));
}
