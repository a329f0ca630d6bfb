//! Starts the workers of a run, each on a thread or in a process.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::ahead::Interpreters;
use crate::base::ids::{FIRST, StepId, WorkerId};
use crate::plan::{Plan, Python, Route, StepOptions};
use crate::protocol::report::Loss;
use crate::python::BundledPackage;
use crate::stage::Context;
use crate::stage::registry::Kind;
use crate::transport::feed::FeedPlace;
use crate::transport::zmq::ZmqContext;
use crate::worker::process::InPython;
use crate::worker::reexec::{INTERPRETER, MAIN};
use crate::worker::supervisor::{Launch, Limits, NewWorker, ProcessEnd, Supervisor};
use crate::worker::{ReportWorker, WorkerEvent, process, thread};

/// Starts the workers of one run.
pub(crate) struct Launcher<'r> {
    pub(crate) plan: &'r Plan,
    pub(crate) sockets: &'r ZmqContext,
    pub(crate) cancelled: &'r Arc<AtomicBool>,
    pub(crate) report: ReportWorker,
    /// Every worker's thread holds a clone; the channel closes with the last.
    pub(crate) alive: mpsc::Sender<()>,
    pub(crate) supervisor: Option<Supervisor>,
    /// The run's private directory, if it has worker processes.
    pub(crate) private: Option<&'r Path>,
    /// Present for steps in Python.
    pub(crate) bundled: Option<&'r BundledPackage>,
    pub(crate) interpreters: Option<Interpreters>,
    /// Present if this program is the feed.
    pub(crate) feed: Option<FeedPlace>,
    pub(crate) threads: Vec<JoinHandle<()>>,
}

impl Launcher<'_> {
    /// Starts the worker of a step with this number in it. Returns the program's end of a
    /// process; reports a worker that cannot be started as lost.
    pub(crate) fn start(
        &mut self,
        worker: WorkerId,
        (step, number): (StepId, usize),
        context: Context,
    ) -> Option<ProcessEnd> {
        let step = step.index();
        if let (true, Some(feed)) = (self.plan.steps[step].feed, &self.feed) {
            feed.connect(worker);
            return None;
        }
        let started = match self.private {
            Some(directory) if self.plan.steps[step].is_open => {
                self.request(worker, step, context, directory)
            }
            Some(directory) if self.plan.steps[step].is_process(number) => {
                self.start_process(worker, step, context, directory)
            }
            _ => self.start_thread(worker, step, context).map(|()| None),
        };
        started.unwrap_or_else(|error| {
            let loss = Loss::unexplained(format!("it could not be started: {error}"));
            (self.report)(WorkerEvent::Lost { worker, loss });
            None
        })
    }

    fn start_process(
        &mut self,
        worker: WorkerId,
        index: usize,
        context: Context,
        directory: &Path,
    ) -> io::Result<Option<ProcessEnd>> {
        let number = context.worker();
        let mut launch = Launch::of_this_program(context.step(), number, directory);
        let step = &self.plan.steps[index];
        if let Some(python) = &step.python {
            self.launch_in_python(python, &mut launch);
        }
        if let (Some(python), Some(ahead)) = (&step.python, &mut self.interpreters) {
            let is_initial = step.is_initial(number) && worker.epoch == FIRST;
            launch.origin = ahead.origin(python, is_initial);
        }
        let process = self.new_process(worker, index, context, directory)?;
        let supervisor = self.supervisor.as_ref();
        supervisor.map(|supervisor| supervisor.spawn(process, launch)).transpose()
    }

    /// Asks the caller for the worker's process.
    fn request(
        &mut self,
        worker: WorkerId,
        index: usize,
        context: Context,
        directory: &Path,
    ) -> io::Result<Option<ProcessEnd>> {
        let feeds = self.plan.steps[index].kind == Kind::Producer;
        let process = self.new_process(worker, index, context, directory)?;
        let supervisor = self.supervisor.as_ref();
        supervisor.map(|supervisor| supervisor.request(process, feeds)).transpose()
    }

    fn new_process(
        &self,
        worker: WorkerId,
        index: usize,
        context: Context,
        directory: &Path,
    ) -> io::Result<NewWorker> {
        let step = &self.plan.steps[index];
        let (name, number) = (context.step().to_owned(), context.worker());
        let assignment = process::Assignment {
            python: step.is_foreign().then(|| self.foreign(index)),
            place: worker,
            context,
            class: step.class.clone(),
            params: step.params.clone(),
            directory: directory.to_owned(),
            memory_limit: *step.options.memory_limit,
        };
        let StepOptions { timeout, memory_limit, grace, .. } = &step.options;
        let (timeout, memory, grace) = (**timeout, **memory_limit, **grace);
        let limits =
            Limits { timeout, memory, grace, sets_deadlines: step.is_open || step.limits_tasks };
        let assignment = serde_json::to_vec(&assignment)?;
        Ok(NewWorker { id: worker, step: name, number, assignment, limits })
    }

    /// Lets the process become the interpreter.
    fn launch_in_python(&self, python: &Python, launch: &mut Launch) {
        if let Some(bundled) = self.bundled {
            launch.environment.push((INTERPRETER, Some(python.interpreter.clone().into())));
            launch.environment.push((MAIN, Some(bundled.main().into())));
            launch.needs_reaper = true;
            launch.who = "its interpreter".to_owned();
            launch.advice = "";
        }
    }

    /// What a worker in another language needs to know besides.
    fn foreign(&self, index: usize) -> InPython {
        let step = &self.plan.steps[index];
        let python = step.python.clone().unwrap_or_default();
        let to_python = |route: &Route| self.plan.steps[route.to].takes_objects;
        InPython {
            module: python.module,
            role: step.kind,
            paths: python.paths,
            configuration: python.configuration,
            window: step.acknowledges.then(|| (*step.options.window, *step.options.window_bytes)),
            to_python: match step.options.results.then(|| self.plan.results_go_to()).flatten() {
                Some(producer) => vec![producer.takes_objects],
                None => step.routes.iter().map(to_python).collect(),
            },
        }
    }

    fn start_thread(&mut self, worker: WorkerId, index: usize, context: Context) -> io::Result<()> {
        let assignment = thread::Assignment {
            sockets: self.sockets.clone(),
            worker,
            build: self.plan.steps[index].build.clone(),
            context,
            shares: self.plan.leads_to_processes(index),
            cancelled: Arc::clone(self.cancelled),
            report: Arc::clone(&self.report),
            alive: self.alive.clone(),
        };
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread::spawn(assignment)?);
        Ok(())
    }
}
