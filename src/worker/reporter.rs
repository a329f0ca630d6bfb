//! The thread that reports what calls have done when the next one takes long: one in
//! each process, for all of its workers. While nothing is done it sleeps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

/// A call that goes on at two looks one after the other takes long.
const LOOK: Duration = Duration::from_millis(2);
/// After so many looks at which nothing was new it sleeps until it is woken.
const LOOKS: u32 = 25;

/// Something to look at again and again.
pub(crate) trait Look: Send + Sync {
    /// Reports what lies there since the latest look; true if there is something newer.
    fn look(&self) -> bool;
}

static DESKS: Mutex<Vec<Weak<dyn Look>>> = Mutex::new(Vec::new());
/// Whether a batch has begun since the latest look.
static USED: AtomicBool = AtomicBool::new(false);
static ASLEEP: AtomicBool = AtomicBool::new(false);
/// None if the system has no thread for it: then reports wait for the worker.
static THREAD: OnceLock<Option<Thread>> = OnceLock::new();

/// A desk that is looked at until this goes. After that nobody else holds the desk: its
/// worker closes the connection, and sees to it that all has left.
pub(crate) struct Watched(Weak<dyn Look>);

impl Drop for Watched {
    fn drop(&mut self) {
        desks().retain(|desk| !std::ptr::addr_eq(desk.as_ptr(), self.0.as_ptr()));
    }
}

/// From here on the desk is looked at.
pub(crate) fn watch(desk: &Arc<impl Look + 'static>) -> Watched {
    let desk: Weak<dyn Look> = Arc::downgrade(desk) as Weak<dyn Look>;
    desks().push(desk.clone());
    THREAD.get_or_init(|| {
        let thread = thread::Builder::new().name("handover".into());
        thread.spawn(look_on).ok().map(|handle| handle.thread().clone())
    });
    Watched(desk)
}

/// Something may come to lie on a desk.
pub(crate) fn wake() {
    USED.store(true, Ordering::SeqCst);
    if ASLEEP.load(Ordering::SeqCst)
        && let Some(Some(thread)) = THREAD.get()
    {
        ASLEEP.store(false, Ordering::SeqCst);
        thread.unpark();
    }
}

/// The list is whole after each statement.
fn desks() -> MutexGuard<'static, Vec<Weak<dyn Look>>> {
    DESKS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn look_on() {
    let mut idle = 0;
    loop {
        thread::park_timeout(LOOK);
        let mut is_new = USED.swap(false, Ordering::SeqCst);
        for desk in desks().iter() {
            // The list is locked meanwhile: its worker waits before it lets the desk go.
            is_new |= desk.upgrade().is_some_and(|desk| desk.look());
        }
        idle = if is_new { 0 } else { idle + 1 };
        if idle > LOOKS {
            ASLEEP.store(true, Ordering::SeqCst);
            // Whoever comes after this reading finds it asleep, and wakes it.
            while ASLEEP.load(Ordering::SeqCst) && !USED.load(Ordering::SeqCst) {
                thread::park();
            }
            ASLEEP.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}

/// Waits until nothing is looked at any more.
#[cfg(test)]
pub(crate) fn await_sleep() {
    while !ASLEEP.load(Ordering::SeqCst) {
        thread::yield_now();
    }
}
