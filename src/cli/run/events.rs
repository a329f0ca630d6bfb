//! The file that `--events` names. docs/EVENTS.md describes its lines.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tracing::warn;

use crate::cli::output::CommandError;
use crate::event::{Event, EventRecord};

/// Of what a slow reader has not taken, so many lines and bytes are kept.
const MOST_LINES: usize = 10_000;
const MOST_BYTES: usize = 16 << 20;
/// So much is written at a time, in bytes.
const PORTION: usize = 64 << 10;
/// At the end of a run, a reader that takes nothing is waited for this long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes events on a thread of its own: the run waits for no reader.
pub(crate) struct Events {
    shared: Arc<Shared>,
    written: Receiver<io::Result<()>>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

/// What has not been written yet.
#[derive(Default)]
struct Waiting {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Events that found no room.
    omitted: u64,
    /// Nothing more will come.
    complete: bool,
    /// How often something was written.
    portions: u64,
}

struct Line {
    text: String,
    is_progress: bool,
}

impl Events {
    /// Opens the file; a named pipe is opened when it has a reader, and the run
    /// does not wait for one.
    ///
    /// # Errors
    /// Why it cannot be written to.
    pub(crate) fn open(path: &Path) -> Result<Self, CommandError> {
        let wrong = |error: io::Error| {
            CommandError::usage(format_args!("--events {}: {error}", path.display()))
        };
        let is_pipe = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
        let file = if is_pipe { None } else { Some(File::create(path).map_err(wrong)?) };
        let shared = Arc::<Shared>::default();
        let (sender, written) = channel();
        let (path, source) = (path.to_owned(), Arc::clone(&shared));
        let write = move || {
            let file = match file {
                Some(file) => Ok(file),
                None => File::options().write(true).open(path),
            };
            // Nobody may wait for it any more.
            let _ = sender.send(file.and_then(|file| source.write_to(file)));
        };
        let thread = std::thread::Builder::new().name("events".into()).spawn(write);
        thread.map_err(wrong)?;
        Ok(Self { shared, written })
    }

    /// Takes an event, and never waits.
    pub(crate) fn add(&self, record: &EventRecord) {
        if let Ok(text) = serde_json::to_string(record) {
            self.shared.push(text, matches!(record.event, Event::Progress(_)));
        }
    }

    /// Events came faster than they could be taken: the file says how many are missing.
    pub(crate) fn missed(&self, count: u64) {
        self.shared.lock().omitted += count;
    }

    /// Waits until everything is written or nobody reads any more. If nothing was told,
    /// because the run could not be started, it says why.
    pub(crate) fn end(self, error: Option<&CommandError>) {
        let last = error.and_then(|CommandError { code, message }| {
            let event = Event::Error { exit_code: *code, reason: message.clone() };
            serde_json::to_string(&event).ok()
        });
        self.shared.complete(last);
        if let Err(error) = self.wait() {
            warn!("--events: {error}; the run itself is not affected");
        }
    }

    fn wait(&self) -> io::Result<()> {
        let mut portions = self.shared.lock().portions;
        loop {
            let result = match self.written.recv_timeout(PATIENCE) {
                Ok(result) => result,
                Err(RecvTimeoutError::Disconnected) => Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.shared.lock().portions;
                    if now != portions {
                        portions = now;
                        continue;
                    }
                    Err(io::Error::new(ErrorKind::TimedOut, "nobody reads the last events"))
                }
            };
            return match result {
                // A reader that has gone needs nothing more.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
                result => result,
            };
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, text: String, is_progress: bool) {
        let mut waiting = self.lock();
        if is_progress {
            waiting.drop_progress();
        }
        waiting.push(text, is_progress);
        self.more.notify_one();
    }

    fn complete(&self, last: Option<String>) {
        let mut waiting = self.lock();
        waiting.drop_progress();
        waiting.own_up();
        if let Some(text) = last {
            waiting.add(text, false);
        }
        waiting.complete = true;
        self.more.notify_one();
    }

    fn write_to(&self, mut file: File) -> io::Result<()> {
        while let Some(text) = self.next_portion() {
            file.write_all(text.as_bytes())?;
            self.lock().portions += 1;
        }
        Ok(())
    }

    /// Waits for lines; none at the end.
    fn next_portion(&self) -> Option<String> {
        let waiting = self.lock();
        let idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.complete;
        let waited = self.more.wait_while(waiting, idle);
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner);
        let mut portion = String::new();
        while portion.len() < PORTION
            && let Some(line) = waiting.lines.pop_front()
        {
            waiting.bytes -= line.text.len();
            portion += &line.text;
        }
        (!portion.is_empty()).then_some(portion)
    }
}

impl Waiting {
    /// A reader that is behind is told where the run stands now, not where it stood.
    fn drop_progress(&mut self) {
        if let Some(at) = self.lines.iter().rposition(|line| line.is_progress)
            && let Some(line) = self.lines.remove(at)
        {
            self.bytes -= line.text.len();
        }
    }

    fn push(&mut self, text: String, is_progress: bool) {
        if self.lines.len() >= MOST_LINES || self.bytes + text.len() >= MOST_BYTES {
            self.omitted += u64::from(!is_progress);
            return;
        }
        self.own_up();
        self.add(text, is_progress);
    }

    /// Says at this place how many events are missing.
    fn own_up(&mut self) {
        if self.omitted > 0 {
            let line = json!({"event": "omitted", "count": self.omitted});
            self.add(line.to_string(), false);
            self.omitted = 0;
        }
    }

    fn add(&mut self, mut text: String, is_progress: bool) {
        text.push('\n');
        self.bytes += text.len();
        self.lines.push_back(Line { text, is_progress });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(waiting: &Waiting) -> Vec<&str> {
        waiting.lines.iter().map(|line| line.text.trim_end()).collect()
    }

    #[test]
    fn only_the_newest_progress_waits() {
        let shared = Shared::default();
        for (text, is_progress) in [("a", true), ("b", false), ("c", true), ("d", false)] {
            shared.push(text.to_owned(), is_progress);
        }
        assert_eq!(told(&shared.lock()), ["b", "c", "d"]);
        shared.complete(Some("end".into()));
        assert_eq!(told(&shared.lock()), ["b", "d", "end"]);
    }

    #[test]
    fn what_finds_no_room_is_counted_where_it_is_missing() {
        let shared = Shared::default();
        for number in 0..MOST_LINES + 5 {
            shared.push(number.to_string(), false);
        }
        assert_eq!(shared.lock().lines.len(), MOST_LINES);
        assert!(shared.next_portion().unwrap().starts_with("0\n1\n"));
        shared.push("after".to_owned(), false);
        let waiting = shared.lock();
        let [omitted, after] = told(&waiting)[..] else { panic!("{:?}", told(&waiting)) };
        let omitted: serde_json::Value = serde_json::from_str(omitted).unwrap();
        assert_eq!(omitted, json!({"event": "omitted", "count": 5}));
        assert_eq!(after, "after");
        let bytes: usize = waiting.lines.iter().map(|line| line.text.len()).sum();
        assert_eq!(waiting.bytes, bytes);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let shared = Shared::default();
        for _ in 0..40 {
            shared.push("x".repeat(1 << 20), false);
        }
        assert!(shared.lock().bytes <= MOST_BYTES);
        shared.complete(Some("end".into()));
        assert_eq!(*told(&shared.lock()).last().unwrap(), "end");
    }
}
