//! Runs the code of a step: calls the stage with panics caught. Where it does so is up to the
//! caller: on a thread (`thread`), in a process (`process`) or on the loop's thread
//! (`sequential`). The results of the calls go into an `outbox`.

use std::time::{Duration, Instant};

use crate::base::failure::{Failure, Result};
use crate::base::ids::MessageId;
use crate::message::batch::Batch;
use crate::message::output::OutputBuffer;
use crate::message::{Message, limit};
use crate::protocol::report::Outcome;
use crate::protocol::wire::FromWorker;
use crate::stage::erased::{Build, Task, in_call};
use crate::stage::scope::Note;
use crate::stage::{Acknowledgement, Context, Input, Next, Outputs, scope};

use super::catch::{Caught, guarded};
use super::outbox::{Outbox, ReportSink};
use super::tally::{SHORTEST, STRIDE};

/// One instance of a stage. It survives a panic, because what it has gathered (a sum, a page) would
/// otherwise be lost.
pub(crate) struct Worker {
    context: Context,
    task: Box<dyn Task>,
    /// The outputs of the present call.
    emitted: OutputBuffer,
    /// Why a producer is not called again, after a panic in `acknowledge`.
    has_panicked: Option<Failure>,
    /// Messages that are done and not in the outbox yet; empty between batches.
    done: Vec<MessageId>,
}

impl Worker {
    /// Builds and initializes the stage.
    ///
    /// # Errors
    /// The failure of building or of `init`; a panic becomes one.
    pub(crate) fn new(build: &Build, context: Context) -> Result<Self> {
        let made = guarded(|| {
            let mut task = build()?;
            task.start(&context)?;
            Ok(task)
        });
        let made = made.unwrap_or_else(|Caught(panic)| Err(panic.wrap("init panicked")));
        let task = made.inspect_err(|_| scope::rewind_notes(0))?;
        let mut emitted = OutputBuffer::default();
        emitted.number_items(task.acknowledges());
        Ok(Self { context, task, emitted, done: Vec::new(), has_panicked: None })
    }

    /// Returns the notes of `init`, and the number of messages that a producer expects to emit.
    pub(crate) fn first_notes(&self) -> Vec<Note> {
        let expected = guarded(|| Ok(self.task.expected())).ok().and_then(Result::ok).flatten();
        scope::take_notes().into_iter().chain(expected.map(Note::Expected)).collect()
    }

    /// Processes the messages in order. The results go into the outbox, which reports them when
    /// they are due. Calls `begin` with the number of each message, and the time limit that it may
    /// have, before processing it, and stops if `begin` returns false. Calls `rest` before each report.
    ///
    /// # Errors
    /// If a report could not be sent; that ends the work.
    pub(crate) fn work<S: ReportSink>(
        &mut self,
        batches: Vec<Batch>,
        outbox: &Outbox<S>,
        begin: impl Fn(MessageId, Option<Duration>) -> bool,
        rest: impl Fn(),
    ) -> std::result::Result<(), S::Error> {
        outbox.open_batch(batches);
        // Nothing waits for very short calls of a step that emits nothing: a few of them go into
        // the outbox together.
        let is_silent = self.context.next_steps.is_empty() && self.context.results.is_none();
        let mut stride = 1;
        'work: while let Some(batch) = outbox.take() {
            for mut message in batch.into_messages().take_while(|_| outbox.may_begin()) {
                let limits = self.context.limits_tasks;
                let limit = if limits { limit::take(&mut message.payload) } else { None };
                if !begin(message.id, limit) {
                    break 'work;
                }
                let (id, notes) = (message.id, scope::note_count());
                let origin = message.origin.clone();
                let mut failed = None;
                match self.run(message) {
                    Outcome::Done => self.done.push(id),
                    outcome => {
                        self.emitted.clear();
                        scope::rewind_notes(notes);
                        failed = Some((id, outcome));
                    }
                }
                if let Some(origin) = &origin {
                    scope::attribute_notes(notes, origin);
                }
                let waits = is_silent && failed.is_none() && scope::note_count() == notes;
                if !waits || self.done.len() >= stride {
                    stride = outbox.done(&mut self.done, failed, &mut self.emitted, &rest)?;
                }
            }
        }
        outbox.close(&mut self.done, &rest)
    }

    fn run(&mut self, message: Message) -> Outcome {
        let Message { id, priority, item, origin, payload, .. } = message;
        let input = Input { message: id.0, item, priority, origin: origin.as_ref() };
        match self.guarded(Some(input), |task, emitted| task.run(payload, emitted)) {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(mut failure)) => match failure.take_deferral() {
                Some(wait) => Outcome::Deferred { wait, why: failure },
                None => Outcome::Failed(failure),
            },
            Err(Caught(panic)) => Outcome::Panicked(panic),
        }
    }

    /// Calls the producer up to `count` times, until it has emitted as many items, has no more at
    /// the moment, or `slice` has passed, and reports the results.
    ///
    /// # Errors
    /// If the report could not be sent.
    pub(crate) fn produce<S: ReportSink>(
        &mut self,
        count: u32,
        slice: Duration,
        outbox: &Outbox<S>,
    ) -> std::result::Result<(), S::Error> {
        outbox.open(count > 1);
        let start = Instant::now();
        let (mut calls, mut emitted, mut stride) = (0, 0, 1);
        let mut busy = Duration::ZERO;
        loop {
            let notes = scope::note_count();
            calls += 1;
            let next = match self.has_panicked.take() {
                Some(panic) => Err(Caught(panic)),
                None => self.guarded(None, |task, emitted| task.next(emitted)),
            };
            // A panic may have left the producer in any state: it is not called again.
            let next = next.unwrap_or_else(|Caught(panic)| Err(panic.into_permanent()));
            if next.is_err() {
                self.emitted.clear();
                scope::rewind_notes(notes);
            }
            emitted += self.emitted.count();
            let full = calls >= count || emitted >= count as usize;
            let last = next != Ok(Next::More) || full;
            if last || calls % stride == 0 {
                busy = start.elapsed();
                stride = if busy / calls < SHORTEST { STRIDE } else { 1 };
            }
            if last || busy >= slice {
                return outbox.produced(next, &mut self.emitted, busy);
            }
            outbox.called(&mut self.emitted, busy)?;
        }
    }

    /// Tells the producer what became of its items, and lets their results go.
    ///
    /// # Errors
    /// If the report could not be sent.
    pub(crate) fn acknowledge<S: ReportSink>(
        &mut self,
        mut items: Vec<Acknowledgement>,
        outbox: &Outbox<S>,
    ) -> std::result::Result<(), S::Error> {
        items.iter_mut().for_each(|item| item.in_codec(self.context.codec));
        let bytes: u64 = items.iter().map(Acknowledgement::result_bytes).sum();
        let told = self.guarded(None, |task, _| {
            task.acknowledge(&items);
            Ok(())
        });
        self.emitted.clear();
        if let Err(Caught(panic)) = told {
            self.has_panicked.get_or_insert(panic.wrap("acknowledge panicked"));
        }
        drop(items);
        match bytes {
            0 => Ok(()),
            bytes => outbox.sink(|sink| sink.send(FromWorker::Released { bytes })),
        }
    }

    /// Lets the stage finish, and reports the results.
    ///
    /// # Errors
    /// If the report could not be sent.
    pub(crate) fn finish<S: ReportSink>(
        &mut self,
        outbox: &Outbox<S>,
    ) -> std::result::Result<(), S::Error> {
        let notes = scope::note_count();
        // What is emitted here belongs to no item.
        self.emitted.number_items(false);
        let finished = self.guarded(None, |task, emitted| task.finish(emitted));
        let result = finished.unwrap_or_else(|Caught(panic)| Err(panic));
        if result.is_err() {
            self.emitted.clear();
            scope::rewind_notes(notes);
        }
        outbox.finished(result, &mut self.emitted)
    }

    fn guarded<R>(
        &mut self,
        input: Option<Input<'_>>,
        call: impl FnOnce(&mut dyn Task, &mut Outputs<'_>) -> Result<R>,
    ) -> std::result::Result<Result<R>, Caught> {
        let Self { context, task, emitted, .. } = self;
        guarded(|| in_call(context, input, emitted, |outputs| call(task.as_mut(), outputs)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::CodecId;
    use crate::message::Priority;
    use crate::message::batch::Output;
    use crate::protocol::report::Completion;
    use crate::stage::data::Data;
    use crate::stage::registry::build_stage;
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
            codec: CodecId::Bincode,
            next_codecs: vec![CodecId::Bincode],
            pipeline: String::new(),
            written: Vec::new(),
            results: None,
            limits_tasks: false,
            priority: Priority::Normal,
            private: None,
        }
    }

    fn batch(id: u64, number: i64) -> Batch {
        let payload = number.to_payload(CodecId::Bincode).unwrap();
        let (id, priority) = (MessageId(id), Priority::Normal);
        Batch::One(Message { id, attempt: 0, priority, item: 0, origin: None, payload })
    }

    /// What the worker reports on these numbers.
    fn work(worker: &mut Worker, numbers: &[i64]) -> (Vec<Completion>, Vec<Output>) {
        let batches = (1..).zip(numbers).map(|(id, number)| batch(id, *number)).collect();
        let outbox = Outbox::new(Vec::new());
        let Ok(()) = worker.work(batches, &outbox, |_, _| true, || ());
        let mut all = (Vec::new(), Vec::new());
        for report in outbox.sink(std::mem::take) {
            let FromWorker::Done { completions, outputs } = report else { panic!("{report:?}") };
            all.0.extend(completions);
            all.1.extend(outputs);
        }
        all
    }

    #[test]
    fn what_a_failed_or_panicked_attempt_emitted_is_dropped() {
        let mut worker = Worker::new(&build_stage(|| Picky), context()).unwrap();
        let (completions, outputs) = work(&mut worker, &[2, -2, 3, 4]);
        let outcome_of = |id: u64| {
            let has = |c: &&Completion| c.first.successive(c.count as usize).any(|m| m.0 == id);
            let found = completions.iter().find(has);
            &found.unwrap().outcome
        };
        assert_eq!((outcome_of(1), outcome_of(4)), (&Outcome::Done, &Outcome::Done));
        assert_eq!(outcome_of(2), &Outcome::Failed(Failure::permanent("negative")));
        let Outcome::Panicked(panic) = outcome_of(3) else { panic!("it should have panicked") };
        assert!(panic.to_string().contains("odd: 3"), "{panic}");
        assert!(panic.to_string().contains("worker/executor.rs"), "{panic}");
        let emitted = outputs.into_iter().flat_map(|o| Batch::new(MessageId(0), o).into_messages());
        let numbers: Vec<i64> =
            emitted.map(|m| i64::from_payload(m.payload, CodecId::Bincode).unwrap()).collect();
        assert_eq!(numbers, [2, 4]);
    }

    /// Calls are short enough to matter where the compiler optimizes.
    #[test]
    fn a_result_is_reported_with_its_message_however_short_the_calls_are() {
        struct Same;
        impl Stage for Same {
            type In = i64;
            type Out = i64;
            fn run(&mut self, number: i64, out: &mut Emitter<'_, i64>) -> Result<()> {
                out.send(number)
            }
        }
        let results = Some(CodecId::Bincode);
        let (next_steps, next_codecs) = (Vec::new(), Vec::new());
        let context = Context { next_steps, next_codecs, results, ..context() };
        let mut worker = Worker::new(&build_stage(|| Same), context).unwrap();
        let outbox = Outbox::new(Vec::new());
        let mut next = 1;
        while next < 10_000 {
            let numbers = next..next + 13;
            next = numbers.end;
            let batches = numbers.map(|number| match batch(number, number as i64) {
                Batch::One(message) => Batch::One(Message { item: number, ..message }),
                many => many,
            });
            let Ok(()) = worker.work(batches.collect(), &outbox, |_, _| true, || ());
        }
        for report in outbox.sink(std::mem::take) {
            let FromWorker::Done { completions, outputs } = report else { panic!("{report:?}") };
            let done = completions.iter().flat_map(|c| c.first.successive(c.count as usize));
            let done: Vec<u64> = done.map(|message| message.0).collect();
            assert_eq!(outputs.iter().map(Output::item).collect::<Vec<_>>(), done);
        }
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
        let outbox = Outbox::new(Vec::new());
        let Ok(()) = worker.finish(&outbox);
        let Some(FromWorker::Finished { result: Ok(()), outputs }) = outbox.sink(Vec::pop) else {
            panic!("it should have finished")
        };
        let sum = Batch::new(MessageId(0), outputs[0].clone()).into_messages().next().unwrap();
        assert_eq!(i64::from_payload(sum.payload, CodecId::Bincode), Ok(7));
    }

    #[test]
    fn an_init_that_panics_is_a_failure() {
        let build: Build = std::sync::Arc::new(|| panic!("no lamp"));
        let error = Worker::new(&build, context()).err().unwrap();
        assert!(error.to_string().contains("no lamp"), "{error}");
    }
}
