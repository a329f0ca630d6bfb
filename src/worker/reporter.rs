//! The thread that reports what calls have done while the next call takes long: one in each
//! process, for all of its workers. It sleeps while no worker has anything to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::base::lock::lock;

/// The time between two looks at an outbox. A call that is under way at two looks in a row takes
/// long.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The time between two looks while a call is under way and [`MAX_IDLE_LOOKS`] have found nothing.
const LOOK_AT_LONG_CALLS_EVERY: Duration = Duration::from_millis(50);
/// The number of looks in a row that find nothing new, after which the thread sleeps until it is
/// woken.
const MAX_IDLE_LOOKS: u32 = 25;

/// Something that may have a report to send while its worker is busy.
pub(crate) trait Pending: Send + Sync {
    /// Sends the report that was there at the previous call, unless something newer has come.
    fn look(&self) -> Look;
}

/// What a look at an outbox has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    /// Its worker has nothing to do, or is about to.
    Idle,
    /// The same call as at the previous look is under way.
    AtWork,
    /// A call has ended since.
    New,
}

static WATCHED: Mutex<Vec<Weak<dyn Pending>>> = Mutex::new(Vec::new());
/// Whether a batch has begun since the latest look.
static USED: AtomicBool = AtomicBool::new(false);
static ASLEEP: AtomicBool = AtomicBool::new(false);
/// None if the system has no thread for it: then reports wait for the worker.
static THREAD: OnceLock<Option<Thread>> = OnceLock::new();

/// Ends the watch of an outbox when it is dropped. After that only the worker holds the outbox,
/// so its connection closes with the worker, and not before all has left it.
pub(crate) struct Watched(Weak<dyn Pending>);

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&WATCHED).retain(|outbox| !std::ptr::addr_eq(outbox.as_ptr(), self.0.as_ptr()));
    }
}

/// Begins to watch an outbox.
pub(crate) fn watch(outbox: &Arc<impl Pending + 'static>) -> Watched {
    let outbox: Weak<dyn Pending> = Arc::downgrade(outbox) as Weak<dyn Pending>;
    lock(&WATCHED).push(outbox.clone());
    THREAD.get_or_init(|| {
        let thread = thread::Builder::new().name("reporter".into());
        thread.spawn(run).ok().map(|handle| handle.thread().clone())
    });
    Watched(outbox)
}

/// Wakes the thread: a worker has begun something that may have to be reported early.
pub(crate) fn wake() {
    USED.store(true, Ordering::SeqCst);
    if ASLEEP.load(Ordering::SeqCst)
        && let Some(Some(thread)) = THREAD.get()
    {
        ASLEEP.store(false, Ordering::SeqCst);
        thread.unpark();
    }
}

fn run() {
    let mut idle = 0;
    loop {
        thread::park_timeout(LOOK_EVERY);
        let mut seen = if USED.swap(false, Ordering::SeqCst) { Look::New } else { Look::Idle };
        for outbox in lock(&WATCHED).iter() {
            // The list stays locked, so a worker that ends waits until this look is over.
            seen = seen.max(outbox.upgrade().map_or(Look::Idle, |outbox| outbox.look()));
        }
        idle = if seen == Look::New { 0 } else { idle + 1 };
        if idle > MAX_IDLE_LOOKS {
            ASLEEP.store(true, Ordering::SeqCst);
            // A worker that sets USED after this check finds ASLEEP set, and wakes the thread.
            while ASLEEP.load(Ordering::SeqCst) && !USED.load(Ordering::SeqCst) {
                if seen == Look::AtWork {
                    // The router may still send messages that would wait behind the call.
                    thread::park_timeout(LOOK_AT_LONG_CALLS_EVERY);
                    break;
                }
                thread::park();
            }
            ASLEEP.store(false, Ordering::SeqCst);
            idle = if seen == Look::AtWork { MAX_IDLE_LOOKS } else { 0 };
        }
    }
}

/// Waits until the thread sleeps.
#[cfg(test)]
pub(crate) fn await_sleep() {
    while !ASLEEP.load(Ordering::SeqCst) {
        thread::yield_now();
    }
}
