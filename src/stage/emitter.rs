//! What a stage sends to its next steps.

use std::marker::PhantomData;
use std::sync::Arc;

use super::context::{Context, unknown_next_step};
use super::data::Data;
use crate::base::failure::{Failure, Result};
use crate::base::ids::RouteId;
use crate::message::output::OutputBuffer;
use crate::message::{NO_ITEM, Priority};

/// Sends what a stage makes to its next steps.
///
/// Values are delivered together with the completion of their input, never before it: a call
/// that fails or panics has emitted nothing. The outputs of one input arrive in the order in
/// which they were sent, across all next steps; each edge keeps the order of each worker. At
/// the end of the pipeline, where there is no next step, values are dropped; a step with
/// `results` hands them back to the producer instead.
///
/// Sending does not block: queues are checked before a call, not in it. All outputs of one
/// input stay in memory until it is done. A thread that ends within the call may send too; the
/// compiler refuses one that could outlive it. Large arrays pass to worker processes without a
/// copy only if they are sent on the worker's own thread.
pub struct Emitter<'a, T: Data> {
    context: &'a Context,
    input: Option<Input<'a>>,
    outputs: &'a mut OutputBuffer,
    marker: PhantomData<fn(T)>,
}

impl<T: Data> Emitter<'_, T> {
    /// Sends `value` to the default next step, the first in the configuration.
    ///
    /// # Errors
    /// If the value refuses to be serialized.
    pub fn send(&mut self, value: T) -> Result<()> {
        if self.context.next_steps.is_empty() {
            return self.hand_back(&value);
        }
        self.push(0, &value)
    }

    /// Sends `value` to the next step of this name.
    ///
    /// # Errors
    /// A permanent failure if `step` is not among the step's `next_steps`, or
    /// if the value refuses to be serialized.
    pub fn send_to(&mut self, step: &str, value: T) -> Result<()> {
        match self.context.next_steps.iter().position(|name| name == step) {
            Some(route) => self.push(route, &value),
            None => Err(Failure::permanent(unknown_next_step(self.context, step))),
        }
    }

    /// Sets the priority of what is sent from here on, until this call ends. Before that it is the
    /// priority of the input; for a producer that of its key `priority`.
    ///
    /// At each step, messages of high priority are served before all of normal priority that wait
    /// there. Within a priority, the order stays. What a worker has in hand already is not
    /// overtaken, and with `ordered` the last steps take in order whatever the priority. Both
    /// priorities have room of their own in each queue, so a full queue of normal messages holds no
    /// urgent one back. There is no aging: normal messages wait as long as urgent ones keep coming.
    ///
    /// A producer is not called again while something that it has sent waits for room, of whatever
    /// priority.
    pub fn set_priority(&mut self, priority: Priority) {
        self.outputs.set_priority(priority);
    }

    /// The names of the next steps; the first is the default. Empty at the end.
    pub fn next_steps(&self) -> &[String] {
        &self.context.next_steps
    }

    /// The place of this worker in the run.
    pub fn context(&self) -> &Context {
        self.context
    }

    /// What people call the producer's item that the current input descends from, for
    /// example the path of a raw frame; `None` in a producer and in `finish`.
    pub fn origin(&self) -> Option<&str> {
        self.input?.origin.map(|origin| &**origin)
    }

    /// The number of the current message: unique in this run, and the same at every attempt
    /// on the message. 0 in a producer and in `finish`.
    pub fn message(&self) -> u64 {
        self.input.map_or(NO_MESSAGE, |input| input.message)
    }

    /// The number of the producer's latest item, which [`Acknowledgement`] names; 0 before the
    /// first one, and in a class that is told of none.
    ///
    /// [`Acknowledgement`]: super::Acknowledgement
    pub fn number(&self) -> u64 {
        self.outputs.latest_item()
    }

    fn push(&mut self, route: usize, value: &T) -> Result<()> {
        let (item, origin) = match self.input {
            Some(input) => (input.item, input.origin.map(Arc::clone)),
            // What a producer emits names its own item.
            None => (self.outputs.next_item(), value.origin().map(Into::into)),
        };
        let codec = self.context.next_codecs[route];
        self.outputs.push(RouteId::at(route), item, origin, |header| value.write_to(codec, header))
    }

    /// Hands a value back to the producer, if it asks for that and the value belongs to an item.
    fn hand_back(&mut self, value: &T) -> Result<()> {
        let item = self.input.map_or(NO_ITEM, |input| input.item);
        match self.context.results {
            Some(codec) if item != NO_ITEM => {
                let write = |header: &mut Vec<u8>| value.write_to(codec, header);
                self.outputs.push(RouteId::RESULTS, item, None, write)
            }
            _ => Ok(()),
        }
    }
}

/// The number of the input of calls that have none.
pub(super) const NO_MESSAGE: u64 = 0;

/// The input of a call of `run`.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) message: u64,
    pub(crate) item: u64,
    pub(crate) priority: Priority,
    pub(crate) origin: Option<&'a Arc<str>>,
}

/// Collects what a call emits until the completion of its input is reported.
pub(crate) struct Outputs<'a> {
    pub(super) context: &'a Context,
    /// `None` in a producer and in `finish`.
    pub(super) input: Option<Input<'a>>,
    pub(super) outputs: &'a mut OutputBuffer,
}

impl Outputs<'_> {
    pub(crate) fn emitter<T: Data>(&mut self) -> Emitter<'_, T> {
        Emitter {
            context: self.context,
            input: self.input,
            outputs: self.outputs,
            marker: PhantomData,
        }
    }
}
