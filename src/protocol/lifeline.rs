//! The socket pair between the program and one worker process, beside the
//! router's socket: it carries the worker's assignment and the file descriptors of
//! segments, and its end tells either side that the other has died.

use std::fs::File;
use std::io::{self, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg};

use crate::base::passing::send_files;
use crate::memory::segment;

/// One end of the pair.
#[derive(Debug)]
pub(crate) struct Lifeline(UnixStream);

impl Lifeline {
    /// Both ends. They are closed in every program that this one starts, except
    /// where one is handed over.
    ///
    /// # Errors
    /// If the process has no file descriptors left.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self(ours), Self(theirs)))
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Sends a worker what it needs to know, and one file. It never waits for
    /// the worker: however long the text is, only descriptors are sent.
    ///
    /// # Errors
    /// If the worker has died, or the system has no file descriptor left.
    pub(crate) fn send_assignment(&self, text: &[u8], file: BorrowedFd<'_>) -> io::Result<()> {
        let mut assignment = File::from(memfd_create("drpipe-assignment", MemfdFlags::CLOEXEC)?);
        assignment.write_all(text)?;
        assignment.rewind()?;
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        self.send_file(&[0], assignment.as_fd(), flags)?;
        self.send_file(&[0], file, flags)
    }

    /// # Errors
    /// If the program has died, or sent something else.
    pub(crate) fn receive_assignment(&self) -> io::Result<(Vec<u8>, OwnedFd)> {
        let assignment = self.receive_file(&mut [0], RecvFlags::empty())?;
        let file = self.receive_file(&mut [0], RecvFlags::empty())?;
        let mut text = Vec::new();
        File::from(assignment).read_to_end(&mut text)?;
        Ok((text, file))
    }

    /// Sends the array as a segment; false if that is not possible now, and
    /// nothing was sent. It never waits for the other side.
    pub(crate) fn send_segment(&self, array: &Bytes) -> bool {
        let segment = segment::of(array).or_else(|| segment::of(&segment::create(array).ok()?));
        let Some(segment) = segment else { return false };
        self.send_file(&[1], segment.as_fd(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok()
    }

    /// The segment that the other side has sent next.
    ///
    /// # Errors
    /// If there is none, or it is not what it should be.
    pub(crate) fn receive_segment(&self, length: u64) -> io::Result<Bytes> {
        let file = self.receive_file(&mut [0], RecvFlags::DONTWAIT)?;
        segment::open(file, length)
    }

    fn send_file(&self, bytes: &[u8], file: BorrowedFd<'_>, flags: SendFlags) -> io::Result<()> {
        send_files(&self.0, bytes, &[file], flags)
    }

    fn receive_file(&self, bytes: &mut [u8], flags: RecvFlags) -> io::Result<OwnedFd> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let expected = bytes.len();
        let mut slices = [IoSliceMut::new(bytes)];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            match recvmsg(&self.0, &mut slices, &mut control, flags) {
                Err(rustix::io::Errno::INTR) => {}
                received => break received?.bytes,
            }
        };
        if received != expected {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let files = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        files.flatten().next().ok_or_else(|| io::Error::other("no file came with the message"))
    }
}

impl AsFd for Lifeline {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Lifeline> for OwnedFd {
    fn from(lifeline: Lifeline) -> Self {
        lifeline.0.into()
    }
}

impl From<OwnedFd> for Lifeline {
    fn from(file: OwnedFd) -> Self {
        Self(file.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::segment::SHARED_FROM;

    #[test]
    fn an_assignment_arrives_with_its_file_and_segments_follow_in_order() {
        let (ours, theirs) = Lifeline::pair().unwrap();
        let file = std::fs::File::open("Cargo.toml").unwrap();
        ours.send_assignment(b"go", file.as_fd()).unwrap();
        let arrays = [1, 2, 3].map(|value| Bytes::from(vec![value; SHARED_FROM]));
        for array in &arrays {
            assert!(ours.send_segment(array));
        }
        let (text, received) = theirs.receive_assignment().unwrap();
        assert_eq!(text, b"go");
        assert!(std::fs::File::from(received).metadata().unwrap().len() > 0);
        for array in &arrays {
            assert_eq!(theirs.receive_segment(SHARED_FROM as u64).unwrap(), array);
        }
        assert!(theirs.receive_segment(1).is_err(), "there is none");
    }

    #[test]
    fn a_segment_passed_on_is_the_same_memory() {
        let (ours, theirs) = Lifeline::pair().unwrap();
        let array = segment::create(&[5; SHARED_FROM]).unwrap();
        assert!(ours.send_segment(&array));
        let there = theirs.receive_segment(SHARED_FROM as u64).unwrap();
        assert!(theirs.send_segment(&there));
        let back = ours.receive_segment(SHARED_FROM as u64).unwrap();
        let inode =
            |bytes: &Bytes| rustix::fs::fstat(&*segment::of(bytes).unwrap()).unwrap().st_ino;
        assert_eq!(inode(&array), inode(&back));
    }

    #[test]
    fn a_long_assignment_waits_for_nobody() {
        let (ours, theirs) = Lifeline::pair().unwrap();
        let file = std::fs::File::open("Cargo.toml").unwrap();
        let text = vec![b'x'; 8 << 20];
        ours.send_assignment(&text, file.as_fd()).unwrap();
        assert_eq!(theirs.receive_assignment().unwrap().0, text);
    }

    #[test]
    fn sending_never_waits_for_a_side_that_does_not_read() {
        let (ours, _theirs) = Lifeline::pair().unwrap();
        let array = segment::create(&[5; SHARED_FROM]).unwrap();
        let sent = (0..100_000).take_while(|_| ours.send_segment(&array)).count();
        assert!(sent > 0 && sent < 100_000);
    }

    #[test]
    fn sending_to_a_side_that_has_died_fails() {
        let (ours, theirs) = Lifeline::pair().unwrap();
        drop(theirs);
        assert!(!ours.send_segment(&segment::create(&[5; SHARED_FROM]).unwrap()));
    }
}
