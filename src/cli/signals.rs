//! Signals that ask a run to end, on threads of their own: they are heard
//! though the log cannot be written or a stage hangs.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use tracing::warn;

use super::driver::Driver;
use crate::pipeline::{Control, Verdict};

/// After a run was stopped at once, its end is waited for this long.
const PATIENCE: Duration = Duration::from_secs(3);

/// Hears the signals from now on; [`Heard::watch`] heeds them. The end of the driver is
/// as good as two.
///
/// # Errors
/// If the system refuses the signals or a thread.
pub(super) fn hear(limit: Duration, driver: Option<Driver>) -> io::Result<Heard> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let (sender, received) = channel();
    if let Some(driver) = driver {
        let sender = sender.clone();
        let attend = move || {
            driver.outlive();
            // The run may have ended meanwhile.
            let _ = sender.send(()).and_then(|()| sender.send(()));
        };
        std::thread::Builder::new().name("driver".into()).spawn(attend)?;
    }
    let listen = move || forward(&mut signals, &sender);
    std::thread::Builder::new().name("signals".into()).spawn(listen)?;
    let (controls, control) = channel::<Control>();
    let stop = move || {
        if let Ok(control) = control.recv() {
            stop_in_turn(&control, &received, limit);
        }
    };
    std::thread::Builder::new().name("stop".into()).spawn(stop)?;
    Ok(Heard(controls))
}

/// Signals that wait for a run. All that the system could refuse has been asked
/// for: a run that has begun is never given up for want of it.
pub(super) struct Heard(Sender<Control>);

impl Heard {
    /// The first signal drains the run; the second, or the end of the limit,
    /// stops it at once. A hang-up changes nothing: a run goes on when its
    /// terminal is closed.
    pub(super) fn watch(self, control: Control) {
        // The thread that receives it waits for nothing else.
        let _ = self.0.send(control);
    }
}

/// A file beyond the limit of its size (`ulimit -f`) is an error of the write,
/// as a full disk is, and no longer the end of the program.
pub(super) fn survive_file_size_limit() {
    // Where it is refused the program is as it would be without.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

fn forward(signals: &mut Signals, sender: &Sender<()>) {
    for signal in signals.forever() {
        if signal != SIGHUP && sender.send(()).is_err() {
            return;
        }
    }
}

fn stop_in_turn(control: &Control, received: &Receiver<()>, limit: Duration) {
    if received.recv().is_err() {
        return;
    }
    control.drain();
    warn!(
        "what was begun is finished within {} s; a second signal stops at once",
        limit.as_secs_f64()
    );
    if received.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
        warn!("the drain limit of {} s has passed", limit.as_secs_f64());
    }
    control.stop_now();
    // The run ends the process by ending itself. If it cannot, because
    // something is stuck outside of its reach, the process ends all the same.
    if received.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
        warn!("the run does not end, something is stuck: the program ends without its ledger");
    }
    std::process::exit(Verdict::Interrupted.exit_code().into());
}
