//! One end of the control socket: whole frames, each with the files that it names.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::Bytes;
use rustix::net::sockopt::{socket_peercred, socket_type};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketType,
    recvmsg, send,
};

use super::LONGEST;
use crate::base::passing::send_files;

/// See the module's documentation. Neither side waits for room: see [`ControlSocket::send`].
#[derive(Debug)]
pub(crate) struct ControlSocket(OwnedFd);

/// A frame and the files that came with it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) frame: Bytes,
    pub(crate) files: Vec<OwnedFd>,
}

impl ControlSocket {
    /// # Errors
    /// If the file is not a UNIX socket of whole frames.
    pub(crate) fn of(file: OwnedFd) -> io::Result<Self> {
        if socket_type(&file)? != SocketType::SEQPACKET {
            return Err(io::Error::other("it is not a socket of whole frames (SOCK_SEQPACKET)"));
        }
        Ok(Self(file))
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// The process that has made the socket pair.
    ///
    /// # Errors
    /// If the system does not say.
    pub(crate) fn maker(&self) -> io::Result<u32> {
        Ok(socket_peercred(&self.0)?.pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// Sends a frame; false if there is no room for it now.
    ///
    /// # Errors
    /// If the other side has died.
    pub(crate) fn send(&self, frame: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<bool> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = match files {
            [] => send(&self.0, frame, flags).map(drop).map_err(io::Error::from),
            files => send_files(&self.0, frame, files, flags),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next frame; none if there is none yet.
    ///
    /// # Errors
    /// If the other side has closed the socket, or has sent too long a frame.
    pub(crate) fn receive(&self) -> io::Result<Option<Received>> {
        let mut bytes = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let received = match recvmsg(&self.0, &mut slices, &mut control, flags) {
            Ok(received) => received,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let files = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        let files: Vec<OwnedFd> = files.flatten().collect();
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::Error::other("a frame is longer than 65536 bytes"));
        }
        bytes.truncate(received.bytes);
        Ok(Some(Received { frame: bytes.into(), files }))
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, socketpair};

    fn pair() -> (ControlSocket, ControlSocket) {
        let flags = SocketFlags::CLOEXEC;
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (ControlSocket::of(a).unwrap(), ControlSocket::of(b).unwrap())
    }

    #[test]
    fn frames_arrive_whole_in_order_and_with_their_files() {
        let (ours, theirs) = pair();
        let file = std::fs::File::open("Cargo.toml").unwrap();
        assert!(ours.send(b"one", &[]).unwrap());
        assert!(ours.send(&[7; LONGEST], &[file.as_fd(), file.as_fd()]).unwrap());
        let first = theirs.receive().unwrap().unwrap();
        assert_eq!((&first.frame[..], first.files.len()), (&b"one"[..], 0));
        let second = theirs.receive().unwrap().unwrap();
        assert_eq!((second.frame.len(), second.files.len()), (LONGEST, 2));
        assert!(theirs.receive().unwrap().is_none(), "nothing more has come");
        assert_eq!(ours.maker().unwrap(), std::process::id());
    }

    #[test]
    fn a_full_socket_is_no_error_and_nobody_waits_for_it() {
        let (ours, theirs) = pair();
        let sent = (0..100_000).take_while(|_| ours.send(&[1; 4096], &[]).unwrap()).count();
        assert!(sent > 0 && sent < 100_000);
        assert!(theirs.receive().unwrap().is_some());
        drop(theirs);
        assert!(ours.send(b"x", &[]).is_err());
        assert!(ours.receive().is_err(), "the other side has closed it");
    }

    #[test]
    fn another_kind_of_socket_is_refused() {
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(ControlSocket::of(stream.into()).is_err());
    }
}
