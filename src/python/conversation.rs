//! One question to an interpreter, and its answer.

use std::io::{self, Read, Write};
use std::process::{Command, ExitStatus};
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
    /// Asks the interpreter that the command starts. It answers on its standard output.
    ///
    /// # Errors
    /// If it cannot be started, or talking to it fails.
    pub(super) fn begin(command: Command, request: &Value) -> io::Result<Self> {
        let mut known = asked();
        let (process, mut stdout) = Prepared::start(command)?;
        known.push(process.process());
        drop(known);
        let read = move || {
            let mut text = Vec::new();
            stdout.read_to_end(&mut text).map(|_| text)
        };
        Self::hold(process, request, read)
    }

    /// Asks an interpreter that is there already. It answers on its line, with the length first.
    ///
    /// # Errors
    /// If talking to it fails.
    pub(super) fn go_on(process: Prepared, request: &Value) -> io::Result<Self> {
        asked().push(process.process());
        let mut line = process.line().try_clone()?;
        let read = move || {
            let mut length = [0; 4];
            line.read_exact(&mut length)?;
            let mut text = vec![0; u32::from_le_bytes(length) as usize];
            line.read_exact(&mut text).map(|()| text)
        };
        Self::hold(process, request, read)
    }

    fn hold(
        process: Prepared,
        request: &Value,
        read: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static,
    ) -> io::Result<Self> {
        let asked = Asked(process.process());
        let sent = send(&process, request);
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(read()));
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
