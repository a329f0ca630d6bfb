//! Waking a thread that waits in `poll`, and a queue that its reader can wait for that way.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Wakes the owner of a [`Wakeup`] from any thread, without blocking.
#[derive(Clone)]
pub(crate) struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Ends the wait that is under way, or else the next one.
    pub(crate) fn wake(&self) {
        // Fails only if the counter is full, in which case the owner is woken anyway.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// The waiting side of a [`Waker`]: a file that is readable after a wake.
pub(crate) struct Wakeup(Arc<OwnedFd>);

impl Wakeup {
    /// Forgets the wakes so far. Call this before reading what they announce.
    pub(crate) fn clear(&self) {
        // Fails only if there was no wake.
        let _ = rustix::io::read(&*self.0, &mut [0; 8]);
    }

    /// Waits for a wake, at most for `timeout`, and clears it. A signal may end the wait early.
    pub(crate) fn wait(&self, timeout: Duration) {
        let _ = poll(&mut [PollFd::new(&*self.0, PollFlags::IN)], Some(&timespec(timeout)));
        self.clear();
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.0))
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The duration in the form that `poll` takes.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// The sending side of a [`Wakeable`].
pub(crate) struct Sender<T> {
    // Dropped before `hangup`, so that the reader wakes after the disconnection.
    values: mpsc::Sender<T>,
    hangup: Hangup,
}

#[derive(Clone)]
struct Hangup(Waker);

impl Drop for Hangup {
    fn drop(&mut self) {
        self.0.wake();
    }
}

// Not derived: a derived one would ask for `T: Clone`.
impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { values: self.values.clone(), hangup: self.hangup.clone() }
    }
}

impl<T> Sender<T> {
    /// Appends the value and wakes the reader; does nothing once the reader is gone.
    pub(crate) fn send(&self, value: T) {
        if self.values.send(value).is_ok() {
            self.hangup.0.wake();
        }
    }
}

/// An unbounded queue whose reader can wait for it together with files and sockets. It also
/// wakes when the last sender goes.
pub(crate) struct Wakeable<T> {
    pub(crate) values: mpsc::Receiver<T>,
    pub(crate) wakeup: Wakeup,
}

/// Creates a queue.
///
/// # Errors
/// If the process has no file descriptor left.
pub(crate) fn queue<T>() -> io::Result<(Sender<T>, Wakeable<T>)> {
    let file = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (sender, values) = mpsc::channel();
    let hangup = Hangup(Waker(Arc::clone(&file)));
    Ok((Sender { values: sender, hangup }, Wakeable { values, wakeup: Wakeup(file) }))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::TryRecvError;
    use std::time::Instant;

    use super::*;

    /// Longer than any test runs: a wait that nobody ends makes its test fail.
    const FOREVER: Duration = Duration::from_secs(600);

    #[test]
    fn a_value_wakes_the_reader_and_so_does_the_end_of_the_last_sender() {
        let (sender, queue) = queue().unwrap();
        let thread = std::thread::spawn(move || {
            sender.send(1);
            drop(sender.clone());
            sender.send(2);
        });
        let mut found = Vec::new();
        let ended = loop {
            match queue.values.try_recv() {
                Ok(value) => found.push(value),
                Err(TryRecvError::Empty) => queue.wakeup.wait(FOREVER),
                Err(error) => break error,
            }
        };
        assert_eq!((found, ended), (vec![1, 2], TryRecvError::Disconnected));
        thread.join().unwrap();
    }

    #[test]
    fn a_wait_ends_after_its_time() {
        let (_sender, queue) = queue::<()>().unwrap();
        let (start, timeout) = (Instant::now(), Duration::from_millis(3));
        queue.wakeup.wait(Duration::ZERO);
        while start.elapsed() < timeout {
            queue.wakeup.wait(timeout);
        }
    }
}
