//! Journals of programs that run pipelines of their own.

use super::*;

/// An item with a name that others may have too.
#[derive(Serialize, Deserialize)]
struct Named {
    name: String,
    number: i64,
}

impl Data for Named {
    const TYPE: &'static str = "test/Named/1";

    fn origin(&self) -> Option<String> {
        Some(self.name.clone())
    }
}

/// Emits these, in order.
struct Items(Vec<(&'static str, i64)>);

impl Producer for Items {
    type Out = Named;

    fn next(&mut self, out: &mut Emitter<Named>) -> Result<Next> {
        if self.0.is_empty() {
            return Ok(Next::Done);
        }
        let (name, number) = self.0.remove(0);
        out.send(Named { name: name.into(), number })?;
        Ok(Next::More)
    }
}

/// Keeps the numbers, but fails on one of them.
struct Keep {
    kept: Arc<Mutex<Vec<i64>>>,
    bad: i64,
}

impl Consumer for Keep {
    type In = Named;

    fn run(&mut self, named: Named) -> Result<()> {
        if named.number == self.bad {
            return Err(Failure::permanent("as asked for"));
        }
        self.kept.lock().unwrap().push(named.number);
        Ok(())
    }
}

fn run_items(
    journal: &Path,
    items: &[(&'static str, i64)],
    bad: i64,
) -> (std::result::Result<Report, RunError>, Vec<i64>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let quarantine = journal.with_file_name("bad");
    let (given, keep) = (items.to_vec(), Arc::clone(&kept));
    let report = Pipeline::builder()
        .producer("ITEMS", move || Items(given.clone()))
        .consumer("KEEP", move || Keep { kept: Arc::clone(&keep), bad })
        .quarantine(quarantine)
        .journal(journal, true)
        .build()
        .unwrap()
        .run(Mode::Sequential);
    let mut kept = kept.lock().unwrap().clone();
    kept.sort_unstable();
    (report, kept)
}

#[test]
fn items_of_the_same_name_are_told_apart_by_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("j");
    let items = [("a", 1), ("b", 2), ("b", 3), ("c", 4), ("a", 5), ("d", 6), ("a", 7)];
    let run = |bad| {
        let (report, kept) = run_items(&journal, &items, bad);
        let report = report.unwrap();
        (report.skipped, report.verdict, kept)
    };
    // The first "a" is done and recorded before the second is emitted; what comes
    // after one that failed cannot be told from it.
    assert_eq!(run(5), (0, Verdict::SomeFailed, vec![1, 2, 3, 4, 6, 7]));
    assert_eq!(run(0), (5, Verdict::Done, vec![5, 7]));
    assert_eq!(run(0), (7, Verdict::Done, vec![]));
    // One more than before.
    let more: Vec<_> = items.into_iter().chain([("b", 8)]).collect();
    let (report, kept) = run_items(&journal, &more, 0);
    assert_eq!((report.unwrap().skipped, kept), (7, vec![8]));
}

#[test]
fn two_runs_of_one_program_do_not_share_a_journal() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("j");
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let mut first = Pipeline::builder()
        .producer("ITEMS", || Items(vec![("a", 1)]))
        .consumer("WAIT", move || Wait(Arc::clone(&wait)))
        .build()
        .unwrap();
    first.set_journal(&journal, false);
    let first = first.start(Mode::Threads).unwrap();
    let refused = run_items(&journal, &[("a", 1)], 0).0;
    assert!(matches!(refused, Err(RunError::Journal(JournalError::Locked { .. }))));
    drop(release);
    assert_eq!(first.wait().unwrap().verdict, Verdict::Done);
    assert!(run_items(&journal, &[("a", 1)], 0).0.is_ok());
}

/// Ends when the test lets it.
struct Wait(Arc<Mutex<std::sync::mpsc::Receiver<()>>>);

impl Consumer for Wait {
    type In = Named;

    fn run(&mut self, _: Named) -> Result<()> {
        let _ = self.0.lock().unwrap().recv();
        Ok(())
    }
}
