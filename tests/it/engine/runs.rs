//! Runs that go well: nothing lost, nothing twice, an exact end.

use std::sync::{Arc, Condvar, Mutex};

use drpipe::event::Event;
use drpipe::pipeline::{Mode, Pipeline, Report, Verdict};
use drpipe::prelude::*;
use drpipe::status::stream::Seen;

use crate::support::{Call, Collected, Numbers};

fn square(number: i64, out: &mut Emitter<i64>) -> Result<()> {
    out.send(number * number)
}

fn assert_balanced(report: &Report) {
    let mut emitted = 0;
    let mut received = 0;
    for step in &report.steps {
        let counts = step.counts;
        assert_eq!(counts.received, counts.done + counts.failed + counts.dropped, "{step:?}");
        emitted += counts.emitted;
        received += counts.received;
    }
    assert_eq!(emitted, received, "{report:?}");
}

#[test]
fn every_mode_and_thread_count_gives_the_same_results() {
    let expected: Vec<i64> = (0..1000).map(|n| n * n).collect();
    for (mode, threads) in
        [(Mode::Sequential, 1), (Mode::Sequential, 3), (Mode::Threads, 1), (Mode::Threads, 8)]
    {
        let collected = Collected::default();
        let report = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(1000))
            .stage("SQUARE", || Call(square))
            .threads(threads)
            .consumer("COLLECT", collected.collector())
            .build()
            .unwrap()
            .run(mode)
            .unwrap();
        assert_eq!(report.verdict, Verdict::Done);
        assert_balanced(&report);
        assert_eq!(collected.sorted(), expected);
        if threads == 1 {
            assert_eq!(collected.in_order(), expected, "one worker a step keeps the order");
        }
    }
}

/// Says something before there is any work.
struct Warns;

impl Stage for Warns {
    type In = i64;
    type Out = i64;

    fn init(&mut self, _: &Context) -> Result<()> {
        announce_warning("too warm");
        Ok(())
    }

    fn run(&mut self, number: i64, out: &mut Emitter<i64>) -> Result<()> {
        out.send(number)
    }
}

#[test]
fn what_a_stage_says_in_its_init_is_said_by_its_step_in_every_mode() {
    for mode in [Mode::Sequential, Mode::Threads] {
        let builder = Pipeline::builder().producer("NUMBERS", Numbers::below(3));
        let builder = builder.stage("WARNS", || Warns);
        let pipeline = builder.consumer("COLLECT", Collected::default().collector()).build();
        let handle = pipeline.unwrap().start(mode).unwrap();
        let mut watcher = handle.stream().watch();
        let mut said = Vec::new();
        loop {
            match watcher.next(None) {
                Seen::Event(told) => {
                    if let Event::Said { step, text, .. } = &told.event {
                        said.push(format!("{step}: {text}"));
                    }
                }
                Seen::End => break,
                _ => {}
            }
        }
        handle.wait().unwrap();
        assert_eq!(said, ["WARNS: too warm"], "{mode:?}");
    }
}

#[test]
fn no_input_at_all_is_a_run_too() {
    for mode in [Mode::Sequential, Mode::Threads] {
        let collected = Collected::default();
        let report = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(0))
            .stage("SQUARE", || Call(square))
            .consumer("COLLECT", collected.collector())
            .build()
            .unwrap()
            .run(mode)
            .unwrap();
        assert_eq!((report.verdict, collected.finished()), (Verdict::Done, 1));
    }
}

#[test]
fn branches_join_again_and_nothing_is_lost_with_the_smallest_queues() {
    for mode in [Mode::Sequential, Mode::Threads] {
        let collected = Collected::default();
        let report = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(2000))
            .next_step("SWITCH")
            .stage("SWITCH", || {
                Call(|number, out: &mut Emitter<i64>| {
                    out.send_to(if number % 2 == 0 { "EVEN" } else { "ODD" }, number)
                })
            })
            .threads(2)
            .queue_limit(Some(1))
            .next_step("EVEN")
            .next_step("ODD")
            .stage("EVEN", || Call(|number, out: &mut Emitter<i64>| out.send(number)))
            .threads(3)
            .queue_limit(Some(1))
            .next_step("COLLECT")
            .stage("ODD", || Call(|number: i64, out: &mut Emitter<i64>| out.send(-number)))
            .queue_limit(Some(1))
            .next_step("COLLECT")
            .consumer("COLLECT", collected.collector())
            .queue_limit(Some(1))
            .build()
            .unwrap()
            .run(mode)
            .unwrap();
        assert_balanced(&report);
        let mut expected: Vec<i64> = (0..2000).map(|n| if n % 2 == 0 { n } else { -n }).collect();
        expected.sort_unstable();
        assert_eq!(collected.sorted(), expected);
        for step in &report.steps {
            assert!(step.queue_high_water <= 1, "{step:?}");
        }
    }
}

#[test]
fn a_loop_with_the_smallest_queues_ends() {
    for mode in [Mode::Sequential, Mode::Threads] {
        let collected = Collected::default();
        // Halves even numbers until they are odd.
        let report = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(500))
            .next_step("HALVE")
            .stage("HALVE", || {
                Call(|number, out: &mut Emitter<i64>| {
                    let again = number > 0 && number % 2 == 0;
                    out.send_to(if again { "AGAIN" } else { "COLLECT" }, number)
                })
            })
            .threads(2)
            .queue_limit(Some(1))
            .next_step("COLLECT")
            .next_step("AGAIN")
            .stage("AGAIN", || Call(|number, out: &mut Emitter<i64>| out.send(number / 2)))
            .threads(2)
            .queue_limit(Some(1))
            .feedback("HALVE")
            .consumer("COLLECT", collected.collector())
            .queue_limit(Some(1))
            .build()
            .unwrap()
            .run(mode)
            .unwrap();
        assert_eq!(report.verdict, Verdict::Done);
        assert_balanced(&report);
        let odd_part = |n: i64| if n == 0 { 0 } else { n >> n.trailing_zeros() };
        let mut expected: Vec<i64> = (0..500).map(odd_part).collect();
        expected.sort_unstable();
        assert_eq!(collected.sorted(), expected);
    }
}

#[test]
fn ctapipe_two_runs_on_one_machine_do_not_mix() {
    let runs: Vec<_> = (0..4)
        .map(|run| {
            let collected = Collected::default();
            let handle = Pipeline::builder()
                .producer("NUMBERS", Numbers::below(3000))
                .stage("TAG", move || {
                    Call(move |number, out: &mut Emitter<i64>| out.send(number * 4 + run))
                })
                .threads(2)
                .consumer("COLLECT", collected.collector())
                .build()
                .unwrap()
                .start(Mode::Threads)
                .unwrap();
            (run, collected, handle)
        })
        .collect();
    for (run, collected, handle) in runs {
        assert_eq!(handle.wait().unwrap().verdict, Verdict::Done);
        let expected: Vec<i64> = (0..3000).map(|number| number * 4 + run).collect();
        assert_eq!(collected.sorted(), expected);
    }
}

/// The end of a run is counted: ctapipe guessed it from a second of quiet,
/// and then `finish` ran before the last `run`.
#[test]
fn ctapipe_finish_comes_after_the_last_run_however_slow_the_consumer() {
    let collected = Collected::default();
    let report = Pipeline::builder()
        .producer("NUMBERS", Numbers::below(300))
        .stage("SQUARE", || Call(square))
        .threads(4)
        .consumer("COLLECT", collected.collector())
        .threads(3)
        .build()
        .unwrap()
        .run(Mode::Threads)
        .unwrap();
    assert_eq!(report.verdict, Verdict::Done);
    assert_eq!((collected.sorted().len(), collected.finished()), (300, 3));
}

#[test]
fn what_finish_emits_is_processed() {
    struct Total(i64);
    impl Stage for Total {
        type In = i64;
        type Out = i64;
        fn run(&mut self, number: i64, _: &mut Emitter<i64>) -> Result<()> {
            self.0 += number;
            Ok(())
        }
        fn finish(&mut self, out: &mut Emitter<i64>) -> Result<()> {
            out.send(self.0)
        }
    }
    for mode in [Mode::Sequential, Mode::Threads] {
        let collected = Collected::default();
        let report = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(101))
            .stage("TOTAL", || Total(0))
            .threads(4)
            .stage("PASS", || Call(|number, out: &mut Emitter<i64>| out.send(number)))
            .consumer("COLLECT", collected.collector())
            .build()
            .unwrap()
            .run(mode)
            .unwrap();
        assert_balanced(&report);
        assert_eq!(report.step("TOTAL").unwrap().counts.filtered, 101);
        assert_eq!(collected.in_order().len(), 4);
        assert_eq!(collected.in_order().iter().sum::<i64>(), 5050);
    }
}

#[test]
fn a_producer_that_idles_is_asked_again() {
    struct Hesitant(u32);
    impl Producer for Hesitant {
        type Out = i64;
        fn next(&mut self, out: &mut Emitter<i64>) -> Result<Next> {
            self.0 += 1;
            match self.0 {
                1 | 3 => Ok(Next::Idle(std::time::Duration::from_millis(2))),
                5 => Ok(Next::Done),
                _ => out.send(i64::from(self.0)).map(|()| Next::More),
            }
        }
    }
    for mode in [Mode::Sequential, Mode::Threads] {
        let collected = Collected::default();
        Pipeline::builder()
            .producer("HESITANT", || Hesitant(0))
            .consumer("COLLECT", collected.collector())
            .build()
            .unwrap()
            .run(mode)
            .unwrap();
        assert_eq!(collected.in_order(), [2, 4]);
    }
}

#[test]
fn large_arrays_cross_steps_unchanged() {
    #[derive(Serialize, Deserialize)]
    struct Image {
        number: i64,
        pixels: Buffer<f32>,
    }
    impl Data for Image {
        const TYPE: &'static str = "test/Image/1";
    }
    struct Make;
    impl Stage for Make {
        type In = i64;
        type Out = Image;
        fn run(&mut self, number: i64, out: &mut Emitter<Image>) -> Result<()> {
            out.send(Image { number, pixels: vec![number as f32; 100_000].into() })
        }
    }
    struct Brighten;
    impl Stage for Brighten {
        type In = Image;
        type Out = Image;
        fn run(&mut self, mut image: Image, out: &mut Emitter<Image>) -> Result<()> {
            image.pixels.to_mut().iter_mut().for_each(|pixel| *pixel += 1.0);
            out.send(image)
        }
    }
    struct Reduce;
    impl Stage for Reduce {
        type In = Image;
        type Out = i64;
        fn run(&mut self, image: Image, out: &mut Emitter<i64>) -> Result<()> {
            let expected = image.number as f32 + 1.0;
            assert!(image.pixels.iter().all(|pixel| *pixel == expected));
            out.send(image.number)
        }
    }
    for mode in [Mode::Sequential, Mode::Threads] {
        let collected = Collected::default();
        let report = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(50))
            .stage("MAKE", || Make)
            .threads(2)
            .stage("BRIGHTEN", || Brighten)
            .threads(2)
            .queue_bytes(Some(1_000_000))
            .stage("REDUCE", || Reduce)
            .consumer("COLLECT", collected.collector())
            .build()
            .unwrap()
            .run(mode)
            .unwrap();
        assert_eq!(report.verdict, Verdict::Done);
        assert_eq!(collected.sorted(), (0..50).collect::<Vec<_>>());
        // 1 MB holds two images of 400 kB.
        assert!(report.step("BRIGHTEN").unwrap().queue_high_water <= 2);
    }
}

/// Counts what has arrived, and lets others wait for it.
#[derive(Clone, Default)]
struct Arrived(Arc<(Mutex<i64>, Condvar)>);

impl Arrived {
    fn add_one(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
    }

    fn wait_for(&self, count: i64) {
        let arrived = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(arrived, |arrived| *arrived < count).unwrap());
    }
}

struct Count(Arrived);

impl Consumer for Count {
    type In = i64;
    fn run(&mut self, _: i64) -> Result<()> {
        self.0.add_one();
        Ok(())
    }
}

/// Request and response: the next request needs the response to the latest.
#[test]
fn what_a_producer_has_emitted_goes_on_while_its_next_call_waits() {
    const COUNT: i64 = 30;
    struct Ask(i64, Arrived);
    impl Producer for Ask {
        type Out = i64;
        fn next(&mut self, out: &mut Emitter<i64>) -> Result<Next> {
            if self.0 % COUNT == 0 {
                self.1.wait_for(self.0);
            }
            out.send(self.0)?;
            self.0 += 1;
            Ok(if self.0 < 5 * COUNT { Next::More } else { Next::Done })
        }
    }
    for mode in [Mode::Sequential, Mode::Threads] {
        let arrived = Arrived::default();
        let (asked, answered) = (arrived.clone(), arrived.clone());
        let report = Pipeline::builder()
            .producer("ASK", move || Ask(0, asked.clone()))
            .consumer("COUNT", move || Count(answered.clone()))
            .build()
            .unwrap()
            .run(mode)
            .unwrap();
        assert_eq!(report.verdict, Verdict::Done);
        assert_balanced(&report);
        assert_eq!(report.step("COUNT").unwrap().counts.done, 5 * COUNT as u64);
    }
}

#[test]
fn messages_that_are_done_do_not_wait_for_one_behind_them_that_takes_long() {
    const LAST: i64 = 999;
    let arrived = Arrived::default();
    let (waited, counted) = (arrived.clone(), arrived);
    let report = Pipeline::builder()
        .producer("NUMBERS", Numbers::below(LAST + 1))
        .stage("WAIT", move || {
            let arrived = waited.clone();
            Call(move |number: i64, out: &mut Emitter<i64>| {
                if number % 100 == 99 {
                    arrived.wait_for(number);
                }
                out.send(number)
            })
        })
        .consumer("COUNT", move || Count(counted.clone()))
        .build()
        .unwrap()
        .run(Mode::Threads)
        .unwrap();
    assert_eq!(report.verdict, Verdict::Done);
    assert_balanced(&report);
}
