//! What the pipeline is compared with: the same hops made by hand.

use std::path::{Path, PathBuf};
use std::time::Instant;

use drpipe::prelude::Buffer;
use drpipe::stages::{HistogramEqualization, ReadOptions, read_frame, remove_noise, write_png};
use rayon::prelude::*;

use crate::rate;

/// Workers of the middle step.
const WORKERS: usize = 2;

/// Bare libzmq over inproc: PUSH -> `stagers` times (PULL, PUSH) on two threads
/// -> PULL. An empty message is the end.
pub fn push_pull(count: usize, size: usize, stagers: usize) -> f64 {
    let context = zmq::Context::new();
    let socket = |kind, name: &str, bind: bool| {
        let socket = context.socket(kind).unwrap();
        socket.set_linger(0).unwrap();
        // Without limits a PUSH socket deals strictly in turn: each worker gets
        // one of the end marks.
        socket.set_sndhwm(0).unwrap();
        socket.set_rcvhwm(0).unwrap();
        let endpoint = format!("inproc://{name}");
        if bind { socket.bind(&endpoint) } else { socket.connect(&endpoint) }.unwrap();
        socket
    };
    // Between two steps stands one queue: the sender of the last step binds.
    let end = socket(zmq::PULL, "end", true);
    let first = socket(zmq::PUSH, "step0", true);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let message = vec![7_u8; size];
            (0..count).for_each(|_| first.send(&message[..], 0).unwrap());
            (0..WORKERS).for_each(|_| first.send(&[][..], 0).unwrap());
        });
        for worker in 0..WORKERS {
            // Each worker is a chain of its own through the stagers.
            let mut input = socket(zmq::PULL, "step0", false);
            for stager in 1..=stagers {
                let last = stager == stagers;
                let name = if last { "end".to_owned() } else { format!("step{stager}-{worker}") };
                let output = socket(zmq::PUSH, &name, !last);
                let next = (!last).then(|| socket(zmq::PULL, &name, false));
                scope.spawn(move || {
                    loop {
                        let message = input.recv_msg(0).unwrap();
                        let over = message.is_empty();
                        output.send(message, 0).unwrap();
                        if over {
                            // Linger is 0: the socket must outlive what it has sent.
                            return (input, output);
                        }
                    }
                });
                match next {
                    Some(next) => input = next,
                    None => break,
                }
            }
        }
        let mut ended = 0;
        let mut message = zmq::Message::new();
        while ended < WORKERS {
            end.recv(&mut message, 0).unwrap();
            ended += usize::from(message.is_empty());
        }
    });
    rate(count, start.elapsed())
}

/// crossbeam channels: producer -> threads that apply `work` -> consumer.
pub fn crossbeam<T: Send, R: Send>(
    count: usize,
    workers: usize,
    make: impl Fn(usize) -> T + Send,
    work: impl Fn(T) -> R + Sync,
) -> f64 {
    let (to_workers, inputs) = crossbeam_channel::bounded::<T>(100);
    let (to_end, outputs) = crossbeam_channel::bounded::<R>(100);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || (0..count).for_each(|n| to_workers.send(make(n)).unwrap()));
        for _ in 0..workers {
            let (inputs, to_end, work) = (inputs.clone(), to_end.clone(), &work);
            scope.spawn(move || inputs.iter().for_each(|input| to_end.send(work(input)).unwrap()));
        }
        drop(to_end);
        outputs.iter().for_each(|output| {
            std::hint::black_box(output);
        });
    });
    rate(count, start.elapsed())
}

/// What survives a power cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Survives {
    Contents,
    /// As SavePng's.
    ContentsAndName,
}

/// The loop that one would write by hand: the same functions on rayon's threads.
pub fn fits2png(files: &[PathBuf], directory: &Path, threads: usize, survives: Survives) -> f64 {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let start = Instant::now();
    pool.install(|| {
        files.par_iter().for_each(|file| {
            let name = file.file_stem().unwrap().to_str().unwrap();
            let frame = read_frame(file, name, &ReadOptions::default()).unwrap();
            let (width, height) = frame.size().unwrap();
            let mut pixels = frame.pixels.to_f32().into_owned();
            remove_noise(&mut pixels, width, 3.0, 2, |_, _| ());
            let gray = HistogramEqualization::default().equalize(&pixels).unwrap();
            // To a temporary name, to the disk, renamed.
            let mut part = tempfile::NamedTempFile::new_in(directory).unwrap();
            write_png(&mut part, &gray, width as u32, height as u32).unwrap();
            part.as_file().sync_all().unwrap();
            part.persist(directory.join(name).with_extension("png")).unwrap();
            if survives == Survives::ContentsAndName {
                std::fs::File::open(directory).unwrap().sync_all().unwrap();
            }
        });
    });
    start.elapsed().as_secs_f64()
}

/// The sum of a mebibyte of pixels.
pub fn sum(pixels: &[f32]) -> f64 {
    pixels.iter().map(|pixel| f64::from(*pixel)).sum()
}

/// A mebibyte of pixels.
pub fn mebibyte(n: usize) -> Buffer<f32> {
    vec![n as f32; 1 << 18].into()
}
