//! The cases and their bars.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use drpipe::config;
use drpipe::pipeline::{Builder, Mode, Pipeline, Report, Verdict};
use drpipe::prelude::*;

use crate::peers::Survives;
use crate::stages::{Block, Forget, Frame, compute, emit, map};
use crate::{Line, keck, medians, peers, python, rate, scaling};

type Case = fn() -> Vec<Line>;

pub const ALL: [(&str, Case); 24] = [
    ("tiny", tiny),
    ("blocks", blocks),
    ("header", header),
    ("sum", sum),
    ("latency", latency),
    ("compute", computing),
    ("backpressure", backpressure),
    ("threads", threads),
    ("memory", memory),
    ("mixed", mixed),
    ("processes", crate::processes::processes),
    ("pool", crate::pool::pool),
    ("fits2png", fits2png),
    ("python", pools),
    ("in-python", crate::in_python::steps),
    ("python-start", crate::in_python::starts),
    ("watched", crate::watched::watched),
    ("scaling-threads", scaling::threads),
    ("scaling-processes", scaling::processes),
    ("scaling-python", scaling::steps_in_python),
    ("scaling-share", scaling::share),
    ("scaling-wakeups", scaling::wakeups),
    ("scaling-idle", scaling::idle),
    ("keck", keck),
];

fn run(builder: Builder) -> Report {
    let report = builder.build().unwrap().run(Mode::Threads).unwrap();
    assert_eq!(report.verdict, Verdict::Done);
    report
}

/// Numbers through so many steps of two threads.
fn numbers(count: usize, stagers: usize, limit: Option<usize>) -> f64 {
    let mut builder = Pipeline::builder().producer("NUMBERS", emit(count, |n| n as i64));
    for stager in 0..stagers {
        let pass = map::<i64, i64>(|number| number);
        builder = builder.stage(&format!("PASS{stager}"), pass).threads(2).queue_limit(limit);
    }
    let builder = builder.consumer("END", Forget::<i64>::default).queue_limit(limit);
    rate(count, run(builder).elapsed)
}

const WIDE: Option<usize> = Some(4096);
const DEFAULT: Option<usize> = Some(1024);

fn tiny() -> Vec<Line> {
    let count = 2_000_000;
    let [one, default, three, bare, bare_three, channel] = medians([
        &|| numbers(count, 1, WIDE),
        &|| numbers(count, 1, DEFAULT),
        &|| numbers(count, 3, WIDE),
        &|| peers::push_pull(count, 8, 1),
        &|| peers::push_pull(count, 8, 3),
        &|| peers::crossbeam(count, 2, |n| n as i64, |number| number),
    ]);
    vec![
        Line::new("8 bytes, 1 stager x2, queue_limit 4096", one, "/s").at_least(2e6),
        Line::new("  against bare PUSH/PULL", one / bare, "").at_least(0.5),
        Line::new("  against crossbeam-channel (bounded 100)", one / channel, ""),
        Line::new("8 bytes, 1 stager x2, the default queue", default, "/s"),
        Line::new("8 bytes, 3 stagers x2, queue_limit 4096", three, "/s").at_least(8e5),
        Line::new("  against bare PUSH/PULL", three / bare_three, ""),
    ]
}

fn blocks() -> Vec<Line> {
    let count = 300_000;
    let make = |_| Block(vec![1_u8; 8192].into());
    let ours = |limit| {
        let builder = Pipeline::builder()
            .producer("BLOCKS", emit(count, make))
            .stage("PASS", map::<Block, Block>(|block| block))
            .threads(2)
            .queue_limit(limit)
            .consumer("END", Forget::<Block>::default)
            .queue_limit(limit);
        rate(count, run(builder).elapsed)
    };
    let [wide, default, bare] =
        medians([&|| ours(WIDE), &|| ours(DEFAULT), &|| peers::push_pull(count, 8192, 1)]);
    vec![
        Line::new("8 KiB, 1 stager x2, queue_limit 4096", wide, "/s").at_least(4e5),
        Line::new("  against bare PUSH/PULL", wide / bare, ""),
        Line::new("8 KiB, 1 stager x2, the default queue", default, "/s"),
    ]
}

fn header() -> Vec<Line> {
    let count = 5_000;
    let pixels: Buffer<f32> = vec![1.0; 4 << 20].into();
    let large = || {
        let pixels = pixels.clone();
        let builder = Pipeline::builder()
            .producer(
                "FRAMES",
                emit(count, move |n| Frame { number: n as u64, pixels: pixels.clone() }),
            )
            .stage("READ", map::<Frame, Frame>(|frame| frame))
            .threads(2)
            .queue_limit(Some(1))
            .consumer("END", Forget::<Frame>::default)
            .queue_limit(Some(1));
        run(builder).elapsed.as_secs_f64() / count as f64 / 2.0 * 1e6
    };
    let alone = || 1e6 / 2.0 / numbers(count, 1, Some(1));
    let [large, alone] = medians([&large, &alone]);
    vec![
        Line::new("16 MiB, header only, queue_limit 1: per hop", large, "us"),
        Line::new("8 bytes, queue_limit 1: per hop", alone, "us"),
        Line::new("  ratio", large / alone, "").at_most(3.0),
    ]
}

fn sum() -> Vec<Line> {
    let count = 4_000;
    let ours = || {
        let builder = Pipeline::builder()
            .producer("FRAMES", emit(count, |n| Frame { number: 0, pixels: peers::mebibyte(n) }))
            .stage("SUM", map::<Frame, f64>(|frame| peers::sum(&frame.pixels)))
            .threads(2)
            .consumer("END", Forget::<f64>::default);
        rate(count, run(builder).elapsed)
    };
    let channel =
        || peers::crossbeam(count, 2, |n| vec![n as f32; 1 << 18], |pixels| peers::sum(&pixels));
    let [ours, channel] = medians([&ours, &channel]);
    vec![
        Line::new("1 MiB, stage sums x2", ours, "/s"),
        Line::new("  against crossbeam-channel", ours / channel, "").at_least(0.8),
    ]
}

/// Sends the instant of its sending, one after the other has arrived.
fn latency() -> Vec<Line> {
    struct Clock {
        start: Instant,
        arrived: mpsc::Sender<()>,
        times: Arc<Mutex<Vec<f64>>>,
    }
    impl Consumer for Clock {
        type In = i64;
        fn run(&mut self, sent: i64) -> Result<()> {
            let now = self.start.elapsed().as_nanos() as i64;
            self.times.lock().unwrap().push((now - sent) as f64 / 2e3);
            self.arrived.send(()).unwrap();
            Ok(())
        }
    }
    let start = Instant::now();
    let times = Arc::new(Mutex::new(Vec::new()));
    let (arrived, arrivals) = mpsc::channel();
    let arrivals = Mutex::new(arrivals);
    let collected = Arc::clone(&times);
    let builder = Pipeline::builder()
        .producer(
            "PING",
            emit(20_000, move |n| {
                if n > 0 {
                    arrivals.lock().unwrap().recv().unwrap();
                }
                start.elapsed().as_nanos() as i64
            }),
        )
        .stage("PASS", map::<i64, i64>(|sent| sent))
        .queue_limit(Some(1))
        .consumer("CLOCK", move || Clock {
            start,
            arrived: arrived.clone(),
            times: Arc::clone(&collected),
        })
        .queue_limit(Some(1));
    run(builder);
    let mut times = times.lock().unwrap().clone();
    times.sort_by(f64::total_cmp);
    vec![
        Line::new("one message at a time: p50 per hop", times[times.len() / 2], "us").at_most(60.0),
        Line::new("one message at a time: p99 per hop", times[times.len() * 99 / 100], "us")
            .at_most(300.0),
    ]
}

fn working(count: usize, threads: usize, limit: Option<usize>, work: fn(i64) -> i64) -> f64 {
    let builder = Pipeline::builder()
        .producer("NUMBERS", emit(count, |n| n as i64))
        .stage("WORK", map(work))
        .threads(threads)
        .queue_limit(limit)
        .consumer("END", Forget::<i64>::default)
        .queue_limit(limit);
    run(builder).elapsed.as_secs_f64()
}

fn computing() -> Vec<Line> {
    let work = |number| {
        compute(Duration::from_millis(5));
        number
    };
    let [one, two] =
        medians([&|| working(200, 1, DEFAULT, work), &|| working(200, 2, DEFAULT, work)]);
    vec![Line::new("5 ms of computing: 1 -> 2 threads", one / two, "x").at_least(1.95)]
}

fn sleep(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

fn backpressure() -> Vec<Line> {
    let work = |number| {
        sleep(5);
        number
    };
    let [bounded, unbounded] =
        medians([&|| working(200, 2, Some(10), work), &|| working(200, 2, None, work)]);
    vec![
        Line::new("5 ms of sleep: queue_limit 10 against unbounded", bounded / unbounded, "")
            .at_most(1.02),
    ]
}

fn threads() -> Vec<Line> {
    let work = |number| {
        sleep(10);
        number
    };
    let [time] = medians([&|| working(12_800, 64, WIDE, work)]);
    vec![
        Line::new("10 ms of sleep on 64 threads", 12_800.0 / time, "/s"),
        Line::new("  against 6 400 /s", 2.0 / time, "").at_least(0.95),
    ]
}

/// 1 MiB frames behind a 20 ms stage: run in a process of its own.
pub fn print_peak_memory(frames: usize) {
    let builder = Pipeline::builder()
        .producer("FRAMES", emit(frames, |n| Frame { number: 0, pixels: peers::mebibyte(n) }))
        .stage(
            "SLOW",
            map::<Frame, f64>(|frame| {
                sleep(20);
                peers::sum(&frame.pixels)
            }),
        )
        .threads(2)
        .queue_limit(Some(4))
        .consumer("END", Forget::<f64>::default);
    run(builder);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    println!("{}", line.split_whitespace().nth(1).unwrap());
}

fn memory() -> Vec<Line> {
    let peak = |frames: usize| {
        let program = std::env::current_exe().unwrap();
        let output =
            Command::new(program).args(["memory-of", &frames.to_string()]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<f64>().unwrap() / 1024.0
    };
    let [idle, some, many] = medians([&|| peak(0), &|| peak(300), &|| peak(3000)]);
    vec![
        Line::new("300 x 1 MiB behind 20 ms, queue_limit 4: above idle", some - idle, "MiB")
            .at_most(40.0),
        Line::new("3 000 of them: above idle", many - idle, "MiB").at_most(40.0),
    ]
}

fn mixed() -> Vec<Line> {
    let work = |number: i64| {
        sleep(if number == 0 { 1000 } else { 1 });
        number
    };
    let ratio = || {
        let builder = Pipeline::builder()
            .producer("NUMBERS", emit(10_000, |n| n as i64))
            .stage("WORK", map(work))
            .threads(2)
            .consumer("END", Forget::<i64>::default);
        let report = run(builder);
        let busy = report.step("WORK").unwrap().busy_percent / 100.0;
        // The workers' own time, spread evenly over the two, is the ideal.
        1.0 / busy
    };
    let [ratio] = medians([&ratio]);
    vec![Line::new("1 s among 10 000 of 1 ms: makespan / ideal", ratio, "").at_most(1.05)]
}

/// Copies of the Keck frames, as many as a small night has.
fn frames(folder: &Path) -> Option<Vec<PathBuf>> {
    let data = std::env::var_os("DRPIPE_TEST_DATA").map(PathBuf::from);
    let keck = data.unwrap_or_else(|| "../shared/data".into()).join("keck");
    let Ok(originals) = std::fs::read_dir(&keck) else {
        println!("  skipped: no frames in {}; set DRPIPE_TEST_DATA", keck.display());
        return None;
    };
    let originals: Vec<PathBuf> = originals.map(|entry| entry.unwrap().path()).collect();
    let copy = |n: usize| {
        let copy = folder.join(format!("{n:03}.fits"));
        std::fs::copy(&originals[n % originals.len()], &copy).unwrap();
        copy
    };
    Some((0..120).map(copy).collect())
}

fn fits2png() -> Vec<Line> {
    let folder = tempfile::tempdir().unwrap();
    let Some(files) = frames(folder.path()) else { return Vec::new() };
    let mut registry = Registry::new();
    drpipe::stages::register(&mut registry);
    let file = folder.path().join("pipeline.json");
    std::fs::copy("examples/fits2png.json", &file).unwrap();
    let ours = |threads: usize| {
        let set = |text: String| config::Setting::parse(&text).unwrap();
        let mut settings = vec![
            set(format!("FitsFiles.directory={}", folder.path().display())),
            set(format!("SavePng.directory={}", folder.path().join("png").display())),
        ];
        for step in ["READ", "CLEAN", "EQUALIZE", "SAVE"] {
            settings.push(set(format!("{step}.nb_thread={threads}")));
        }
        let pipeline = Pipeline::load(&file, &registry, &settings).unwrap();
        let start = Instant::now();
        assert_eq!(pipeline.run(Mode::Threads).unwrap().verdict, Verdict::Done);
        start.elapsed().as_secs_f64()
    };
    let by_hand = folder.path().join("by-hand");
    std::fs::create_dir(&by_hand).unwrap();
    let mut lines = Vec::new();
    for threads in [1, 2, 8, 16] {
        let rayon = |survives| peers::fits2png(&files, &by_hand, threads, survives);
        let [ours, rayon, synced] =
            medians([&|| ours(threads), &|| rayon(Survives::Contents), &|| {
                rayon(Survives::ContentsAndName)
            }]);
        lines.push(Line::new(
            format!("fits2png of 120 frames, {threads} threads a step"),
            ours,
            "s",
        ));
        let what = format!("  against rayon by hand on {threads} threads");
        lines.push(Line::new(what, ours / rayon, "").at_most(1.05));
        lines.push(Line::new("  the same, with names that survive a power cut", ours / synced, ""));
    }
    lines
}

fn pools() -> Vec<Line> {
    let Some(version) = python::version() else {
        println!("  skipped: no python3 in the PATH");
        return Vec::new();
    };
    println!("  {version}");
    // A run of one to two seconds for each.
    let [ours, one, chunks, map, submit] = medians([
        &|| numbers(4_000_000, 1, WIDE),
        &|| python::pool("imap_unordered-1", 100_000),
        &|| python::pool("imap_unordered-256", 5_000_000),
        &|| python::pool("executor-map", 12_000),
        &|| python::pool("executor-submit", 12_000),
    ]);
    let mut lines = vec![Line::new("8 bytes, 1 stager x2, queue_limit 4096", ours, "/s")];
    for (what, theirs) in [
        ("Pool(2).imap_unordered, chunksize 1", one),
        ("Pool(2).imap_unordered, chunksize 256", chunks),
        ("ProcessPoolExecutor(2).map, chunksize 1", map),
        ("ProcessPoolExecutor(2).submit one by one", submit),
    ] {
        lines.push(Line::new(what, theirs, "/s"));
        lines.push(Line::new("  the pipeline against it", ours / theirs, "x"));
    }
    lines
}

/// Its example leaves noise removal out, so the pipeline does without, too.
fn keck() -> Vec<Line> {
    let Some(installed) = keck::find() else {
        println!(
            "  skipped: no keckdrpframework; python3 -m venv keck && \
             keck/bin/pip install 'keckdrpframework[demos]' 'pandas<3', then set \
             DRPIPE_BENCH_KECK_PYTHON to keck/bin/python"
        );
        return Vec::new();
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(files) = frames(folder) else { return Vec::new() };
    println!("  {}", installed.versions);
    let pictures = folder.join("png");
    let ours = || {
        _ = std::fs::remove_dir_all(&pictures);
        let mut command = Command::new(env!("CARGO_BIN_EXE_drpipe"));
        command
            .args(["-c", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fits2png.json")])
            .arg(format!("--FitsFiles.directory={}", folder.display()))
            .arg(format!("--SavePng.directory={}", pictures.display()))
            .arg("--NoiseRemoval.passes=0")
            .current_dir(folder);
        let start = Instant::now();
        let output = command.output().unwrap();
        let time = start.elapsed().as_secs_f64();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        time
    };
    let keck = keck::Keck::start(&installed, folder);
    let [ours, ingest, work, between] =
        medians([&ours, &|| keck.ingest(folder), &|| keck.work(), &|| {
            keck.between_pictures(files.len())
        }]);
    for file in &files {
        let name = Path::new(file.file_name().unwrap()).with_extension("png");
        let gray = |path: PathBuf| image::open(path).unwrap().into_rgb8();
        assert!(gray(pictures.join(&name)) == gray(keck.pictures().join(&name)), "{name:?}");
    }
    keck.stop();
    vec![
        Line::new("fits2png of 120 frames: drpipe, start to exit", ours, "s"),
        Line::new("Keck DRP framework, two workers, start to exit", work, "s"),
        Line::new("  against drpipe", work / ours, "x").at_least(10.0),
        Line::new("Keck DRP framework, ingest before that", ingest, "s"),
        Line::new("  both against drpipe", (ingest + work) / ours, "x"),
        Line::new("Keck DRP framework, from its first picture to its last", between, "s"),
        Line::new("  against all of drpipe", between / ours, "x"),
    ]
}
