//! A worker in a process of its own, seen from the process.
//!
//! The supervisor starts the program anew, with one end of the lifeline as standard input. The
//! first thing that arrives over it is the [`Assignment`].

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpgrp, kill_current_process_group};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::page::Page;
use super::reexec::{
    EXIT_FULL, EXIT_LOST, HEARTBEAT, INTERPRETER, MAIN, REAPER, STARTER, name_after_the_program,
};
use super::serve::{Host, serve};
use super::{process_log, reaper};
use crate::base::failure::Failure;
use crate::base::ids::WorkerId;
use crate::base::path_name::as_texts;
use crate::memory::segment;
use crate::protocol::lifeline::Lifeline;
use crate::stage::Context;
use crate::stage::registry::{Build, Kind, Registry};
use crate::transport::wakeable::timespec;
use crate::transport::zmtp::ZmtpLink;

/// What a worker process needs to know. docs/WIRE.md specifies its form.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) place: WorkerId,
    pub(crate) context: Context,
    pub(crate) class: String,
    pub(crate) params: Value,
    /// The run's private directory.
    pub(crate) directory: PathBuf,
    /// In bytes.
    pub(crate) memory_limit: Option<u64>,
    /// Present for a worker in Python.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) python: Option<InPython>,
}

/// What a worker in Python also needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InPython {
    /// The module that has the class.
    pub(crate) module: String,
    /// The role of its step in the pipeline, which a class need not name itself.
    pub(crate) role: Kind,
    /// Directories to search for modules before all others.
    #[serde(with = "as_texts")]
    pub(crate) paths: Vec<PathBuf>,
    /// The whole configuration, for a class that takes it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) configuration: Value,
    /// For each next step, whether it opens in Python what it is sent.
    pub(crate) to_python: Vec<bool>,
    /// For a producer that is told what became of its items: how many of them, and of which size in
    /// bytes, may be under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<(usize, Option<u64>)>,
}

/// Whether this process was started as a worker: its standard input is the other end of a
/// socket of the process that the variable names. That remains true when that process dies,
/// and is not true in a program that a stage starts.
pub(crate) fn is_worker() -> bool {
    let Ok(starter) = std::env::var(STARTER) else { return false };
    let peer = rustix::net::sockopt::socket_peercred(io::stdin());
    peer.is_ok_and(|peer| peer.pid.as_raw_nonzero().get().to_string() == starter)
}

/// Runs this process as a worker, or as the reaper, to its end.
pub(crate) fn run(registry: &Registry) -> ! {
    if let Some(directory) = std::env::var_os(REAPER) {
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
    // The supervisor reports the exit code; there is no one else to inform.
    let code = work(registry).unwrap_or(EXIT_LOST);
    std::process::exit(code.into())
}

/// Makes the system kill a worker, which can be replaced, rather than the program when memory runs
/// out.
fn offer_to_the_memory_killer() {
    const FILE: &str = "/proc/self/oom_score_adj";
    const MORE: i32 = 300;
    const MOST: i32 = 1000;
    let now = std::fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(now) = now {
        // If the system refuses, the worker is only as likely a victim as the program.
        let _ = std::fs::write(FILE, (now + MORE).min(MOST).to_string());
    }
}

/// Becomes the interpreter. A thread there that watches the lifeline may have to wait for code
/// that holds the interpreter's lock, so the system itself ends this process with the one that
/// started it.
fn become_python(interpreter: &OsStr, main: &OsStr) -> ! {
    let bound = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if bound.is_err() || parent != std::env::var(STARTER).ok() {
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

/// Does the work and returns the exit code.
fn work(registry: &Registry) -> Result<u8, Failure> {
    let lifeline = take_standard_input()?;
    name_after_the_program();
    process_log::install();
    let (text, file) = lifeline.receive_assignment()?;
    let page = Arc::new(Page::open(file)?);
    page.beat();
    let Assignment { place, context, class, params, directory, memory_limit, .. } =
        serde_json::from_slice(&text)?;
    watch_over(lifeline.try_clone()?, Arc::clone(&page), directory.clone())?;
    segment::share_from_here();
    let link = ZmtpLink::connect(&directory, place, lifeline)?;
    let build: Build = match registry.get(&class) {
        Some(class) => class.with_params(params),
        None => Arc::new(move || Err(unknown(&class))),
    };
    let host = Host::Process { page, memory_limit, full: Cell::new(false) };
    serve(link, &build, context, &host)?;
    Ok(if host.is_full() { EXIT_FULL } else { 0 })
}

fn unknown(class: &str) -> Failure {
    Failure::permanent(format!(
        "the worker process does not know the class \"{class}\": give serve_worker the registry \
         that the pipeline was loaded with"
    ))
}

/// Takes the lifeline, so that neither a stage nor a program that it starts can reach it.
fn take_standard_input() -> io::Result<Lifeline> {
    let lifeline = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(OpenOptions::new().read(true).open("/dev/null")?)?;
    Ok(lifeline.into())
}

/// Starts the thread that gives signs of life, and that ends this process and its child processes
/// when the program has died.
fn watch_over(lifeline: Lifeline, page: Arc<Page>, directory: PathBuf) -> io::Result<()> {
    let watch = move || {
        let beat = timespec(HEARTBEAT);
        loop {
            page.beat();
            let mut ends = [PollFd::new(&lifeline, PollFlags::empty())];
            let waited = poll(&mut ends, Some(&beat));
            if waited.is_ok_and(|count| count > 0) {
                break;
            }
        }
        // The program can no longer remove it.
        let _ = std::fs::remove_dir_all(directory);
        if getpgrp().as_raw_nonzero().get() as u32 == std::process::id() {
            let _ = kill_current_process_group(Signal::KILL);
        }
        std::process::abort();
    };
    std::thread::Builder::new().name("lifeline".into()).spawn(watch).map(drop)
}
