//! Where the workers of a run come from.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use crate::driver::hub::{Command, Commander};
use crate::plan::{Plan, Python, Route};
use crate::protocol::lifeline::Lifeline;
use crate::protocol::report::Loss;
use crate::python::BundledPackage;
use crate::stage::Context;
use crate::transport::zmq::Inproc;
use crate::transport::zmq::link::Place;
use crate::worker::process::InPython;
use crate::worker::supervisor::{Interpreter, Limits, Supervisor};
use crate::worker::{process, thread};

/// Starts the workers of a run, each on a thread or in a process.
pub(crate) struct Starter<'r> {
    pub(crate) plan: &'r Plan,
    pub(crate) inproc: &'r Inproc,
    pub(crate) cancelled: &'r Arc<AtomicBool>,
    pub(crate) commander: &'r Commander,
    pub(crate) alive: mpsc::Sender<()>,
    pub(crate) supervisor: Option<Supervisor>,
    pub(crate) private: Option<&'r Path>,
    /// For workers in Python.
    pub(crate) carried: Option<&'r BundledPackage>,
    pub(crate) threads: Vec<JoinHandle<()>>,
}

impl Starter<'_> {
    pub(crate) fn start(
        &mut self,
        place: Place,
        (index, number): (usize, usize),
        context_of: &dyn Fn(usize, usize) -> Context,
    ) -> Option<Lifeline> {
        let context = context_of(index, number);
        let started = match (&self.supervisor, self.private) {
            (Some(supervisor), Some(directory)) if self.plan.steps[index].is_process(number) => {
                let step = &self.plan.steps[index];
                let python = step.python.as_ref().map(|python| self.in_python(index, python));
                let (in_python, interpreter) = python.unzip();
                let post = process::Assignment {
                    python: in_python,
                    place,
                    context,
                    class: step.class.clone(),
                    params: step.params.clone(),
                    directory: directory.to_owned(),
                    memory_limit: step.memory_limit,
                };
                let limits = Limits { timeout: step.timeout, memory: step.memory_limit };
                supervisor.spawn(post, interpreter.flatten(), limits).map(Some)
            }
            _ => self.start_thread(place, index, context).map(|()| None),
        };
        started.unwrap_or_else(|error| {
            let loss = Loss::unexplained(format!("it could not be started: {error}"));
            self.commander.send(Command::Lost { place, loss });
            None
        })
    }

    /// What a worker of the step needs to know, and what it runs on.
    fn in_python(&self, index: usize, python: &Python) -> (InPython, Option<Interpreter>) {
        let step = &self.plan.steps[index];
        let to_python = |route: &Route| self.plan.steps[route.to].takes_objects;
        let post = InPython {
            module: python.module.clone(),
            role: step.kind,
            paths: python.paths.clone(),
            configuration: python.configuration.clone(),
            to_python: step.routes.iter().map(to_python).collect(),
        };
        let program = python.interpreter.clone();
        (post, self.carried.map(|carried| Interpreter { program, main: carried.main() }))
    }

    fn start_thread(&mut self, place: Place, index: usize, context: Context) -> io::Result<()> {
        let post = thread::Post {
            inproc: self.inproc.clone(),
            place,
            build: self.plan.steps[index].build.clone(),
            context,
            shares: self.plan.leads_to_processes(index),
            cancelled: Arc::clone(self.cancelled),
            commander: self.commander.clone(),
            alive: self.alive.clone(),
        };
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread::spawn(post)?);
        Ok(())
    }
}
