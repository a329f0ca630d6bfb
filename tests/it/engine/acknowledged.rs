//! A producer that is told what became of its items.

use std::sync::mpsc;
use std::time::Duration;

use drpipe::pipeline::{Mode, Pipeline};
use drpipe::plan::OnError;
use drpipe::prelude::*;

/// What was told of one item: its number, its name, and what became of it.
type Told = (u64, Option<String>, String);

/// Emits the texts one by one, and waits for a minute when there is nothing to do: it goes on
/// only because it is told of its items.
struct Texts {
    left: Vec<&'static str>,
    under_way: usize,
    tell: mpsc::Sender<Told>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Text(String);

impl Data for Text {
    const TYPE: &'static str = "tests/Text/1";
    fn origin(&self) -> Option<String> {
        self.0.strip_prefix("file ").map(str::to_owned)
    }
}

impl Producer for Texts {
    type Out = Text;
    const ACKNOWLEDGES: bool = true;

    fn next(&mut self, out: &mut Emitter<'_, Text>) -> Result<Next> {
        if self.under_way == 2 {
            return Ok(Next::Idle(Duration::from_secs(60)));
        }
        let Some(text) = self.left.pop() else { return Ok(Next::Done) };
        out.send(Text(text.to_owned()))?;
        self.under_way += 1;
        Ok(Next::More)
    }

    fn acknowledge(&mut self, items: &[Acknowledgement]) {
        for item in items {
            self.under_way -= 1;
            let outcome = match &item.outcome {
                Acknowledged::Done { results, .. } => {
                    let values = (0..results.len()).map(|i| results.get::<i64>(i).unwrap());
                    format!("{:?}", values.collect::<Vec<_>>())
                }
                Acknowledged::Failed { step, failure, attempts, entry, .. } => {
                    format!("{step} {attempts} {failure} {entry:?}")
                }
                other => format!("{other:?}"),
            };
            let name = item.origin.as_deref().map(str::to_owned);
            self.tell.send((item.number, name, outcome)).unwrap();
        }
    }

    fn finish(&mut self, _: &mut Emitter<'_, Text>) -> Result<()> {
        assert_eq!(self.under_way, 0, "it was told of all before");
        Ok(())
    }
}

/// Emits the length of each word.
struct Lengths;

impl Stage for Lengths {
    type In = Text;
    type Out = i64;
    fn run(&mut self, Text(text): Text, out: &mut Emitter<'_, i64>) -> Result<()> {
        for word in text.split(' ') {
            out.send(word.len() as i64)?;
            if word == "bad" {
                return Err(Failure::retryable("a bad word"));
            }
        }
        Ok(())
    }
}

fn told(mode: Mode) -> Vec<Told> {
    let (tell, told) = mpsc::channel();
    let texts = ["", "so bad it is", "file a.fits", "one two three"];
    let pipeline = Pipeline::builder()
        .producer("TEXTS", move || Texts { left: texts.to_vec(), under_way: 0, tell: tell.clone() })
        .window(3, 1 << 20)
        .last_stage("LENGTHS", || Lengths)
        .results()
        .on_error(OnError::Tell)
        .retries(1, Duration::ZERO)
        .build();
    let report = pipeline.unwrap().run(mode).unwrap();
    assert_eq!(report.exit_code, 1);
    let mut told: Vec<Told> = told.try_iter().collect();
    told.sort();
    told
}

#[test]
fn it_is_told_of_each_item_once_with_results_or_the_reason() {
    for mode in [Mode::Sequential, Mode::Threads] {
        let item = |number, name: Option<&str>, outcome: &str| {
            (number, name.map(str::to_owned), outcome.to_owned())
        };
        let expected = [
            item(1, None, "[3, 3, 5]"),
            item(2, Some("a.fits"), "[4, 6]"),
            item(3, None, "LENGTHS 2 a bad word None"),
            item(4, None, "[0]"),
        ];
        assert_eq!(told(mode), expected, "{mode:?}");
    }
}

/// Panics when it is told of its first item.
struct Fragile(mpsc::Sender<&'static str>);

impl Producer for Fragile {
    type Out = i64;
    const ACKNOWLEDGES: bool = true;

    fn next(&mut self, out: &mut Emitter<'_, i64>) -> Result<Next> {
        assert_eq!(out.number(), 0, "it is not called again after the panic");
        out.send(7)?;
        assert_eq!(out.number(), 1);
        Ok(Next::Idle(Duration::from_secs(60)))
    }

    fn acknowledge(&mut self, _: &[Acknowledgement]) {
        panic!("no ink")
    }

    fn finish(&mut self, _: &mut Emitter<'_, i64>) -> Result<()> {
        self.0.send("finished").unwrap();
        Ok(())
    }
}

#[test]
fn a_panic_while_it_is_told_ends_production() {
    for mode in [Mode::Sequential, Mode::Threads] {
        let (say, said) = mpsc::channel();
        let pipeline = Pipeline::builder()
            .producer("ONE", move || Fragile(say.clone()))
            .consumer("END", drpipe::stages::Discard::default)
            .build();
        let report = pipeline.unwrap().run(mode).unwrap();
        let verdict = format!("{:?}", report.verdict);
        assert!(verdict.contains("no ink"), "{verdict}");
        assert_eq!((report.exit_code, said.try_recv()), (3, Ok("finished")));
    }
}

#[test]
fn what_needs_such_a_producer_is_refused_without_one() {
    let pipeline = Pipeline::builder()
        .producer("NUMBERS", || drpipe::stages::Integers::new(1, 3))
        .last_stage("SQUARE", drpipe::stages::Square::default)
        .results()
        .on_error(OnError::Tell)
        .build();
    let error = pipeline.err().unwrap().to_string();
    for what in ["\"results\" needs a producer", "\"on_error\": \"tell\" needs a producer"] {
        assert!(error.contains(what), "{error}");
    }
    let (tell, _) = mpsc::channel();
    let pipeline = Pipeline::builder()
        .producer("TEXTS", move || Texts { left: Vec::new(), under_way: 0, tell: tell.clone() })
        .stage("LENGTHS", || Lengths)
        .results()
        .consumer("END", drpipe::stages::Discard::default)
        .build();
    let error = pipeline.err().unwrap().to_string();
    assert!(error.contains("\"results\" is for steps without next steps"), "{error}");
}
