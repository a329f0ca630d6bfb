//! What worker processes print and log, on its way into the run's log.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::{ChildStderr, ChildStdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde::Deserialize;

use crate::event::{Event, Level};

/// A longer line is told in parts, a longer record as if it were text.
const LONGEST: usize = 64 << 10;
const LONGEST_RECORD: usize = 4 << 20;
/// So much is read at a time, so that one that prints without end keeps nobody from
/// looking after the others.
const PORTIONS: usize = 16;
/// Of one stream so many lines are told in a second; then the writer has to wait, as
/// it would for a terminal.
const LINES_A_SECOND: u32 = 20_000;
/// Begins a line that is a log record in JSON, not printed text.
const RECORD: u8 = 0x1e;

/// One of the two streams of a worker process.
pub(crate) struct Words {
    stream: std::fs::File,
    step: Arc<str>,
    worker: usize,
    /// Of text without a mark of its own.
    level: Level,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    /// The current second, and how many lines were told in it.
    second: Instant,
    lines: u32,
}

#[derive(Deserialize)]
struct Record {
    level: Level,
    logger: String,
    message: String,
}

impl Words {
    /// # Errors
    /// If the system does not let the stream be read without waiting.
    pub(crate) fn printed(stream: ChildStdout, step: &str, worker: usize) -> io::Result<Self> {
        Self::of(stream.into(), step, worker, Level::Info)
    }

    /// As [`Words::printed`].
    ///
    /// # Errors
    /// As [`Words::printed`].
    pub(crate) fn complained(stream: ChildStderr, step: &str, worker: usize) -> io::Result<Self> {
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

    /// Whether enough was told for the moment.
    pub(crate) fn is_paused(&self) -> bool {
        self.lines >= LINES_A_SECOND && self.second.elapsed() < Duration::from_secs(1)
    }

    /// Tells some of what has come; false at the end of the stream.
    pub(crate) fn read(&mut self, mut tell: impl FnMut(Event)) -> bool {
        let mut bytes = [0; 16 << 10];
        if self.second.elapsed() >= Duration::from_secs(1) {
            (self.second, self.lines) = (Instant::now(), 0);
        }
        for _ in 0..PORTIONS {
            if self.is_paused() {
                return true;
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return self.end(&mut tell),
                Ok(count) => self.take(&bytes[..count], &mut tell),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.end(&mut tell),
            }
        }
        true
    }

    fn end(&mut self, tell: &mut impl FnMut(Event)) -> bool {
        self.take_rest(tell);
        false
    }

    /// Tells all that has come, of a writer that has ended: a pipe holds no more than
    /// a mebibyte.
    pub(crate) fn read_rest(&mut self, mut tell: impl FnMut(Event)) {
        for _ in 0..8 {
            self.lines = 0;
            if !self.read(&mut tell) {
                return;
            }
        }
        // Somebody that it has started may hold the stream: nobody waits for an end.
        self.take_rest(&mut tell);
    }

    /// Tells what has come without an end of its line.
    fn take_rest(&mut self, tell: &mut impl FnMut(Event)) {
        let rest = std::mem::take(&mut self.begun);
        self.tell(&rest, tell);
    }

    fn take(&mut self, bytes: &[u8], tell: &mut impl FnMut(Event)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let part = match part.iter().position(|byte| *byte == RECORD) {
                // A record may come in the middle of a line that somebody prints.
                Some(start) => {
                    self.begun.extend_from_slice(&part[..start]);
                    self.take_rest(tell);
                    &part[start..]
                }
                None => part,
            };
            self.begun.extend_from_slice(part);
            let longest = if self.begun[0] == RECORD { LONGEST_RECORD } else { LONGEST };
            let too_long = self.begun.len() >= longest;
            if part.ends_with(b"\n") || too_long {
                let line = std::mem::take(&mut self.begun);
                self.tell(&line, tell);
            }
        }
    }

    fn tell(&mut self, line: &[u8], tell: &mut impl FnMut(Event)) {
        self.lines += 1;
        let record = line.strip_prefix(&[RECORD]).map(serde_json::from_slice::<Record>);
        let (level, logger, text) = match record {
            Some(Ok(Record { level, logger, message })) => (level, logger, message),
            _ => (self.level, String::new(), String::from_utf8_lossy(line).into_owned()),
        };
        // What draws on a terminal means nothing in a log.
        let text = text.trim_end().replace(|c: char| c.is_control() && c != '\n' && c != '\t', " ");
        if !text.is_empty() {
            let (step, worker) = (Arc::clone(&self.step), self.worker);
            tell(Event::Said { step, worker, level, logger, text });
        }
    }
}

impl std::os::fd::AsFd for Words {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn told(parts: &[&[u8]]) -> Vec<(Level, String, String)> {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut words = Words::of(reader.into(), "A", 1, Level::Info).unwrap();
        let mut all = Vec::new();
        let mut tell = |event| match event {
            Event::Said { level, logger, text, .. } => all.push((level, logger, text)),
            other => panic!("{other:?}"),
        };
        for part in parts {
            writer.write_all(part).unwrap();
            assert!(words.read(&mut tell));
        }
        drop(writer);
        assert!(!words.read(&mut tell));
        all
    }

    fn texts(parts: &[&[u8]]) -> Vec<String> {
        told(parts).into_iter().map(|(_, _, text)| text).collect()
    }

    #[test]
    fn lines_are_told_one_by_one_however_they_come() {
        assert_eq!(texts(&[b"one\ntw", b"o\n\nthree"]), ["one", "two", "three"]);
        assert_eq!(texts(&[b"bar \x1b[1m\xff\r\n"]), ["bar  [1m\u{fffd}"]);
    }

    #[test]
    fn records_have_their_level_and_may_have_several_lines() {
        let record = b"\x1e{\"level\":\"error\",\"logger\":\"lab\",\"message\":\"a\\nb\"}\n";
        assert_eq!(told(&[&record[..]]), [(Level::Error, "lab".into(), "a\nb".into())]);
        assert_eq!(told(&[b"\x1e{nonsense\n"])[0].0, Level::Info);
        let middle = [&b"half a line "[..], &record[..]].concat();
        let found = told(&[&middle, b"and the rest\n"]);
        let texts: Vec<&str> = found.iter().map(|(_, _, text)| text.as_str()).collect();
        assert_eq!(texts, ["half a line", "a\nb", "and the rest"]);
    }

    #[test]
    fn one_that_prints_without_end_is_left_after_a_while() {
        let endless = std::fs::File::open("/dev/zero").unwrap();
        let mut words = Words::of(endless.into(), "A", 1, Level::Info).unwrap();
        assert!(words.read(|_| ()));
        let lines = std::process::Command::new("yes")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .and_then(|mut yes| {
                let stream = yes.stdout.take().unwrap();
                let mut words = Words::printed(stream, "A", 1)?;
                let mut told = 0;
                while !words.is_paused() {
                    assert!(words.read(|_| told += 1));
                }
                yes.kill()?;
                yes.wait()?;
                Ok(told)
            });
        assert!(lines.unwrap() >= LINES_A_SECOND);
    }

    #[test]
    fn a_line_without_end_does_not_gather_for_ever() {
        let long = vec![b'x'; 3000];
        let parts: Vec<&[u8]> = (0..70).map(|_| &long[..]).collect();
        let told = texts(&parts);
        assert!(told.len() > 1, "{}", told.len());
        assert_eq!(told.iter().map(String::len).sum::<usize>(), 70 * 3000);
    }
}
