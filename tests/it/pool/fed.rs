//! A pipeline that the program feeds.

use std::path::Path;
use std::sync::{Arc, Mutex};

use drpipe::pipeline::{Mode, Pipeline, RunError, SendError};
use drpipe::plan::OnError;
use drpipe::prelude::*;
use drpipe::stages::{Discard, Integers, Square};

/// Takes what comes.
struct Collect(Arc<Mutex<Vec<i64>>>);

impl Consumer for Collect {
    type In = i64;
    fn run(&mut self, number: i64) -> Result<()> {
        if number == 25 {
            return Err(Failure::permanent("five squared"));
        }
        self.0.lock().unwrap().push(number);
        Ok(())
    }
}

#[test]
fn each_item_is_acknowledged_once_and_goes_through_all_steps() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&taken);
    let pipeline = Pipeline::builder()
        .feed::<i64>("NUMBERS")
        .window(4, 1 << 20)
        .stage("SQUARE", Square::default)
        .threads(2)
        .consumer("END", move || Collect(Arc::clone(&collected)))
        .on_error(OnError::Tell)
        .build();
    let (feed, mut told, run) = pipeline.unwrap().start_with_feed::<i64, Any>().unwrap();
    let reader = std::thread::spawn(move || {
        let mut items: Vec<_> = told.by_ref().collect();
        items.sort_by_key(|item| item.number);
        items
    });
    for number in 1..=100 {
        assert_eq!(feed.send(&format!("{number}.fits"), number).unwrap(), number as u64);
    }
    feed.finish();
    assert!(matches!(feed.send("", 0), Err(SendError::Closed { value: 0, .. })));
    let items = reader.join().unwrap();
    assert_eq!(items.len(), 100);
    for (number, item) in (1..).zip(&items) {
        assert_eq!(item.number, number);
        assert_eq!(item.origin.as_deref(), Some(format!("{number}.fits").as_str()));
        match &item.outcome {
            Acknowledged::Done { results, .. } => assert!(results.is_empty() && number != 5),
            Acknowledged::Failed { step, failure, .. } => {
                assert_eq!((number, &**step), (5, "END"));
                assert_eq!(failure.to_string(), "five squared");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(run.wait().unwrap().exit_code, 1);
    let mut taken = taken.lock().unwrap().clone();
    taken.sort_unstable();
    assert_eq!(taken, (1..=100).filter(|n| *n != 5).map(|n| n * n).collect::<Vec<i64>>());
}

#[test]
fn a_full_window_gives_the_value_back_and_unread_acknowledgements_keep_their_places() {
    let pipeline = Pipeline::builder()
        .feed::<i64>("NUMBERS")
        .window(2, 1 << 20)
        .consumer("END", Discard::default)
        .build();
    let (feed, mut told, run) = pipeline.unwrap().start_with_feed::<i64, Any>().unwrap();
    feed.send("", 1).unwrap();
    feed.send("", 2).unwrap();
    assert!(matches!(feed.try_send("", 3), Err(SendError::Full(3))));
    assert_eq!(told.next().unwrap().number, 1);
    feed.try_send("", 3).unwrap();
    drop(told);
    (4..100).for_each(|number| assert!(feed.send("", number).is_ok()));
    drop(feed);
    assert_eq!(run.wait().unwrap().step("END").unwrap().counts.done, 99);
}

#[test]
fn what_a_stopped_run_has_not_done_is_told_as_dropped() {
    let pipeline =
        Pipeline::builder().feed::<i64>("NUMBERS").consumer("END", Discard::default).build();
    let (feed, told, run) = pipeline.unwrap().start_with_feed::<i64, Any>().unwrap();
    run.control().pause(None).unwrap();
    let sent: Vec<u64> = (0..10).map(|number| feed.send("", number).unwrap()).collect();
    run.control().stop_now();
    let items: Vec<_> = told.collect();
    assert_eq!(items.iter().map(|item| item.number).collect::<Vec<_>>(), sent);
    // Before the pause some may have been done.
    assert!(items.iter().any(|item| item.outcome == Acknowledged::Dropped));
    assert!(matches!(feed.send("", 1), Err(SendError::Closed { .. })));
    run.wait().unwrap();
}

#[test]
fn a_drained_run_does_what_it_has_taken() {
    let pipeline = Pipeline::builder()
        .feed::<i64>("NUMBERS")
        .last_stage("SQUARE", Square::default)
        .results()
        .build();
    let (feed, told, run) = pipeline.unwrap().start_with_feed::<i64, i64>().unwrap();
    feed.send("", 1).unwrap();
    run.control().drain();
    // It is told that the run takes no more, sooner or later; what comes before is acknowledged.
    let mut taken = 1;
    while feed.try_send("", 1).is_ok() {
        taken += 1;
    }
    drop(feed);
    assert_eq!(run.wait().unwrap().exit_code, 130);
    assert_eq!(told.count(), taken);
}

#[test]
fn an_item_is_cancelled() {
    let pipeline =
        Pipeline::builder().feed::<i64>("NUMBERS").consumer("END", Discard::default).build();
    let (feed, mut told, run) = pipeline.unwrap().start_with_feed::<i64, Any>().unwrap();
    run.control().pause(None).unwrap();
    let number = feed.send("", 1).unwrap();
    feed.cancel(number, false);
    let item = told.next().unwrap();
    assert_eq!((item.number, item.outcome), (number, Acknowledged::Cancelled));
    run.control().resume(None).unwrap();
    feed.finish();
    assert_eq!(run.wait().unwrap().step("END").unwrap().counts.dropped, 1);
}

#[test]
fn a_configuration_with_an_open_producer_is_fed_by_the_program() {
    let mut registry = Registry::new();
    drpipe::stages::register(&mut registry);
    registry.let_callers_in();
    let text = r#"{ "version": 1,
        "producer": { "name": "IN", "class": "Caller", "window": 8 },
        "stagers": [ { "name": "SQUARE", "class": "Square" } ],
        "consumer": { "name": "TEXT", "class": "FormatNumber", "results": true } }"#;
    let read = || Pipeline::read(text, "fed.json", Path::new("."), &registry, &[]).unwrap();
    let (feed, told, run) = read().start_with_feed::<i64, String>().unwrap();
    (1..=3).for_each(|number| assert!(feed.send("", number).is_ok()));
    feed.finish();
    let mut texts: Vec<String> = told
        .map(|item| match item.outcome {
            Acknowledged::Done { results, .. } => results.get(0).unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    texts.sort();
    assert_eq!(texts, ["1", "4", "9"]);
    assert_eq!(run.wait().unwrap().exit_code, 0);
    let error = read().start(Mode::Threads).err().unwrap().to_string();
    assert!(error.contains("a caller provides the workers of \"IN\""), "{error}");
}

#[test]
fn what_does_not_fit_together_is_refused_before_anything_runs() {
    let fed = || {
        let builder = Pipeline::builder().feed::<i64>("NUMBERS");
        builder.last_stage("SQUARE", Square::default).results().build().unwrap()
    };
    let texts = fed().start_with_feed::<String, i64>().err().unwrap().to_string();
    assert_eq!(texts, "the step \"SQUARE\" takes drpipe/Integer/1; the program said drpipe/Text/1");
    let results = fed().start_with_feed::<i64, String>().err().unwrap().to_string();
    assert!(results.contains("gives back drpipe/Integer/1"), "{results}");
    assert!(matches!(fed().start(Mode::Threads), Err(RunError::NotFed { .. })));
    assert!(matches!(fed().run(Mode::Sequential), Err(RunError::NotFed { .. })));
    let own = Pipeline::builder()
        .producer("NUMBERS", || Integers::new(1, 3))
        .consumer("END", Discard::default)
        .build();
    let error = own.unwrap().start_with_feed::<i64, Any>().err().unwrap().to_string();
    assert!(error.contains("\"NUMBERS\" (Integers) brings its own items"), "{error}");
}
