//! Decodes the elements of the wire format. It checks every number in a frame before it uses it.

use std::time::Duration;

use bytes::{Buf, Bytes, TryGetError};

use super::{SHORTEST_ITEM, tags};
use crate::base::cause::Cause;
use crate::base::failure::{Failure, Result};
use crate::base::ids::{MessageId, RouteId};
use crate::base::path_name::path_of_name;
use crate::message::batch::{Batch, Output, PackedBatch};
use crate::message::{ItemKey, Message, Payload, Priority};
use crate::protocol::lifeline::Lifeline;
use crate::protocol::report::{Completion, Outcome, Production};
use crate::stage::scope::Note;
use crate::stage::{Acknowledged, Acknowledgement, ActionCounts, Next, Results};

/// Why frames are not a message of the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a message is cut short")]
    Short(#[from] TryGetError),
    #[error("a message refers to a segment, but its sender has no lifeline")]
    NoSegments,
    #[error("a segment could not be received: {0}")]
    Segment(String),
    #[error("a message refers to more frames than it has")]
    MissingFrame,
    #[error("{0} bytes and {1} frames are left over")]
    LeftOver(usize, usize),
    #[error("{what} {found} is not known")]
    Unknown { what: &'static str, found: u8 },
    #[error("text is not UTF-8")]
    NotText,
    #[error("a packed batch does not hold as many messages as it states")]
    NotPacked,
}

/// The unread rest of a head and of the frames that it refers to.
pub(crate) struct Reader<'l> {
    pub(crate) head: Bytes,
    frames: std::vec::IntoIter<Bytes>,
    /// Where segments arrive. Only a worker process has one.
    lifeline: Option<&'l Lifeline>,
}

impl<'l> Reader<'l> {
    pub(crate) fn new(head: Bytes, frames: Vec<Bytes>, lifeline: Option<&'l Lifeline>) -> Self {
        Self { head, frames: frames.into_iter(), lifeline }
    }

    /// Reads a list. Allocates no more than the rest of the head can hold, whatever length the list
    /// claims.
    pub(crate) fn list<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.head.try_get_u32_le()? as usize;
        let mut items = Vec::with_capacity(count.min(self.head.len() / SHORTEST_ITEM));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub(crate) fn bytes(&mut self, length: u32) -> Result<Bytes, WireError> {
        let requested = length as usize;
        let available = self.head.len();
        if requested > available {
            return Err(TryGetError { requested, available }.into());
        }
        Ok(self.head.split_to(requested))
    }

    pub(crate) fn frame(&mut self) -> Result<Bytes, WireError> {
        self.frames.next().ok_or(WireError::MissingFrame)
    }

    pub(crate) fn text_of(&mut self, length: u32) -> Result<String, WireError> {
        let bytes = self.bytes(length)?;
        String::from_utf8(bytes.into()).map_err(|_| WireError::NotText)
    }

    pub(crate) fn text(&mut self) -> Result<String, WireError> {
        let length = self.head.try_get_u32_le()?;
        self.text_of(length)
    }

    pub(crate) fn origin(&mut self) -> Result<ItemKey, WireError> {
        match self.head.try_get_u32_le()? {
            tags::NO_ORIGIN => Ok(None),
            length => Ok(Some(self.text_of(length)?.into())),
        }
    }

    pub(crate) fn duration(&mut self) -> Result<Duration, WireError> {
        Ok(Duration::from_nanos(self.head.try_get_u64_le()?))
    }

    pub(crate) fn failure(&mut self) -> Result<Failure, WireError> {
        let retryable = self.head.try_get_u8()? != 0;
        let chain = self.list(Self::text)?;
        Ok(Failure::from_chain(chain, retryable))
    }

    pub(crate) fn bytes_or_frame(&mut self) -> Result<Bytes, WireError> {
        match self.head.try_get_u32_le()? {
            tags::IN_FRAME => self.frame(),
            length => self.bytes(length),
        }
    }

    pub(crate) fn payload(&mut self) -> Result<Payload, WireError> {
        let header = self.bytes_or_frame()?.into();
        let count = self.head.try_get_u32_le()? as usize;
        // Each buffer takes at least a byte of the head.
        let mut buffers = Vec::with_capacity(count.min(self.head.len()));
        for _ in 0..count {
            buffers.push(self.buffer()?);
        }
        Ok(Payload { header, buffers })
    }

    fn buffer(&mut self) -> Result<Bytes, WireError> {
        match self.head.try_get_u8()? {
            tags::BUFFER_FRAME => self.frame(),
            tags::BUFFER_SEGMENT => {
                let length = self.head.try_get_u64_le()?;
                let lifeline = self.lifeline.ok_or(WireError::NoSegments)?;
                let received = lifeline.receive_segment(length);
                received.map_err(|error| WireError::Segment(error.to_string()))
            }
            found => Err(WireError::Unknown { what: "kind of buffer", found }),
        }
    }

    pub(crate) fn pack(&mut self) -> Result<PackedBatch, WireError> {
        let count = self.head.try_get_u32_le()?;
        let bytes = self.bytes_or_frame()?;
        PackedBatch::checked(count, bytes).ok_or(WireError::NotPacked)
    }

    pub(crate) fn message_id(&mut self) -> Result<MessageId, WireError> {
        Ok(MessageId(self.head.try_get_u64_le()?))
    }

    pub(crate) fn batch(&mut self) -> Result<Batch, WireError> {
        let kind = self.head.try_get_u8()?;
        let priority = self.priority()?;
        let first = self.message_id()?;
        match kind {
            tags::KIND_ONE => Ok(Batch::One(Message {
                id: first,
                attempt: self.head.try_get_u32_le()?,
                priority,
                item: self.head.try_get_u64_le()?,
                origin: self.origin()?,
                payload: self.payload()?,
            })),
            tags::KIND_PACK => Ok(Batch::Many { first, priority, pack: self.pack()? }),
            found => Err(WireError::Unknown { what: "batch", found }),
        }
    }

    pub(crate) fn output(&mut self) -> Result<Output, WireError> {
        let kind = self.head.try_get_u8()?;
        let priority = self.priority()?;
        let route = RouteId(self.head.try_get_u32_le()?);
        match kind {
            tags::KIND_ONE => {
                let item = self.head.try_get_u64_le()?;
                let origin = self.origin()?;
                Ok(Output::One { route, priority, item, origin, payload: self.payload()? })
            }
            tags::KIND_PACK => Ok(Output::Many { route, priority, pack: self.pack()? }),
            found => Err(WireError::Unknown { what: "output", found }),
        }
    }

    fn priority(&mut self) -> Result<Priority, WireError> {
        match self.head.try_get_u8()? {
            tags::PRIORITY_NORMAL => Ok(Priority::Normal),
            tags::PRIORITY_HIGH => Ok(Priority::High),
            found => Err(WireError::Unknown { what: "priority", found }),
        }
    }

    pub(crate) fn completion(&mut self) -> Result<Completion, WireError> {
        let first = self.message_id()?;
        let count = self.head.try_get_u32_le()?;
        let silent = self.head.try_get_u32_le()?;
        let busy = self.duration()?;
        let outcome = match self.head.try_get_u8()? {
            tags::OUTCOME_DONE => Outcome::Done,
            tags::OUTCOME_FAILED => Outcome::Failed(self.failure()?),
            tags::OUTCOME_PANICKED => Outcome::Panicked(self.failure()?),
            tags::OUTCOME_DEFERRED => {
                Outcome::Deferred { wait: self.duration()?, why: self.failure()? }
            }
            found => return Err(WireError::Unknown { what: "outcome", found }),
        };
        Ok(Completion { first, count, outcome, silent, busy })
    }

    pub(crate) fn note(&mut self) -> Result<Note, WireError> {
        match self.head.try_get_u8()? {
            tags::NOTE_EXPECTED => Ok(Note::Expected(self.head.try_get_u64_le()?)),
            tags::NOTE_PRODUCT => {
                Ok(Note::Product { path: path_of_name(&self.text()?), origin: self.origin()? })
            }
            tags::NOTE_WARNING => Ok(Note::Warning(self.text()?)),
            tags::NOTE_ACTIONS => Ok(Note::Actions(self.list(Reader::action)?)),
            found => Err(WireError::Unknown { what: "note", found }),
        }
    }

    fn action(&mut self) -> Result<ActionCounts, WireError> {
        let mut counts = ActionCounts::new(&self.text()?);
        counts.done = self.head.try_get_u32_le()?.into();
        counts.skipped = self.head.try_get_u32_le()?.into();
        counts.failed = self.head.try_get_u32_le()?.into();
        counts.deferred = self.head.try_get_u32_le()?.into();
        counts.busy = self.duration()?;
        Ok(counts)
    }

    pub(crate) fn production(&mut self) -> Result<Production, WireError> {
        let calls = self.head.try_get_u32_le()?;
        let busy = self.duration()?;
        let result = match self.head.try_get_u8()? {
            tags::RESULT_MORE => Some(Ok(Next::More)),
            tags::RESULT_IDLE => Some(Ok(Next::Idle(self.duration()?))),
            tags::RESULT_NO_MORE => Some(Ok(Next::Done)),
            tags::RESULT_FAILED => Some(Err(self.failure()?)),
            tags::RESULT_AT_WORK => None,
            tags::RESULT_BARRIER => Some(Ok(Next::Barrier)),
            found => return Err(WireError::Unknown { what: "result", found }),
        };
        Ok(Production { result, calls, busy })
    }

    pub(crate) fn acknowledgement(&mut self) -> Result<Acknowledgement, WireError> {
        let number = self.head.try_get_u64_le()?;
        let origin = self.origin()?;
        let outcome = match self.head.try_get_u8()? {
            tags::ITEM_DONE => {
                let payloads = self.list(Self::payload)?;
                Acknowledged::Done { results: Results { payloads, ..Results::default() } }
            }
            tags::ITEM_FAILED => Acknowledged::Failed {
                step: self.text()?.into(),
                cause: self.cause()?,
                failure: self.failure()?,
                attempts: self.head.try_get_u32_le()?,
                entry: self.origin()?.map(|entry| entry.to_string()),
            },
            tags::ITEM_DROPPED => Acknowledged::Dropped,
            tags::ITEM_CANCELLED => Acknowledged::Cancelled,
            found => return Err(WireError::Unknown { what: "end of an item", found }),
        };
        Ok(Acknowledgement { number, origin, outcome })
    }

    fn cause(&mut self) -> Result<Cause, WireError> {
        match self.head.try_get_u8()? {
            tags::CAUSE_FAILED => Ok(Cause::Failed),
            tags::CAUSE_PANICKED => Ok(Cause::Panicked),
            tags::CAUSE_LOST => Ok(Cause::Lost),
            tags::CAUSE_TIMED_OUT => Ok(Cause::TimedOut),
            tags::CAUSE_LATE => Ok(Cause::Late),
            tags::CAUSE_CANCELLED => Ok(Cause::Cancelled),
            tags::CAUSE_IN_VAIN => Ok(Cause::InVain),
            found => Err(WireError::Unknown { what: "cause", found }),
        }
    }

    pub(crate) fn end(self) -> Result<(), WireError> {
        match (self.head.len(), self.frames.len()) {
            (0, 0) => Ok(()),
            (bytes, frames) => Err(WireError::LeftOver(bytes, frames)),
        }
    }
}
