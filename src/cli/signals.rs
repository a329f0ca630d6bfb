//! Signals that ask a run to end, on threads of their own: they are heard
//! though the log cannot be written or a stage hangs.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::warn;

use crate::pipeline::{Stopper, Verdict};

/// After a run was stopped at once, its end is waited for this long.
const PATIENCE: Duration = Duration::from_secs(3);

/// The first signal drains the run; the second, or the end of `limit`, stops
/// it at once. A hang-up changes nothing: a run goes on when its terminal is
/// closed.
///
/// # Errors
/// If the system refuses the signals or a thread.
pub(super) fn watch(stopper: Stopper, limit: Duration) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let (sender, received) = channel();
    let listen = move || forward(&mut signals, &sender);
    std::thread::Builder::new().name("signals".into()).spawn(listen)?;
    let stop = move || stop_in_turn(&stopper, &received, limit);
    std::thread::Builder::new().name("stop".into()).spawn(stop)?;
    Ok(())
}

fn forward(signals: &mut Signals, sender: &Sender<()>) {
    for signal in signals.forever() {
        if signal != SIGHUP && sender.send(()).is_err() {
            return;
        }
    }
}

fn stop_in_turn(stopper: &Stopper, received: &Receiver<()>, limit: Duration) {
    if received.recv().is_err() {
        return;
    }
    stopper.drain();
    if received.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
        warn!("the drain limit of {} s has passed", limit.as_secs_f64());
    }
    stopper.stop_now();
    // The run ends the process by ending itself. If it cannot, because
    // something is stuck outside of its reach, the process ends all the same.
    let _ = received.recv_timeout(PATIENCE);
    std::process::exit(Verdict::Interrupted.exit_code().into());
}
