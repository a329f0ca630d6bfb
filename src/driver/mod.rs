//! The router's loop: receives the workers' reports, lets the router decide, and carries out its
//! actions.
//!
//! [`run`] is the loop. A [`Driver`] says where the workers are: behind a transport (`hub`), or
//! on the loop's own thread (`sequential`). `commands` come from other threads.

pub(crate) mod commands;
pub(crate) mod hub;
mod patience;
mod progress;
pub(crate) mod sequential;

use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::base::ids::WorkerId;
use crate::event::Event;
use crate::protocol::wire::{FromWorker, VERSION};
use crate::router::{Action, Cancelled, ControlRequest, Input, Router};
use crate::sinks::{RunEnd, SinkReport, Sinks};
use crate::worker::WorkerEvent;
use commands::{Command, ControlError};
use progress::Progress;
pub(crate) use progress::Totals;

/// The most workers that an operator can add to a step at once; more are refused by the router,
/// whatever the system has room for.
const MOST_ADDED: usize = 256;

/// Carries out the router's actions on the workers.
pub(crate) trait Driver {
    /// Why the workers can no longer be reached.
    type Error;

    /// Passes the workers' reports to the run; never blocks.
    ///
    /// # Errors
    /// If the workers can no longer be reached; the run cannot go on then.
    fn receive(&mut self, run: &mut Run) -> Result<(), Self::Error>;

    /// Carries out an action that concerns a worker. [`Action::Spawn`] starts a worker that does
    /// not exist yet.
    ///
    /// # Errors
    /// As [`Driver::receive`].
    fn act(&mut self, action: Action, run: &mut Run) -> Result<(), Self::Error>;

    /// Waits for a report or a command, at most for [`Run::timeout`].
    ///
    /// # Errors
    /// As [`Driver::receive`].
    fn wait(&mut self, run: &mut Run) -> Result<(), Self::Error>;

    /// Tests whether the system has room for more workers.
    ///
    /// # Errors
    /// What the system refuses.
    fn make_room(&self, workers: usize) -> io::Result<()>;
}

/// A run that is under way: the router, and the sinks that take its output.
pub(crate) struct Run {
    pub(crate) router: Router,
    sinks: Sinks,
    commands: mpsc::Receiver<Command>,
    progress: Progress,
    start: Instant,
    /// Time since the run's start, read once for many reports.
    now: Duration,
}

/// A run that has ended.
pub(crate) struct EndedRun {
    pub(crate) router: Router,
    pub(crate) sinks: SinkReport,
    pub(crate) totals: Totals,
}

/// Starts the workers and runs until the router says that the run is over. Returns how long
/// that took.
///
/// # Errors
/// If the workers can no longer be reached.
pub(crate) fn run<D: Driver>(run: &mut Run, driver: &mut D) -> Result<Duration, D::Error> {
    for worker in run.router.initial_workers() {
        driver.act(Action::Spawn { worker }, run)?;
    }
    while !run.router.is_over() {
        run.read_clock();
        driver.receive(run)?;
        // After the reports: those that a worker sent before it died still count.
        run.take_commands(driver);
        let mut actions = run.router.poll(run.now);
        for action in actions.drain(..) {
            run.act(action, driver)?;
        }
        run.router.reuse(actions);
        run.sinks.pass_on_records();
        run.progress();
        if !run.router.is_over() {
            driver.wait(run)?;
        }
    }
    Ok(run.read_clock())
}

impl Run {
    pub(crate) fn new(router: Router, sinks: Sinks, commands: mpsc::Receiver<Command>) -> Self {
        let (progress, start) = (Progress::default(), Instant::now());
        Self { router, sinks, commands, progress, start, now: Duration::ZERO }
    }

    /// Reads the time since the run's start.
    fn read_clock(&mut self) -> Duration {
        self.now = self.start.elapsed();
        self.now
    }

    /// Passes a worker's report to the router.
    fn report(&mut self, worker: WorkerId, report: FromWorker) {
        if let FromWorker::Notes(notes) = report {
            let (step, number) = (self.router.step_name(worker), self.router.position(worker).1);
            let Self { sinks, progress, .. } = self;
            notes.into_iter().for_each(|note| progress.note(sinks, &step, number, note));
        } else {
            self.handle(input_of(worker, report));
        }
    }

    fn handle(&mut self, input: Input) {
        self.progress.stir();
        let input = self.sinks.skip_completed(input, &mut self.router);
        self.router.handle(input, self.now);
    }

    fn take_commands(&mut self, driver: &mut impl Driver) {
        while let Ok(command) = self.commands.try_recv() {
            self.progress.stir();
            let now = self.now;
            match command {
                Command::Stop(stop) => self.router.handle(Input::Stop(stop), now),
                Command::Halt(reason) => self.router.handle(Input::Halt { reason }, now),
                Command::Abandon(reason) => self.router.handle(Input::Abandon { reason }, now),
                Command::Worker(WorkerEvent::Lost { worker, loss }) => {
                    self.router.handle(Input::Lost { worker, loss }, now);
                }
                Command::Worker(event) => self.observe(event),
                Command::Control(request, answer) => {
                    // The requester may no longer wait for the answer.
                    let _ = answer.send(self.control(request, driver));
                }
            }
        }
    }

    /// Handles a report about a worker, except its end.
    fn observe(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::SentLate { worker } => self.router.sent_late(worker),
            WorkerEvent::Said(event) => self.sinks.event(event),
            WorkerEvent::Lost { .. } => {}
        }
    }

    fn control(
        &mut self,
        request: ControlRequest,
        driver: &impl Driver,
    ) -> Result<Option<Cancelled>, ControlError> {
        if let ControlRequest::SetWorkers { step, workers } = &request {
            let added = workers.saturating_sub(self.router.worker_count(*step)).min(MOST_ADDED);
            driver.make_room(added).map_err(ControlError::NoRoom)?;
        }
        Ok(self.router.control(request, self.now)?)
    }

    fn act<D: Driver>(&mut self, action: Action, driver: &mut D) -> Result<(), D::Error> {
        match action {
            Action::Quarantine(failed_input) => self.sinks.failed_input(*failed_input),
            Action::Publish(event) => self.sinks.event(event),
            Action::Record(record) => self.sinks.record(record),
            Action::Spans(spans) => self.sinks.spans(spans),
            action => driver.act(action, self)?,
        }
        Ok(())
    }

    /// Publishes a progress event if one is due at the last reading of the clock.
    fn progress(&mut self) {
        if self.progress.is_due(self.now) {
            self.router.note_time(self.now);
            let mut snapshot = self.router.snapshot(self.now);
            self.progress.publish(&mut snapshot);
            self.sinks.event(Event::Progress(snapshot));
        }
    }

    /// The time until the next retry or progress event.
    fn timeout(&mut self) -> Duration {
        let progress = self.progress.next();
        let wake = self.router.next_wake().map_or(progress, |wake| wake.min(progress));
        wake.saturating_sub(self.read_clock())
    }

    /// Takes in the last events of the workers, and waits for the sinks. Call it once the workers
    /// have ended.
    pub(crate) fn finish(mut self) -> EndedRun {
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Worker(event) = command {
                self.observe(event);
            }
        }
        let now = self.read_clock();
        for action in self.router.poll(now) {
            if let Action::Publish(event) = action {
                self.sinks.event(event);
            }
        }
        let Self { router, sinks, progress, .. } = self;
        let end = RunEnd {
            verdict: router.verdict().name(),
            is_complete: router.has_done_all(),
            requeued: router.requeued(),
        };
        let sinks = sinks.finish(&end);
        EndedRun { router, sinks, totals: progress.into_totals() }
    }
}

/// Turns a worker's report into an input of the router.
pub(crate) fn input_of(worker: WorkerId, report: FromWorker) -> Input {
    match report {
        FromWorker::Ready { version: VERSION } => Input::Ready { worker },
        FromWorker::Ready { version } => Input::Broken {
            worker,
            reason: format!("it speaks version {version} of the protocol, expected {VERSION}"),
        },
        FromWorker::InitFailed(failure) => Input::InitFailed { worker, failure },
        FromWorker::Done { completions, outputs } => Input::Done { worker, completions, outputs },
        FromWorker::Returned { first, count } => Input::Returned { worker, first, count },
        FromWorker::Produced { production, outputs } => {
            Input::Produced { worker, production, outputs }
        }
        FromWorker::Released { bytes } => Input::Released { worker, bytes },
        FromWorker::Cancel { number, running } => Input::Cancelled { worker, number, running },
        FromWorker::Finished { result, outputs } => Input::Finished { worker, result, outputs },
        FromWorker::Aside(_) => {
            Input::Broken { worker, reason: "it spoke aside in a run that has no feed".to_owned() }
        }
        FromWorker::Notes(_) => {
            Input::Broken { worker, reason: "it sent notes where a report was expected".to_owned() }
        }
    }
}
