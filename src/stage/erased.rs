//! Producers, stages and consumers without their types, as workers run them.

use std::sync::Arc;

use super::data::Data;
use super::scope::Scope;
use super::{Consumer, Context, Next, Outputs, Producer, Stage};
use crate::base::failure::{Failure, Result};
use crate::message::Payload;

/// The number of the input of calls that have none.
const NO_MESSAGE: u64 = 0;

/// A producer, stage or consumer without its types.
pub(crate) trait Task {
    /// Checks what depends on the graph; called before any work runs, without `init`.
    fn validate_in(&self, context: &Context) -> Result<()>;
    fn init(&mut self, context: &Context) -> Result<()>;
    /// Producers only.
    fn next(&mut self, outputs: &mut Outputs<'_>) -> Result<Next>;
    /// Stages and consumers only.
    fn run(&mut self, payload: Payload, outputs: &mut Outputs<'_>) -> Result<()>;
    fn finish(&mut self, outputs: &mut Outputs<'_>) -> Result<()>;
    /// How many messages a producer will emit, if it knows.
    fn expected(&self) -> Option<u64> {
        None
    }
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
        let _call = Scope::enter(NO_MESSAGE);
        self.0.validate_in(context)?;
        self.0.init(context)
    }

    fn next(&mut self, outputs: &mut Outputs<'_>) -> Result<Next> {
        let _call = Scope::enter(NO_MESSAGE);
        self.0.next(&mut outputs.emitter())
    }

    fn run(&mut self, _: Payload, _: &mut Outputs<'_>) -> Result<()> {
        Err(Failure::permanent("a producer takes no messages"))
    }

    fn finish(&mut self, outputs: &mut Outputs<'_>) -> Result<()> {
        let _call = Scope::enter(NO_MESSAGE);
        self.0.finish(&mut outputs.emitter())
    }

    fn expected(&self) -> Option<u64> {
        self.0.expected()
    }
}

impl<S: Stage> Task for StageTask<S> {
    fn validate_in(&self, context: &Context) -> Result<()> {
        self.0.validate_in(context)
    }

    fn init(&mut self, context: &Context) -> Result<()> {
        let _call = Scope::enter(NO_MESSAGE);
        self.0.validate_in(context)?;
        self.0.init(context)
    }

    fn next(&mut self, _: &mut Outputs<'_>) -> Result<Next> {
        Err(Failure::permanent("a stage produces nothing of its own"))
    }

    fn run(&mut self, payload: Payload, outputs: &mut Outputs<'_>) -> Result<()> {
        let _call = Scope::enter(outputs.message);
        let input = S::In::from_payload(payload, outputs.context.codec)?;
        self.0.run(input, &mut outputs.emitter())
    }

    fn finish(&mut self, outputs: &mut Outputs<'_>) -> Result<()> {
        let _call = Scope::enter(NO_MESSAGE);
        self.0.finish(&mut outputs.emitter())
    }
}

impl<C: Consumer> Task for ConsumerTask<C> {
    fn validate_in(&self, context: &Context) -> Result<()> {
        self.0.validate_in(context)
    }

    fn init(&mut self, context: &Context) -> Result<()> {
        let _call = Scope::enter(NO_MESSAGE);
        self.0.validate_in(context)?;
        self.0.init(context)
    }

    fn next(&mut self, _: &mut Outputs<'_>) -> Result<Next> {
        Err(Failure::permanent("a consumer produces nothing of its own"))
    }

    fn run(&mut self, payload: Payload, outputs: &mut Outputs<'_>) -> Result<()> {
        let _call = Scope::enter(outputs.message);
        self.0.run(C::In::from_payload(payload, outputs.context.codec)?)
    }

    fn finish(&mut self, _: &mut Outputs<'_>) -> Result<()> {
        let _call = Scope::enter(NO_MESSAGE);
        self.0.finish()
    }
}
