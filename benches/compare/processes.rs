//! Worker processes against worker threads.

use drpipe::pipeline::{Mode, Pipeline, Verdict};
use drpipe::prelude::*;

use crate::stages::Frame;
use crate::{Line, medians, rate, scaling};

/// Emits 0, 1, ... below `count`.
#[derive(Deserialize, JsonSchema)]
struct Numbers {
    count: usize,
    #[serde(skip)]
    next: usize,
}

impl Producer for Numbers {
    type Out = i64;

    fn next(&mut self, out: &mut Emitter<i64>) -> Result<Next> {
        if self.next == self.count {
            return Ok(Next::Done);
        }
        out.send(self.next as i64)?;
        self.next += 1;
        Ok(Next::More)
    }
}

/// Emits the same pixels so many times, each with a number of its own.
#[derive(Deserialize, JsonSchema)]
struct Frames {
    count: usize,
    #[serde(skip)]
    next: usize,
    #[serde(skip)]
    pixels: Buffer<f32>,
}

impl Producer for Frames {
    type Out = Frame;

    fn init(&mut self, _: &Context) -> Result<()> {
        self.pixels = vec![1.0; 4 << 20].into();
        Ok(())
    }

    fn next(&mut self, out: &mut Emitter<Frame>) -> Result<Next> {
        if self.next == self.count {
            return Ok(Next::Done);
        }
        out.send(Frame { number: self.next as u64, pixels: self.pixels.clone() })?;
        self.next += 1;
        Ok(Next::More)
    }
}

/// As [`Frames`], each a vector of its own.
#[derive(Deserialize, JsonSchema)]
struct NewFrames {
    count: usize,
    #[serde(skip)]
    next: usize,
}

impl Producer for NewFrames {
    type Out = Frame;

    fn next(&mut self, out: &mut Emitter<Frame>) -> Result<Next> {
        if self.next == self.count {
            return Ok(Next::Done);
        }
        let pixels = vec![self.next as f32; 4 << 20].into();
        out.send(Frame { number: self.next as u64, pixels })?;
        self.next += 1;
        Ok(Next::More)
    }
}

/// Passes numbers on.
#[derive(Deserialize, JsonSchema)]
pub struct Same {}

impl Stage for Same {
    type In = i64;
    type Out = i64;

    fn run(&mut self, number: i64, out: &mut Emitter<i64>) -> Result<()> {
        out.send(number)
    }
}

/// Reads a frame's header and passes the frame on.
#[derive(Deserialize, JsonSchema)]
struct ReadHeader {}

impl Stage for ReadHeader {
    type In = Frame;
    type Out = Frame;

    fn run(&mut self, frame: Frame, out: &mut Emitter<Frame>) -> Result<()> {
        std::hint::black_box(frame.number);
        out.send(frame)
    }
}

pub fn registry() -> Registry {
    let mut registry = Registry::new();
    drpipe::stages::register(&mut registry);
    registry.producer::<Numbers>("Numbers");
    registry.producer::<Frames>("Frames");
    registry.producer::<NewFrames>("NewFrames");
    registry.stage::<Same>("Same");
    registry.stage::<ReadHeader>("ReadHeader");
    scaling::run::register(&mut registry);
    registry
}

/// Worker processes are this program, started anew.
pub fn serve_worker() {
    drpipe::pipeline::serve_worker(&registry());
}

/// Messages a second from a producer thread through two processes.
fn through(producer: &str, stage: &str, count: usize, limit: usize) -> f64 {
    let text = serde_json::json!({
        "producer": {"name": "IN", "class": producer, "params": {"count": count}},
        "stagers": [{"name": "STAGE", "class": stage, "nb_process": 2, "queue_limit": limit}],
        "consumer": {"name": "END", "class": "Discard", "queue_limit": limit},
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.json");
    std::fs::write(&file, text.to_string()).unwrap();
    let report = Pipeline::load(&file, &registry(), &[]).unwrap().run(Mode::Threads).unwrap();
    assert_eq!(report.verdict, Verdict::Done);
    rate(count, report.elapsed)
}

pub fn processes() -> Vec<Line> {
    let [tiny, default, alone, large, new] = medians([
        &|| through("Numbers", "Same", 2_000_000, 4096),
        &|| through("Numbers", "Same", 1_000_000, 100),
        &|| through("Numbers", "Same", 10_000, 1),
        &|| through("Frames", "ReadHeader", 5_000, 1),
        &|| through("NewFrames", "ReadHeader", 2_000, 8),
    ]);
    vec![
        Line::new("8 bytes, 1 stager in 2 processes, queue_limit 4096", tiny, "/s").at_least(5e5),
        Line::new("the same, queue_limit 100 (default)", default, "/s"),
        Line::new("8 bytes one at a time: per message", 1e6 / alone, "us"),
        Line::new("16 MiB, header only, one at a time: per message", 1e6 / large, "us"),
        Line::new("  ratio", alone / large, "").at_most(5.0),
        Line::new("16 MiB, each made anew, queue_limit 8", new, "/s").at_least(600.0),
    ]
}
