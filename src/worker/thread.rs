//! A worker on a thread of its own.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::serve::{Watch, serve};
use crate::driver::hub::{Command, Commander};
use crate::memory::segment;
use crate::protocol::report::Loss;
use crate::stage::Context;
use crate::stage::registry::Build;
use crate::transport::zmq::Inproc;
use crate::transport::zmq::link::{Link, LinkError, Place};

/// Where a worker thread finds the hub and what it is to run.
pub(crate) struct Post {
    pub(crate) inproc: Inproc,
    pub(crate) place: Place,
    pub(crate) build: Build,
    pub(crate) context: Context,
    /// Whether a next step runs in processes.
    pub(crate) shares: bool,
    /// Set when the run is stopped at once.
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) commander: Commander,
    /// Dropped when the thread ends.
    pub(crate) alive: mpsc::Sender<()>,
}

/// Starts the worker.
///
/// # Errors
/// If the system has no thread left.
pub(crate) fn spawn(post: Post) -> std::io::Result<JoinHandle<()>> {
    let name = format!("{} {}", post.context.step(), post.context.worker());
    std::thread::Builder::new().name(name).spawn(move || {
        let (place, commander, alive) = (post.place, post.commander.clone(), post.alive.clone());
        // Stages are guarded call by call; this is for what nobody foresaw.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(post)));
        let reason = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) if error.is_end() => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("its thread panicked".to_owned()),
        };
        if let Some(reason) = reason {
            commander.send(Command::Lost { place, loss: Loss::unexplained(reason) });
        }
        drop(alive);
    })
}

fn run(post: Post) -> Result<(), LinkError> {
    let Post { inproc, place, build, context, shares, cancelled, .. } = post;
    if shares {
        segment::share_from_here();
    }
    let link = Link::inproc(&inproc, place, shares)?;
    serve(link, &build, context, &Watch::Thread(cancelled))
}
