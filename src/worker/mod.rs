//! What runs the code of a step: the calls of a stage with panics caught, on
//! a thread of its own (`thread`), in a process of its own (`process`, looked
//! after by the `supervisor`) or on the caller's thread (`sequential`).

mod guard;
mod keeper;
mod page;
pub(crate) mod process;
pub(crate) mod sequential;
mod serve;
pub(crate) mod supervisor;
pub(crate) mod thread;
mod usage;
mod words;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::message::Message;
use crate::note::{self, Note};
use crate::parcel::{Gathered, Output, Parcel};
use crate::registry::{Build, Task};
use crate::router::{Completion, Outcome, Production};
use crate::stage::{Context, Next, Outputs};

use guard::{Caught, guarded};

/// A batch is reported in parts when this much time has passed or this much
/// has gathered, so that what is done early moves on early.
pub(crate) const REPORT_AFTER: Duration = Duration::from_millis(1);
const REPORT_OUTPUTS: usize = 1024;
const REPORT_BYTES: usize = 1 << 20;

/// What is known of a call's input.
struct Input<'a> {
    message: u64,
    origin: Option<&'a Arc<str>>,
    /// Whether each output is asked for its own origin.
    names_origins: bool,
}

/// Of a producer and in `finish`, where there is none.
const NO_INPUT: Input<'static> = Input { message: 0, origin: None, names_origins: true };

/// One instance of a stage. It goes on after a panic: what it has gathered (a sum,
/// a page) would be lost with it.
pub(crate) struct Worker {
    context: Context,
    task: Box<dyn Task>,
}

impl Worker {
    /// Builds and initialises the stage.
    ///
    /// # Errors
    /// What building or `init` failed with; a panic as a failure.
    pub(crate) fn new(build: &Build, context: Context) -> Result<Self> {
        let made = guarded(|| {
            let mut task = build()?;
            task.init(&context)?;
            Ok(task)
        });
        let task = made.unwrap_or_else(|Caught(panic)| Err(panic.wrap("init panicked")))?;
        Ok(Self { context, task })
    }

    /// How many messages the producer expects to emit, as a note.
    pub(crate) fn expectation(&self) -> Vec<Note> {
        let expected = guarded(|| Ok(self.task.expected())).ok().and_then(Result::ok).flatten();
        expected.map(Note::Expected).into_iter().collect()
    }

    /// Processes the messages in order. `report` is called with what has been
    /// done so far when it is time to, and at the end; an error from it ends the
    /// work. `begin` is told the number of each message before it is begun; a
    /// false from it ends the work too.
    pub(crate) fn work<E>(
        &mut self,
        parcels: Vec<Parcel>,
        begin: impl Fn(u64) -> bool,
        mut report: impl FnMut(Vec<Completion>, Vec<Output>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut gathered = Gathered::default();
        let mut tally = Tally::new();
        let mut reported = tally.clock;
        for message in parcels.into_iter().flat_map(Parcel::into_messages) {
            if !begin(message.id) {
                break;
            }
            let (id, mark, before) = (message.id, gathered.mark(), gathered.count());
            let notes = note::count();
            let origin = message.origin.clone();
            let outcome = self.run(message, &mut gathered);
            if outcome != Outcome::Done {
                gathered.rewind(mark);
                note::rewind(notes);
            } else if let Some(origin) = &origin {
                note::attribute(notes, origin);
            }
            let timed = tally.add(id, outcome, gathered.count() == before);
            let full = gathered.count() >= REPORT_OUTPUTS || gathered.bytes() >= REPORT_BYTES;
            if full || (timed && tally.clock - reported >= REPORT_AFTER) {
                report(tally.take(), gathered.take())?;
                tally.clock = Instant::now();
                reported = tally.clock;
            }
        }
        let completions = tally.take();
        if completions.is_empty() { Ok(()) } else { report(completions, gathered.take()) }
    }

    fn run(&mut self, message: Message, gathered: &mut Gathered) -> Outcome {
        let Message { id, origin, payload, .. } = message;
        let input = Input { message: id, origin: origin.as_ref(), names_origins: false };
        match self.guarded(input, gathered, |task, emitted| task.run(payload, emitted)) {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(Caught(panic)) => Outcome::Panicked(panic),
        }
    }

    /// Asks the producer up to `count` times, until there are as many items, it
    /// has no more at the moment, or `slice` has passed.
    pub(crate) fn produce(&mut self, count: u32, slice: Duration) -> (Production, Vec<Output>) {
        let mut gathered = Gathered::default();
        let start = Instant::now();
        let mut calls = 0;
        let (result, busy) = loop {
            let mark = gathered.mark();
            calls += 1;
            let next = self.guarded(NO_INPUT, &mut gathered, |task, emitted| task.next(emitted));
            // A panic may have left it in any state: it is not asked again.
            let next = next.unwrap_or_else(|Caught(panic)| Err(panic.into_permanent()));
            if next.is_err() {
                gathered.rewind(mark);
            }
            let busy = start.elapsed();
            let full = calls >= count || gathered.count() >= count as usize || busy >= slice;
            if next != Ok(Next::More) || full {
                break (next, busy);
            }
        };
        (Production { result, calls, busy }, gathered.take())
    }

    /// Lets the stage finish.
    pub(crate) fn finish(&mut self) -> (Result<()>, Vec<Output>) {
        let mut gathered = Gathered::default();
        let finished = self.guarded(NO_INPUT, &mut gathered, |task, emitted| task.finish(emitted));
        let result = finished.unwrap_or_else(|Caught(panic)| Err(panic));
        let outputs = if result.is_ok() { gathered.take() } else { Vec::new() };
        (result, outputs)
    }

    fn guarded<R>(
        &mut self,
        input: Input<'_>,
        gathered: &mut Gathered,
        call: impl FnOnce(&mut dyn Task, &mut Outputs<'_>) -> Result<R>,
    ) -> std::result::Result<Result<R>, Caught> {
        let Input { message, origin, names_origins } = input;
        let mut outputs =
            Outputs { context: &self.context, origin, message, names_origins, gathered };
        guarded(|| call(self.task.as_mut(), &mut outputs))
    }
}

/// What became of the messages of a batch. Successive ones that are done and
/// took about as long are told as one.
struct Tally {
    completions: Vec<Completion>,
    /// The latest messages, done and not timed yet.
    open: Option<Completion>,
    /// The clock is read after so many messages.
    stride: u32,
    /// The latest reading.
    clock: Instant,
}

/// Reading the clock takes as long as a few of the shortest calls: those are
/// timed so many at once.
const STRIDE: u32 = 8;
/// What the shortest calls take at most.
const SHORTEST: Duration = Duration::from_micros(1);

impl Tally {
    fn new() -> Self {
        Self { completions: Vec::new(), open: None, stride: 1, clock: Instant::now() }
    }

    /// Adds one message; true if the clock was read.
    fn add(&mut self, id: u64, outcome: Outcome, silent: bool) -> bool {
        let silent = u32::from(silent);
        if outcome != Outcome::Done {
            // Those that are not timed yet are of the shortest kind: the time is this one's.
            let busy = self.time();
            self.close(Duration::ZERO);
            self.completions.push(Completion { first: id, count: 1, outcome, silent, busy });
            return true;
        }
        match &mut self.open {
            Some(open) if open.first + u64::from(open.count) == id => {
                open.count += 1;
                open.silent += silent;
            }
            _ => {
                self.close(Duration::ZERO);
                let busy = Duration::ZERO;
                self.open = Some(Completion { first: id, count: 1, outcome, silent, busy });
            }
        }
        let full = self.open.as_ref().is_some_and(|open| open.count >= self.stride);
        if full {
            let busy = self.time();
            self.close(busy);
        }
        full
    }

    /// Adds the open messages, which took `busy` together.
    fn close(&mut self, busy: Duration) {
        let Some(mut open) = self.open.take() else { return };
        open.busy = busy;
        self.stride = if open.busy / open.count < SHORTEST { STRIDE } else { 1 };
        let last = self.completions.last_mut().filter(|last| {
            last.first + u64::from(last.count) == open.first
                && last.outcome == Outcome::Done
                && magnitude(last.busy / last.count) == magnitude(open.busy / open.count)
        });
        match last {
            Some(last) => {
                last.count += open.count;
                last.silent += open.silent;
                last.busy += open.busy;
            }
            None => self.completions.push(open),
        }
    }

    /// The time since the last reading.
    fn time(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.clock, now)
    }

    fn take(&mut self) -> Vec<Completion> {
        let busy = self.time();
        self.close(busy);
        std::mem::take(&mut self.completions)
    }
}

/// The power of two of a running time; below about a microsecond all are one.
fn magnitude(busy: Duration) -> u32 {
    u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX).max(1024).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::data::Data;
    use crate::error::Failure;
    use crate::registry::build_stage;
    use crate::stage::{Emitter, Stage};

    /// Emits its input, then panics on odd and fails on negative numbers.
    struct Picky;

    impl Stage for Picky {
        type In = i64;
        type Out = i64;
        fn run(&mut self, number: i64, out: &mut Emitter<'_, i64>) -> Result<()> {
            out.send(number)?;
            assert!(number % 2 == 0, "odd: {number}");
            if number < 0 {
                return Err(Failure::permanent("negative"));
            }
            Ok(())
        }
    }

    fn context() -> Context {
        Context {
            run: "r".into(),
            step: "S".into(),
            worker: 0,
            next_steps: vec!["T".into()],
            codec: Codec::Bincode,
            next_codecs: vec![Codec::Bincode],
            pipeline: String::new(),
            written: Vec::new(),
            private: None,
        }
    }

    fn parcel(id: u64, number: i64) -> Parcel {
        let payload = number.to_payload(Codec::Bincode).unwrap();
        Parcel::One(Message { id, attempt: 0, origin: None, payload })
    }

    fn work(worker: &mut Worker, numbers: &[i64]) -> (Vec<Completion>, Vec<Output>) {
        let parcels = (1..).zip(numbers).map(|(id, number)| parcel(id, *number)).collect();
        let mut all = (Vec::new(), Vec::new());
        let report = |completions, outputs| {
            all.0.extend::<Vec<Completion>>(completions);
            all.1.extend::<Vec<Output>>(outputs);
            Ok::<(), ()>(())
        };
        worker.work(parcels, |_| true, report).unwrap();
        all
    }

    #[test]
    fn what_a_failed_or_panicked_attempt_emitted_is_dropped() {
        let mut worker = Worker::new(&build_stage(|| Picky), context()).unwrap();
        let (completions, outputs) = work(&mut worker, &[2, -2, 3, 4]);
        let outcome_of = |id: u64| {
            let found =
                completions.iter().find(|c| (c.first..c.first + u64::from(c.count)).contains(&id));
            &found.unwrap().outcome
        };
        assert_eq!((outcome_of(1), outcome_of(4)), (&Outcome::Done, &Outcome::Done));
        assert_eq!(outcome_of(2), &Outcome::Failed(Failure::permanent("negative")));
        let Outcome::Panicked(panic) = outcome_of(3) else { panic!("it should have panicked") };
        assert!(panic.to_string().contains("odd: 3"), "{panic}");
        assert!(panic.to_string().contains("worker/mod.rs"), "{panic}");
        let emitted = outputs.into_iter().flat_map(|o| Parcel::new(0, o).into_messages());
        let numbers: Vec<i64> =
            emitted.map(|m| i64::from_payload(m.payload, Codec::Bincode).unwrap()).collect();
        assert_eq!(numbers, [2, 4]);
    }

    #[test]
    fn no_running_time_is_lost() {
        const EACH: Duration = Duration::from_micros(300);
        struct Busy;
        impl Stage for Busy {
            type In = i64;
            type Out = i64;
            fn run(&mut self, number: i64, _: &mut Emitter<'_, i64>) -> Result<()> {
                let start = Instant::now();
                while start.elapsed() < EACH {}
                if number == 2 { Err(Failure::permanent("two")) } else { Ok(()) }
            }
        }
        let mut worker = Worker::new(&build_stage(|| Busy), context()).unwrap();
        let (completions, _) = work(&mut worker, &[0, 1, 2, 3, 4]);
        let busy: Duration = completions.iter().map(|completion| completion.busy).sum();
        assert!(busy >= EACH * 5, "{busy:?}");
        assert_eq!(completions.iter().map(|completion| completion.count).sum::<u32>(), 5);
    }

    #[test]
    fn what_a_stage_has_gathered_survives_a_panic() {
        struct Gatherer(i64);
        impl Stage for Gatherer {
            type In = i64;
            type Out = i64;
            fn run(&mut self, number: i64, _: &mut Emitter<'_, i64>) -> Result<()> {
                assert!(number != 3, "three");
                self.0 += number;
                Ok(())
            }
            fn finish(&mut self, out: &mut Emitter<'_, i64>) -> Result<()> {
                out.send(self.0)
            }
        }
        let mut worker = Worker::new(&build_stage(|| Gatherer(0)), context()).unwrap();
        let (completions, _) = work(&mut worker, &[1, 2, 3, 4]);
        assert_eq!(completions.iter().map(|c| c.silent).sum::<u32>(), 4);
        let (result, outputs) = worker.finish();
        assert_eq!(result, Ok(()));
        let sum = Parcel::new(0, outputs[0].clone()).into_messages().next().unwrap();
        assert_eq!(i64::from_payload(sum.payload, Codec::Bincode), Ok(7));
    }

    #[test]
    fn an_init_that_panics_is_a_failure() {
        let build: Build = std::sync::Arc::new(|| panic!("no lamp"));
        let error = Worker::new(&build, context()).err().unwrap();
        assert!(error.to_string().contains("no lamp"), "{error}");
    }
}
