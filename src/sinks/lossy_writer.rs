//! A file that a run writes without ever waiting for it. If nobody reads a named pipe, or a disk is
//! slow, the file loses what finds no room in memory; the run is not affected.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::base::lock::lock;

/// How long the end of a run waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// The data that waits to be written. It is bounded, and counts what finds no room.
pub(crate) trait Buffer: Send + 'static {
    /// What is written at once.
    type Portion;

    /// Takes the next portion; none if nothing waits.
    fn take(&mut self) -> Option<Self::Portion>;
}

/// Writes the contents of a buffer, on a thread of its own.
pub(crate) struct LossyWriter<B> {
    shared: Arc<Shared<B>>,
    written: Receiver<io::Result<()>>,
}

struct Shared<B> {
    state: Mutex<State<B>>,
    more: Condvar,
}

struct State<B> {
    buffer: B,
    /// Nothing more will come.
    is_complete: bool,
    /// The number of portions written.
    portions: u64,
}

impl<B: Buffer> LossyWriter<B> {
    /// Opens the file; a named pipe is opened as soon as it has a reader, without waiting for one.
    /// `format` appends the text of a portion; it is called on the writer's thread, which has this
    /// `name`.
    ///
    /// # Errors
    /// If the file cannot be written to.
    pub(crate) fn open(
        path: &Path,
        name: &str,
        buffer: B,
        mut format: impl FnMut(B::Portion, &mut String) + Send + 'static,
    ) -> io::Result<Self> {
        let is_pipe = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
        let file = if is_pipe { None } else { Some(File::create(path)?) };
        let state = Mutex::new(State { buffer, is_complete: false, portions: 0 });
        let shared = Arc::new(Shared { state, more: Condvar::new() });
        let (sender, written) = channel();
        let (path, source) = (path.to_owned(), Arc::clone(&shared));
        let write = move || {
            let file = file.map_or_else(|| File::options().write(true).open(path), Ok);
            let result = file.and_then(|file| source.write_to(file, &mut format));
            // The receiver may be gone.
            let _ = sender.send(result);
        };
        std::thread::Builder::new().name(name.into()).spawn(write)?;
        Ok(Self { shared, written })
    }

    /// Puts something into the buffer.
    pub(crate) fn put(&self, change: impl FnOnce(&mut B)) {
        change(&mut lock(&self.shared.state).buffer);
        self.shared.more.notify_one();
    }

    /// Puts the last portion into the buffer, and waits until everything is written or the reader
    /// takes nothing for a while.
    ///
    /// # Errors
    /// If the file is not complete. The kind is [`io::ErrorKind::BrokenPipe`] if the reader of a
    /// pipe is gone, which is not a fault, and [`io::ErrorKind::TimedOut`] if a reader takes
    /// nothing.
    pub(crate) fn finish(self, last: impl FnOnce(&mut B)) -> io::Result<()> {
        self.put(last);
        let mut portions = {
            let mut state = lock(&self.shared.state);
            state.is_complete = true;
            state.portions
        };
        self.shared.more.notify_one();
        loop {
            match self.written.recv_timeout(PATIENCE) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("its thread panicked"));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let now = lock(&self.shared.state).portions;
                    if now == portions {
                        let kind = io::ErrorKind::TimedOut;
                        return Err(io::Error::new(kind, "its reader does not take it"));
                    }
                    portions = now;
                }
            }
        }
    }
}

impl<B: Buffer> Shared<B> {
    fn write_to(
        &self,
        mut file: File,
        format: &mut impl FnMut(B::Portion, &mut String),
    ) -> io::Result<()> {
        let mut text = String::new();
        while let Some(portion) = self.next_portion() {
            format(portion, &mut text);
            file.write_all(text.as_bytes())?;
            text.clear();
            lock(&self.state).portions += 1;
        }
        Ok(())
    }

    /// Waits for the next portion; none at the end.
    fn next_portion(&self) -> Option<B::Portion> {
        let mut state = lock(&self.state);
        loop {
            let portion = state.buffer.take();
            if portion.is_some() || state.is_complete {
                return portion;
            }
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
