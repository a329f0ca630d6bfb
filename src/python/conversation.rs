//! One question to an interpreter, and its answer.

use std::io::{self, Read, Write};
use std::process::{ChildStdout, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::base::lock::lock;
use crate::base::prepared::Prepared;

/// The time limit for importing modules.
pub(super) const LONGEST: Duration = Duration::from_secs(120);

/// An interpreter that has been asked.
pub(super) struct Conversation {
    /// What it has answered; none if it took too long.
    pub(super) text: Option<Vec<u8>>,
    process: Prepared,
    _asked: Asked,
}

impl Conversation {
    /// Asks the interpreter that the command starts.
    ///
    /// # Errors
    /// If it cannot be started, or talking to it fails.
    pub(super) fn hold(command: Command, request: &Value) -> io::Result<Self> {
        let mut known = asked();
        let (process, stdout) = Prepared::start(command)?;
        known.push(process.process());
        drop(known);
        let asked = Asked(process.process());
        let sent = send(&process, request);
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(read(stdout)));
        let text = match receiver.recv_timeout(LONGEST) {
            Ok(text) => sent.and(text).map(Some)?,
            Err(_) => None,
        };
        Ok(Self { text, process, _asked: asked })
    }

    /// Lets the interpreter stay.
    pub(super) fn keep(self) -> Prepared {
        self.process
    }

    /// Waits for the interpreter, which ends by itself.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn end(self) -> io::Result<ExitStatus> {
        self.process.wait()
    }
}

/// The interpreters that are being asked.
static ASKED: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn asked() -> MutexGuard<'static, Vec<Pid>> {
    lock(&ASKED)
}

/// An entry in the list of interpreters that are being asked.
struct Asked(Pid);

impl Drop for Asked {
    fn drop(&mut self) {
        asked().retain(|process| *process != self.0);
    }
}

/// Ends the interpreters that are being asked, with everything that they started, and lets no
/// more start. Meant for a program that is about to end.
pub(crate) fn end_questions() {
    let asked = asked();
    for process in &*asked {
        // One that has already ended is no error.
        let _ = kill_process_group(*process, Signal::KILL);
    }
    std::mem::forget(asked);
}

/// Sends a request as one line.
fn send(process: &Prepared, request: &Value) -> io::Result<()> {
    let mut line = process.line();
    match line.write_all(format!("{request}\n").as_bytes()) {
        // The interpreter ended without reading; its output says why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        sent => sent,
    }
}

fn read(mut stdout: ChildStdout) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    stdout.read_to_end(&mut text)?;
    Ok(text)
}
