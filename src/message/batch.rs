//! Short messages that travel and wait together.

use bytes::{Buf, Bytes};

use crate::base::ids::{MessageId, RouteId};

use super::{Header, IN_PLACE_AND_MORE, ItemKey, Message, NO_ITEM, Payload, Priority};

/// What a stage emitted for one of its next steps. `route` is the index into the plan's list
/// of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    One { route: RouteId, priority: Priority, item: u64, origin: ItemKey, payload: Payload },
    Many { route: RouteId, priority: Priority, pack: PackedBatch },
}

impl Output {
    pub(crate) fn route(&self) -> RouteId {
        match self {
            Self::One { route, .. } | Self::Many { route, .. } => *route,
        }
    }

    /// The number of the item that it descends from; packed ones have none.
    pub(crate) fn item(&self) -> u64 {
        match self {
            Self::One { item, .. } => *item,
            Self::Many { .. } => NO_ITEM,
        }
    }

    /// The origin of what it descends from; packed ones have none.
    pub(crate) fn origin(&self) -> Option<&std::sync::Arc<str>> {
        match self {
            Self::One { origin, .. } => origin.as_ref(),
            Self::Many { .. } => None,
        }
    }

    /// The size of the payloads, in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One { payload, .. } => payload.len(),
            Self::Many { pack, .. } => pack.len(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        match self {
            Self::One { .. } => 1,
            Self::Many { pack, .. } => pack.count(),
        }
    }
}

/// Limits the bytes of a header that is packed with others: a longer one costs more to copy
/// than to send alone.
pub(crate) const PACK_UP_TO: usize = 20_000;
/// The bytes of the length before each packed header.
pub(crate) const PREFIX: usize = size_of::<u16>();

/// The headers of several messages one behind the other, each after its length as a 16-bit
/// number. The router's work is per pack, not per message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedBatch {
    pub(super) count: u32,
    pub(super) bytes: Bytes,
}

impl PackedBatch {
    /// Checks that `bytes` are exactly `count` headers, at least one; `None` otherwise.
    pub(crate) fn checked(count: u32, bytes: Bytes) -> Option<Self> {
        let mut rest = &bytes[..];
        for _ in 0..count {
            rest = split_header(rest)?.1;
        }
        (rest.is_empty() && count > 0).then_some(Self { count, bytes })
    }

    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The size of the headers, in bytes.
    fn len(&self) -> usize {
        self.bytes.len() - self.count() * PREFIX
    }

    pub(crate) fn headers(&self) -> impl Iterator<Item = Header> + '_ {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (header, after) = split_header(rest)?;
            rest = after;
            Some(Header::from(header))
        })
    }

    /// Splits the first `count` headers off; at least one must remain.
    fn split_to(&mut self, count: usize) -> Self {
        let mut rest = &self.bytes[..];
        for _ in 0..count {
            rest = split_header(rest).map_or(&[][..], |(_, after)| after);
        }
        let taken = self.bytes.len() - rest.len();
        self.count -= count as u32;
        Self { count: count as u32, bytes: self.bytes.split_to(taken) }
    }
}

fn split_header(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*prefix)))
}

/// The unit that the router moves: one message, or a pack of them with successive numbers and one
/// priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Batch {
    One(Message),
    Many { first: MessageId, priority: Priority, pack: PackedBatch },
}

impl Batch {
    pub(crate) fn new(first: MessageId, output: Output) -> Self {
        match output {
            Output::One { priority, item, origin, payload, .. } => {
                Self::One(Message { id: first, attempt: 0, priority, item, origin, payload })
            }
            Output::Many { priority, pack, .. } => Self::Many { first, priority, pack },
        }
    }

    pub(crate) fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many { pack, .. } => pack.count(),
        }
    }

    /// The size of the payloads, in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One(message) => message.payload.len(),
            Self::Many { pack, .. } => pack.len(),
        }
    }

    /// The origin of the messages; packed ones have none.
    pub(crate) fn origin(&self) -> Option<&std::sync::Arc<str>> {
        match self {
            Self::One(message) => message.origin.as_ref(),
            Self::Many { .. } => None,
        }
    }

    pub(crate) fn priority(&self) -> Priority {
        match self {
            Self::One(message) => message.priority,
            Self::Many { priority, .. } => *priority,
        }
    }

    /// The number of the item that the messages descend from; packed ones have none.
    pub(crate) fn item(&self) -> u64 {
        match self {
            Self::One(message) => message.item,
            Self::Many { .. } => NO_ITEM,
        }
    }

    /// The message, if it is one that travels alone, as each does that has an origin or an item.
    pub(crate) fn alone(&self) -> Option<&Message> {
        match self {
            Self::One(message) => Some(message),
            Self::Many { .. } => None,
        }
    }

    /// The number of the first message.
    pub(crate) fn first(&self) -> MessageId {
        match self {
            Self::One(message) => message.id,
            Self::Many { first, .. } => *first,
        }
    }

    /// The number of its first messages that fit into `room` bytes together.
    pub(crate) fn fitting(&self, room: u64) -> usize {
        if self.len() as u64 <= room {
            return self.count();
        }
        match self {
            Self::One(_) => 0,
            Self::Many { pack, .. } => {
                let mut used = 0;
                let fits = |header: &Header| {
                    used += header.len() as u64;
                    used <= room
                };
                pack.headers().take_while(fits).count()
            }
        }
    }

    /// Splits the first `count` messages off; at least one must remain.
    pub(crate) fn split_to(&mut self, count: usize) -> Self {
        match self {
            Self::One(_) => self.clone(),
            Self::Many { first, priority, pack } => {
                let pack = pack.split_to(count);
                let taken = Self::Many { first: *first, priority: *priority, pack };
                *first = first.plus(count);
                taken
            }
        }
    }

    pub(crate) fn into_messages(self) -> Messages {
        match self {
            Self::One(message) => {
                let (id, priority) = (message.id, message.priority);
                Messages { id, priority, one: Some(message), packed: Bytes::new() }
            }
            Self::Many { first, priority, pack } => {
                Messages { one: None, id: first, priority, packed: pack.bytes }
            }
        }
    }
}

/// The messages of a batch, in order.
pub(crate) struct Messages {
    one: Option<Message>,
    /// The number of the first packed message.
    id: MessageId,
    priority: Priority,
    packed: Bytes,
}

impl Iterator for Messages {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        if self.packed.is_empty() {
            return self.one.take();
        }
        let (header, _) = split_header(&self.packed)?;
        let (length, end) = (header.len(), PREFIX + header.len());
        let header = match length {
            // A longer header shares the pack's memory.
            IN_PLACE_AND_MORE.. => Header::from(self.packed.slice(PREFIX..end)),
            _ => Header::from(header),
        };
        self.packed.advance(end);
        let id = self.id;
        self.id = id.plus(1);
        let payload = Payload { header, buffers: Vec::new() };
        let priority = self.priority;
        Some(Message { id, attempt: 0, priority, item: NO_ITEM, origin: None, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::output::OutputBuffer;

    fn text(length: usize) -> Payload {
        Payload { header: Header::from(&vec![length as u8; length][..]), buffers: Vec::new() }
    }

    #[test]
    fn a_batch_is_split_between_messages() {
        let mut outputs = OutputBuffer::default();
        (0..10).for_each(|length| outputs.push_payload(0, None, text(length)));
        let mut rest = Batch::new(MessageId(100), outputs.take().remove(0));
        assert_eq!((rest.fitting(3), rest.fitting(1000)), (3, 10));
        let taken = rest.split_to(4);
        assert_eq!((taken.first(), taken.count(), taken.len()), (MessageId(100), 4, 1 + 2 + 3));
        assert_eq!(
            (rest.first(), rest.count(), rest.len()),
            (MessageId(104), 6, 4 + 5 + 6 + 7 + 8 + 9)
        );
        let ids: Vec<u64> = rest.into_messages().map(|message| message.id.0).collect();
        assert_eq!(ids, [104, 105, 106, 107, 108, 109]);
    }

    #[test]
    fn what_does_not_fit_a_pack_travels_alone_and_in_order() {
        let long = || Payload { header: vec![1; PACK_UP_TO + 1].into(), buffers: Vec::new() };
        let beside = || Payload { header: vec![2; 3].into(), buffers: vec![Bytes::from("b")] };
        let all = [text(1), text(2), long(), text(3), beside(), text(4), long()];
        let mut outputs = OutputBuffer::default();
        all.iter().for_each(|payload| outputs.push_payload(0, None, payload.clone()));
        let bytes: usize = all.iter().map(Payload::len).sum();
        assert_eq!((outputs.count(), outputs.bytes()), (all.len(), bytes));
        let messages =
            outputs.take().into_iter().flat_map(|o| Batch::new(MessageId(0), o).into_messages());
        assert_eq!(messages.map(|message| message.payload).collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_value_that_cannot_be_written_leaves_nothing_behind() {
        let mut outputs = OutputBuffer::default();
        for before in 0..3 {
            let failed = outputs.push(RouteId(0), NO_ITEM, None, |header| {
                header.extend_from_slice(b"half");
                Err(crate::base::failure::Failure::permanent("no more"))
            });
            assert!(failed.is_err());
            assert_eq!((outputs.count(), outputs.bytes()), (before, before));
            outputs.push_payload(0, None, text(1));
        }
        assert_eq!(outputs.take().len(), 1);
    }

    #[test]
    fn a_pack_has_an_end() {
        let mut outputs = OutputBuffer::default();
        (0..100).for_each(|_| outputs.push_payload(0, None, text(PACK_UP_TO)));
        let packs = outputs.take();
        assert!(packs.len() > 5);
        assert_eq!(packs.iter().map(Output::count).sum::<usize>(), 100);
    }

    #[test]
    fn a_pack_that_is_not_what_it_says_is_refused() {
        let bytes = Bytes::from_static(&[1, 0, 7, 2, 0, 8, 9]);
        assert!(PackedBatch::checked(2, bytes.clone()).is_some());
        for count in [0, 1, 3] {
            assert_eq!(PackedBatch::checked(count, bytes.clone()), None);
        }
        assert_eq!(PackedBatch::checked(2, bytes.slice(..6)), None);
    }
}
