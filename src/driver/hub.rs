//! Workers behind a transport, on threads or in processes.

use std::io;

use bytes::Bytes;

use super::patience::Patience;
use super::{Driver, Run};
use crate::base::ids::{MessageId, StepId, WorkerId};
use crate::protocol::lifeline::Lifeline;
use crate::protocol::wire::{FromWorker, Sharing, ToWorker};
use crate::router::{Action, Input};
use crate::transport::descriptors::{OF_A_PROCESS, OF_A_START, make_room};
use crate::transport::{Delivery, Transport, TransportError};
use crate::worker::supervisor::{Alert, ProcessEnd};

/// The most reports received before the router decides again, so that a flood of reports does not
/// keep idle workers waiting.
const MOST_AT_ONCE: usize = 256;

/// Starts and ends workers.
pub(crate) trait Workers {
    /// Starts a worker, given its step and its number in the step. Returns the program's end of
    /// a process. A worker that cannot be started is reported as lost.
    fn start(&mut self, worker: WorkerId, of: (StepId, usize)) -> Option<ProcessEnd>;

    /// Ends a worker that is a process when it is at this message.
    fn end(&mut self, worker: WorkerId, message: MessageId);
}

/// Workers that cannot be ended.
#[cfg(test)]
impl<F: FnMut(WorkerId, (StepId, usize)) -> Option<ProcessEnd>> Workers for F {
    fn start(&mut self, worker: WorkerId, of: (StepId, usize)) -> Option<ProcessEnd> {
        self(worker, of)
    }

    fn end(&mut self, _: WorkerId, _: MessageId) {}
}

/// The driver of a run whose workers are behind a transport.
///
pub(crate) struct Hub<T, W> {
    transport: T,
    workers: W,
    /// By slot; present if the slot's worker is a process.
    processes: Vec<Option<ProcessEnd>>,
    patience: Patience,
}

impl<T, W> Hub<T, W>
where
    T: Transport,
    W: Workers,
{
    pub(crate) fn new(transport: T, workers: W) -> Self {
        Self { transport, workers, processes: Vec::new(), patience: Patience::new() }
    }

    /// The transport, which must stay open until the workers have ended.
    pub(crate) fn into_transport(self) -> T {
        self.transport
    }

    fn lifeline(&self, worker: WorkerId) -> Option<&Lifeline> {
        self.process(worker).map(|process| &process.lifeline)
    }

    /// Lets the supervisor look at a worker that has limits.
    fn alert(&self, worker: WorkerId) {
        let alert = self.process(worker).and_then(|process| process.alert.as_ref());
        alert.into_iter().for_each(Alert::work_is_given);
    }

    fn process(&self, worker: WorkerId) -> Option<&ProcessEnd> {
        self.processes.get(worker.slot.index())?.as_ref()
    }

    fn spawn(&mut self, worker: WorkerId, run: &Run) {
        let slot = worker.slot.index();
        if slot >= self.processes.len() {
            self.processes.resize_with(slot + 1, || None);
        }
        self.processes[slot] = self.workers.start(worker, run.router.position(worker));
    }

    /// Passes on at once what a worker has said aside, so that it comes before what the worker
    /// reports later.
    fn tell_feed(&mut self, content: Bytes, run: &Run) -> Result<(), TransportError> {
        match run.router.feed() {
            Some(feed) => self.send(feed, ToWorker::Told(content)),
            None => Ok(()),
        }
    }

    fn send(&mut self, worker: WorkerId, message: ToWorker) -> Result<(), TransportError> {
        let sharing = self.lifeline(worker).map_or(Sharing::No, Sharing::Over);
        let message = message.encode(sharing);
        match self.transport.send(worker, message)? {
            // The router still has what a lost worker had in hand: its end is reported separately.
            Delivery::Sent | Delivery::Gone(_) => Ok(()),
        }
    }
}

impl<T, W> Driver for Hub<T, W>
where
    T: Transport,
    W: Workers,
{
    type Error = TransportError;

    fn receive(&mut self, run: &mut Run) -> Result<(), TransportError> {
        for _ in 0..MOST_AT_ONCE {
            let Some((worker, frames)) = self.transport.recv()? else { break };
            let mut frames = frames.into_iter();
            let head = frames.next();
            // A stale report is not even decoded: its segments are not on this lifeline.
            let (true, Some(head)) = (run.router.is_heard(worker), head) else { continue };
            let lifeline = self.lifeline(worker);
            match FromWorker::decode(head, frames.collect(), lifeline) {
                Ok(FromWorker::Aside(content)) if run.router.feed().is_some() => {
                    self.tell_feed(content, run)?;
                }
                Ok(report) => run.report(worker, report),
                Err(error) => run.handle(Input::Broken { worker, reason: error.to_string() }),
            }
        }
        Ok(())
    }

    fn act(&mut self, action: Action, run: &mut Run) -> Result<(), TransportError> {
        match action {
            Action::Grant { worker, count } => {
                self.alert(worker);
                self.send(worker, ToWorker::Grant { count })
            }
            Action::Work { worker, batches } => {
                self.alert(worker);
                self.send(worker, ToWorker::Work(batches))
            }
            Action::Finish { worker } => self.send(worker, ToWorker::Finish),
            Action::Stop { worker } => self.send(worker, ToWorker::Stop),
            Action::Acknowledge { worker, items } => {
                self.send(worker, ToWorker::Acknowledged(items))
            }
            Action::NotCancelled { worker, number } => {
                self.send(worker, ToWorker::NotCancelled { number })
            }
            Action::End { worker, message } => {
                self.workers.end(worker, message);
                Ok(())
            }
            Action::Spawn { worker } => {
                self.spawn(worker, run);
                Ok(())
            }
            // These concern no worker.
            Action::Quarantine(_) | Action::Publish(_) | Action::Record(_) | Action::Spans(_) => {
                Ok(())
            }
        }
    }

    fn wait(&mut self, run: &mut Run) -> Result<(), TransportError> {
        let timeout = run.timeout();
        let began = run.now;
        let patience = self.patience.of(run.router.at_work(), began);
        self.transport.wait(timeout, patience)?;
        self.patience.waited(run.read_clock().saturating_sub(began));
        Ok(())
    }

    fn make_room(&self, workers: usize) -> io::Result<()> {
        make_room(workers * OF_A_PROCESS + OF_A_START, workers)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, mpsc};
    use std::thread;

    use std::time::Duration;

    use super::*;
    use crate::driver::commands::{Command, commands};
    use crate::driver::{EndedRun, run};
    use crate::pipeline::Pipeline;
    use crate::plan::Plan;
    use crate::protocol::report::{Completion, Loss, Outcome};
    use crate::router::{Batching, Router, Timing};
    use crate::sinks::Sinks;
    use crate::stage::Context;
    use crate::stages::{Discard, Integers, Square};
    use crate::status::stream::Stream;
    use crate::transport::local::{Connector, Local, LocalLink};
    use crate::transport::{Link, ready};
    use crate::worker::WorkerEvent;
    use crate::worker::serve::{Host, serve};

    const MESSAGES: u64 = 1000;

    fn plan() -> Arc<Plan> {
        let pipeline = Pipeline::builder()
            .producer("NUMBERS", || Integers::new(1, MESSAGES as i64))
            .stage("SQUARE", Square::default)
            .consumer("END", Discard::default)
            .build();
        Arc::new(pipeline.unwrap().plan)
    }

    fn work(plan: &Plan, link: LocalLink, (step, worker): (StepId, usize)) {
        let step = step.index();
        let context = Context {
            run: "r".into(),
            step: plan.steps[step].name.clone(),
            worker,
            next_steps: plan.next_steps(step),
            codec: plan.steps[step].codec,
            next_codecs: plan.next_codecs(step),
            pipeline: String::new(),
            written: Vec::new(),
            results: None,
            limits_tasks: false,
            priority: crate::stage::Priority::Normal,
            private: None,
        };
        let host = Host::Thread(Arc::new(AtomicBool::new(false)));
        serve(link, &plan.steps[step].build, context, &host).unwrap();
    }

    /// Runs the plan without a socket. `start` starts the worker of a step.
    fn run_locally(
        plan: &Plan,
        mut start: impl FnMut(WorkerId, (StepId, usize), &Connector, &dyn Fn(WorkerEvent)),
    ) -> EndedRun {
        let (commander, commands) = commands().unwrap();
        let (transport, connector) = Local::new(commands.wakeup);
        let router = Router::new(plan, Batching::Adaptive, Timing::default());
        let mut running = Run::new(router, Sinks::new(Stream::new()), commands.values);
        let report = |event| commander.send(Command::Worker(event));
        let mut hub = Hub::new(transport, |worker, of| {
            start(worker, of, &connector, &report);
            None
        });
        run(&mut running, &mut hub).unwrap();
        drop(hub.into_transport());
        running.finish()
    }

    fn done(ended: &EndedRun) -> BTreeMap<String, u64> {
        let steps = ended.router.snapshot(Duration::ZERO).steps;
        steps.into_iter().map(|step| (step.name.to_string(), step.counts.done)).collect()
    }

    #[test]
    fn workers_run_a_plan_without_a_socket() {
        let plan = plan();
        let mut threads = Vec::new();
        let ended = run_locally(&plan, |worker, of, connector, _| {
            let (plan, link) = (Arc::clone(&plan), connector.link(worker));
            threads.push(thread::spawn(move || work(&plan, link, of)));
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(ended.router.has_done_all());
        assert_eq!((done(&ended)["SQUARE"], done(&ended)["END"]), (MESSAGES, MESSAGES));
    }

    #[test]
    fn what_a_lost_worker_has_sent_is_never_its_successors() {
        let plan = plan();
        let mut threads = Vec::new();
        let (replaced, is_replaced) = mpsc::channel();
        let mut first = Some(is_replaced);
        let ended = run_locally(&plan, |worker, of, connector, report| {
            let (plan, mut link) = (Arc::clone(&plan), connector.link(worker));
            let doomed = if of.0 == StepId(1) { first.take() } else { None };
            let Some(is_replaced) = doomed else {
                if of.0 == StepId(1) {
                    replaced.send(()).unwrap();
                }
                threads.push(thread::spawn(move || work(&plan, link, of)));
                return;
            };
            link.send(ready()).unwrap();
            report(WorkerEvent::Lost { worker, loss: Loss::unexplained("it is gone") });
            threads.push(thread::spawn(move || {
                is_replaced.recv().unwrap();
                let (outcome, busy) = (Outcome::Done, Duration::ZERO);
                let all =
                    Completion { first: MessageId(1), count: 1000, outcome, silent: 1000, busy };
                let late = FromWorker::Done { completions: vec![all], outputs: Vec::new() };
                // The run may be over.
                let _ = link.send(late);
            }));
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(ended.router.has_done_all());
        assert_eq!((done(&ended)["SQUARE"], done(&ended)["END"]), (MESSAGES, MESSAGES));
    }
}
