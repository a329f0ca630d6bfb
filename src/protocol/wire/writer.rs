//! Encodes the elements of the wire format.

use std::time::Duration;

use bytes::{BufMut, Bytes};

use super::{INLINE_UP_TO, tags};
use crate::base::cause::Cause;
use crate::base::failure::Failure;
use crate::base::path_name::name_of_path;
use crate::memory::segment;
use crate::memory::segment::SHARED_FROM;
use crate::message::batch::{Batch, Output, PackedBatch};
use crate::message::{Header, ItemKey, Payload, Priority};
use crate::protocol::lifeline::Lifeline;
use crate::protocol::report::{Completion, Outcome, Production};
use crate::stage::scope::Note;
use crate::stage::{Acknowledged, Acknowledgement, ActionCounts, Next};

/// A head under construction and the frames that it refers to.
pub(crate) struct Writer<'l> {
    pub(crate) head: Vec<u8>,
    frames: Vec<Bytes>,
    sharing: Sharing<'l>,
}

/// How large arrays travel.
#[derive(Clone, Copy)]
pub(crate) enum Sharing<'l> {
    /// As frames, like small ones. Within the process no byte is copied.
    No,
    /// As frames that lie in segments: the router passes them on to another process.
    Ahead,
    /// As segments over the lifeline of a worker process.
    Over(&'l Lifeline),
}

impl<'l> Writer<'l> {
    pub(crate) fn new(sharing: Sharing<'l>) -> Self {
        Self { head: Vec::new(), frames: Vec::new(), sharing }
    }

    pub(crate) fn into_frames(self) -> Vec<Bytes> {
        let mut frames = vec![Bytes::from(self.head)];
        frames.extend(self.frames);
        frames
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.head.put_u32_le(text.len() as u32);
        self.head.put_slice(text.as_bytes());
    }

    pub(crate) fn origin(&mut self, origin: &ItemKey) {
        match origin {
            Some(text) => self.text(text),
            None => self.head.put_u32_le(tags::NO_ORIGIN),
        }
    }

    pub(crate) fn duration(&mut self, duration: Duration) {
        self.head.put_u64_le(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn failure(&mut self, failure: &Failure) {
        self.head.put_u8(u8::from(failure.is_retryable()));
        self.head.put_u32_le(failure.chain().len() as u32);
        for sentence in failure.chain() {
            self.text(sentence);
        }
    }

    pub(crate) fn bytes(&mut self, bytes: Header) {
        if bytes.len() <= INLINE_UP_TO {
            self.head.put_u32_le(bytes.len() as u32);
            self.head.put_slice(&bytes);
        } else {
            self.head.put_u32_le(tags::IN_FRAME);
            self.frames.push(bytes.into_bytes());
        }
    }

    pub(crate) fn payload(&mut self, payload: Payload) {
        let Payload { header, buffers } = payload;
        self.bytes(header);
        self.head.put_u32_le(buffers.len() as u32);
        buffers.into_iter().for_each(|buffer| self.buffer(buffer));
    }

    fn buffer(&mut self, buffer: Bytes) {
        let length = buffer.len();
        let shared = length >= SHARED_FROM;
        if let Sharing::Over(lifeline) = self.sharing
            && shared
            && lifeline.send_segment(&buffer)
        {
            self.head.put_u8(tags::BUFFER_SEGMENT);
            self.head.put_u64_le(length as u64);
            return;
        }
        let ahead = matches!(self.sharing, Sharing::Ahead) && shared;
        let segment = if ahead && segment::of(&buffer).is_none() {
            // Without a segment the router copies the array: slower, not wrong.
            segment::create(&buffer).ok()
        } else {
            None
        };
        self.head.put_u8(tags::BUFFER_FRAME);
        self.frames.push(segment.unwrap_or(buffer));
    }

    pub(crate) fn pack(&mut self, pack: &PackedBatch) {
        self.head.put_u32_le(pack.count() as u32);
        self.bytes(Header::Shared(pack.bytes().clone()));
    }

    pub(crate) fn batch(&mut self, batch: Batch) {
        match batch {
            Batch::One(message) => {
                self.head.put_u8(tags::KIND_ONE);
                self.priority(message.priority);
                self.head.put_u64_le(message.id.0);
                self.head.put_u32_le(message.attempt);
                self.head.put_u64_le(message.item);
                self.origin(&message.origin);
                self.payload(message.payload);
            }
            Batch::Many { first, priority, pack } => {
                self.head.put_u8(tags::KIND_PACK);
                self.priority(priority);
                self.head.put_u64_le(first.0);
                self.pack(&pack);
            }
        }
    }

    fn priority(&mut self, priority: Priority) {
        self.head.put_u8(match priority {
            Priority::Normal => tags::PRIORITY_NORMAL,
            Priority::High => tags::PRIORITY_HIGH,
        });
    }

    pub(crate) fn completion(&mut self, completion: &Completion) {
        self.head.put_u64_le(completion.first.0);
        self.head.put_u32_le(completion.count);
        self.head.put_u32_le(completion.silent);
        self.duration(completion.busy);
        match &completion.outcome {
            Outcome::Done => self.head.put_u8(tags::OUTCOME_DONE),
            Outcome::Failed(failure) => {
                self.head.put_u8(tags::OUTCOME_FAILED);
                self.failure(failure);
            }
            Outcome::Panicked(failure) => {
                self.head.put_u8(tags::OUTCOME_PANICKED);
                self.failure(failure);
            }
            Outcome::Deferred { wait, why } => {
                self.head.put_u8(tags::OUTCOME_DEFERRED);
                self.duration(*wait);
                self.failure(why);
            }
        }
    }

    pub(crate) fn production(&mut self, production: &Production) {
        self.head.put_u32_le(production.calls);
        self.duration(production.busy);
        match &production.result {
            Some(Ok(Next::More)) => self.head.put_u8(tags::RESULT_MORE),
            Some(Ok(Next::Idle(wait))) => {
                self.head.put_u8(tags::RESULT_IDLE);
                self.duration(*wait);
            }
            Some(Ok(Next::Barrier)) => self.head.put_u8(tags::RESULT_BARRIER),
            Some(Ok(Next::Done)) => self.head.put_u8(tags::RESULT_NO_MORE),
            Some(Err(failure)) => {
                self.head.put_u8(tags::RESULT_FAILED);
                self.failure(failure);
            }
            None => self.head.put_u8(tags::RESULT_AT_WORK),
        }
    }

    pub(crate) fn acknowledgement(&mut self, item: Acknowledgement) {
        self.head.put_u64_le(item.number);
        self.origin(&item.origin);
        match item.outcome {
            Acknowledged::Done { results } => {
                self.head.put_u8(tags::ITEM_DONE);
                self.head.put_u32_le(results.payloads.len() as u32);
                results.payloads.into_iter().for_each(|payload| self.payload(payload));
            }
            Acknowledged::Failed { step, cause, failure, attempts, entry } => {
                self.head.put_u8(tags::ITEM_FAILED);
                self.text(&step);
                self.head.put_u8(match cause {
                    Cause::Failed => tags::CAUSE_FAILED,
                    Cause::Panicked => tags::CAUSE_PANICKED,
                    Cause::Lost => tags::CAUSE_LOST,
                    Cause::TimedOut => tags::CAUSE_TIMED_OUT,
                    Cause::Late => tags::CAUSE_LATE,
                    Cause::Cancelled => tags::CAUSE_CANCELLED,
                    Cause::InVain => tags::CAUSE_IN_VAIN,
                });
                self.failure(&failure);
                self.head.put_u32_le(attempts);
                self.origin(&entry.map(Into::into));
            }
            Acknowledged::Dropped => self.head.put_u8(tags::ITEM_DROPPED),
            Acknowledged::Cancelled => self.head.put_u8(tags::ITEM_CANCELLED),
        }
    }

    pub(crate) fn outputs(&mut self, outputs: Vec<Output>) {
        self.head.put_u32_le(outputs.len() as u32);
        for output in outputs {
            match output {
                Output::One { route, priority, item, origin, payload } => {
                    self.head.put_u8(tags::KIND_ONE);
                    self.priority(priority);
                    self.head.put_u32_le(route.0);
                    self.head.put_u64_le(item);
                    self.origin(&origin);
                    self.payload(payload);
                }
                Output::Many { route, priority, pack } => {
                    self.head.put_u8(tags::KIND_PACK);
                    self.priority(priority);
                    self.head.put_u32_le(route.0);
                    self.pack(&pack);
                }
            }
        }
    }

    fn action(&mut self, counts: &ActionCounts) {
        self.text(&counts.name);
        for count in [counts.done, counts.skipped, counts.failed, counts.deferred] {
            self.head.put_u32_le(u32::try_from(count).unwrap_or(u32::MAX));
        }
        self.duration(counts.busy);
    }

    pub(crate) fn notes(&mut self, notes: &[Note]) {
        self.head.put_u32_le(notes.len() as u32);
        for note in notes {
            match note {
                Note::Expected(total) => {
                    self.head.put_u8(tags::NOTE_EXPECTED);
                    self.head.put_u64_le(*total);
                }
                Note::Product { path, origin } => {
                    self.head.put_u8(tags::NOTE_PRODUCT);
                    self.text(&name_of_path(path));
                    self.origin(origin);
                }
                Note::Warning(text) => {
                    self.head.put_u8(tags::NOTE_WARNING);
                    self.text(text);
                }
                Note::Actions(actions) => {
                    self.head.put_u8(tags::NOTE_ACTIONS);
                    self.head.put_u32_le(actions.len() as u32);
                    actions.iter().for_each(|counts| self.action(counts));
                }
            }
        }
    }
}
