//! Carries what worker processes print and log into the run's log.

use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde::Deserialize;

use crate::event::{Event, Level};

/// The longest line, in bytes; a longer one becomes several events.
const MAX_LINE: usize = 64 << 10;
/// The longest log record, in bytes; a longer one is treated as text.
const MAX_RECORD: usize = 4 << 20;
/// The most reads in a row, so that a worker that prints without end does not keep the
/// supervisor from the others.
const MAX_READS: usize = 16;
/// The most lines of one stream a second. After them the writer has to wait, as it would for a
/// terminal.
const MAX_LINES_PER_SECOND: u32 = 20_000;
/// Begins a line that is a log record in JSON, not printed text; docs/WIRE.md specifies it.
pub(super) const RECORD: u8 = 0x1e;

/// One of the two output streams of a worker process.
pub(crate) struct LogPipe {
    stream: std::fs::File,
    step: Arc<str>,
    worker: usize,
    /// The level of printed text; a record has its own.
    level: Level,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    /// When the current second began, and the number of lines in it.
    second: Instant,
    lines: u32,
}

#[derive(Deserialize)]
struct Record {
    level: Level,
    logger: String,
    message: String,
}

impl LogPipe {
    /// Reads what the worker prints: information.
    ///
    /// # Errors
    /// If the stream cannot be made nonblocking.
    pub(crate) fn stdout(stream: PipeReader, step: &str, worker: usize) -> io::Result<Self> {
        Self::of(stream.into(), step, worker, Level::Info)
    }

    /// Reads what the worker prints as errors: warnings.
    ///
    /// # Errors
    /// As [`LogPipe::stdout`].
    pub(crate) fn stderr(stream: PipeReader, step: &str, worker: usize) -> io::Result<Self> {
        Self::of(stream.into(), step, worker, Level::Warning)
    }

    fn of(stream: OwnedFd, step: &str, worker: usize, level: Level) -> io::Result<Self> {
        let flags = fcntl_getfl(&stream)?;
        fcntl_setfl(&stream, flags | OFlags::NONBLOCK)?;
        Ok(Self {
            stream: stream.into(),
            step: step.into(),
            worker,
            level,
            begun: Vec::new(),
            second: Instant::now(),
            lines: 0,
        })
    }

    /// Whether the limit of lines for the current second is reached.
    pub(crate) fn is_paused(&self) -> bool {
        self.lines >= MAX_LINES_PER_SECOND && self.second.elapsed() < Duration::from_secs(1)
    }

    /// Reports some of what has arrived; never blocks. Returns false at the end of the stream.
    pub(crate) fn read(&mut self, mut report: impl FnMut(Event)) -> bool {
        let mut bytes = [0; 16 << 10];
        if self.second.elapsed() >= Duration::from_secs(1) {
            (self.second, self.lines) = (Instant::now(), 0);
        }
        for _ in 0..MAX_READS {
            if self.is_paused() {
                return true;
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return self.end(&mut report),
                Ok(count) => self.take(&bytes[..count], &mut report),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.end(&mut report),
            }
        }
        true
    }

    fn end(&mut self, report: &mut impl FnMut(Event)) -> bool {
        self.take_rest(report);
        false
    }

    /// Reports the remaining output of a writer that has ended: a pipe holds no more than a
    /// mebibyte.
    pub(crate) fn read_rest(&mut self, mut report: impl FnMut(Event)) {
        for _ in 0..8 {
            self.lines = 0;
            if !self.read(&mut report) {
                return;
            }
        }
        // A process that it has started may keep the stream open: do not wait for its end.
        self.take_rest(&mut report);
    }

    /// Reports the beginning of a line whose end will not come.
    fn take_rest(&mut self, report: &mut impl FnMut(Event)) {
        let rest = std::mem::take(&mut self.begun);
        self.line(&rest, report);
    }

    fn take(&mut self, bytes: &[u8], report: &mut impl FnMut(Event)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let part = match part.iter().position(|byte| *byte == RECORD) {
                // A record may arrive in the middle of a printed line.
                Some(start) => {
                    self.begun.extend_from_slice(&part[..start]);
                    self.take_rest(report);
                    &part[start..]
                }
                None => part,
            };
            self.begun.extend_from_slice(part);
            let longest = if self.begun[0] == RECORD { MAX_RECORD } else { MAX_LINE };
            let too_long = self.begun.len() >= longest;
            if part.ends_with(b"\n") || too_long {
                let line = std::mem::take(&mut self.begun);
                self.line(&line, report);
            }
        }
    }

    fn line(&mut self, line: &[u8], report: &mut impl FnMut(Event)) {
        self.lines += 1;
        let record = line.strip_prefix(&[RECORD]).map(serde_json::from_slice::<Record>);
        let (level, logger, text) = match record {
            Some(Ok(Record { level, logger, message })) => (level, logger, message),
            _ => (self.level, String::new(), String::from_utf8_lossy(line).into_owned()),
        };
        // Control characters for terminals mean nothing in a log.
        let text = text.trim_end().replace(|c: char| c.is_control() && c != '\n' && c != '\t', " ");
        if !text.is_empty() {
            let (step, worker) = (Arc::clone(&self.step), self.worker);
            report(Event::Said { step, worker, level, logger, text });
        }
    }
}

impl std::os::fd::AsFd for LogPipe {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn reported(parts: &[&[u8]]) -> Vec<(Level, String, String)> {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut log = LogPipe::of(reader.into(), "A", 1, Level::Info).unwrap();
        let mut all = Vec::new();
        let mut report = |event| match event {
            Event::Said { level, logger, text, .. } => all.push((level, logger, text)),
            other => panic!("{other:?}"),
        };
        for part in parts {
            writer.write_all(part).unwrap();
            assert!(log.read(&mut report));
        }
        drop(writer);
        assert!(!log.read(&mut report));
        all
    }

    fn texts(parts: &[&[u8]]) -> Vec<String> {
        reported(parts).into_iter().map(|(_, _, text)| text).collect()
    }

    #[test]
    fn lines_are_reported_one_by_one_however_they_come() {
        assert_eq!(texts(&[b"one\ntw", b"o\n\nthree"]), ["one", "two", "three"]);
        assert_eq!(texts(&[b"bar \x1b[1m\xff\r\n"]), ["bar  [1m\u{fffd}"]);
    }

    #[test]
    fn records_have_their_level_and_may_have_several_lines() {
        let record = b"\x1e{\"level\":\"error\",\"logger\":\"lab\",\"message\":\"a\\nb\"}\n";
        assert_eq!(reported(&[&record[..]]), [(Level::Error, "lab".into(), "a\nb".into())]);
        assert_eq!(reported(&[b"\x1e{nonsense\n"])[0].0, Level::Info);
        let middle = [&b"half a line "[..], &record[..]].concat();
        let found = reported(&[&middle, b"and the rest\n"]);
        let texts: Vec<&str> = found.iter().map(|(_, _, text)| text.as_str()).collect();
        assert_eq!(texts, ["half a line", "a\nb", "and the rest"]);
    }

    #[test]
    fn one_that_prints_without_end_is_left_after_a_while() {
        let endless = std::fs::File::open("/dev/zero").unwrap();
        let mut log = LogPipe::of(endless.into(), "A", 1, Level::Info).unwrap();
        assert!(log.read(|_| ()));
        let lines = std::process::Command::new("yes")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .and_then(|mut yes| {
                let stream = yes.stdout.take().unwrap();
                let mut log = LogPipe::of(stream.into(), "A", 1, Level::Info)?;
                let mut reported = 0;
                while !log.is_paused() {
                    assert!(log.read(|_| reported += 1));
                }
                yes.kill()?;
                yes.wait()?;
                Ok(reported)
            });
        assert!(lines.unwrap() >= MAX_LINES_PER_SECOND);
    }

    #[test]
    fn a_line_without_end_does_not_gather_for_ever() {
        let long = vec![b'x'; 3000];
        let parts: Vec<&[u8]> = (0..70).map(|_| &long[..]).collect();
        let reported = texts(&parts);
        assert!(reported.len() > 1, "{}", reported.len());
        assert_eq!(reported.iter().map(String::len).sum::<usize>(), 70 * 3000);
    }
}
