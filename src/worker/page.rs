//! A page of memory that a worker process shares with its supervisor: which message it works on,
//! since when, until when, and that it is alive. The page outlives the worker, so the message at
//! which it died is known exactly.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::time::{ClockId, clock_gettime};

use crate::base::ids::MessageId;

/// The 64-bit words of the page, in order.
const MESSAGE: usize = 0;
const SINCE: usize = 1;
const BEATS: usize = 2;
const DEADLINE: usize = 3;
const WORDS: usize = 4;
const SIZE: usize = WORDS * size_of::<u64>();

/// See the module's documentation.
pub(crate) struct Page(MmapRaw);

/// What a worker works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AtWork {
    pub(crate) message: MessageId,
    /// The time since it began.
    pub(crate) time: Duration,
    /// The longest time that the worker itself allows for the message.
    pub(crate) limit: Option<Duration>,
}

impl Page {
    /// Creates a page of zeros, and the file that gives another process access to it.
    ///
    /// # Errors
    /// If the system has no memory or file descriptor left.
    pub(crate) fn create() -> io::Result<(Self, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("drpipe-page", flags)?;
        ftruncate(&file, SIZE as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let file = File::from(file);
        let map = MmapOptions::new().len(SIZE).map_raw(&file)?;
        Ok((Self(map), file.into()))
    }

    /// Opens the page in the other process.
    ///
    /// # Errors
    /// If the file is not such a page.
    pub(crate) fn open(file: OwnedFd) -> io::Result<Self> {
        let file = File::from(file);
        if file.metadata()?.len() != SIZE as u64 {
            return Err(io::Error::other("the page has another size"));
        }
        Ok(Self(MmapOptions::new().len(SIZE).map_raw(&file)?))
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < WORDS);
        let address = self.0.as_mut_ptr().cast::<u64>().wrapping_add(index);
        // SAFETY: the mapping begins at a page, so the word is aligned; it has
        // SIZE bytes and the index is below WORDS; the file cannot shrink
        // (sealed), and the mapping lives as long as `self`. Every access to it,
        // from either process, is atomic.
        unsafe { AtomicU64::from_ptr(address) }
    }

    /// Records that the worker begins this message, which may have a time limit of its own.
    pub(crate) fn begin(&self, message: MessageId, limit: Option<Duration>) {
        let since = now();
        self.word(DEADLINE).store(0, Ordering::Relaxed);
        self.word(SINCE).store(since, Ordering::Relaxed);
        self.word(MESSAGE).store(message.0, Ordering::Release);
        if let Some(limit) = limit {
            // After the message: so the limit is never taken for that of the one before it.
            let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
            self.word(DEADLINE).store(since.saturating_add(limit), Ordering::Release);
        }
    }

    /// Records that the worker is idle.
    pub(crate) fn rest(&self) {
        self.word(MESSAGE).store(0, Ordering::Release);
    }

    /// Gives a sign of life.
    pub(crate) fn beat(&self) {
        self.word(BEATS).fetch_add(1, Ordering::Relaxed);
    }

    /// The number of signs of life so far.
    pub(crate) fn beats(&self) -> u64 {
        self.word(BEATS).load(Ordering::Relaxed)
    }

    /// What the worker works on, if anything.
    pub(crate) fn at_work(&self) -> Option<AtWork> {
        let message = self.word(MESSAGE).load(Ordering::Acquire);
        let deadline = self.word(DEADLINE).load(Ordering::Acquire);
        let since = self.word(SINCE).load(Ordering::Relaxed);
        // Between the loads the worker may have begun the next message. Then the time is that of
        // the next one: too short, never too long. The limit counts only for the message that has
        // it.
        let is_same = self.word(MESSAGE).load(Ordering::Acquire) == message;
        let time = Duration::from_nanos(now().saturating_sub(since));
        let limit = Duration::from_nanos(deadline.saturating_sub(since));
        let limit = (deadline != 0 && is_same).then_some(limit);
        (message != 0).then_some(AtWork { message: MessageId(message), time, limit })
    }
}

/// Reads a clock that all processes share, in nanoseconds.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let (ours, file) = Page::create().unwrap();
        let theirs = Page::open(file).unwrap();
        assert_eq!((ours.at_work(), ours.beats()), (None, 0));
        theirs.begin(MessageId(7), None);
        theirs.beat();
        assert_eq!(ours.at_work().map(|at| at.message), Some(MessageId(7)));
        assert_eq!(ours.beats(), 1);
        theirs.rest();
        assert_eq!(ours.at_work(), None);
    }

    #[test]
    fn a_limit_counts_for_the_message_that_has_it() {
        let (ours, file) = Page::create().unwrap();
        let theirs = Page::open(file).unwrap();
        theirs.begin(MessageId(7), None);
        assert_eq!(ours.at_work().and_then(|at| at.limit), None);
        theirs.begin(MessageId(7), Some(Duration::from_nanos(5_000)));
        let limit = ours.at_work().and_then(|at| at.limit);
        assert_eq!(limit, Some(Duration::from_nanos(5_000)));
        theirs.begin(MessageId(8), None);
        assert_eq!(ours.at_work().and_then(|at| at.limit), None);
    }

    #[test]
    fn a_file_of_another_size_is_no_page() {
        let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        assert!(Page::open(file).is_err());
    }
}
