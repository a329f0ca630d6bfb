//! Elements of the wire format from frames. Nothing that a frame says is
//! believed before it is checked.

use std::time::Duration;

use bytes::{Buf, Bytes, TryGetError};

use super::{
    EXPECTED, FRAME, IN_FRAME, LEAST_ITEM, MANY, NO_TEXT, ONE, PRODUCT, SEGMENT, WARNING, WireError,
};
use crate::base::failure::{Failure, Result};
use crate::base::path_name::path_of_name;
use crate::message::batch::{Batch, Output, PackedBatch};
use crate::message::{ItemKey, Message, Payload};
use crate::protocol::lifeline::Lifeline;
use crate::protocol::report::{Completion, Outcome, Production};
use crate::stage::Next;
use crate::stage::notes::Note;

/// What is left of a head and of the frames that it refers to.
pub(crate) struct Reader<'l> {
    pub(crate) head: Bytes,
    frames: std::vec::IntoIter<Bytes>,
    /// Where segments come from; a worker within the process has none.
    lifeline: Option<&'l Lifeline>,
}

impl<'l> Reader<'l> {
    pub(crate) fn new(head: Bytes, frames: Vec<Bytes>, lifeline: Option<&'l Lifeline>) -> Self {
        Self { head, frames: frames.into_iter(), lifeline }
    }

    /// A list's length is a claim: memory is taken as its items arrive.
    pub(crate) fn list<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.head.try_get_u32_le()? as usize;
        let mut items = Vec::with_capacity(count.min(self.head.len() / LEAST_ITEM));
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
            NO_TEXT => Ok(None),
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
            IN_FRAME => self.frame(),
            length => self.bytes(length),
        }
    }

    pub(crate) fn payload(&mut self) -> Result<Payload, WireError> {
        let header = self.bytes_or_frame()?.into();
        let count = self.head.try_get_u32_le()? as usize;
        // Each takes a byte of the head at least.
        let mut buffers = Vec::with_capacity(count.min(self.head.len()));
        for _ in 0..count {
            buffers.push(self.buffer()?);
        }
        Ok(Payload { header, buffers })
    }

    fn buffer(&mut self) -> Result<Bytes, WireError> {
        match self.head.try_get_u8()? {
            FRAME => self.frame(),
            SEGMENT => {
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

    pub(crate) fn batch(&mut self) -> Result<Batch, WireError> {
        match self.head.try_get_u8()? {
            ONE => Ok(Batch::One(Message {
                id: self.head.try_get_u64_le()?,
                attempt: self.head.try_get_u32_le()?,
                origin: self.origin()?,
                payload: self.payload()?,
            })),
            MANY => {
                let first = self.head.try_get_u64_le()?;
                Ok(Batch::Many { first, pack: self.pack()? })
            }
            found => Err(WireError::Unknown { what: "batch", found }),
        }
    }

    pub(crate) fn output(&mut self) -> Result<Output, WireError> {
        let kind = self.head.try_get_u8()?;
        let route = self.head.try_get_u32_le()?;
        match kind {
            ONE => {
                let origin = self.origin()?;
                Ok(Output::One { route, origin, payload: self.payload()? })
            }
            MANY => Ok(Output::Many { route, pack: self.pack()? }),
            found => Err(WireError::Unknown { what: "output", found }),
        }
    }

    pub(crate) fn completion(&mut self) -> Result<Completion, WireError> {
        let first = self.head.try_get_u64_le()?;
        let count = self.head.try_get_u32_le()?;
        let silent = self.head.try_get_u32_le()?;
        let busy = self.duration()?;
        let outcome = match self.head.try_get_u8()? {
            0 => Outcome::Done,
            1 => Outcome::Failed(self.failure()?),
            2 => Outcome::Panicked(self.failure()?),
            found => return Err(WireError::Unknown { what: "outcome", found }),
        };
        Ok(Completion { first, count, outcome, silent, busy })
    }

    pub(crate) fn note(&mut self) -> Result<Note, WireError> {
        match self.head.try_get_u8()? {
            EXPECTED => Ok(Note::Expected(self.head.try_get_u64_le()?)),
            PRODUCT => {
                Ok(Note::Product { path: path_of_name(&self.text()?), origin: self.origin()? })
            }
            WARNING => Ok(Note::Warning(self.text()?)),
            found => Err(WireError::Unknown { what: "note", found }),
        }
    }

    pub(crate) fn production(&mut self) -> Result<Production, WireError> {
        let calls = self.head.try_get_u32_le()?;
        let busy = self.duration()?;
        let result = match self.head.try_get_u8()? {
            0 => Some(Ok(Next::More)),
            1 => Some(Ok(Next::Idle(self.duration()?))),
            2 => Some(Ok(Next::Done)),
            3 => Some(Err(self.failure()?)),
            4 => None,
            found => return Err(WireError::Unknown { what: "result", found }),
        };
        Ok(Production { result, calls, busy })
    }

    pub(crate) fn end(self) -> Result<(), WireError> {
        match (self.head.len(), self.frames.len()) {
            (0, 0) => Ok(()),
            (bytes, frames) => Err(WireError::LeftOver(bytes, frames)),
        }
    }
}
