//! A function as the stage of a pool's workers.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::base::failure::Result;
use crate::stage::data::Data;
use crate::stage::{Emitter, Stage};

/// Calls a function with each message, and emits what it returns.
pub(super) struct Call<F, In, Out> {
    function: Arc<F>,
    marker: PhantomData<fn(In) -> Out>,
}

impl<F, In, Out> Call<F, In, Out> {
    pub(super) fn new(function: Arc<F>) -> Self {
        Self { function, marker: PhantomData }
    }
}

impl<F, In, Out> Stage for Call<F, In, Out>
where
    F: Fn(In) -> Result<Out>,
    In: Data,
    Out: Data,
{
    type In = In;
    type Out = Out;

    fn run(&mut self, input: In, out: &mut Emitter<'_, Out>) -> Result<()> {
        out.send((self.function)(input)?)
    }
}
