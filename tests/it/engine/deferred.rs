//! Messages that a stage puts off until others have brought what it needs.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drpipe::event::Cause;
use drpipe::pipeline::{Builder, Mode, Pipeline, Report, Verdict};
use drpipe::prelude::*;

use crate::support::Collected;

/// A frame with its number, which may need that of another one.
#[derive(Clone, Serialize, Deserialize)]
struct Frame {
    number: i64,
    needs: Option<i64>,
}

impl Data for Frame {
    const TYPE: &'static str = "tests/Frame/1";
    fn origin(&self) -> Option<String> {
        Some(format!("frame {}", self.number))
    }
}

struct Frames(Vec<Frame>);

impl Producer for Frames {
    type Out = Frame;
    fn next(&mut self, out: &mut Emitter<'_, Frame>) -> Result<Next> {
        if self.0.is_empty() {
            return Ok(Next::Done);
        }
        out.send(self.0.remove(0)).map(|()| Next::More)
    }
}

/// Passes frames on, each after the one that it needs.
struct Reduce(Arc<Mutex<BTreeSet<i64>>>);

impl Stage for Reduce {
    type In = Frame;
    type Out = i64;
    fn run(&mut self, frame: Frame, out: &mut Emitter<'_, i64>) -> Result<()> {
        out.send(frame.number)?;
        let mut reduced = self.0.lock().unwrap();
        if let Some(needed) = frame.needs
            && !reduced.contains(&needed)
        {
            return Err(Failure::deferred(format!("frame {needed} is not there yet")));
        }
        reduced.insert(frame.number);
        Ok(())
    }
}

fn reduction(frames: &[(i64, i64)], collected: &Collected) -> Builder {
    let frame = |(number, needed): &(i64, i64)| Frame {
        number: *number,
        needs: (*needed > 0).then_some(*needed),
    };
    let frames: Vec<Frame> = frames.iter().map(frame).collect();
    let reduced = Arc::<Mutex<BTreeSet<i64>>>::default();
    Pipeline::builder()
        .producer("FRAMES", move || Frames(frames.clone()))
        .stage("REDUCE", move || Reduce(Arc::clone(&reduced)))
        .retries(1, Duration::ZERO)
        .threads(3)
        .consumer("COLLECT", collected.collector())
}

fn deferrals(report: &Report) -> u64 {
    report.step("REDUCE").unwrap().counts.deferred
}

#[test]
fn a_message_that_is_deferred_comes_again_when_others_have_ended() {
    // Each needs the next one, and the last needs none.
    let frames: Vec<(i64, i64)> = (1..=20).map(|n| (n, if n < 20 { n + 1 } else { 0 })).collect();
    for (mode, ordered) in
        [(Mode::Sequential, false), (Mode::Threads, false), (Mode::Threads, true)]
    {
        let collected = Collected::default();
        let builder = reduction(&frames, &collected);
        let builder = if ordered { builder.ordered() } else { builder };
        let report = builder.build().unwrap().run(mode).unwrap();
        let all: Vec<i64> = (1..=20).collect();
        assert_eq!((report.verdict.clone(), collected.sorted()), (Verdict::Done, all.clone()));
        assert!(deferrals(&report) >= 19, "{mode:?}: {report:?}");
        assert_eq!(report.step("REDUCE").unwrap().counts.retried, 0, "they are not charged");
        if ordered {
            assert_eq!(collected.in_order(), all);
        }
    }
}

#[test]
fn messages_that_wait_for_each_other_fail_in_vain_and_a_resumed_run_tries_them_again() {
    let directory = tempfile::tempdir().unwrap();
    let run = |frames: &[(i64, i64)]| {
        let collected = Collected::default();
        let journaled = reduction(frames, &collected)
            .quarantine(directory.path().join("bad"))
            .journal(directory.path().join("journal"), true);
        let report = journaled.build().unwrap().run(Mode::Threads).unwrap();
        (report, collected.sorted())
    };
    let (report, collected) = run(&[(1, 2), (2, 1), (3, 0)]);
    assert_eq!((report.verdict.clone(), report.exit_code), (Verdict::SomeFailed, 1));
    assert_eq!((collected, report.skipped, report.quarantined), (vec![3], 0, 2));
    for entry in ["000001-REDUCE", "000002-REDUCE"] {
        let kept = reason(directory.path(), &report, entry);
        let needed = if kept["origin"] == "frame 1" { 2 } else { 1 };
        assert_eq!(kept["cause"], serde_json::to_value(Cause::InVain).unwrap());
        let why = format!("frame {needed} is not there yet");
        assert_eq!(kept["reason"], serde_json::json!(["waited in vain", why]), "{kept}");
    }
    let (report, collected) = run(&[(1, 2), (2, 0), (3, 0)]);
    assert_eq!((report.verdict, collected, report.skipped), (Verdict::Done, vec![1, 2], 1));
}

fn reason(directory: &Path, report: &Report, entry: &str) -> serde_json::Value {
    let file = directory.join("bad").join(&report.run).join(entry).join("reason.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}
