//! Failed inputs that are retried while the run goes on.

use super::*;

/// Passes numbers on; fours fail until `mended`.
fn picky(mended: &Arc<AtomicBool>) -> impl Fn() -> Picky + Send + Sync + use<> {
    let mended = Arc::clone(mended);
    move || Picky(Arc::clone(&mended))
}

struct Picky(Arc<AtomicBool>);

impl Stage for Picky {
    type In = i64;
    type Out = i64;

    fn run(&mut self, number: i64, out: &mut Emitter<i64>) -> Result<()> {
        if number == 4 && !self.0.load(Ordering::SeqCst) {
            return Err(Failure::permanent("no fours"));
        }
        out.send(number)
    }
}

fn entry_of(event: &Event) -> Option<String> {
    match event {
        Event::Failed { entry, .. } => entry.clone(),
        _ => None,
    }
}

#[test]
fn what_failed_is_tried_again_and_leaves_the_quarantine() {
    for mode in BOTH {
        let mended = Arc::new(AtomicBool::new(false));
        let mut run = start(mode, |builder| builder.stage("PICKY", picky(&mended)));
        let entry = run.until("a four fails", entry_of);
        assert_eq!(entry, "000001-PICKY");
        mended.store(true, Ordering::SeqCst);
        run.control().retry(&entry).unwrap();
        let why = refusal(run.control().retry(&entry));
        assert!(why.contains("was tried again already"), "{why}");
        let (report, directory) = run.end();
        assert_eq!((&report.verdict, report.exit_code), (&Verdict::Done, 0));
        assert_eq!((report.quarantined, &report.quarantine), (0, &None));
        assert_eq!(report.step("PICKY").unwrap().counts.failed, 0);
        assert_eq!(report.step("PICKY").unwrap().counts.retried, 1);
        assert!(!directory.path().join(&report.run).exists(), "nothing is kept");
    }
}

#[test]
fn what_fails_again_is_kept_again() {
    for mode in BOTH {
        let mended = Arc::new(AtomicBool::new(false));
        let mut run = start(mode, |builder| builder.stage("PICKY", picky(&mended)));
        let first = run.until("a four fails", entry_of);
        run.control().retry(&first).unwrap();
        let second = run.until("it fails again", entry_of);
        assert_eq!(second, "000002-PICKY");
        run.enough.store(true, Ordering::SeqCst);
        let (report, collected, directory) = run.wait();
        assert_eq!((report.exit_code, report.quarantined), (1, 1));
        assert!(!collected.contains(&4));
        let kept = std::fs::read_dir(directory.path().join(&report.run)).unwrap();
        let kept: BTreeSet<_> = kept.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(kept, BTreeSet::from([second.into()]));
    }
}

#[test]
fn what_was_done_in_the_end_leaves_the_quarantine_of_a_drained_run_too() {
    let mended = Arc::new(AtomicBool::new(false));
    let mut run = start(Mode::Threads, |builder| builder.stage("PICKY", picky(&mended)));
    let entry = run.until("a four fails", entry_of);
    mended.store(true, Ordering::SeqCst);
    run.control().retry(&entry).unwrap();
    run.control().drain();
    let (report, collected, _directory) = run.wait();
    assert_eq!(report.verdict, Verdict::Interrupted);
    assert!(collected.contains(&4));
    assert_eq!(report.quarantined, 0, "a later retry would do it twice");
}

#[test]
fn what_was_dropped_while_it_was_tried_again_stays_in_quarantine() {
    let mended = Arc::new(AtomicBool::new(false));
    let mut run = start(Mode::Threads, |builder| builder.stage("PICKY", picky(&mended)));
    let entry = run.until("a four fails", entry_of);
    run.control().pause(None).unwrap();
    run.control().retry(&entry).unwrap();
    run.control().stop_now();
    let (report, collected, directory) = run.wait();
    assert!(!collected.contains(&4));
    assert_eq!(report.quarantined, 1);
    assert!(directory.path().join(&report.run).join(entry).is_dir());
}

#[test]
fn an_entry_that_is_not_there_is_unknown() {
    let mended = Arc::new(AtomicBool::new(false));
    let mut run = start(Mode::Threads, |builder| builder.stage("PICKY", picky(&mended)));
    run.until("a four fails", entry_of);
    for (name, part) in [
        ("000001-PICK", "did you mean \"000001-PICKY\"?"),
        ("../000001-PICKY", "no failed input"),
        ("", "no failed input"),
        (".", "no failed input"),
    ] {
        let result = run.control().retry(name);
        let Err(error @ SteerError::UnknownEntry { .. }) = result else { panic!("{result:?}") };
        let why = error.to_string();
        assert!(why.contains(part), "{why}");
    }
    run.enough.store(true, Ordering::SeqCst);
    let (report, ..) = run.wait();
    assert_eq!(report.quarantined, 1);
}

#[test]
fn a_retry_comes_too_late_for_a_step_that_has_finished() {
    let mended = Arc::new(AtomicBool::new(false));
    let mut run = start_few(Mode::Threads, |builder| builder.stage("PICKY", picky(&mended)));
    let control = run.control();
    control.pause(Some("COLLECT")).unwrap();
    run.until("a four fails", entry_of);
    run.enough.store(true, Ordering::SeqCst);
    run.until_numbers("PICKY finishes", |now| step(now, "PICKY").finished);
    let why = refusal(control.retry("000001-PICKY"));
    assert!(why.contains("drpipe quarantine retry"), "{why}");
    control.resume(Some("COLLECT")).unwrap();
    let (report, ..) = run.wait();
    assert_eq!((report.exit_code, report.quarantined), (1, 1));
}
