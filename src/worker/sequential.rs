//! Every worker on one thread, one message after the other: the same router
//! and the same stages without concurrency, as the reference for both.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Worker;
use crate::config::plan::Plan;
use crate::note;
use crate::observe::Outlet;
use crate::router::{Action, Input, Loss, Router};
use crate::stage::Context;
use crate::transport::hub::{Command, Commands};

/// Runs the plan on the calling thread. `context_of` says where a worker stands.
pub(crate) fn run(
    plan: &Plan,
    mut router: Router,
    mut outlet: Outlet,
    commands: &Commands,
    cancelled: &AtomicBool,
    context_of: &dyn Fn(usize, usize) -> Context,
) -> (Router, Outlet, Duration) {
    let start = Instant::now();
    let mut workers: Vec<Option<Worker>> = (0..router.worker_count()).map(|_| None).collect();
    let mut inputs = VecDeque::new();
    for (index, worker) in workers.iter_mut().enumerate() {
        if !router.is_initial(index) {
            continue;
        }
        let (step, number) = router.place_of(index);
        let made = Worker::new(&plan.steps[step].build, context_of(step, number));
        inputs.push_back(match made {
            Ok(made) => {
                outlet.note(&router.step_name(index), number, made.expectation());
                *worker = Some(made);
                Input::Ready { worker: index }
            }
            Err(failure) => Input::InitFailed { worker: index, failure },
        });
    }
    while !router.is_over() {
        let now = start.elapsed();
        inputs.extend(commands.take().filter_map(|command| input_of(command, &mut router, now)));
        for input in inputs.drain(..) {
            router.handle(outlet.screen(input, &router), now);
        }
        for action in router.settle(now) {
            let begins_work = matches!(action, Action::Grant { .. } | Action::Work { .. });
            if begins_work && cancelled.load(Ordering::Relaxed) {
                continue;
            }
            let worker = action.worker();
            inputs.extend(act(action, &mut workers, &mut outlet));
            if let Some(worker) = worker.filter(|_| note::count() > 0) {
                let number = router.place_of(worker).1;
                outlet.note(&router.step_name(worker), number, note::take());
            }
            let now = start.elapsed();
            outlet.progress(now, || router.snapshot(now));
        }
        if inputs.is_empty() && !router.is_over() {
            let wake = router
                .next_wake()
                .map_or(outlet.next_progress(), |at| at.min(outlet.next_progress()));
            let timeout = wake.saturating_sub(start.elapsed());
            let command = commands.wait(Some(timeout));
            let now = start.elapsed();
            inputs.extend(command.and_then(|command| input_of(command, &mut router, now)));
            outlet.progress(now, || router.snapshot(now));
        }
    }
    (router, outlet, start.elapsed())
}

fn input_of(command: Command, router: &mut Router, now: Duration) -> Option<Input> {
    match command {
        Command::Steer(steer, answer) => {
            // Nobody may wait for the answer any longer.
            let _ = answer.send(router.steer(steer, now));
            None
        }
        Command::Stop(stop) => Some(Input::Stop(stop)),
        Command::Halt(reason) => Some(Input::Halt { reason }),
        Command::Lost { place, loss } => Some(Input::Lost { worker: place.worker, loss }),
        // Only worker processes have something to say this way.
        Command::Tell(_) | Command::Late { .. } => None,
    }
}

fn act(action: Action, workers: &mut [Option<Worker>], outlet: &mut Outlet) -> Option<Input> {
    match action {
        Action::Grant { worker, count } => {
            let (production, outputs) = workers[worker].as_mut()?.produce(count, Duration::MAX);
            Some(Input::Produced { worker, production, outputs })
        }
        Action::Work { worker, parcels } => {
            let mut done = None;
            let report = |completions, outputs| {
                done = Some(Input::Done { worker, completions, outputs });
                Ok::<(), std::convert::Infallible>(())
            };
            // The router gives one message at a time here, so there is one report.
            let Ok(()) = workers[worker].as_mut()?.work(parcels, |_| true, report);
            done
        }
        Action::Finish { worker } => {
            let (result, outputs) = workers[worker].as_mut()?.finish();
            Some(Input::Finished { worker, result, outputs })
        }
        Action::Stop { worker } => {
            workers[worker] = None;
            None
        }
        Action::Spawn { worker } => {
            let loss = Loss::unexplained("the sequential mode cannot replace a worker");
            Some(Input::Lost { worker, loss })
        }
        Action::Quarantine(casualty) => {
            outlet.quarantine(*casualty);
            None
        }
        Action::Tell(event) => {
            outlet.tell(event);
            None
        }
        Action::Record(record) => {
            outlet.record(record);
            None
        }
        Action::Spans(spans) => {
            outlet.trace(spans);
            None
        }
    }
}
