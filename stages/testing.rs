//! Runs a stage without the engine, for the tests beside the stages.

use crate::message::Codec;
use crate::message::batch::Batch;
use crate::message::output::OutputBuffer;
use crate::prelude::*;
use crate::stage::Outputs;

/// A worker's place in a run.
pub(crate) fn context_of(run: &str, step: &str, next_steps: &[&str]) -> Context {
    Context {
        private: None,
        pipeline: "0123456789abcdef".to_owned(),
        written: Vec::new(),
        run: run.to_owned(),
        step: step.to_owned(),
        worker: 0,
        codec: Codec::Bincode,
        next_codecs: vec![Codec::Bincode; next_steps.len()],
        next_steps: next_steps.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// Calls `work` with an emitter; what it emitted comes back with the routes.
pub(crate) fn emitted<T: Data, R>(
    context: &Context,
    work: impl FnOnce(&mut Emitter<'_, T>) -> Result<R>,
) -> Result<(R, Vec<(String, T)>)> {
    let mut buffer = OutputBuffer::default();
    let mut outputs =
        Outputs { context, origin: None, message: 0, names_origins: true, outputs: &mut buffer };
    let result = work(&mut outputs.emitter())?;
    let mut values = Vec::new();
    for output in buffer.take() {
        let route = &context.next_steps()[output.route() as usize];
        for message in Batch::new(0, output).into_messages() {
            values.push((route.clone(), T::from_payload(message.payload, Codec::Bincode)?));
        }
    }
    Ok((result, values))
}

/// A stage made from its parameters, as a configuration gives them.
pub(crate) fn from_json<S: serde::de::DeserializeOwned>(params: serde_json::Value) -> S {
    serde_json::from_value(params).unwrap()
}

/// All that a producer makes, from `init` to `finish`.
pub(crate) fn produce<P: Producer>(mut producer: P) -> Result<Vec<P::Out>> {
    let context = context_of("test", "PRODUCE", &["NEXT"]);
    producer.validate()?;
    producer.init(&context)?;
    let mut all = Vec::new();
    loop {
        let (next, values) = emitted(&context, |out| producer.next(out))?;
        all.extend(values.into_iter().map(|(_, value)| value));
        if next == Next::Done {
            break;
        }
    }
    let ((), values) = emitted(&context, |out| producer.finish(out))?;
    all.extend(values.into_iter().map(|(_, value)| value));
    Ok(all)
}

/// All that a stage makes of these inputs, from `init` to `finish`.
pub(crate) fn process<S: Stage>(
    mut stage: S,
    context: &Context,
    inputs: impl IntoIterator<Item = S::In>,
) -> Result<Vec<(String, S::Out)>> {
    stage.validate()?;
    stage.init(context)?;
    let mut all = Vec::new();
    for input in inputs {
        all.extend(emitted(context, |out| stage.run(input, out))?.1);
    }
    all.extend(emitted(context, |out| stage.finish(out))?.1);
    Ok(all)
}

/// Gives a consumer these inputs, from `init` to `finish`.
pub(crate) fn consume<C: Consumer>(
    mut consumer: C,
    context: &Context,
    inputs: impl IntoIterator<Item = C::In>,
) -> Result<C> {
    consumer.validate()?;
    consumer.init(context)?;
    for input in inputs {
        consumer.run(input)?;
    }
    consumer.finish()?;
    Ok(consumer)
}
