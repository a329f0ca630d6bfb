//! Task pools and pipelines that a program feeds.

mod ending;
mod fed;
mod outcomes;
mod processes;
mod room;
mod steered;

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

use drpipe::pool::{Builder, Pool};

/// Holds tasks up until the test lets them go on.
#[derive(Clone)]
struct Gate {
    begun: Sender<i64>,
    may_go: Arc<Mutex<Receiver<()>>>,
}

/// The test's side of a [`Gate`].
struct Keeper {
    begun: Receiver<i64>,
    go: Sender<()>,
}

fn gate() -> (Gate, Keeper) {
    let (begun, has_begun) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let gate = Gate { begun, may_go: Arc::new(Mutex::new(may_go)) };
    (gate, Keeper { begun: has_begun, go })
}

impl Gate {
    fn pass(&self, number: i64) {
        // A test that is over no longer listens.
        let _ = self.begun.send(number);
        let _ = self.may_go.lock().unwrap().recv();
    }
}

impl Keeper {
    /// The number of the next task that begins.
    fn begun(&self) -> i64 {
        self.begun.recv().unwrap()
    }

    fn let_go(&self, tasks: usize) {
        (0..tasks).for_each(|_| self.go.send(()).unwrap());
    }
}

/// A pool whose tasks return their numbers once the test lets them go on.
fn gated() -> (Builder<i64, i64>, Keeper) {
    let (gate, keeper) = gate();
    let pool = Pool::of(move |number: i64| {
        gate.pass(number);
        Ok(number)
    });
    (pool, keeper)
}
