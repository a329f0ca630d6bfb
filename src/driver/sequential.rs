//! Every worker on the loop's own thread, one message after the other: the same router and the
//! same stages without concurrency, as the reference for the hub.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Driver, Run, input_of};
use crate::base::ids::{Slot, StepId, WorkerId};
use crate::plan::Plan;
use crate::protocol::report::Loss;
use crate::protocol::wire::FromWorker;
use crate::router::{Action, Input};
use crate::stage::Context;
use crate::transport::ready;
use crate::transport::wakeable::Wakeup;
use crate::worker::executor::Worker;
use crate::worker::outbox::{Outbox, ReportSink};

/// The driver of a run on one thread.
pub(crate) struct Sequential<'r> {
    plan: &'r Plan,
    cancelled: &'r AtomicBool,
    /// Makes the context of a step's worker, given its number.
    context_of: &'r dyn Fn(StepId, usize) -> Context,
    wakeup: Wakeup,
    workers: Vec<Option<Worker>>,
    /// The workers that have been started; they cannot be started again.
    started: BTreeSet<Slot>,
    /// Grants that wait until everything produced so far is done: a producer may wait for that.
    grants: VecDeque<Action>,
    /// Reports that the router has not seen yet.
    inputs: VecDeque<Input>,
    outbox: Outbox<Reports>,
}

/// What the present call has reported.
#[derive(Default)]
struct Reports(Vec<FromWorker>);

impl ReportSink for Reports {
    type Error = Infallible;

    fn send(&mut self, report: FromWorker) -> Result<(), Infallible> {
        self.0.push(report);
        Ok(())
    }
}

impl<'r> Sequential<'r> {
    /// `wakeup` is that of the run's commands. Once `cancelled` is set, no worker begins anything
    /// new.
    pub(crate) fn new(
        plan: &'r Plan,
        cancelled: &'r AtomicBool,
        context_of: &'r dyn Fn(StepId, usize) -> Context,
        wakeup: Wakeup,
    ) -> Self {
        Self {
            plan,
            cancelled,
            context_of,
            wakeup,
            workers: Vec::new(),
            started: BTreeSet::new(),
            grants: VecDeque::new(),
            inputs: VecDeque::new(),
            outbox: Outbox::new(Reports::default()),
        }
    }

    fn start(&mut self, id: WorkerId, run: &mut Run) {
        let (step, number) = run.router.position(id);
        let slot = id.slot.index();
        let report = match Worker::new(
            &self.plan.steps[step.index()].build,
            (self.context_of)(step, number),
        ) {
            Ok(worker) => {
                run.report(id, FromWorker::Notes(worker.first_notes()));
                self.workers.resize_with(self.workers.len().max(slot + 1), || None);
                self.workers[slot] = Some(worker);
                ready()
            }
            Err(failure) => FromWorker::InitFailed(failure),
        };
        self.inputs.push_back(input_of(id, report));
    }

    /// Lets a worker carry out the action, and collects its reports.
    fn work(&mut self, id: WorkerId, action: Action, run: &mut Run) {
        let worker = self.workers.get_mut(id.slot.index()).and_then(Option::as_mut);
        let Some(worker) = worker else { return };
        let Ok(()) = match action {
            Action::Grant { count, .. } => worker.produce(count, Duration::MAX, &self.outbox),
            Action::Work { batches, .. } => worker.work(batches, &self.outbox, |_, _| true, || ()),
            Action::Acknowledge { items, .. } => worker.acknowledge(items, &self.outbox),
            _ => worker.finish(&self.outbox),
        };
        let Self { outbox, inputs, .. } = self;
        outbox.sink(|Reports(reports)| {
            for report in reports.drain(..) {
                match report {
                    FromWorker::Notes(_) => run.report(id, report),
                    report => inputs.push_back(input_of(id, report)),
                }
            }
        });
        run.read_clock();
        run.progress();
    }

    /// Lets a worker begin, unless the run was stopped at once.
    fn begin(&mut self, id: WorkerId, action: Action, run: &mut Run) {
        if !self.cancelled.load(Ordering::Relaxed) {
            self.work(id, action, run);
        }
    }
}

impl Driver for Sequential<'_> {
    type Error = Infallible;

    fn receive(&mut self, run: &mut Run) -> Result<(), Infallible> {
        self.inputs.drain(..).for_each(|input| run.handle(input));
        Ok(())
    }

    fn act(&mut self, action: Action, run: &mut Run) -> Result<(), Infallible> {
        match action {
            Action::Grant { .. } => self.grants.push_back(action),
            Action::Work { worker, .. } => self.begin(worker, action, run),
            Action::Finish { worker } | Action::Acknowledge { worker, .. } => {
                self.work(worker, action, run);
            }
            Action::Stop { worker } => {
                if let Some(worker) = self.workers.get_mut(worker.slot.index()) {
                    *worker = None;
                }
            }
            Action::Spawn { worker } if self.started.insert(worker.slot) => self.start(worker, run),
            Action::Spawn { worker } => {
                let loss = Loss::unexplained("the sequential mode cannot replace a worker");
                self.inputs.push_back(Input::Lost { worker, loss });
            }
            // Nothing is in hand where something could be cancelled.
            Action::NotCancelled { .. } | Action::End { .. } => {}
            // These concern no worker.
            Action::Quarantine(_) | Action::Publish(_) | Action::Record(_) | Action::Spans(_) => {}
        }
        Ok(())
    }

    fn wait(&mut self, run: &mut Run) -> Result<(), Infallible> {
        if self.inputs.is_empty()
            && let Some(grant) = self.grants.pop_front()
            && let Some(worker) = grant.worker()
        {
            self.begin(worker, grant, run);
        }
        if self.inputs.is_empty() {
            self.wakeup.wait(run.timeout());
        }
        Ok(())
    }

    fn make_room(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
}
