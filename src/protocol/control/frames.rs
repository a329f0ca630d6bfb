//! The frames of the control socket. `python/src/drpipe/protocol/control.py` has the same numbers.

use bytes::{Buf, BufMut, Bytes, TryGetError};

use crate::base::failure::Failure;
use crate::base::ids::{Slot, WorkerId};
use crate::protocol::wire::{Reader, Sharing, WireError, Writer};

/// The length of a text that says that there is none.
const NONE: u32 = 0xFFFF_FFFF;
/// The longest text in a frame, in bytes; the rest of a longer one is left out.
const LONGEST_TEXT: usize = 16_384;
/// The most texts of a failure in a frame.
const MOST_TEXTS: usize = 3;

/// A frame from the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FromCaller {
    Hello(Hello),
    /// This process is the worker now. A pidfd may come with the frame.
    Started {
        worker: WorkerId,
        pid: u32,
        manner: Manner,
    },
    /// There will be no worker.
    NotStarted {
        worker: WorkerId,
        failure: Failure,
    },
    /// The worker's process has ended with this status, in the form of `waitpid`.
    Ended {
        worker: WorkerId,
        status: i32,
    },
    /// A request of the caller, to be answered with this number.
    Request {
        number: u32,
        verb: Verb,
    },
    /// Entries for the work queue of the run, to be answered with this number.
    Put {
        number: u32,
        entries: Vec<Entry>,
    },
}

/// An entry of a work queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) priority: u8,
    pub(crate) payload: Bytes,
}

/// The first frame of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version: u16,
    pub(crate) pid: u32,
    pub(crate) name: String,
}

/// What the process of an attached worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// The caller itself, which the run cannot end.
    Caller,
    /// A process.
    Process,
    /// The leader of a process group.
    Group,
}

/// What a caller asks a run to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Begin nothing new: in one step, or in the whole run.
    Pause(Option<String>),
    Resume(Option<String>),
    SetWorkers {
        step: String,
        workers: u32,
    },
    /// Take no more input.
    Drain,
    /// Stop at once.
    Stop,
    /// Give up all that descends from this origin, also if a worker is at it if `running` says so.
    Cancel {
        origin: String,
        running: bool,
    },
}

/// A frame to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToCaller {
    /// The run has begun; workers connect to the endpoint.
    Welcome { run: String, version: String, endpoint: String },
    /// There will be no run.
    Refused(Failure),
    /// Start a worker. Its end of the lifeline comes with the frame.
    Start { worker: WorkerId, step: String, feeds: bool },
    /// The answer to a request: done, or why not.
    Answer { number: u32, error: Option<String> },
    /// The run is over. The report comes with the frame, as a file with JSON.
    Over { exit_code: u8 },
}

mod tags {
    pub(super) const HELLO: u8 = 1;
    pub(super) const STARTED: u8 = 2;
    pub(super) const NOT_STARTED: u8 = 3;
    pub(super) const ENDED: u8 = 4;
    pub(super) const STEER: u8 = 5;
    pub(super) const PUT: u8 = 6;
    pub(super) const WELCOME: u8 = 16;
    pub(super) const REFUSED: u8 = 17;
    pub(super) const START: u8 = 18;
    pub(super) const ANSWER: u8 = 19;
    pub(super) const OVER: u8 = 20;
    pub(super) const PAUSE: u8 = 0;
    pub(super) const RESUME: u8 = 1;
    pub(super) const WORKERS: u8 = 2;
    pub(super) const DRAIN: u8 = 3;
    pub(super) const STOP: u8 = 4;
    pub(super) const CANCEL: u8 = 5;
    pub(super) const CALLER: u8 = 0;
    pub(super) const PROCESS: u8 = 1;
    pub(super) const GROUP: u8 = 2;
}

impl FromCaller {
    /// # Errors
    /// If the bytes are not a frame of a caller.
    pub(crate) fn decode(frame: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(frame, Vec::new(), None);
        let decoded = match reader.head.try_get_u8()? {
            tags::HELLO => Self::Hello(Hello {
                version: reader.head.try_get_u16_le()?,
                pid: reader.head.try_get_u32_le()?,
                name: reader.text()?,
            }),
            tags::STARTED => Self::Started {
                worker: worker(&mut reader)?,
                pid: reader.head.try_get_u32_le()?,
                manner: manner(&mut reader)?,
            },
            tags::NOT_STARTED => {
                Self::NotStarted { worker: worker(&mut reader)?, failure: reader.failure()? }
            }
            tags::ENDED => {
                Self::Ended { worker: worker(&mut reader)?, status: reader.head.try_get_i32_le()? }
            }
            tags::STEER => {
                Self::Request { number: reader.head.try_get_u32_le()?, verb: verb(&mut reader)? }
            }
            tags::PUT => {
                Self::Put { number: reader.head.try_get_u32_le()?, entries: reader.list(entry)? }
            }
            found => return Err(WireError::Unknown { what: "frame kind", found }),
        };
        reader.end()?;
        Ok(decoded)
    }

    #[cfg(test)]
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(Sharing::No);
        match self {
            Self::Hello(Hello { version, pid, name }) => {
                writer.head.put_u8(tags::HELLO);
                writer.head.put_u16_le(*version);
                writer.head.put_u32_le(*pid);
                writer.text(name);
            }
            Self::Started { worker, pid, manner } => {
                put_worker(&mut writer, tags::STARTED, *worker);
                writer.head.put_u32_le(*pid);
                writer.head.put_u8(match manner {
                    Manner::Caller => tags::CALLER,
                    Manner::Process => tags::PROCESS,
                    Manner::Group => tags::GROUP,
                });
            }
            Self::NotStarted { worker, failure } => {
                put_worker(&mut writer, tags::NOT_STARTED, *worker);
                writer.failure(failure);
            }
            Self::Ended { worker, status } => {
                put_worker(&mut writer, tags::ENDED, *worker);
                writer.head.put_i32_le(*status);
            }
            Self::Request { number, verb } => {
                writer.head.put_u8(tags::STEER);
                writer.head.put_u32_le(*number);
                put_verb(&mut writer, verb);
            }
            Self::Put { number, entries } => {
                writer.head.put_u8(tags::PUT);
                writer.head.put_u32_le(*number);
                writer.head.put_u32_le(entries.len() as u32);
                for Entry { key, priority, payload } in entries {
                    writer.text(key);
                    writer.head.put_u8(*priority);
                    writer.head.put_u32_le(payload.len() as u32);
                    writer.head.extend_from_slice(payload);
                }
            }
        }
        writer.head
    }
}

impl ToCaller {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(Sharing::No);
        match self {
            Self::Welcome { run, version, endpoint } => {
                writer.head.put_u8(tags::WELCOME);
                [run, version, endpoint].into_iter().for_each(|text| writer.text(cut(text)));
            }
            Self::Refused(failure) => {
                writer.head.put_u8(tags::REFUSED);
                let texts = failure.chain().iter().take(MOST_TEXTS).map(|text| cut(text).into());
                writer.failure(&Failure::from_chain(texts.collect(), failure.is_retryable()));
            }
            Self::Start { worker, step, feeds } => {
                put_worker(&mut writer, tags::START, *worker);
                writer.text(step);
                writer.head.put_u8(u8::from(*feeds));
            }
            Self::Answer { number, error } => {
                writer.head.put_u8(tags::ANSWER);
                writer.head.put_u32_le(*number);
                writer.head.put_u8(u8::from(error.is_some()));
                error.iter().for_each(|text| writer.text(cut(text)));
            }
            Self::Over { exit_code } => writer.head.extend([tags::OVER, *exit_code]),
        }
        writer.head
    }
}

/// The beginning of the text, if it is too long for a frame.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_TEXT)]
}

fn worker(reader: &mut Reader<'_>) -> Result<WorkerId, TryGetError> {
    let slot = Slot(reader.head.try_get_u32_le()?);
    Ok(WorkerId { slot, epoch: reader.head.try_get_u32_le()? })
}

fn put_worker(writer: &mut Writer<'_>, tag: u8, worker: WorkerId) {
    writer.head.put_u8(tag);
    writer.head.put_u32_le(worker.slot.0);
    writer.head.put_u32_le(worker.epoch);
}

fn manner(reader: &mut Reader<'_>) -> Result<Manner, WireError> {
    match reader.head.try_get_u8()? {
        tags::CALLER => Ok(Manner::Caller),
        tags::PROCESS => Ok(Manner::Process),
        tags::GROUP => Ok(Manner::Group),
        found => Err(WireError::Unknown { what: "manner", found }),
    }
}

fn verb(reader: &mut Reader<'_>) -> Result<Verb, WireError> {
    match reader.head.try_get_u8()? {
        tags::PAUSE => Ok(Verb::Pause(step(reader)?)),
        tags::RESUME => Ok(Verb::Resume(step(reader)?)),
        tags::WORKERS => {
            let step = reader.text()?;
            Ok(Verb::SetWorkers { step, workers: reader.head.try_get_u32_le()? })
        }
        tags::DRAIN => Ok(Verb::Drain),
        tags::STOP => Ok(Verb::Stop),
        tags::CANCEL => {
            let origin = reader.text()?;
            Ok(Verb::Cancel { origin, running: reader.head.try_get_u8()? != 0 })
        }
        found => Err(WireError::Unknown { what: "request", found }),
    }
}

fn entry(reader: &mut Reader<'_>) -> Result<Entry, WireError> {
    let key = reader.text()?;
    let priority = reader.head.try_get_u8()?;
    let length = reader.head.try_get_u32_le()?;
    Ok(Entry { key, priority, payload: reader.bytes(length)? })
}

fn step(reader: &mut Reader<'_>) -> Result<Option<String>, WireError> {
    match reader.head.try_get_u32_le()? {
        NONE => Ok(None),
        length => reader.text_of(length).map(Some),
    }
}

#[cfg(test)]
fn put_verb(writer: &mut Writer<'_>, verb: &Verb) {
    let mut put_step = |tag, step: &Option<String>| {
        writer.head.put_u8(tag);
        match step {
            Some(step) => writer.text(step),
            None => writer.head.put_u32_le(NONE),
        }
    };
    match verb {
        Verb::Pause(step) => put_step(tags::PAUSE, step),
        Verb::Resume(step) => put_step(tags::RESUME, step),
        Verb::SetWorkers { step, workers } => {
            put_step(tags::WORKERS, &Some(step.clone()));
            writer.head.put_u32_le(*workers);
        }
        Verb::Drain => writer.head.put_u8(tags::DRAIN),
        Verb::Stop => writer.head.put_u8(tags::STOP),
        Verb::Cancel { origin, running } => {
            put_step(tags::CANCEL, &Some(origin.clone()));
            writer.head.put_u8(u8::from(*running));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker_7() -> WorkerId {
        WorkerId { slot: Slot(7), epoch: 2 }
    }

    fn of_caller() -> Vec<FromCaller> {
        let worker = worker_7();
        let request = |verb| FromCaller::Request { number: 9, verb };
        let entry = |key: &str| {
            let payload = Bytes::from_static(b"value");
            Entry { key: key.into(), priority: 1, payload }
        };
        vec![
            FromCaller::Hello(Hello { version: 3, pid: 4711, name: "notebook".into() }),
            FromCaller::Started { worker, pid: 12, manner: Manner::Group },
            FromCaller::NotStarted { worker, failure: Failure::retryable("busy").wrap("no fork") },
            FromCaller::Ended { worker, status: -9 },
            request(Verb::Pause(None)),
            request(Verb::Resume(Some("CLEAN".into()))),
            request(Verb::SetWorkers { step: "CLEAN".into(), workers: 4 }),
            request(Verb::Drain),
            request(Verb::Stop),
            request(Verb::Cancel { origin: "raw/7.fits".into(), running: true }),
            FromCaller::Put { number: 3, entries: vec![entry("a"), entry("b")] },
        ]
    }

    #[test]
    fn what_a_caller_sends_is_what_the_run_reads() {
        for frame in of_caller() {
            assert_eq!(FromCaller::decode(frame.encode().into()).unwrap(), frame);
        }
    }

    #[test]
    fn a_frame_that_is_cut_short_or_too_long_or_unknown_is_refused() {
        for frame in of_caller() {
            let bytes = frame.encode();
            for length in 0..bytes.len() {
                let cut = Bytes::copy_from_slice(&bytes[..length]);
                assert!(FromCaller::decode(cut).is_err(), "{frame:?} up to {length}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(FromCaller::decode(longer.into()), Err(WireError::LeftOver(1, 0)));
        }
        let unknown = WireError::Unknown { what: "frame kind", found: 99 };
        assert_eq!(FromCaller::decode(Bytes::from_static(&[99])), Err(unknown));
    }

    #[test]
    fn every_frame_to_the_caller_has_room_however_long_its_texts_are() {
        let long = "\u{e9}".repeat(100_000);
        let failure = (0..100).fold(Failure::permanent("end"), |f, _| f.wrap(long.clone()));
        let frames = [
            ToCaller::Welcome { run: long.clone(), version: long.clone(), endpoint: long.clone() },
            ToCaller::Refused(failure),
            ToCaller::Answer { number: 1, error: Some(long) },
        ];
        for frame in frames {
            assert!(frame.encode().len() <= super::super::LONGEST);
        }
    }

    #[test]
    fn a_worker_to_start_is_named_by_its_place() {
        let start = ToCaller::Start { worker: worker_7(), step: "A".into(), feeds: true };
        assert_eq!(start.encode(), [18, 7, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, b'A', 1]);
        assert_eq!(ToCaller::Over { exit_code: 3 }.encode(), [20, 3]);
    }
}
