//! The contract between drpipe and the code behind a step.
//!
//! A step's code is a [`Producer`], a [`Stage`] or a [`Consumer`]. Each worker of the step has
//! an instance of its own; instances share nothing. An instance is built from its parameters
//! on the thread of its worker and never leaves it, so it need not be `Send`. The order of
//! calls is `init` once, then `next` or `run` any number of times, then `finish` once.
//!
//! # What is guaranteed, and what is expected
//!
//! - **Outputs.** What a call emits is committed together with the completion of its input. A
//!   call that fails or panics has emitted nothing, announced nothing and warned of nothing.
//! - **Order.** The outputs of one input are committed in the order of emission across all
//!   next steps; each edge keeps the order of each worker. With `ordered`, the last steps see
//!   the producer's order, then that of emission.
//! - **Failures.** An error that `?` returns is tried again up to the step's `retries`; one
//!   made with [`Failure::permanent`](crate::base::failure::Failure::permanent) is not. A panic is a failed attempt; the same instance
//!   goes on, so keep its fields sound before calling what may panic.
//! - **Deferral.** A call of `run` that lacks what other work of the run brings returns
//!   [`Failure::deferred`](crate::base::failure::Failure::deferred): the message comes again later.
//! - **Blocking in `next`** is allowed. What finished calls have emitted is committed within
//!   0.1 s while the next call blocks. A producer that waits should return [`Next::Idle`],
//!   which can be paused and drained at once; a call that blocks ends only with its process.
//! - **`timeout`** covers `run`, not `init`, `next` and `finish`.
//! - **`finish`** runs at most once per instance, after its last message: at the end of the
//!   step, or earlier when a pool shrinks or an operator sets fewer workers. It may emit. A
//!   `STATEFUL` class then emits a partial result. An instance whose worker is stopped at once,
//!   or dies, does not finish.
//! - **Threads inside a stage** are allowed; what `run` delivers is complete when it returns. A
//!   thread that ends within the call may send. Announcements and products belong to the
//!   worker's thread: elsewhere a [product](crate::product) is refused, and an announcement is
//!   lost, which the log says.
//! - **Memory.** Per input: the input, all its outputs until it is done, and what the stage
//!   keeps. Outside the queues stand what workers have in hand and at most one uncommitted
//!   report per worker.
//!
//! `docs/BEHAVIOR.md` has the same contract for Rust and Python, with the tests that hold it.

mod acknowledgement;
pub(crate) mod actions;
mod context;
pub mod data;
mod emitter;
pub(crate) mod erased;
pub mod notes;
pub mod registry;
pub(crate) mod scope;

use std::time::Duration;

use crate::base::failure::Result;
use data::Data;

pub use acknowledgement::{Acknowledged, Acknowledgement, Results};
pub use actions::{ActionCounts, ActionOutcome};
pub use context::Context;
pub use emitter::Emitter;
pub(crate) use emitter::{Input, Outputs};

pub use crate::message::Priority;

/// The answer of a producer to a call of [`Producer::next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There may be more: ask again.
    More,
    /// Nothing at the moment: ask again after this time.
    Idle(Duration),
    /// Ask again when everything that was emitted so far, with all that descends from it, is done,
    /// has failed or was dropped.
    Barrier,
    /// That was all.
    Done,
}

/// Makes the messages that a pipeline works on.
///
/// ```
/// use drpipe::prelude::*;
///
/// /// Counts from 0 to `last`.
/// #[derive(Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Counter {
///     last: i64,
///     #[serde(skip)]
///     next: i64,
/// }
///
/// impl Producer for Counter {
///     type Out = i64;
///     fn next(&mut self, out: &mut Emitter<i64>) -> Result<Next> {
///         if self.next > self.last {
///             return Ok(Next::Done);
///         }
///         out.send(self.next)?;
///         self.next += 1;
///         Ok(Next::More)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a producer",
    label = "this type does not implement `Producer`",
    note = "write `impl drpipe::prelude::Producer for {Self}` with `type Out` and `fn next`",
    note = "a class between other steps implements `Stage`, one at the end `Consumer`; register \
            them with `.stage` or `.consumer`"
)]
pub trait Producer {
    /// The type of what it emits.
    type Out: Data;

    /// Whether it is told what became of each item: see [`Producer::acknowledge`].
    const ACKNOWLEDGES: bool = false;

    /// Checks what the parameters' schema cannot express. Called before any work runs,
    /// without `init`; must not touch files.
    ///
    /// # Errors
    /// A failure whose message names the parameter and what was expected.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Checks what depends on the graph, as [`Stage::validate_in`].
    ///
    /// # Errors
    /// As [`Stage::validate_in`].
    fn validate_in(&self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Prepares the instance. Called once, before the first `next`; may block.
    ///
    /// # Errors
    /// Any failure stops the run before it has begun, with exit code 3.
    fn init(&mut self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Returns how many messages it will emit in all, if it knows. Asked once, after `init`;
    /// displays of the run derive the time left from it.
    fn expected(&self) -> Option<u64> {
        None
    }

    /// Emits the next item, or a few, and says whether there may be more. It is called only
    /// when there is room for its output, so it need not limit itself.
    ///
    /// It may block. What earlier calls have emitted is committed within 0.1 s meanwhile, but
    /// what this call emits only when it returns, for a call that fails has emitted nothing.
    /// So emit and return, and wait in the next call. A producer that returns [`Next::Idle`]
    /// instead of waiting can be paused and drained at once. One whose next item depends on what
    /// became of those before returns [`Next::Barrier`]; a producer that is told of its items
    /// was told of all by then. What steps have kept for their `finish` counts as done.
    ///
    /// # Errors
    /// After a failure it is called again up to the step's `retries` times. Then production
    /// ends, what was made is processed to its end, and the exit code of the run is 3. A
    /// panic ends production at once.
    fn next(&mut self, out: &mut Emitter<'_, Self::Out>) -> Result<Next>;

    /// Is told what became of items that it has emitted, if its class says
    /// [`ACKNOWLEDGES`](Producer::ACKNOWLEDGES): of each item once, when nothing of it is queued
    /// or in hand any more. Called on the producer's own thread between calls of `next`, also
    /// while the producer is idle, and for all items before `finish`. A panic here ends
    /// production.
    ///
    /// The step's `window` and `window_bytes` limit the items that have been emitted and not
    /// acknowledged. The results of the items are let go when this returns: keep what is needed.
    fn acknowledge(&mut self, items: &[Acknowledgement]) {
        let _ = items;
    }

    /// Ends the work. Called once, when production has ended; may still emit.
    ///
    /// # Errors
    /// A failure is reported, and the run's exit code is 1 at least.
    fn finish(&mut self, out: &mut Emitter<'_, Self::Out>) -> Result<()> {
        let _ = out;
        Ok(())
    }
}

/// Turns messages into messages.
///
/// ```
/// use drpipe::prelude::*;
///
/// /// Sends numbers at or above `threshold` to the step LARGE.
/// #[derive(Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Split { threshold: i64 }
///
/// impl Stage for Split {
///     type In = i64;
///     type Out = i64;
///     fn run(&mut self, number: i64, out: &mut Emitter<i64>) -> Result<()> {
///         if number >= self.threshold { out.send_to("LARGE", number) } else { out.send(number) }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stage",
    label = "this type does not implement `Stage`",
    note = "write `impl drpipe::prelude::Stage for {Self}` with `type In`, `type Out` and `fn run`",
    note = "a class at the start implements `Producer`, one that emits nothing `Consumer`; \
            register them with `.producer` or `.consumer`"
)]
pub trait Stage {
    /// The type of its input.
    type In: Data;
    /// The type of what it emits.
    type Out: Data;

    /// Whether a step may have only one worker of this class, for example because its
    /// instances would write the same file.
    #[expect(deprecated, reason = "the older name still works")]
    const SINGLETON: bool = Self::SINGLE;

    /// Whether `finish` emits or writes what `run` has kept of several messages, such as a sum
    /// or a page.
    ///
    /// `finish` needs all of them each time, so `--resume` never skips an item that reached
    /// such a step, and the run stops if a worker process of it dies. A stage that does not
    /// say so is resumed without what it kept in earlier runs.
    #[expect(deprecated, reason = "the older name still works")]
    const STATEFUL: bool = Self::GATHERS;

    /// The older name of [`Self::SINGLETON`].
    #[doc(hidden)]
    #[deprecated(note = "set `SINGLETON`")]
    const SINGLE: bool = false;

    /// The older name of [`Self::STATEFUL`].
    #[doc(hidden)]
    #[deprecated(note = "set `STATEFUL`")]
    const GATHERS: bool = false;

    /// Checks what the parameters' schema cannot express. Called before any work runs,
    /// without `init`; must not touch files.
    ///
    /// # Errors
    /// A failure whose message names the parameter and what was expected.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Checks what depends on the graph: parameters that name next steps
    /// ([`Context::expect_next_step`]). Called before any work runs, with the names in the
    /// graph and an empty name of the run, and once more before `init`.
    ///
    /// # Errors
    /// A failure whose message names the parameter and what was expected.
    fn validate_in(&self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Prepares the instance. Called once per worker, before its first message; may block.
    ///
    /// # Errors
    /// Any failure stops the run before it has begun, with exit code 3.
    fn init(&mut self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Processes one message. Emits any number of messages, or none: then the message counts
    /// as filtered. It may block; the results of earlier messages do not wait for it.
    ///
    /// What was emitted before a failure or a panic is dropped, so that a retry emits nothing
    /// twice. After a panic the same instance goes on: keep its fields sound before calling
    /// what may panic.
    ///
    /// # Errors
    /// A failure fails this message: the step's `retries` and `on_error` decide what becomes
    /// of it.
    fn run(&mut self, input: Self::In, out: &mut Emitter<'_, Self::Out>) -> Result<()>;

    /// Ends the work. Called once per worker, after its last message: at the end of the step,
    /// or earlier when the step gets fewer workers. May still emit. A class that emits or
    /// writes here what `run` has kept is [`STATEFUL`](Stage::STATEFUL).
    ///
    /// # Errors
    /// A failure is reported, and the run's exit code is 1 at least.
    fn finish(&mut self, out: &mut Emitter<'_, Self::Out>) -> Result<()> {
        let _ = out;
        Ok(())
    }
}

/// Takes messages and emits none: the end of the pipeline.
///
/// A consumer that writes files uses [`product`](crate::product).
///
/// ```
/// use drpipe::prelude::*;
///
/// /// Adds up what it gets.
/// #[derive(Default, Deserialize, JsonSchema)]
/// #[serde(default, deny_unknown_fields)]
/// struct Sum {
///     #[serde(skip)]
///     total: i64,
/// }
///
/// impl Consumer for Sum {
///     type In = i64;
///     fn run(&mut self, number: i64) -> Result<()> {
///         self.total = self.total.checked_add(number).ok_or(Failure::permanent("the sum overflows"))?;
///         Ok(())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a consumer",
    label = "this type does not implement `Consumer`",
    note = "write `impl drpipe::prelude::Consumer for {Self}` with `type In` and `fn run`",
    note = "a class that emits messages implements `Stage`, also at the end of a pipeline; \
            register it with `.stage`"
)]
pub trait Consumer {
    /// The type of its input.
    type In: Data;

    /// As [`Stage::SINGLETON`].
    #[expect(deprecated, reason = "the older name still works")]
    const SINGLETON: bool = Self::SINGLE;

    /// As [`Stage::STATEFUL`].
    #[expect(deprecated, reason = "the older name still works")]
    const STATEFUL: bool = Self::GATHERS;

    /// The older name of [`Self::SINGLETON`].
    #[doc(hidden)]
    #[deprecated(note = "set `SINGLETON`")]
    const SINGLE: bool = false;

    /// The older name of [`Self::STATEFUL`].
    #[doc(hidden)]
    #[deprecated(note = "set `STATEFUL`")]
    const GATHERS: bool = false;

    /// As [`Stage::validate`].
    ///
    /// # Errors
    /// A failure whose message names the parameter and what was expected.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// As [`Stage::validate_in`].
    ///
    /// # Errors
    /// As [`Stage::validate_in`].
    fn validate_in(&self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// As [`Stage::init`].
    ///
    /// # Errors
    /// Any failure stops the run before it has begun, with exit code 3.
    fn init(&mut self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Processes one message. After a panic the same instance goes on.
    ///
    /// # Errors
    /// As [`Stage::run`].
    fn run(&mut self, input: Self::In) -> Result<()>;

    /// As [`Stage::finish`], without an emitter.
    ///
    /// # Errors
    /// A failure is reported, and the run's exit code is 1 at least.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::registry::{of_consumer, of_stage};

    /// Declares itself by the older names of the constants.
    struct Older;

    impl Stage for Older {
        type In = i64;
        type Out = i64;
        const SINGLE: bool = true;
        const GATHERS: bool = true;
        fn run(&mut self, _: i64, _: &mut Emitter<'_, i64>) -> Result<()> {
            Ok(())
        }
    }

    impl Consumer for Older {
        type In = i64;
        const GATHERS: bool = true;
        fn run(&mut self, _: i64) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_older_names_of_the_constants_still_work() {
        let (stage, consumer) = (of_stage::<Older>(), of_consumer::<Older>());
        assert_eq!((stage.singleton, stage.stateful), (true, true));
        assert_eq!((consumer.singleton, consumer.stateful), (false, true));
    }
}
