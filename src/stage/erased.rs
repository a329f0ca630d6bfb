//! Producers, stages and consumers without their types, as workers run them.

use std::sync::Arc;

use super::data::Data;
use super::emitter::{Input, NO_MESSAGE, Outputs};
use super::scope::Scope;
use super::{Acknowledgement, Consumer, Context, Next, Producer, Stage};
use crate::base::failure::{Failure, Result};
use crate::message::Payload;
use crate::message::output::OutputBuffer;

/// A producer, stage or consumer without its types. Its code runs within [`Task::start`] or
/// [`in_call`], so that what it announces belongs to a call.
pub(crate) trait Task {
    /// Checks and prepares the instance, before its first call.
    fn start(&mut self, context: &Context) -> Result<()> {
        let _scope = Scope::enter(NO_MESSAGE);
        self.validate_in(context)?;
        self.init(context)
    }
    /// Checks what depends on the graph; called before any work runs, without `init`.
    fn validate_in(&self, context: &Context) -> Result<()>;
    fn init(&mut self, context: &Context) -> Result<()>;
    /// Producers only.
    fn next(&mut self, outputs: &mut Outputs<'_>) -> Result<Next>;
    /// Stages and consumers only.
    fn run(&mut self, payload: Payload, outputs: &mut Outputs<'_>) -> Result<()>;
    fn finish(&mut self, outputs: &mut Outputs<'_>) -> Result<()>;
    /// Whether it is a producer that is told what became of its items.
    fn acknowledges(&self) -> bool {
        false
    }
    /// Such producers only.
    fn acknowledge(&mut self, _items: &[Acknowledgement]) {}
    /// How many messages a producer will emit, if it knows.
    fn expected(&self) -> Option<u64> {
        None
    }
}

/// Makes one call of a task; `input` is that of `run`.
pub(crate) fn in_call<R>(
    context: &Context,
    input: Option<Input<'_>>,
    outputs: &mut OutputBuffer,
    call: impl FnOnce(&mut Outputs<'_>) -> R,
) -> R {
    let _scope = Scope::enter(input.map_or(NO_MESSAGE, |input| input.message));
    outputs.set_priority(input.map_or(context.priority, |input| input.priority));
    call(&mut Outputs { context, input, outputs })
}

/// Makes one instance of a stage, on the thread of its worker.
pub(crate) type Build = Arc<dyn Fn() -> Result<Box<dyn Task>> + Send + Sync>;

/// Turns a factory of producers into one of tasks.
pub(crate) fn build_producer<P: Producer + 'static>(
    make: impl Fn() -> P + Send + Sync + 'static,
) -> Build {
    Arc::new(move || Ok(Box::new(ProducerTask(make()))))
}

/// As [`build_producer`].
pub(crate) fn build_stage<S: Stage + 'static>(
    make: impl Fn() -> S + Send + Sync + 'static,
) -> Build {
    Arc::new(move || Ok(Box::new(StageTask(make()))))
}

/// As [`build_producer`].
pub(crate) fn build_consumer<C: Consumer + 'static>(
    make: impl Fn() -> C + Send + Sync + 'static,
) -> Build {
    Arc::new(move || Ok(Box::new(ConsumerTask(make()))))
}

pub(crate) struct ProducerTask<P>(pub(crate) P);
pub(crate) struct StageTask<S>(pub(crate) S);
pub(crate) struct ConsumerTask<C>(pub(crate) C);

impl<P: Producer> Task for ProducerTask<P> {
    fn validate_in(&self, context: &Context) -> Result<()> {
        self.0.validate_in(context)
    }

    fn init(&mut self, context: &Context) -> Result<()> {
        self.0.init(context)
    }

    fn next(&mut self, outputs: &mut Outputs<'_>) -> Result<Next> {
        self.0.next(&mut outputs.emitter())
    }

    fn run(&mut self, _: Payload, _: &mut Outputs<'_>) -> Result<()> {
        Err(Failure::permanent("a producer takes no messages"))
    }

    fn finish(&mut self, outputs: &mut Outputs<'_>) -> Result<()> {
        self.0.finish(&mut outputs.emitter())
    }

    fn expected(&self) -> Option<u64> {
        self.0.expected()
    }

    fn acknowledges(&self) -> bool {
        P::ACKNOWLEDGES
    }

    fn acknowledge(&mut self, items: &[Acknowledgement]) {
        self.0.acknowledge(items);
    }
}

impl<S: Stage> Task for StageTask<S> {
    fn validate_in(&self, context: &Context) -> Result<()> {
        self.0.validate_in(context)
    }

    fn init(&mut self, context: &Context) -> Result<()> {
        self.0.init(context)
    }

    fn next(&mut self, _: &mut Outputs<'_>) -> Result<Next> {
        Err(Failure::permanent("a stage produces nothing of its own"))
    }

    fn run(&mut self, payload: Payload, outputs: &mut Outputs<'_>) -> Result<()> {
        let input = S::In::from_payload(payload, outputs.context.codec)?;
        self.0.run(input, &mut outputs.emitter())
    }

    fn finish(&mut self, outputs: &mut Outputs<'_>) -> Result<()> {
        self.0.finish(&mut outputs.emitter())
    }
}

impl<C: Consumer> Task for ConsumerTask<C> {
    fn validate_in(&self, context: &Context) -> Result<()> {
        self.0.validate_in(context)
    }

    fn init(&mut self, context: &Context) -> Result<()> {
        self.0.init(context)
    }

    fn next(&mut self, _: &mut Outputs<'_>) -> Result<Next> {
        Err(Failure::permanent("a consumer produces nothing of its own"))
    }

    fn run(&mut self, payload: Payload, outputs: &mut Outputs<'_>) -> Result<()> {
        self.0.run(C::In::from_payload(payload, outputs.context.codec)?)
    }

    fn finish(&mut self, _: &mut Outputs<'_>) -> Result<()> {
        self.0.finish()
    }
}
