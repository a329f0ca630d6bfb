//! The messages of both directions, byte by byte: what follows READY, DONE, WORK ...

use bytes::{Buf, BufMut, Bytes};

use crate::base::failure::{Failure, Result};
use crate::base::ids::MessageId;
use crate::message::batch::{Batch, Output};
use crate::protocol::lifeline::Lifeline;
use crate::protocol::report::{Completion, Production};
use crate::stage::Acknowledgement;
use crate::stage::scope::Note;

use super::reader::{Reader, WireError};
use super::tags;
use super::writer::{Sharing, Writer};

/// A message of a worker.
#[derive(Debug, PartialEq)]
pub(crate) enum FromWorker {
    Ready {
        version: u16,
    },
    InitFailed(Failure),
    Done {
        completions: Vec<Completion>,
        outputs: Vec<Output>,
    },
    Produced {
        production: Production,
        outputs: Vec<Output>,
    },
    Finished {
        result: Result<()>,
        outputs: Vec<Output>,
    },
    Notes(Vec<Note>),
    /// Gives back `count` messages from `first` on, none of which was begun.
    Returned {
        first: MessageId,
        count: u32,
    },
    /// The producer has handed on results of this size.
    Released {
        bytes: u64,
    },
    /// What a worker of the caller says to it while it is at work.
    Aside(Bytes),
    /// The producer no longer wants an item.
    Cancel {
        number: u64,
        running: bool,
    },
}

/// A message of the router.
#[derive(Debug, PartialEq)]
pub(crate) enum ToWorker {
    Grant {
        count: u32,
    },
    Work(Vec<Batch>),
    Finish,
    Stop,
    Acknowledged(Vec<Acknowledgement>),
    /// What a worker of the caller has said aside.
    Told(Bytes),
    NotCancelled {
        number: u64,
    },
}

impl FromWorker {
    pub(crate) fn encode(self, sharing: Sharing<'_>) -> Vec<Bytes> {
        let mut out = Writer::new(sharing);
        match self {
            Self::Ready { version } => {
                out.head.put_u8(tags::READY);
                out.head.put_u16_le(version);
            }
            Self::InitFailed(failure) => {
                out.head.put_u8(tags::INIT_FAILED);
                out.failure(&failure);
            }
            Self::Done { completions, outputs } => {
                out.head.put_u8(tags::DONE);
                out.head.put_u32_le(completions.len() as u32);
                for completion in &completions {
                    out.completion(completion);
                }
                out.outputs(outputs);
            }
            Self::Produced { production, outputs } => {
                out.head.put_u8(tags::PRODUCED);
                out.production(&production);
                out.outputs(outputs);
            }
            Self::Finished { result, outputs } => {
                out.head.put_u8(tags::FINISHED);
                out.head.put_u8(u8::from(result.is_err()));
                if let Err(failure) = &result {
                    out.failure(failure);
                }
                out.outputs(outputs);
            }
            Self::Notes(notes) => {
                out.head.put_u8(tags::NOTES);
                out.notes(&notes);
            }
            Self::Returned { first, count } => {
                out.head.put_u8(tags::RETURNED);
                out.head.put_u64_le(first.0);
                out.head.put_u32_le(count);
            }
            Self::Cancel { number, running } => {
                out.head.put_u8(tags::CANCEL);
                out.head.put_u64_le(number);
                out.head.put_u8(u8::from(running));
            }
            Self::Released { bytes } => {
                out.head.put_u8(tags::RELEASED);
                out.head.put_u64_le(bytes);
            }
            Self::Aside(content) => {
                out.head.put_u8(tags::ASIDE);
                out.bytes(content.into());
            }
        }
        out.into_frames()
    }

    pub(crate) fn decode(
        head: Bytes,
        frames: Vec<Bytes>,
        lifeline: Option<&Lifeline>,
    ) -> Result<Self, WireError> {
        let mut input = Reader::new(head, frames, lifeline);
        let message = match input.head.try_get_u8()? {
            tags::READY => Self::Ready { version: input.head.try_get_u16_le()? },
            tags::INIT_FAILED => Self::InitFailed(input.failure()?),
            tags::DONE => {
                let completions = input.list(Reader::completion)?;
                Self::Done { completions, outputs: input.list(Reader::output)? }
            }
            tags::PRODUCED => {
                let production = input.production()?;
                Self::Produced { production, outputs: input.list(Reader::output)? }
            }
            tags::FINISHED => {
                let result = match input.head.try_get_u8()? {
                    0 => Ok(()),
                    _ => Err(input.failure()?),
                };
                Self::Finished { result, outputs: input.list(Reader::output)? }
            }
            tags::NOTES => Self::Notes(input.list(Reader::note)?),
            tags::RETURNED => {
                Self::Returned { first: input.message_id()?, count: input.head.try_get_u32_le()? }
            }
            tags::CANCEL => {
                let number = input.head.try_get_u64_le()?;
                Self::Cancel { number, running: input.head.try_get_u8()? != 0 }
            }
            tags::RELEASED => Self::Released { bytes: input.head.try_get_u64_le()? },
            tags::ASIDE => Self::Aside(input.bytes_or_frame()?),
            found => return Err(WireError::Unknown { what: "message kind", found }),
        };
        input.end()?;
        Ok(message)
    }
}

impl ToWorker {
    pub(crate) fn encode(self, sharing: Sharing<'_>) -> Vec<Bytes> {
        let mut out = Writer::new(sharing);
        match self {
            Self::Grant { count } => {
                out.head.put_u8(tags::GRANT);
                out.head.put_u32_le(count);
            }
            Self::Work(batches) => {
                out.head.put_u8(tags::WORK);
                out.head.put_u32_le(batches.len() as u32);
                batches.into_iter().for_each(|batch| out.batch(batch));
            }
            Self::Finish => out.head.put_u8(tags::FINISH),
            Self::Stop => out.head.put_u8(tags::STOP),
            Self::NotCancelled { number } => {
                out.head.put_u8(tags::NOT_CANCELLED);
                out.head.put_u64_le(number);
            }
            Self::Acknowledged(items) => {
                out.head.put_u8(tags::ACKNOWLEDGED);
                out.head.put_u32_le(items.len() as u32);
                items.into_iter().for_each(|item| out.acknowledgement(item));
            }
            Self::Told(content) => {
                out.head.put_u8(tags::TOLD);
                out.bytes(content.into());
            }
        }
        out.into_frames()
    }

    pub(crate) fn decode(
        head: Bytes,
        frames: Vec<Bytes>,
        lifeline: Option<&Lifeline>,
    ) -> Result<Self, WireError> {
        let mut input = Reader::new(head, frames, lifeline);
        let message = match input.head.try_get_u8()? {
            tags::GRANT => Self::Grant { count: input.head.try_get_u32_le()? },
            tags::WORK => Self::Work(input.list(Reader::batch)?),
            tags::FINISH => Self::Finish,
            tags::STOP => Self::Stop,
            tags::NOT_CANCELLED => Self::NotCancelled { number: input.head.try_get_u64_le()? },
            tags::ACKNOWLEDGED => Self::Acknowledged(input.list(Reader::acknowledgement)?),
            tags::TOLD => Self::Told(input.bytes_or_frame()?),
            found => return Err(WireError::Unknown { what: "message kind", found }),
        };
        input.end()?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tags::VERSION;
    use super::*;
    use crate::base::cause::Cause;
    use crate::base::ids::RouteId;
    use crate::message::batch::PackedBatch;
    use crate::message::{Message, Payload, Priority};
    use crate::protocol::lifeline::Lifeline;
    use crate::protocol::report::Outcome;
    use crate::stage::{Acknowledged, ActionCounts, Next, Results};
    use Priority::{High, Normal};
    use proptest::prelude::*;

    fn payload(header: usize, buffers: &[usize]) -> Payload {
        Payload {
            header: vec![1; header].into(),
            buffers: buffers.iter().map(|size| vec![2; *size].into()).collect(),
        }
    }

    fn pack(count: u32) -> PackedBatch {
        PackedBatch::checked(count, [3, 0, 7, 8, 9].repeat(count as usize).into()).unwrap()
    }

    fn produced(
        result: Option<crate::base::failure::Result<Next>>,
        outputs: Vec<Output>,
    ) -> FromWorker {
        let production = Production { result, calls: 1, busy: Duration::from_millis(3) };
        FromWorker::Produced { production, outputs }
    }

    fn actions(name: &str, done: u64) -> ActionCounts {
        let busy = Duration::from_millis(7);
        ActionCounts { done, skipped: 4, failed: 1, deferred: 2, busy, ..ActionCounts::new(name) }
    }

    fn examples() -> Vec<FromWorker> {
        let failure = Failure::permanent("inner").wrap("outer");
        let wait = Duration::from_secs(5);
        let output = |route, header, buffers: &[usize]| Output::One {
            route: RouteId(route),
            priority: Priority::ALL[route as usize % 2],
            item: u64::from(route) * 9,
            payload: payload(header, buffers),
            origin: (route > 0).then(|| "raw/n1.fits".into()),
        };
        let completion = |first, count, outcome| Completion {
            first: MessageId(first),
            count,
            outcome,
            silent: 1,
            busy: Duration::from_micros(3),
        };
        vec![
            FromWorker::Ready { version: VERSION },
            FromWorker::InitFailed(failure.clone()),
            FromWorker::Done {
                completions: vec![
                    completion(1, 7, Outcome::Done),
                    completion(8, 1, Outcome::Failed(failure.clone())),
                    completion(9, 1, Outcome::Panicked(failure.clone())),
                    completion(10, 1, Outcome::Deferred { wait, why: failure.clone() }),
                ],
                outputs: vec![
                    output(0, 8, &[]),
                    output(1, 10_000, &[0, 5000]),
                    Output::Many { route: RouteId(0), priority: High, pack: pack(3) },
                    Output::Many { route: RouteId(1), priority: Normal, pack: pack(1000) },
                ],
            },
            FromWorker::Produced {
                production: Production {
                    result: Some(Ok(Next::Idle(Duration::from_secs(2)))),
                    calls: 4,
                    busy: Duration::from_millis(1),
                },
                outputs: vec![output(2, 0, &[1])],
            },
            produced(None, vec![output(0, 3, &[])]),
            produced(Some(Ok(Next::Barrier)), Vec::new()),
            FromWorker::Finished { result: Err(failure), outputs: Vec::new() },
            FromWorker::Notes(vec![
                Note::Expected(1_000),
                Note::Product { path: "png/n1.png".into(), origin: Some("raw/n1.fits".into()) },
                Note::Product { path: "png/all.png".into(), origin: None },
                Note::Warning("n1.fits has 4 images".into()),
                Note::Actions(vec![actions("bias", 3), actions("flat", 0)]),
            ]),
            FromWorker::Returned { first: MessageId(70), count: 9 },
            FromWorker::Released { bytes: 1 << 40 },
            FromWorker::Aside(Bytes::from_static(b"almost there")),
            FromWorker::Aside(vec![7; 5000].into()),
            FromWorker::Cancel { number: 1 << 33, running: true },
        ]
    }

    fn decode(mut frames: Vec<Bytes>) -> Result<FromWorker, WireError> {
        let rest = frames.split_off(1);
        FromWorker::decode(frames.remove(0), rest, None)
    }

    #[test]
    fn what_a_worker_sends_is_what_the_hub_gets() {
        for (sent, again) in examples().into_iter().zip(examples()) {
            assert_eq!(decode(sent.encode(Sharing::No)), Ok(again));
        }
    }

    #[test]
    fn what_the_hub_sends_is_what_a_worker_gets() {
        let message = |id| {
            Batch::One(Message {
                id: MessageId(id),
                attempt: 1,
                priority: Priority::ALL[id as usize % 2],
                item: id * 7,
                origin: (id > 0).then(|| "a".into()),
                payload: payload(id as usize * 5000, &[300]),
            })
        };
        let many = |count| {
            let priority = Priority::ALL[count as usize % 2];
            Batch::Many { first: MessageId(10), priority, pack: pack(count) }
        };
        let acknowledged = || {
            let failure = Failure::permanent("inner").wrap("outer");
            let results = vec![payload(3, &[]), payload(9000, &[0, 20])];
            let outcomes = [
                Acknowledged::Done { results: Results { payloads: results, ..Results::default() } },
                Acknowledged::Failed {
                    step: "S".into(),
                    cause: Cause::TimedOut,
                    failure,
                    attempts: 3,
                    entry: Some("000001-S".into()),
                },
                Acknowledged::Dropped,
                Acknowledged::Cancelled,
            ];
            let items = (1..).zip(outcomes).map(|(number, outcome)| {
                let origin = (number > 1).then(|| "raw/n1.fits".into());
                Acknowledgement { number, origin, outcome }
            });
            ToWorker::Acknowledged(items.collect())
        };
        let work = || ToWorker::Work(vec![message(0), many(5), message(1), many(2000)]);
        for (sent, again) in [
            (ToWorker::Grant { count: 7 }, ToWorker::Grant { count: 7 }),
            (work(), work()),
            (ToWorker::Finish, ToWorker::Finish),
            (ToWorker::Stop, ToWorker::Stop),
            (acknowledged(), acknowledged()),
            (ToWorker::Told(vec![7; 5000].into()), ToWorker::Told(vec![7; 5000].into())),
            (ToWorker::NotCancelled { number: 7 }, ToWorker::NotCancelled { number: 7 }),
        ] {
            let mut frames = sent.encode(Sharing::No);
            let rest = frames.split_off(1);
            assert_eq!(ToWorker::decode(frames.remove(0), rest, None), Ok(again));
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for example in examples() {
            let frames = example.encode(Sharing::No);
            for length in 0..frames[0].len() {
                let mut cut = frames.clone();
                cut[0].truncate(length);
                assert!(decode(cut).is_err());
            }
            if frames.len() > 1 {
                assert_eq!(
                    decode(frames[..frames.len() - 1].to_vec()),
                    Err(WireError::MissingFrame)
                );
            }
        }
    }

    #[test]
    fn segments_that_are_forged_or_were_not_sent_are_an_error() {
        let (ours, theirs) = Lifeline::pair().unwrap();
        let size = crate::memory::segment::SHARED_FROM;
        let sent = || {
            let output = Output::One {
                route: RouteId(0),
                priority: Normal,
                item: 0,
                origin: None,
                payload: payload(8, &[size]),
            };
            let message = FromWorker::Finished { result: Ok(()), outputs: vec![output] };
            message.encode(Sharing::Over(&ours)).remove(0)
        };
        let received = |head: &[u8]| {
            FromWorker::decode(Bytes::copy_from_slice(head), Vec::new(), Some(&theirs))
        };
        let head = sent();
        assert!(received(&head).is_ok());
        assert!(matches!(received(&head), Err(WireError::Segment(_))), "none is left");
        let length = (size as u64).to_le_bytes();
        let place = head.windows(8).position(|bytes| bytes == length).unwrap();
        for forged in [0, size as u64 - 1, size as u64 + 1, u64::MAX] {
            let mut head = sent().to_vec();
            head[place..place + 8].copy_from_slice(&forged.to_le_bytes());
            assert!(matches!(received(&head), Err(WireError::Segment(_))), "{forged}");
        }
        let mut many = sent().to_vec();
        many[place - 5..place - 1].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(received(&many).is_err(), "more buffers than there are bytes");
        let without = FromWorker::decode(sent(), Vec::new(), None);
        assert_eq!(without, Err(WireError::NoSegments));
    }

    proptest! {
        #[test]
        fn arbitrary_frames_are_an_error_or_a_message(
            head in proptest::collection::vec(any::<u8>(), 0..200),
            frames in proptest::collection::vec(any::<Vec<u8>>(), 0..3),
        ) {
            let frames: Vec<Bytes> = frames.into_iter().map(Bytes::from).collect();
            let _ = FromWorker::decode(head.clone().into(), frames.clone(), None);
            let _ = ToWorker::decode(head.into(), frames, None);
        }
    }
}
