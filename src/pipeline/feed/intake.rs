//! What a feed has sent and was not told the end of. Any thread sends; the run's thread tells.
//!
//! The router is the only queue: an item is sent at once, and a sender waits while the window is
//! full. What is read later than it ends still takes room in the window, so a slow reader holds the
//! senders up; its results count at the router until they are taken, and hold the steps up that
//! make them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::failure::Result;
use crate::base::ids::RouteId;
use crate::base::lock::lock;
use crate::codec::CodecId;
use crate::memory::segment;
use crate::message::batch::Output;
use crate::message::{ItemKey, Payload, Priority, limit};
use crate::plan::Plan;
use crate::protocol::report::Production;
use crate::protocol::wire::{FromWorker, ToWorker};
use crate::stage::data::Data;
use crate::stage::{Acknowledged, Acknowledgement, Next};
use crate::transport::LinkError;
use crate::transport::feed::FeedLink;

/// What is kept of an item while it is open.
pub(crate) trait Kept: Send + 'static {
    /// What a reader gets of an item that has ended.
    type Ended: Send;

    /// The item has ended. Called on the run's thread: it must not block.
    fn end(self, end: End) -> Self::Ended;
}

/// How an item ended.
pub(crate) enum End {
    Told(Acknowledgement),
    /// The run is over and has not done it; if it could not go on, for this reason.
    NotDone {
        number: u64,
        origin: ItemKey,
        reason: Option<Arc<str>>,
    },
}

/// How long a sender waits for room.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    None,
    Until(Instant),
    Endless,
}

impl Patience {
    /// For this time from now on.
    pub(crate) fn of(time: Duration) -> Self {
        Instant::now().checked_add(time).map_or(Self::Endless, Self::Until)
    }
}

/// Why an item was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There was no room in time.
    Full,
    /// The run takes no more items; if it could not go on, for this reason.
    Closed(Option<Arc<str>>),
}

/// An item on its way into the run.
pub(crate) struct Sent<K> {
    pub(crate) payload: Payload,
    pub(crate) origin: ItemKey,
    pub(crate) priority: Priority,
    pub(crate) kept: K,
}

/// How much a feed may have under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    items: usize,
    bytes: u64,
}

/// See the module's documentation.
pub(crate) struct Intake<K: Kept> {
    link: FeedLink,
    window: Window,
    /// How items and their results are serialized.
    codec: CodecId,
    results_codec: CodecId,
    /// The priority of items that do not have another one.
    priority: Priority,
    /// Whether a next step runs in processes.
    shares: bool,
    /// Whether the next step takes a time limit with each message.
    limits_tasks: bool,
    state: Mutex<State<K>>,
    changed: Condvar,
}

struct State<K: Kept> {
    latest: u64,
    open: HashMap<u64, Open<K>>,
    open_bytes: u64,
    /// Items that the run has dropped: the reason is known at its end.
    dropped: Vec<(K, Acknowledgement)>,
    /// What has ended and was not read, with the bytes of its results.
    ended: VecDeque<(K::Ended, u64)>,
    /// Whether somebody reads how items end.
    is_read: bool,
    /// Whether what was not read holds nothing up.
    keeps_all: bool,
    /// Bytes of results that were taken, of which the router was not told.
    taken: u64,
    is_closed: bool,
    /// Whether the router has asked the feed to finish.
    is_finishing: bool,
    /// Present when the run is over: why it could not go on, if that is how it ended.
    over: Option<Option<Arc<str>>>,
}

struct Open<K> {
    kept: K,
    bytes: u64,
    origin: ItemKey,
    /// How often the router has refused to cancel it.
    refusals: u64,
}

/// The window of the plan's feed.
fn window(plan: &Plan, feed: usize) -> Window {
    let options = &plan.steps[feed].options;
    Window { items: *options.window, bytes: options.window_bytes.unwrap_or(u64::MAX) }
}

impl<K: Kept> Intake<K> {
    /// The items of the plan's step `feed`. `is_read` says whether somebody reads how they end.
    pub(super) fn new(plan: &Plan, feed: usize, link: FeedLink, is_read: bool) -> Self {
        let results_codec = plan.steps[feed].codec;
        let state = State {
            latest: 0,
            open: HashMap::new(),
            open_bytes: 0,
            dropped: Vec::new(),
            ended: VecDeque::new(),
            is_read,
            keeps_all: false,
            taken: 0,
            is_closed: false,
            is_finishing: false,
            over: None,
        };
        Self {
            link,
            window: window(plan, feed),
            codec: plan.next_codecs(feed).first().copied().unwrap_or_default(),
            results_codec,
            priority: *plan.steps[feed].options.priority,
            shares: plan.leads_to_processes(feed),
            limits_tasks: plan.limits_tasks(feed),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Serializes an item; `limit` is the time limit of its first message, for a step that takes
    /// one.
    ///
    /// # Errors
    /// If it refuses.
    pub(crate) fn payload<T: Data>(&self, value: &T, limit: Option<Duration>) -> Result<Payload> {
        let mut header = Vec::new();
        if self.limits_tasks {
            limit::write(limit, &mut header);
        }
        let write = || value.write_to(self.codec, &mut header);
        let buffers = segment::sharing(self.shares, write)?;
        Ok(Payload { header: header.into(), buffers })
    }

    /// Hands the number of open items to `look`; none ends meanwhile.
    pub(crate) fn look<R>(&self, look: impl FnOnce(usize) -> R) -> R {
        let state = lock(&self.state);
        look(state.open.len() + state.dropped.len())
    }

    /// Keeps what has ended until it is read, however much it is: it holds nothing up.
    pub(crate) fn keep_all(&self) {
        let mut state = lock(&self.state);
        state.keeps_all = true;
        state.taken += state.ended.iter_mut().map(|(_, bytes)| std::mem::take(bytes)).sum::<u64>();
        self.release(&mut state);
    }

    /// Whether an item of unknown size would find no room at the moment.
    pub(crate) fn is_full(&self) -> bool {
        let state = lock(&self.state);
        state.over.is_none() && !state.is_closed && state.count() >= self.window.items
    }

    /// The priority of items that do not have another one.
    pub(crate) fn priority(&self) -> Priority {
        self.priority
    }

    /// Sends an item and returns its number.
    ///
    /// # Errors
    /// If there is no room in time, or the run takes no more.
    pub(crate) fn send(&self, sent: Sent<K>, patience: Patience) -> Result<u64, Refused> {
        let Sent { payload, origin, priority, kept } = sent;
        let bytes = payload.len() as u64;
        let mut state = self.wait_for_room(bytes, patience)?;
        state.latest += 1;
        let number = state.latest;
        state.open_bytes += bytes;
        state.open.insert(number, Open { kept, bytes, origin: origin.clone(), refusals: 0 });
        let output = Output::One { route: RouteId(0), priority, item: number, origin, payload };
        // Under the lock, so that the numbers come in order.
        self.link.send(produced(Next::More, vec![output]));
        Ok(number)
    }

    fn wait_for_room(
        &self,
        bytes: u64,
        patience: Patience,
    ) -> Result<MutexGuard<'_, State<K>>, Refused> {
        let mut state = lock(&self.state);
        loop {
            if let Some(why) = &state.over {
                return Err(Refused::Closed(why.clone()));
            }
            if state.is_closed {
                return Err(Refused::Closed(None));
            }
            if state.admits(bytes, self.window) {
                return Ok(state);
            }
            state = match patience {
                Patience::None => return Err(Refused::Full),
                Patience::Endless => self.wait(state),
                Patience::Until(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Refused::Full);
                    }
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<K>>) -> MutexGuard<'a, State<K>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the run to give an item up. Waits for the answer, unless `running`, which also gives
    /// up an item that a worker is at.
    pub(crate) fn cancel(&self, number: u64, running: bool) {
        let mut state = lock(&self.state);
        let Some(open) = state.open.get(&number) else { return };
        let before = open.refusals;
        self.link.send(FromWorker::Cancel { number, running });
        let goes_on = |state: &State<K>| {
            let open = state.open.get(&number);
            open.is_some_and(|open| open.refusals == before)
        };
        while !running && goes_on(&state) {
            state = self.wait(state);
        }
    }

    /// Takes no more items. Those that are open go on.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        if !std::mem::replace(&mut state.is_closed, true) {
            self.link.send(produced(Next::Done, Vec::new()));
        }
        self.changed.notify_all();
    }

    /// Waits for the next item that ends. None if no more will.
    pub(crate) fn read(&self) -> Option<K::Ended> {
        let mut state = lock(&self.state);
        loop {
            if let Some((ended, bytes)) = state.ended.pop_front() {
                state.taken += bytes;
                self.release(&mut state);
                self.changed.notify_all();
                return Some(ended);
            }
            if state.has_told_all() {
                return None;
            }
            state = self.wait(state);
        }
    }

    /// Nobody reads how items end any more. What has ended no longer holds anything up.
    pub(crate) fn read_no_more(&self) {
        let mut state = lock(&self.state);
        state.is_read = false;
        let unread = std::mem::take(&mut state.ended);
        state.taken += unread.iter().map(|(_, bytes)| bytes).sum::<u64>();
        self.release(&mut state);
        self.changed.notify_all();
    }

    /// Tells the router of results that were taken, when they are many.
    fn release(&self, state: &mut State<K>) {
        // What it is not told is a small part of what it allows.
        if state.taken > self.window.bytes / 16 {
            let bytes = std::mem::take(&mut state.taken);
            self.link.send(FromWorker::Released { bytes });
        }
    }

    /// Hears what the router says.
    pub(super) fn hear(&self, message: Result<ToWorker, LinkError>) {
        let mut state = lock(&self.state);
        match message {
            Ok(ToWorker::Acknowledged(items)) => {
                items.into_iter().for_each(|item| state.end(item, self.results_codec));
                self.release(&mut state);
            }
            Ok(ToWorker::NotCancelled { number }) => {
                if let Some(open) = state.open.get_mut(&number) {
                    open.refusals += 1;
                }
            }
            Ok(ToWorker::Finish) => {
                state.is_closed = true;
                state.is_finishing = true;
            }
            // The end of the run says why. Nothing else is said to a feed.
            Ok(_) | Err(_) => state.is_closed = true,
        }
        // What crossed the request to finish on its way is acknowledged first.
        if state.is_finishing && state.open.is_empty() {
            state.is_finishing = false;
            self.link.send(FromWorker::Finished { result: Ok(()), outputs: Vec::new() });
        }
        self.changed.notify_all();
    }

    /// The run is over; if it could not go on, for this reason.
    pub(super) fn over(&self, reason: Option<Arc<str>>) {
        let mut state = lock(&self.state);
        state.over = Some(reason.clone());
        let mut left: Vec<(u64, K, ItemKey)> = std::mem::take(&mut state.dropped)
            .into_iter()
            .map(|(kept, item)| (item.number, kept, item.origin))
            .collect();
        left.extend(state.open.drain().map(|(number, open)| (number, open.kept, open.origin)));
        left.sort_by_key(|(number, ..)| *number);
        for (number, kept, origin) in left {
            let ended = kept.end(End::NotDone { number, origin, reason: reason.clone() });
            state.tell(ended, 0);
        }
        self.changed.notify_all();
    }
}

impl<K: Kept> State<K> {
    /// How many places of the window are taken.
    fn count(&self) -> usize {
        self.open.len() + self.ended.len()
    }

    fn admits(&self, bytes: u64, window: Window) -> bool {
        self.count() < window.items
            && (self.open.is_empty() || self.open_bytes + bytes <= window.bytes)
    }

    fn end(&mut self, mut item: Acknowledgement, codec: CodecId) {
        let Some(open) = self.open.remove(&item.number) else { return };
        self.open_bytes -= open.bytes;
        if item.outcome == Acknowledged::Dropped {
            return self.dropped.push((open.kept, item));
        }
        item.in_codec(codec);
        let bytes = item.result_bytes();
        let ended = open.kept.end(End::Told(item));
        self.tell(ended, bytes);
    }

    fn tell(&mut self, ended: K::Ended, bytes: u64) {
        let holds_up = self.is_read && !self.keeps_all;
        if !holds_up {
            self.taken += bytes;
        }
        if self.is_read {
            self.ended.push_back((ended, if holds_up { bytes } else { 0 }));
        }
    }

    /// Whether no more items will end.
    fn has_told_all(&self) -> bool {
        self.over.is_some() || (self.is_closed && self.open.is_empty() && self.dropped.is_empty())
    }
}

/// What a feed says when it has items.
fn produced(next: Next, outputs: Vec<Output>) -> FromWorker {
    let production = Production { result: Some(Ok(next)), calls: 0, busy: Duration::ZERO };
    FromWorker::Produced { production, outputs }
}
