//! Signals that ask a run to end, on threads of their own: they work even while the log cannot be
//! written or a stage hangs.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use tracing::warn;

use super::driving_program::DrivingProgram;
use crate::cli::output::say;
use crate::event::exit_code::INTERRUPTED;
use crate::pipeline::Control;
use crate::python::end_questions;

/// How long the program waits for a run to end after it was stopped at once.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Receives signals from now on; [`PendingSignals::watch`] applies them to a run. Until then, each
/// ends the program and the interpreters that it asks: there is nothing to finish. Another call has
/// no effect.
///
/// # Errors
/// If the system refuses the signals or a thread.
pub(crate) fn hear() -> io::Result<PendingSignals> {
    static HEARD: Mutex<Option<PendingSignals>> = Mutex::new(None);
    let mut heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(heard) = &*heard {
        return Ok(heard.clone());
    }
    let survives_hang_up = is_ignored(SIGHUP);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let (sender, received) = channel();
    let words = sender.clone();
    let listen = move || forward(&mut signals, &sender);
    std::thread::Builder::new().name("signals".into()).spawn(listen)?;
    let stop = move || heed(&received, survives_hang_up);
    std::thread::Builder::new().name("stop".into()).spawn(stop)?;
    Ok(heard.insert(PendingSignals(words)).clone())
}

/// Signals that wait for a run. Acquires all fallible resources first, so that a started run never
/// fails for lack of one.
#[derive(Clone)]
pub(crate) struct PendingSignals(Sender<Word>);

enum Word {
    Signal(i32),
    /// A run has started; its drain limit.
    Run(Box<Control>, Duration),
}

impl PendingSignals {
    /// Stops the run at once when the driver ends, as two signals do.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn attend(&self, driver: DrivingProgram) -> io::Result<()> {
        let sender = self.0.clone();
        let attend = move || {
            driver.outlive();
            // The send fails if the run has ended meanwhile.
            let ended = || sender.send(Word::Signal(SIGTERM));
            let _ = ended().and_then(|()| ended());
        };
        std::thread::Builder::new().name("driver".into()).spawn(attend).map(drop)
    }

    /// Applies signals to the run: the first drains it; the second, or the end of the limit, stops
    /// it at once. A hang-up changes nothing, so a run survives its terminal.
    pub(crate) fn watch(self, control: Control, limit: Duration) {
        // The receiving thread always takes it.
        let _ = self.0.send(Word::Run(Box::new(control), limit));
    }
}

/// Returns whether the program was started with the signal ignored, as `nohup` does.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Makes a write beyond the file size limit (`ulimit -f`) an error, as on a full disk, instead of
/// the end of the program.
pub(crate) fn survive_file_size_limit() {
    // If the system refuses, such a write ends the program, as usual.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

fn forward(signals: &mut Signals, sender: &Sender<Word>) {
    for signal in signals.forever() {
        if sender.send(Word::Signal(signal)).is_err() {
            return;
        }
    }
}

fn heed(received: &Receiver<Word>, survives_hang_up: bool) {
    while let Ok(word) = received.recv() {
        match word {
            Word::Signal(SIGHUP) if survives_hang_up => {}
            Word::Signal(_) => end_before_the_run(),
            Word::Run(control, limit) => return stop_in_turn(&control, received, limit),
        }
    }
}

fn end_before_the_run() {
    end_questions();
    say("interrupted before the run had begun");
    std::process::exit(INTERRUPTED.into());
}

/// Waits for a signal that asks a run to end, until `deadline` if there is one.
fn await_signal(
    received: &Receiver<Word>,
    deadline: Option<Instant>,
) -> Result<(), RecvTimeoutError> {
    loop {
        let word = match deadline {
            Some(at) => received.recv_timeout(at.saturating_duration_since(Instant::now()))?,
            None => received.recv().map_err(|_| RecvTimeoutError::Disconnected)?,
        };
        if matches!(word, Word::Signal(signal) if signal != SIGHUP) {
            return Ok(());
        }
    }
}

fn stop_in_turn(control: &Control, received: &Receiver<Word>, limit: Duration) {
    if await_signal(received, None).is_err() {
        return;
    }
    control.drain();
    warn!(
        "work in progress has {} s to finish; a second Ctrl-C, or another signal, stops at once",
        limit.as_secs_f64()
    );
    let deadline = Instant::now().checked_add(limit);
    if await_signal(received, deadline) == Err(RecvTimeoutError::Timeout) {
        warn!("the drain limit of {} s has passed", limit.as_secs_f64());
    }
    control.stop_now();
    // The process ends with the run. If the run cannot end, because something outside its control
    // is stuck, the process ends anyway.
    let deadline = Instant::now().checked_add(STOP_TIMEOUT);
    if await_signal(received, deadline) == Err(RecvTimeoutError::Timeout) {
        warn!(
            "the run does not end because something is stuck; the program exits without printing \
             the ledger"
        );
    }
    std::process::exit(INTERRUPTED.into());
}
