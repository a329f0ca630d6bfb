//! Frames of ZMTP 3.0 as bytes and back. <https://rfc.zeromq.org/spec/23/>

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::transport::Frames;

/// What each side sends first: its version, 3.0, and the mechanism, NULL.
pub(super) const GREETING: [u8; 64] = {
    let mut bytes = [0; 64];
    (bytes[0], bytes[9], bytes[10]) = (0xFF, 0x7F, 3);
    (bytes[12], bytes[13], bytes[14], bytes[15]) = (b'N', b'U', b'L', b'L');
    bytes
};
/// The part of the greeting that names the mechanism.
const MECHANISM: std::ops::Range<usize> = 12..32;

/// The flags of a frame: another follows; its length has eight bytes; it is a command.
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
/// The name of the only command that is needed, behind its length.
const READY: &[u8] = b"\x05READY";
const IDENTITY: &[u8] = b"Identity";

/// How many bytes are read at once.
const CHUNK: usize = 1 << 16;
/// Memory of more bytes than that is given back when it is empty.
const KEPT: usize = 1 << 20;
/// Frames up to this length, in bytes, are copied to be sent in one piece with others.
const COPY_UP_TO: usize = 1 << 14;

/// What is not of the protocol.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Malformed {
    #[error("the other side does not speak ZMTP 3 without encryption")]
    Greeting,
    #[error("a frame of ZMTP has the unknown flags {0:#x}")]
    Flags(u8),
    #[error("a frame of ZMTP is longer than memory")]
    Length,
}

/// The command that ends the handshake.
pub(super) fn ready(socket_type: &[u8], identity: &[u8]) -> Vec<u8> {
    let mut command = READY.to_vec();
    for (name, value) in [(&b"Socket-Type"[..], socket_type), (IDENTITY, identity)] {
        command.push(name.len() as u8);
        command.extend_from_slice(name);
        command.extend_from_slice(&(value.len() as u32).to_be_bytes());
        command.extend_from_slice(value);
    }
    let mut frame = vec![COMMAND, command.len() as u8];
    frame.append(&mut command);
    frame
}

/// The identity that a READY command tells.
pub(super) fn identity_of(command: &[u8]) -> Option<&[u8]> {
    let mut rest = command.strip_prefix(READY)?;
    while let Some((length, behind)) = rest.split_first() {
        let (name, behind) = behind.split_at_checked((*length).into())?;
        let (length, behind) = behind.split_first_chunk()?;
        let (value, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        if name.eq_ignore_ascii_case(IDENTITY) {
            return Some(value);
        }
        rest = behind;
    }
    None
}

/// Turns a message into pieces of bytes; large frames are not copied.
pub(super) fn pieces(message: Frames) -> Vec<Bytes> {
    let (mut pieces, mut short) = (Vec::new(), Vec::new());
    let last = message.len().saturating_sub(1);
    for (index, frame) in message.into_iter().enumerate() {
        let more = if index < last { MORE } else { 0 };
        match u8::try_from(frame.len()) {
            Ok(length) => short.extend_from_slice(&[more, length]),
            Err(_) => {
                short.push(more | LONG);
                short.extend_from_slice(&(frame.len() as u64).to_be_bytes());
            }
        }
        if frame.len() <= COPY_UP_TO {
            short.extend_from_slice(&frame);
        } else {
            pieces.push(std::mem::take(&mut short).into());
            pieces.push(frame);
        }
    }
    if !short.is_empty() {
        pieces.push(short.into());
    }
    pieces
}

/// What has come as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whole {
    Message(Frames),
    Command(Bytes),
}

/// What has come from the other side and is not taken yet.
#[derive(Default)]
pub(super) struct Inbox {
    data: Vec<u8>,
    /// Where the first byte is that is not taken.
    at: usize,
    greeted: bool,
    /// The frames of the message that has not come as a whole.
    message: Frames,
}

impl Inbox {
    /// Reads what has come, once. Returns the number of bytes, 0 at the end of the connection.
    ///
    /// # Errors
    /// What the system reports.
    pub(super) fn read(
        &mut self,
        socket: impl AsFd,
        flags: RecvFlags,
    ) -> rustix::io::Result<usize> {
        self.data.drain(..self.at);
        self.at = 0;
        if self.data.is_empty() && self.data.capacity() > KEPT {
            self.data = Vec::new();
        }
        self.data.reserve(CHUNK);
        loop {
            match recv(&socket, spare_capacity(&mut self.data), flags) {
                Err(Errno::INTR) => {}
                received => return received.map(|(count, _)| count),
            }
        }
    }

    /// Takes the next message or command, if it is there.
    ///
    /// # Errors
    /// If what is there is not of the protocol.
    pub(super) fn take(&mut self) -> Result<Option<Whole>, Malformed> {
        if !self.greeted {
            let Some(greeting) = self.data.get(self.at..self.at + GREETING.len()) else {
                return Ok(None);
            };
            if greeting[0] != 0xFF
                || greeting[10] < GREETING[10]
                || greeting[MECHANISM] != GREETING[MECHANISM]
            {
                return Err(Malformed::Greeting);
            }
            self.greeted = true;
            self.at += GREETING.len();
        }
        while let Some((flags, frame)) = self.frame()? {
            if flags & COMMAND != 0 {
                return Ok(Some(Whole::Command(frame)));
            }
            self.message.push(frame);
            if flags & MORE == 0 {
                return Ok(Some(Whole::Message(std::mem::take(&mut self.message))));
            }
        }
        Ok(None)
    }

    fn frame(&mut self) -> Result<Option<(u8, Bytes)>, Malformed> {
        let rest = &self.data[self.at..];
        let Some((&flags, behind)) = rest.split_first() else { return Ok(None) };
        if flags & !(MORE | LONG | COMMAND) != 0 {
            return Err(Malformed::Flags(flags));
        }
        let (length, from) = if flags & LONG == 0 {
            let Some(&length) = behind.first() else { return Ok(None) };
            (length.into(), 2)
        } else {
            let Some(length) = behind.first_chunk() else { return Ok(None) };
            (usize::try_from(u64::from_be_bytes(*length)).map_err(|_| Malformed::Length)?, 9)
        };
        let end = length.checked_add(from).ok_or(Malformed::Length)?;
        let Some(frame) = rest.get(from..end) else { return Ok(None) };
        let frame = Bytes::copy_from_slice(frame);
        self.at += end;
        Ok(Some((flags, frame)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;

    /// Takes everything out of an inbox that gets these bytes in parts of this size.
    fn taken(bytes: &[u8], part: usize) -> Result<Vec<Whole>, Malformed> {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let (mut inbox, mut found) = (Inbox::default(), Vec::new());
        for part in bytes.chunks(part) {
            theirs.write_all(part).unwrap();
            let mut left = part.len();
            while left > 0 {
                left -= inbox.read(&ours, RecvFlags::empty()).unwrap();
            }
            while let Some(whole) = inbox.take()? {
                found.push(whole);
            }
        }
        Ok(found)
    }

    fn bytes_of(messages: &[Frames]) -> Vec<u8> {
        let mut bytes = [&GREETING[..], &ready(b"DEALER", b"W12345678")].concat();
        for piece in messages.iter().cloned().flat_map(pieces) {
            bytes.extend_from_slice(&piece);
        }
        bytes
    }

    #[test]
    fn messages_arrive_whole_whatever_the_parts() {
        let sizes = [0, 1, 255, 256, COPY_UP_TO, COPY_UP_TO + 1, 100_000];
        let frames = sizes.map(|size| Bytes::from(vec![size as u8; size]));
        let messages = [frames.to_vec(), vec![Bytes::new()], frames[2..4].to_vec()];
        let bytes = bytes_of(&messages);
        for part in [1, 7, 4096, bytes.len()] {
            let mut found = taken(&bytes, part).unwrap().into_iter();
            let Some(Whole::Command(command)) = found.next() else { panic!("no command") };
            assert_eq!(identity_of(&command), Some(&b"W12345678"[..]));
            assert!(found.eq(messages.iter().cloned().map(Whole::Message)), "in parts of {part}");
        }
    }

    #[test]
    fn what_is_not_of_the_protocol_is_refused() {
        let mut encrypted = bytes_of(&[]);
        encrypted[12..17].copy_from_slice(b"CURVE");
        assert_eq!(taken(&encrypted, 100), Err(Malformed::Greeting));
        assert_eq!(taken(&[b'G'; 64], 100), Err(Malformed::Greeting));
        let flags = [&GREETING[..], &[8, 0]].concat();
        assert_eq!(taken(&flags, 100), Err(Malformed::Flags(8)));
        let long = [&GREETING[..], &[LONG], &[0xFF; 8]].concat();
        assert_eq!(taken(&long, 100), Err(Malformed::Length));
        let announced = [&GREETING[..], &[LONG], &(1_u64 << 60).to_be_bytes(), b"x"].concat();
        assert_eq!(taken(&announced, 100), Ok(Vec::new()), "no memory is taken ahead");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_taken_or_refused(bytes: Vec<u8>, part in 1..64_usize) {
            let bytes = [&GREETING[..], &bytes].concat();
            if let Ok(found) = taken(&bytes, part) {
                prop_assert_eq!(taken(&bytes, bytes.len()), Ok(found));
            }
        }
    }

    #[test]
    fn a_command_without_an_identity_has_none() {
        for command in [&b"\x05READY"[..], b"\x05ERROR\x00", b"\x05READY\x08Identity", b""] {
            assert_eq!(identity_of(command), None);
        }
    }
}
