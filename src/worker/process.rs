//! A worker in a process of its own: the side of the process.
//!
//! The supervisor starts the program anew, with its end of the lifeline as
//! standard input. The first thing that comes over it is the post.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, getpgrp, kill_current_process_group};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::page::Page;
use super::reaper;
use super::reaper::KEEPER;
use super::serve::{Watch, serve};
use crate::base::failure::Failure;
use crate::base::path_name::as_texts;
use crate::memory::segment;
use crate::protocol::lifeline::Lifeline;
use crate::stage::Context;
use crate::stage::registry::{Build, Kind, Registry};
use crate::transport::zmq::link::{Link, Place};

/// The variable that makes the program a worker; its value is the process that
/// started it.
pub(crate) const VARIABLE: &str = "DRPIPE_WORKER";
/// The time between two signs of life.
pub(crate) const BEAT: Duration = Duration::from_secs(1);

/// What a worker process needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) place: Place,
    pub(crate) context: Context,
    pub(crate) class: String,
    pub(crate) params: Value,
    /// The run's private directory.
    pub(crate) directory: PathBuf,
    /// In bytes.
    pub(crate) memory_limit: Option<u64>,
    /// For a worker in Python.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) python: Option<InPython>,
}

/// What a worker in Python needs to know besides.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InPython {
    /// The module that has the class.
    pub(crate) module: String,
    /// The place of its step in the pipeline, which a class need not say itself.
    pub(crate) role: Kind,
    /// Directories that modules are looked for in before all others.
    #[serde(with = "as_texts")]
    pub(crate) paths: Vec<PathBuf>,
    /// The whole configuration, for a class that takes it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) configuration: Value,
    /// Whether what is sent to each next step is opened in Python, if at all.
    pub(crate) to_python: Vec<bool>,
}

/// Whether this process was started as a worker: its standard input is the other
/// end of a socket of the process that the variable names. That stays so when
/// that process dies, and is not so in what a stage starts.
pub(crate) fn is_worker() -> bool {
    let Ok(starter) = std::env::var(VARIABLE) else { return false };
    let peer = rustix::net::sockopt::socket_peercred(io::stdin());
    peer.is_ok_and(|peer| peer.pid.as_raw_nonzero().get().to_string() == starter)
}

/// This very program, also where its file has been replaced.
pub(crate) const ITSELF: &str = "/proc/self/exe";

/// What is missing is the path by which the program finds itself.
pub(crate) fn without_itself(error: io::Error) -> io::Error {
    if Path::new(ITSELF).exists() {
        return error;
    }
    let message = format!(
        "there is no {ITSELF}, by which worker processes are started: mount /proc, or use \
         nb_thread instead of nb_process"
    );
    io::Error::new(error.kind(), message)
}

/// The variables that make a worker one in Python: the interpreter, and what it is to run.
pub(crate) const INTERPRETER: &str = "DRPIPE_PYTHON";
pub(crate) const MAIN: &str = "DRPIPE_PYTHON_MAIN";

/// Runs this process as a worker, or as what the supervisor has started it for besides, to
/// its end.
pub(crate) fn run(registry: &Registry) -> ! {
    if let Some(directory) = std::env::var_os(KEEPER) {
        match take_standard_input() {
            Ok(lifeline) => reaper::run(Path::new(&directory), lifeline),
            Err(_) => std::process::exit(EXIT_LOST.into()),
        }
    }
    offer_to_the_memory_killer();
    if let (Some(interpreter), Some(main)) = (std::env::var_os(INTERPRETER), std::env::var_os(MAIN))
    {
        become_python(&interpreter, &main);
    }
    // The supervisor tells of an end in error; nobody is left to be told more.
    let code = work(registry).unwrap_or(EXIT_LOST);
    std::process::exit(code.into())
}

/// Where memory runs out, the system is to take a worker, which is replaced, and not the
/// program.
fn offer_to_the_memory_killer() {
    const FILE: &str = "/proc/self/oom_score_adj";
    const MORE: i32 = 300;
    const MOST: i32 = 1000;
    let now = std::fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(now) = now {
        // Where it is refused the worker is as good as the program.
        let _ = std::fs::write(FILE, (now + MORE).min(MOST).to_string());
    }
}

/// Goes on as the interpreter. A thread there that watches over the lifeline may
/// have to wait for code that holds the interpreter's lock: the system itself
/// ends this process with the one that started it.
fn become_python(interpreter: &OsStr, main: &OsStr) -> ! {
    let bound = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if bound.is_err() || parent != std::env::var(VARIABLE).ok() {
        std::process::exit(EXIT_LOST.into());
    }
    let error = std::process::Command::new(interpreter)
        .arg(main)
        .args(std::env::args_os().skip(2))
        .env_remove(INTERPRETER)
        .env_remove(MAIN)
        .exec();
    // Standard error is read by the supervisor, and goes into the run's log.
    let _ = writeln!(io::stderr(), "cannot start {}: {error}", Path::new(interpreter).display());
    std::process::exit(EXIT_LOST.into());
}

/// The exit code of a worker that can no longer talk to the router.
pub(crate) const EXIT_LOST: u8 = 113;
/// The exit code of a worker that has more memory than its limit after a message.
pub(crate) const EXIT_FULL: u8 = 114;
/// The exit code of a worker whose threads wanted to send after their call had returned.
pub(crate) const EXIT_LATE: u8 = 115;

/// The exit code.
fn work(registry: &Registry) -> Result<u8, Failure> {
    let lifeline = take_standard_input()?;
    name_after_the_program();
    let (text, file) = lifeline.receive_post()?;
    let page = Arc::new(Page::open(file)?);
    page.beat();
    let Assignment { place, context, class, params, directory, memory_limit, .. } =
        serde_json::from_slice(&text)?;
    watch_over(lifeline.try_clone()?, Arc::clone(&page), directory.clone())?;
    segment::share_from_here();
    let link = Link::ipc(&directory, place, lifeline)?;
    let build: Build = match registry.get(&class) {
        Some(class) => class.with_params(params),
        None => Arc::new(move || Err(unknown(&class))),
    };
    let watch = Watch::Process { page, memory_limit, full: Cell::new(false) };
    serve(link, &build, context, &watch)?;
    Ok(if watch.is_full() { EXIT_FULL } else { 0 })
}

fn unknown(class: &str) -> Failure {
    Failure::permanent(format!(
        "the worker process does not know the class \"{class}\": give serve_worker the registry \
         that the pipeline was loaded with"
    ))
}

/// In a list of processes it is found under the program's name.
pub(crate) fn name_after_the_program() {
    let program = std::env::args_os().next().map(PathBuf::from);
    let name = program.as_deref().and_then(Path::file_name);
    // Only a name: nothing depends on it.
    let _ = std::fs::write("/proc/self/comm", name.unwrap_or_default().as_encoded_bytes());
}

/// The lifeline, which no stage and no program that a stage starts gets at.
fn take_standard_input() -> io::Result<Lifeline> {
    let lifeline = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(OpenOptions::new().read(true).open("/dev/null")?)?;
    Ok(lifeline.into())
}

/// Starts the thread that gives signs of life, and ends this process, and all
/// that it has started, when the program has died.
fn watch_over(lifeline: Lifeline, page: Arc<Page>, directory: PathBuf) -> io::Result<()> {
    let watch = move || {
        let beat = Timespec { tv_sec: BEAT.as_secs() as i64, tv_nsec: 0 };
        loop {
            page.beat();
            let mut ends = [PollFd::new(&lifeline, PollFlags::empty())];
            let waited = poll(&mut ends, Some(&beat));
            if waited.is_ok_and(|count| count > 0) {
                break;
            }
        }
        // What the program would have removed itself.
        let _ = std::fs::remove_dir_all(directory);
        if getpgrp().as_raw_nonzero().get() as u32 == std::process::id() {
            let _ = kill_current_process_group(Signal::KILL);
        }
        std::process::abort();
    };
    std::thread::Builder::new().name("lifeline".into()).spawn(watch).map(drop)
}
