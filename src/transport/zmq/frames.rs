//! Frames to and from libzmq without copying large ones.

use std::ffi::c_void;
use std::os::fd::BorrowedFd;

use bytes::Bytes;

/// Frames up to this size, in bytes, are copied: handing memory over costs more.
const COPY_UP_TO: usize = 256;

/// Begins a message to a peer of a ROUTER socket; [`send`] must follow with its frames.
///
/// # Errors
/// What libzmq reports. With a mandatory ROUTER it says whether the peer is unknown; nothing
/// was sent then.
pub(super) fn begin(socket: &zmq::Socket, identity: &[u8]) -> zmq::Result<()> {
    retry_interrupted(|| socket.send(identity, zmq::SNDMORE))
}

/// Sends one multipart message, or the rest of one, of at least one frame.
///
/// # Errors
/// What libzmq reports.
pub(super) fn send(socket: &mut zmq::Socket, parts: Vec<Bytes>) -> zmq::Result<()> {
    let last = parts.len().saturating_sub(1);
    for (index, part) in parts.into_iter().enumerate() {
        send_frame(socket, part, if index < last { zmq::SNDMORE } else { 0 })?;
    }
    Ok(())
}

fn send_frame(socket: &mut zmq::Socket, frame: Bytes, flags: i32) -> zmq::Result<()> {
    if frame.len() <= COPY_UP_TO {
        return retry_interrupted(|| socket.send(&frame[..], flags));
    }
    let (address, length) = (frame.as_ptr(), frame.len());
    let owner = Box::into_raw(Box::new(frame));
    let mut message = AlignedMessage(zmq_sys::zmq_msg_t { __: [0; 64] });
    let message = &mut message.0;
    // SAFETY: `address` and `length` describe the memory of the `Bytes` in
    // `owner`, which stays alive and unmoved on the heap until libzmq calls
    // `release` with it, exactly once, from whichever thread drops the last
    // reference (`Bytes` is Send + Sync). libzmq only reads the memory, and so
    // do receivers: `receive` hands them out as read-only `Bytes`.
    let status = unsafe {
        zmq_sys::zmq_msg_init_data(
            message,
            address.cast_mut().cast(),
            length,
            Some(release),
            owner.cast(),
        )
    };
    if status != 0 {
        // SAFETY: libzmq has refused the message, so it will not call
        // `release`, and `owner` came from `Box::into_raw` above.
        drop(unsafe { Box::from_raw(owner) });
        return Err(last_error());
    }
    let handle = socket.as_mut_ptr();
    let sent = retry_interrupted(|| {
        // SAFETY: `message` was initialized above and `handle` is the live
        // socket behind the exclusive borrow.
        match unsafe { zmq_sys::zmq_msg_send(message, handle, flags) } {
            -1 => Err(last_error()),
            _ => Ok(()),
        }
    });
    if sent.is_err() {
        // SAFETY: a message that was not sent is still ours to close, once;
        // closing it calls `release`.
        unsafe { zmq_sys::zmq_msg_close(message) };
    }
    sent
}

/// The bindings declare the message as bytes; libzmq wants it aligned.
#[repr(C, align(8))]
struct AlignedMessage(zmq_sys::zmq_msg_t);

/// Gives back the memory of a frame that libzmq no longer needs.
unsafe extern "C" fn release(_data: *mut c_void, owner: *mut c_void) {
    // SAFETY: `owner` is the pointer that `send_frame` took from a
    // `Box<Bytes>`, and libzmq calls this once per message.
    drop(unsafe { Box::from_raw(owner.cast::<Bytes>()) });
}

fn last_error() -> zmq::Error {
    // SAFETY: reads a number that belongs to the calling thread.
    zmq::Error::from_raw(unsafe { zmq_sys::zmq_errno() })
}

/// The file that becomes readable when the socket has something to do.
///
/// # Errors
/// What libzmq reports.
pub(super) fn file(socket: &zmq::Socket) -> zmq::Result<BorrowedFd<'_>> {
    let file = socket.get_fd()?;
    // SAFETY: libzmq keeps the file open as long as the socket, which is borrowed meanwhile.
    Ok(unsafe { BorrowedFd::borrow_raw(file) })
}

/// Signals may interrupt any call into libzmq.
pub(super) fn retry_interrupted<T>(mut call: impl FnMut() -> zmq::Result<T>) -> zmq::Result<T> {
    loop {
        match call() {
            Err(zmq::Error::EINTR) => {}
            result => return result,
        }
    }
}

/// Lets `Bytes` own a received message.
struct Received(zmq::Message);

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Receives what has arrived at a ROUTER socket, if anything: the sender's identity and the
/// frames of its message. Never blocks.
///
/// # Errors
/// What libzmq reports.
pub(super) fn receive_from(
    socket: &zmq::Socket,
) -> zmq::Result<Option<(zmq::Message, Vec<Bytes>)>> {
    let identity = match retry_interrupted(|| socket.recv_msg(zmq::DONTWAIT)) {
        Err(zmq::Error::EAGAIN) => return Ok(None),
        identity => identity?,
    };
    let frames = if identity.get_more() { receive(socket, 0)? } else { None };
    Ok(Some((identity, frames.unwrap_or_default())))
}

/// Receives one multipart message, or the rest of one; none if nothing has arrived and `flags`
/// says not to wait.
///
/// # Errors
/// What libzmq reports, for example that the context has ended.
pub(super) fn receive(socket: &zmq::Socket, flags: i32) -> zmq::Result<Option<Vec<Bytes>>> {
    let mut parts = Vec::with_capacity(2);
    loop {
        let frame = match retry_interrupted(|| socket.recv_msg(flags)) {
            Err(zmq::Error::EAGAIN) if parts.is_empty() => return Ok(None),
            result => result?,
        };
        let more = frame.get_more();
        parts.push(if frame.len() <= COPY_UP_TO {
            Bytes::copy_from_slice(&frame)
        } else {
            Bytes::from_owner(Received(frame))
        });
        if !more {
            return Ok(Some(parts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (zmq::Context, zmq::Socket, zmq::Socket) {
        let context = zmq::Context::new();
        let a = context.socket(zmq::PAIR).unwrap();
        let b = context.socket(zmq::PAIR).unwrap();
        a.bind("inproc://frames").unwrap();
        b.connect("inproc://frames").unwrap();
        (context, a, b)
    }

    #[test]
    fn frames_of_all_sizes_arrive_whole() {
        let (_context, mut a, b) = pair();
        for size in [0, 1, 29, 30, 33, 34, COPY_UP_TO, COPY_UP_TO + 1, 1 << 20] {
            let part = Bytes::from(vec![7_u8; size]);
            send(&mut a, vec![part.clone(), part.clone()]).unwrap();
            assert_eq!(receive(&b, 0).unwrap().unwrap(), [part.clone(), part]);
        }
        assert_eq!(receive(&b, zmq::DONTWAIT).unwrap(), None);
    }

    #[test]
    fn a_large_frame_is_not_copied_within_the_process() {
        let (_context, mut a, b) = pair();
        let part = Bytes::from(vec![1_u8; 1 << 20]);
        let address = part.as_ptr();
        send(&mut a, vec![part]).unwrap();
        assert_eq!(receive(&b, 0).unwrap().unwrap()[0].as_ptr(), address);
    }

    #[test]
    fn an_unknown_peer_is_an_error() {
        let context = zmq::Context::new();
        let router = context.socket(zmq::ROUTER).unwrap();
        router.set_router_mandatory(true).unwrap();
        router.bind("inproc://nobody").unwrap();
        assert_eq!(begin(&router, b"someone"), Err(zmq::Error::EHOSTUNREACH));
    }

    #[test]
    fn a_frame_lives_until_its_last_holder_drops_it() {
        let (context, mut a, b) = pair();
        let part = Bytes::from(vec![3_u8; 1 << 16]);
        send(&mut a, vec![part.clone()]).unwrap();
        let received = receive(&b, 0).unwrap().unwrap().remove(0);
        drop((a, b, context));
        assert!(received.iter().all(|byte| *byte == 3));
        drop(received);
        assert!(part.is_unique());
    }
}
