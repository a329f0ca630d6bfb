//! A worker on a thread of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::{REPORT_AFTER, Worker};
use crate::registry::Build;
use crate::stage::Context;
use crate::transport::Inproc;
use crate::transport::hub::{Command, Commander};
use crate::transport::link::{Link, LinkError};
use crate::transport::wire::{FromWorker, ToWorker};

/// Where a worker thread finds the hub and what it is to run.
pub(crate) struct Post {
    pub(crate) inproc: Inproc,
    pub(crate) index: usize,
    pub(crate) build: Build,
    pub(crate) context: Context,
    /// Set when the run is stopped at once: what is left of a batch is not begun.
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
        let (worker, commander, alive) = (post.index, post.commander.clone(), post.alive.clone());
        // Stages are guarded call by call; this is for what nobody foresaw.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(post)));
        let reason = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) if error.is_end() => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("its thread panicked".to_owned()),
        };
        if let Some(reason) = reason {
            commander.send(Command::Lost { worker, reason });
        }
        drop(alive);
    })
}

fn serve(post: Post) -> Result<(), LinkError> {
    let Post { inproc, index, build, context, cancelled, .. } = post;
    let mut link = Link::connect(&inproc, index)?;
    let mut worker = match Worker::new(&build, context) {
        Ok(worker) => worker,
        Err(failure) => return link.send(FromWorker::InitFailed(failure)),
    };
    link.send(Link::ready())?;
    while !cancelled.load(Ordering::Relaxed) {
        match link.receive()? {
            ToWorker::Grant { count } => {
                let (production, outputs) = worker.produce(count, REPORT_AFTER);
                link.send(FromWorker::Produced { production, outputs })?;
            }
            ToWorker::Work(parcels) => {
                let stop = || cancelled.load(Ordering::Relaxed);
                worker.work(parcels, stop, |completions, outputs| {
                    link.send(FromWorker::Done { completions, outputs })
                })?;
            }
            ToWorker::Finish => {
                let (result, outputs) = worker.finish();
                link.send(FromWorker::Finished { result, outputs })?;
            }
            ToWorker::Stop => break,
        }
    }
    Ok(())
}
