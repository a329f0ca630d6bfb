//! Frames to and from libzmq without copying large ones.

use std::ffi::c_void;

use bytes::Bytes;

/// Frames up to this size, in bytes, are copied: handing memory over costs more.
const COPY_UP_TO: usize = 256;

/// Sends one multipart message: `identity` first if there is one, then `parts`.
///
/// # Errors
/// What libzmq reports; with a mandatory ROUTER that the peer is unknown, in
/// which case nothing was sent.
pub(crate) fn send(
    socket: &mut zmq::Socket,
    identity: Option<&[u8]>,
    parts: Vec<Bytes>,
) -> zmq::Result<()> {
    if let Some(identity) = identity {
        let more = if parts.is_empty() { 0 } else { zmq::SNDMORE };
        retry_interrupted(|| socket.send(identity, more))?;
    }
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

/// Signals may interrupt any call into libzmq.
pub(crate) fn retry_interrupted<T>(mut call: impl FnMut() -> zmq::Result<T>) -> zmq::Result<T> {
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

/// Receives one multipart message; none if nothing has arrived and `flags`
/// says not to wait.
///
/// # Errors
/// What libzmq reports, for example that the context has ended.
pub(crate) fn receive(socket: &zmq::Socket, flags: i32) -> zmq::Result<Option<Vec<Bytes>>> {
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
            send(&mut a, None, vec![part.clone(), part.clone()]).unwrap();
            assert_eq!(receive(&b, 0).unwrap().unwrap(), [part.clone(), part]);
        }
        assert_eq!(receive(&b, zmq::DONTWAIT).unwrap(), None);
    }

    #[test]
    fn a_large_frame_is_not_copied_within_the_process() {
        let (_context, mut a, b) = pair();
        let part = Bytes::from(vec![1_u8; 1 << 20]);
        let address = part.as_ptr();
        send(&mut a, None, vec![part]).unwrap();
        assert_eq!(receive(&b, 0).unwrap().unwrap()[0].as_ptr(), address);
    }

    #[test]
    fn an_unknown_peer_is_an_error_and_frees_the_frames() {
        let context = zmq::Context::new();
        let mut router = context.socket(zmq::ROUTER).unwrap();
        router.set_router_mandatory(true).unwrap();
        router.bind("inproc://nobody").unwrap();
        let part = Bytes::from(vec![1_u8; 1 << 20]);
        let kept = part.clone();
        let sent = send(&mut router, Some(b"someone"), vec![part]);
        assert_eq!(sent, Err(zmq::Error::EHOSTUNREACH));
        assert!(kept.is_unique(), "the frame is still referred to");
    }

    #[test]
    fn a_frame_lives_until_its_last_holder_drops_it() {
        let (context, mut a, b) = pair();
        let part = Bytes::from(vec![3_u8; 1 << 16]);
        send(&mut a, None, vec![part.clone()]).unwrap();
        let received = receive(&b, 0).unwrap().unwrap().remove(0);
        drop((a, b, context));
        assert!(received.iter().all(|byte| *byte == 3));
        drop(received);
        assert!(part.is_unique());
    }
}
