//! A pipeline that the program feeds while it runs, and which tells it what became of each item.

mod intake;
mod start;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::{Handle, Pipeline, RunError};
use crate::base::failure::Failure;
use crate::message::ItemKey;
use crate::stage::data::Data;
use crate::stage::{Acknowledged, Acknowledgement};

use intake::Refused;
pub(crate) use intake::{End, Intake, Kept, Patience, Sent};
pub(super) use start::Feeding;

/// Brings the items of a run that [`Pipeline::start_with_feed`] has started.
///
/// It may be used from several threads; items are numbered from 1 in the order in which they are
/// taken. A feed that is dropped has finished.
///
/// Of all items that have been sent, so many and so many bytes of them may be under way as the
/// `window` and the `window_bytes` of the pipeline's producer say. An item counts until it has
/// ended and its acknowledgement was read.
pub struct Feed<In> {
    intake: Arc<Intake<Item>>,
    marker: PhantomData<fn(In)>,
}

/// Why a value was not taken.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SendError<T> {
    /// There was no room for this value in time.
    #[error("there is no room: the window is full")]
    Full(T),
    /// Nothing more is taken: this value was not.
    #[error("nothing more is taken{}", reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    #[non_exhaustive]
    Closed {
        /// The value.
        value: T,
        /// Why the run could not go on, if that is how it ended.
        reason: Option<Arc<str>>,
    },
    /// The value refuses to be serialized.
    #[error("{0}")]
    Unsuitable(Failure),
}

impl<T> SendError<T> {
    pub(crate) fn of(refused: Refused, value: T) -> Self {
        match refused {
            Refused::Full => Self::Full(value),
            Refused::Closed(reason) => Self::Closed { value, reason },
        }
    }
}

impl<T> std::fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(_)"),
            Self::Closed { reason, .. } => write!(f, "Closed {{ reason: {reason:?}, .. }}"),
            Self::Unsuitable(failure) => write!(f, "Unsuitable({failure:?})"),
        }
    }
}

/// What is kept of an item: the run says the rest.
struct Item;

impl Kept for Item {
    type Ended = Acknowledgement;

    fn end(self, end: End) -> Acknowledgement {
        match end {
            End::Told(item) => item,
            End::NotDone { number, origin, .. } => {
                Acknowledgement { number, origin, outcome: Acknowledged::Dropped }
            }
        }
    }
}

/// What became of the items of a [`Feed`], in the order in which they end.
///
/// The iterator waits for the next item that ends. It is over when the feed has finished and all of
/// its items have ended, or the run is over. Every item that was taken is acknowledged once; one
/// that the run has not done as [`Acknowledged::Dropped`].
///
/// Items whose acknowledgements are not read keep their places in the feed's window, and results
/// that are not read hold the steps up that make more. Who does not want to know drops this.
pub struct Acknowledgements<Out> {
    intake: Arc<Intake<Item>>,
    marker: PhantomData<fn() -> Out>,
}

impl<Out> Iterator for Acknowledgements<Out> {
    type Item = Acknowledgement;

    fn next(&mut self) -> Option<Acknowledgement> {
        self.intake.read()
    }
}

impl<Out> Drop for Acknowledgements<Out> {
    fn drop(&mut self) {
        self.intake.read_no_more();
    }
}

impl<In: Data> Feed<In> {
    /// Sends an item to the first step after the producer, and returns its number. Waits for room
    /// in the window. The origin names the item in the log, the journal and its acknowledgement; if
    /// it is empty, the item has that of the value ([`Data::origin`]), or none.
    ///
    /// # Errors
    /// If the feed has finished, the run is over, or the value refuses to be serialized.
    pub fn send(&self, origin: &str, value: In) -> Result<u64, SendError<In>> {
        self.send_with(origin, value, Patience::Endless)
    }

    /// As [`Feed::send`], but does not wait.
    ///
    /// # Errors
    /// As those of [`Feed::send`], and [`SendError::Full`] if there is no room.
    pub fn try_send(&self, origin: &str, value: In) -> Result<u64, SendError<In>> {
        if self.intake.is_full() {
            return Err(SendError::Full(value));
        }
        self.send_with(origin, value, Patience::None)
    }

    /// As [`Feed::send`], but waits for this time at most.
    ///
    /// # Errors
    /// As those of [`Feed::send`], and [`SendError::Full`] if there is no room within this time.
    pub fn send_within(
        &self,
        origin: &str,
        value: In,
        time: Duration,
    ) -> Result<u64, SendError<In>> {
        self.send_with(origin, value, Patience::of(time))
    }

    fn send_with(&self, origin: &str, value: In, patience: Patience) -> Result<u64, SendError<In>> {
        let payload = self.intake.payload(&value, None).map_err(SendError::Unsuitable)?;
        let (origin, priority) = (origin_of(origin, &value), self.intake.priority());
        let sent = Sent { payload, origin, priority, kept: Item };
        let taken = self.intake.send(sent, patience);
        taken.map_err(|refused| SendError::of(refused, value))
    }

    /// Gives an item up. What waits of it is dropped, and it is acknowledged as
    /// [`Acknowledged::Cancelled`]. An item that a worker has goes on, unless `running` says
    /// that it is given up too: then a worker process is ended, and what a thread makes of it is
    /// not taken.
    pub fn cancel(&self, number: u64, running: bool) {
        self.intake.cancel(number, running);
    }

    /// Sends no more. The run ends when all items have ended.
    pub fn finish(&self) {
        self.intake.close();
    }
}

impl<In> Drop for Feed<In> {
    fn drop(&mut self) {
        self.intake.close();
    }
}

/// The name of an item: the one that is given, or else the value's own.
pub(crate) fn origin_of<T: Data>(given: &str, value: &T) -> ItemKey {
    match given {
        "" => value.origin().map(Into::into),
        given => Some(given.into()),
    }
}

impl Pipeline {
    /// Starts a run whose producer is this program: the one that [`Builder::feed`] adds, or one of
    /// class `Caller` in a configuration, whose registry
    /// [lets callers in](crate::stage::registry::Registry::let_callers_in). `Out` is the type of
    /// what the steps with `results` emit, [`Any`](crate::stage::data::Any) without such a step.
    ///
    /// ```
    /// use drpipe::pipeline::Pipeline;
    /// use drpipe::prelude::*;
    /// use drpipe::stages::Square;
    ///
    /// let pipeline = Pipeline::builder()
    ///     .feed::<i64>("NUMBERS")
    ///     .last_stage("SQUARE", Square::default)
    ///     .results()
    ///     .build()?;
    /// let (feed, acknowledgements, run) = pipeline.start_with_feed::<i64, i64>()?;
    /// for number in 1..=3 {
    ///     feed.send("", number)?;
    /// }
    /// feed.finish();
    /// let mut squares = Vec::new();
    /// for item in acknowledgements {
    ///     match item.outcome {
    ///         Acknowledged::Done { results, .. } => squares.push(results.get::<i64>(0)?),
    ///         other => panic!("{other:?}"),
    ///     }
    /// }
    /// assert_eq!(squares, [1, 4, 9]);
    /// assert_eq!(run.wait()?.exit_code, 0);
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// If the producer brings its own items, a step takes or gives back values of another type, or
    /// the run cannot start (see [`Pipeline::start`]).
    ///
    /// [`Builder::feed`]: super::Builder::feed
    pub fn start_with_feed<In: Data, Out: Data>(
        self,
    ) -> Result<(Feed<In>, Acknowledgements<Out>, Handle), RunError> {
        let (intake, run) = self.start_fed::<In, Out, Item>(true)?;
        let feed = Feed { intake: Arc::clone(&intake), marker: PhantomData };
        Ok((feed, Acknowledgements { intake, marker: PhantomData }, run))
    }
}
