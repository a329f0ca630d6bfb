//! The stages that the cases are made of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use drpipe::prelude::*;

/// Emits what a function gives for 0, 1, ... below `count`.
pub struct Emit<T> {
    next: usize,
    count: usize,
    make: Arc<dyn Fn(usize) -> T + Send + Sync>,
}

pub fn emit<T: Data>(
    count: usize,
    make: impl Fn(usize) -> T + Send + Sync + 'static,
) -> impl Fn() -> Emit<T> + Send + Sync {
    let make: Arc<dyn Fn(usize) -> T + Send + Sync> = Arc::new(make);
    move || Emit { next: 0, count, make: Arc::clone(&make) }
}

impl<T: Data> Producer for Emit<T> {
    type Out = T;

    fn next(&mut self, out: &mut Emitter<T>) -> Result<Next> {
        if self.next == self.count {
            return Ok(Next::Done);
        }
        out.send((self.make)(self.next))?;
        self.next += 1;
        Ok(Next::More)
    }
}

/// Turns each message into another by a function.
pub struct Map<In, Out> {
    map: fn(In) -> Out,
}

pub fn map<In: Data, Out: Data>(map: fn(In) -> Out) -> impl Fn() -> Map<In, Out> + Send + Sync {
    move || Map { map }
}

impl<In: Data, Out: Data> Stage for Map<In, Out> {
    type In = In;
    type Out = Out;

    fn run(&mut self, input: In, out: &mut Emitter<Out>) -> Result<()> {
        out.send((self.map)(input))
    }
}

/// Takes messages of one type and forgets them.
pub struct Forget<T>(std::marker::PhantomData<fn(T)>);

impl<T> Default for Forget<T> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T: Data> Consumer for Forget<T> {
    type In = T;

    fn run(&mut self, input: T) -> Result<()> {
        std::hint::black_box(input);
        Ok(())
    }
}

/// A frame of pixels with a number in its header.
#[derive(Clone, Serialize, Deserialize)]
pub struct Frame {
    pub number: u64,
    pub pixels: Buffer<f32>,
}

impl Data for Frame {
    const TYPE: &'static str = "bench/Frame/1";
}

/// Bytes beside the header.
#[derive(Clone, Serialize, Deserialize)]
pub struct Block(pub Buffer<u8>);

impl Data for Block {
    const TYPE: &'static str = "bench/Block/1";
}

/// Computes for this long.
pub fn compute(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}
