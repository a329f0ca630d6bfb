//! Every worker on one thread, one message after the other: the same router
//! and the same stages without concurrency, as the reference for both.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::hub::{Command, Commands, input_of as input_of_report};
use crate::plan::Plan;
use crate::protocol::report::Loss;
use crate::protocol::wire::FromWorker;
use crate::router::{Action, Input, Router};
use crate::sinks::RunSinks;
use crate::stage::Context;
use crate::worker::executor::Worker;
use crate::worker::outbox::{Outbox, Sink};

/// Runs the plan on the calling thread. `context_of` says where a worker stands.
pub(crate) fn run(
    plan: &Plan,
    mut router: Router,
    mut sinks: RunSinks,
    commands: &Commands,
    cancelled: &AtomicBool,
    context_of: &dyn Fn(usize, usize) -> Context,
) -> (Router, RunSinks, Duration) {
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
                sinks.note(&router.step_name(index), number, made.first_notes());
                *worker = Some(made);
                Input::Ready { worker: index }
            }
            Err(failure) => Input::InitFailed { worker: index, failure },
        });
    }
    let mut grants = VecDeque::new();
    let desk = Outbox::new(Reports::default());
    while !router.is_over() {
        let now = start.elapsed();
        inputs.extend(commands.take().filter_map(|command| input_of(command, &mut router, now)));
        for input in inputs.drain(..) {
            router.handle(sinks.skip_completed(input, &router), now);
        }
        let actions = router.settle(now);
        let mut carry_out = |action, inputs: &mut VecDeque<Input>| {
            // Nothing is begun any more when the run is stopped at once.
            if !begins_work(&action) || !cancelled.load(Ordering::Relaxed) {
                carry_out(action, &mut workers, &mut sinks, &router, &desk, inputs);
            }
            let now = start.elapsed();
            sinks.progress(now, || router.snapshot(now));
        };
        for action in actions {
            match action {
                Action::Grant { .. } => grants.push_back(action),
                action => carry_out(action, &mut inputs),
            }
        }
        // A producer is asked once all that was made is done with: it may wait for that.
        if inputs.is_empty()
            && let Some(grant) = grants.pop_front()
        {
            carry_out(grant, &mut inputs);
        }
        if inputs.is_empty() && !router.is_over() {
            let wake = router
                .next_wake()
                .map_or(sinks.next_progress(), |at| at.min(sinks.next_progress()));
            let timeout = wake.saturating_sub(start.elapsed());
            let command = commands.wait(Some(timeout));
            let now = start.elapsed();
            inputs.extend(command.and_then(|command| input_of(command, &mut router, now)));
            sinks.progress(now, || router.snapshot(now));
        }
    }
    (router, sinks, start.elapsed())
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

fn begins_work(action: &Action) -> bool {
    matches!(action, Action::Grant { .. } | Action::Work { .. })
}

/// What workers have to report on their one thread.
#[derive(Default)]
struct Reports(Vec<FromWorker>);

impl Sink for Reports {
    type Error = Infallible;

    fn send(&mut self, report: FromWorker) -> Result<(), Infallible> {
        self.0.push(report);
        Ok(())
    }
}

/// Carries it out, and adds what follows from it to `inputs`.
fn carry_out(
    action: Action,
    workers: &mut [Option<Worker>],
    sinks: &mut RunSinks,
    router: &Router,
    desk: &Outbox<Reports>,
    inputs: &mut VecDeque<Input>,
) {
    let index = action.worker();
    let at = index.and_then(|index| workers.get_mut(index)).and_then(Option::as_mut);
    let Ok(()) = match (action, at) {
        (Action::Grant { count, .. }, Some(worker)) => worker.produce(count, Duration::MAX, desk),
        (Action::Work { batches, .. }, Some(worker)) => worker.work(batches, desk, |_| true, || ()),
        (Action::Finish { .. }, Some(worker)) => worker.finish(desk),
        (Action::Stop { worker }, _) => {
            workers[worker] = None;
            Ok(())
        }
        (Action::Spawn { worker }, _) => {
            let loss = Loss::unexplained("the sequential mode cannot replace a worker");
            inputs.push_back(Input::Lost { worker, loss });
            Ok(())
        }
        (Action::Quarantine(failed_input), _) => {
            sinks.quarantine(*failed_input);
            Ok(())
        }
        (Action::Tell(event), _) => {
            sinks.tell(event);
            Ok(())
        }
        (Action::Record(record), _) => {
            sinks.record(record);
            Ok(())
        }
        (Action::Spans(spans), _) => {
            sinks.trace(spans);
            Ok(())
        }
        _ => Ok(()),
    };
    let Some(index) = index else { return };
    desk.sink(|Reports(reports)| {
        for report in reports.drain(..) {
            match report {
                FromWorker::Notes(notes) => {
                    let number = router.place_of(index).1;
                    sinks.note(&router.step_name(index), number, notes);
                }
                report => inputs.push_back(input_of_report(index, report)),
            }
        }
    });
}
