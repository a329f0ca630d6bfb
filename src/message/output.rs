//! The outputs of calls until they are reported.

use bytes::Bytes;

use super::batch::{Output, PACK_UP_TO, PREFIX, PackedBatch};
use super::{ItemKey, NO_ITEM, Payload, Priority, recycle};
use crate::base::failure::Result;
use crate::base::ids::RouteId;

/// The most messages, of the size of the first, that a new pack has room for.
const MOST_ROOM: usize = 1024;
/// The size in bytes from which a pack takes no further message.
const PACK_FULL: usize = 256 << 10;
/// The size in bytes from which the outputs of a call are moved to those of earlier calls;
/// smaller ones are copied into their pack.
const MOVED_FROM: usize = 4 << 10;

/// Collects what a stage emits.
#[derive(Debug, Default)]
pub(crate) struct OutputBuffer {
    outputs: Vec<Gathering>,
    count: usize,
    bytes: usize,
    /// The number of messages that were taken last: so many are likely to come again.
    taken: usize,
    /// The priority of what is added from here on.
    priority: Priority,
    /// Whether each output is an item of its own, and the number of the latest one.
    numbers_items: bool,
    latest_item: u64,
}

#[derive(Debug)]
enum Gathering {
    One(Output),
    Many { route: RouteId, priority: Priority, count: u32, bytes: Vec<u8> },
}

impl OutputBuffer {
    /// Adds one message. `write` appends its header to the bytes that it is given and returns
    /// its buffers; a short header is written directly into its pack.
    ///
    /// # Errors
    /// That of `write`; then nothing was added.
    pub(crate) fn push(
        &mut self,
        route: RouteId,
        item: u64,
        origin: ItemKey,
        write: impl FnOnce(&mut Vec<u8>) -> Result<Vec<Bytes>>,
    ) -> Result<()> {
        let last = match self.outputs.last_mut() {
            Some(Gathering::Many { route: last, priority, count, bytes })
                if ((*last == route && *priority == self.priority) || *count == 0)
                    && origin.is_none()
                    && item == NO_ITEM
                    && bytes.len() < PACK_FULL =>
            {
                (*last, *priority) = (route, self.priority);
                Some((count, bytes))
            }
            _ => None,
        };
        let Some((count, bytes)) = last else { return self.push_first(route, item, origin, write) };
        let start = bytes.len();
        bytes.extend_from_slice(&[0; PREFIX]);
        let written = write(bytes);
        let length = bytes.len() - start - PREFIX;
        match written {
            Ok(buffers) if buffers.is_empty() && length <= PACK_UP_TO => {
                bytes[start..start + PREFIX].copy_from_slice(&(length as u16).to_le_bytes());
                *count += 1;
                self.count += 1;
                self.bytes += length;
            }
            Ok(buffers) => {
                let header = bytes.split_off(start + PREFIX).into();
                bytes.truncate(start);
                self.push_alone(route, item, origin, Payload { header, buffers });
            }
            Err(failure) => {
                bytes.truncate(start);
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Adds a message for which no pack is open.
    fn push_first(
        &mut self,
        route: RouteId,
        item: u64,
        origin: ItemKey,
        write: impl FnOnce(&mut Vec<u8>) -> Result<Vec<Bytes>>,
    ) -> Result<()> {
        let mut header = Vec::new();
        let buffers = write(&mut header)?;
        let length = header.len();
        if item != NO_ITEM || origin.is_some() || !buffers.is_empty() || length > PACK_UP_TO {
            self.push_alone(route, item, origin, Payload { header: header.into(), buffers });
            return Ok(());
        }
        let room = self.room(PREFIX + length);
        let mut bytes = recycle::vector(room);
        bytes.extend_from_slice(&(length as u16).to_le_bytes());
        bytes.extend_from_slice(&header);
        self.outputs.push(Gathering::Many { route, priority: self.priority, count: 1, bytes });
        self.count += 1;
        self.bytes += length;
        Ok(())
    }

    fn push_alone(&mut self, route: RouteId, item: u64, origin: ItemKey, payload: Payload) {
        self.count += 1;
        self.bytes += payload.len();
        let priority = self.priority;
        self.outputs.push(Gathering::One(Output::One { route, priority, item, origin, payload }));
    }

    /// Sets the priority of what is added from here on.
    #[inline]
    pub(crate) fn set_priority(&mut self, priority: Priority) {
        self.priority = priority;
    }

    /// Whether each output is an item of its own from here on.
    pub(crate) fn number_items(&mut self, each: bool) {
        self.numbers_items = each;
    }

    /// The number of a new item; none if outputs are no items.
    pub(crate) fn next_item(&mut self) -> u64 {
        if !self.numbers_items {
            return NO_ITEM;
        }
        self.latest_item += 1;
        self.latest_item
    }

    /// The number of the latest item.
    pub(crate) fn latest_item(&self) -> u64 {
        self.latest_item
    }

    /// The number of messages.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Their size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops all messages and keeps the memory.
    pub(crate) fn clear(&mut self) {
        (self.count, self.bytes) = (0, 0);
        self.outputs.truncate(1);
        match self.outputs.first_mut() {
            Some(Gathering::Many { count, bytes, .. }) => {
                *count = 0;
                bytes.clear();
            }
            _ => self.outputs.clear(),
        }
    }

    /// Takes over the messages of `other`, which keeps its memory.
    pub(crate) fn absorb(&mut self, other: &mut Self) {
        if other.count == 0 {
            return;
        }
        self.count += std::mem::take(&mut other.count);
        self.bytes += std::mem::take(&mut other.bytes);
        if let [Gathering::Many { route, priority, count, bytes }] = &mut other.outputs[..]
            && bytes.len() < MOVED_FROM
        {
            self.extend((*route, *priority), *count, bytes);
            *count = 0;
            bytes.clear();
            return;
        }
        for gathering in other.outputs.drain(..) {
            match gathering {
                Gathering::Many { route, priority, count, bytes } if bytes.len() < MOVED_FROM => {
                    self.extend((route, priority), count, &bytes);
                }
                gathering => self.outputs.push(gathering),
            }
        }
    }

    /// Adds `more` packed messages of one route and priority.
    #[inline]
    fn extend(&mut self, (route, priority): (RouteId, Priority), more: u32, headers: &[u8]) {
        if more == 0 {
            return;
        }
        if let Some(Gathering::Many { route: last, priority: of_last, count, bytes }) =
            self.outputs.last_mut()
            && (*last, *of_last) == (route, priority)
            && bytes.len() < PACK_FULL
        {
            *count += more;
            bytes.extend_from_slice(headers);
            return;
        }
        let room = self.room(headers.len() / more as usize);
        let mut bytes = recycle::vector(room.max(headers.len()));
        bytes.extend_from_slice(headers);
        self.outputs.push(Gathering::Many { route, priority, count: more, bytes });
    }

    /// The room, in bytes, of a new pack of messages of this size.
    fn room(&self, each: usize) -> usize {
        (each * self.taken.clamp(1, MOST_ROOM)).min(PACK_FULL + PACK_UP_TO)
    }

    /// Takes all messages.
    pub(crate) fn take(&mut self) -> Vec<Output> {
        self.taken = self.count;
        (self.count, self.bytes) = (0, 0);
        let outputs = std::mem::take(&mut self.outputs).into_iter();
        outputs
            .filter_map(|gathering| match gathering {
                Gathering::One(output) => Some(output),
                // Memory that an earlier call left.
                Gathering::Many { count: 0, .. } => None,
                Gathering::Many { route, priority, count, bytes } => Some(Output::Many {
                    route,
                    priority,
                    pack: PackedBatch { count, bytes: recycle::share(bytes) },
                }),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::MessageId;
    use crate::message::Header;
    use crate::message::batch::Batch;

    impl OutputBuffer {
        pub(crate) fn push_payload(&mut self, route: u32, origin: ItemKey, payload: Payload) {
            self.push_item(route, NO_ITEM, origin, payload);
        }

        pub(crate) fn push_item(
            &mut self,
            route: u32,
            item: u64,
            origin: ItemKey,
            payload: Payload,
        ) {
            let written = self.push(RouteId(route), item, origin, |header| {
                header.extend_from_slice(&payload.header);
                Ok(payload.buffers)
            });
            written.unwrap();
        }
    }

    fn text(length: usize) -> Payload {
        Payload { header: Header::from(&vec![length as u8; length][..]), buffers: Vec::new() }
    }

    #[test]
    fn what_is_gathered_comes_out_in_order_however_it_is_packed() {
        let mut outputs = OutputBuffer::default();
        let lengths = [0, 8, 8, PACK_UP_TO, PACK_UP_TO + 1, 3, 30];
        for (index, length) in lengths.into_iter().enumerate() {
            outputs.push_payload(u32::from(index > 5), None, text(length));
        }
        assert_eq!((outputs.count(), outputs.bytes()), (7, lengths.iter().sum()));
        let outputs = outputs.take();
        assert_eq!(outputs.iter().map(Output::count).collect::<Vec<_>>(), [4, 1, 1, 1]);
        assert_eq!(outputs.iter().map(|output| output.route().0).collect::<Vec<_>>(), [0, 0, 0, 1]);
        let messages =
            outputs.into_iter().flat_map(|o| Batch::new(MessageId(5), o).into_messages());
        assert_eq!(messages.map(|m| m.payload).collect::<Vec<_>>(), lengths.map(text));
    }

    #[test]
    fn what_calls_have_emitted_is_put_together_in_order_and_what_was_dropped_is_not_in_it() {
        let calls: [&[(u32, usize)]; 7] = [
            &[(0, 1)],
            &[(0, 2), (0, 3)],
            &[],
            &[(1, 4)],
            &[(0, 5), (1, 6), (0, MOVED_FROM), (0, 7)],
            &[(0, PACK_UP_TO + 1), (1, 8)],
            &[(1, 9)],
        ];
        let (mut all, mut scratch) = (OutputBuffer::default(), OutputBuffer::default());
        let emit = |scratch: &mut OutputBuffer, call: &[(u32, usize)]| {
            call.iter().for_each(|(route, length)| {
                scratch.push_payload(*route, None, text(*length));
            });
        };
        for call in calls {
            emit(&mut scratch, &[(1, 100), (0, 100)]);
            scratch.clear();
            emit(&mut scratch, call);
            assert_eq!(scratch.count(), call.len());
            all.absorb(&mut scratch);
            assert_eq!((scratch.count(), scratch.bytes(), scratch.take().len()), (0, 0, 0));
        }
        let expected: Vec<(u32, usize)> = calls.concat();
        assert_eq!(all.count(), expected.len());
        assert_eq!(all.bytes(), expected.iter().map(|(_, length)| length).sum::<usize>());
        let outputs = all.take();
        assert_eq!(outputs.first().map(Output::count), Some(3), "they travel in packs");
        let messages = outputs.into_iter().flat_map(|output| {
            let route = output.route().0;
            Batch::new(MessageId(0), output).into_messages().map(move |m| (route, m.payload))
        });
        let expected = expected.into_iter().map(|(route, length)| (route, text(length)));
        assert_eq!(messages.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
}
