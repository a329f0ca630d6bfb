//! Worker processes, seen from the program. One thread starts them, or asks the caller for them,
//! notices at once when one has died, ends those that take too long or too much memory, and ends
//! only after all of them.

mod launch;
mod limits;
mod tether;
mod vigil;
mod worker_process;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::TryRecvError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::reaper::Reaper;
use super::{ReportWorker, WorkerEvent};
use crate::base::failure::Failure;
use crate::base::ids::{MessageId, WorkerId};
use crate::event::Level;
use crate::protocol::control::{Manner, ToCaller};
use crate::protocol::lifeline::Lifeline;
use crate::protocol::report::Loss;
use crate::transport::descriptors::make_room_for_a_process;
use crate::transport::wakeable::{self, Sender, Wakeable, timespec};

pub(crate) use launch::{Launch, Origin};
pub(crate) use limits::Limits;
use tether::Attached;
use vigil::Vigil;
pub(crate) use worker_process::NewWorker;
use worker_process::{WorkerProcess, sent_late};

/// The time between two looks at the workers while one of them has a limit or is ending; a
/// limit is exceeded by no more than this.
const LOOK: Duration = Duration::from_millis(20);
/// The time between two looks otherwise; only signs of life are looked for.
const GLANCE: Duration = Duration::from_secs(1);
/// A run that is done but does not end says after this time what it waits for.
const NOTICE: Duration = Duration::from_secs(3);
/// How long the end of a run waits for workers that only the caller can end: long enough for it to
/// read that it may end them.
const FAREWELL: Duration = Duration::from_secs(2);
/// If the supervisor itself has not looked for this long, the workers were suspended too.
const FROZEN: Duration = Duration::from_secs(5);

/// Starts and ends worker processes, from any thread.
pub(crate) struct Supervisor {
    commands: Sender<SupervisorCommand>,
    dozing: Arc<AtomicBool>,
    thread: JoinHandle<Reaper>,
}

/// Wakes a supervisor that looks at the workers seldom, because none with a limit had work.
pub(crate) struct Alert {
    dozing: Arc<AtomicBool>,
    commands: Sender<SupervisorCommand>,
}

/// The program's end of a worker process: its lifeline, and an alert if it has limits.
pub(crate) struct ProcessEnd {
    pub(crate) lifeline: Lifeline,
    pub(crate) alert: Option<Alert>,
}

impl Alert {
    /// The worker is given work.
    pub(crate) fn work_is_given(&self) {
        if self.dozing.load(Ordering::SeqCst) && self.dozing.swap(false, Ordering::SeqCst) {
            self.commands.send(SupervisorCommand::Wake);
        }
    }
}

/// A frame for the caller, and the files that go with it.
pub(crate) type Outgoing = (ToCaller, Vec<OwnedFd>);

/// Tells the supervisor what the caller says about its workers.
pub(crate) struct Attachments(Sender<SupervisorCommand>);

enum SupervisorCommand {
    Start(Box<Start>),
    /// Asks the caller for a worker.
    Request(Box<Request>),
    /// What the caller says about a worker.
    Said(WorkerId, Word),
    /// A worker with a limit has been given work.
    Wake,
    /// Ends a worker when it is at this message, whose item is cancelled.
    EndAt(WorkerId, MessageId),
    /// No worker is needed any more: those that have not ended after this time are ended.
    End(Duration),
}

struct Start {
    worker: NewWorker,
    launch: Launch,
    ours: Lifeline,
    theirs: Lifeline,
}

struct Request {
    worker: NewWorker,
    feeds: bool,
    ours: Lifeline,
    theirs: Lifeline,
}

/// What the caller says about a worker.
enum Word {
    Started { pid: u32, pidfd: Option<OwnedFd>, manner: Manner },
    NotStarted(Failure),
    Ended(i32),
}

impl Supervisor {
    /// Starts the supervisor of a run with this private `directory`, which may ask the `caller` for
    /// workers.
    ///
    /// # Errors
    /// If the system has no thread or file descriptor left.
    pub(crate) fn start(
        directory: &Path,
        report: ReportWorker,
        caller: Option<Sender<Outgoing>>,
    ) -> io::Result<Self> {
        let (sender, commands) = wakeable::queue()?;
        let supervisor = SupervisorLoop {
            commands,
            directory: directory.to_owned(),
            report,
            caller,
            workers: HashMap::new(),
            reaper: Reaper::default(),
            ending: None,
            has_said: false,
            looked: Instant::now(),
            vigil: Vigil::new(Instant::now()),
        };
        let dozing = supervisor.vigil.dozing();
        let thread = std::thread::Builder::new().name("supervisor".into());
        let thread = thread.spawn(move || supervisor.run())?;
        Ok(Self { commands: sender, dozing, thread })
    }

    /// Starts a worker and returns the program's end of its lifeline. A later failure is reported
    /// as the loss of the worker.
    ///
    /// # Errors
    /// If the process has no file descriptors left.
    pub(crate) fn spawn(&self, worker: NewWorker, launch: Launch) -> io::Result<ProcessEnd> {
        make_room_for_a_process()?;
        let (ours, theirs) = Lifeline::pair()?;
        let end = self.end_of(&worker, &ours)?;
        let start = Box::new(Start { worker, launch, ours, theirs });
        self.commands.send(SupervisorCommand::Start(start));
        Ok(end)
    }

    /// As [`Supervisor::spawn`], for a worker whose process the caller is asked for; `feeds` says
    /// whether it feeds the run.
    ///
    /// # Errors
    /// As [`Supervisor::spawn`].
    pub(crate) fn request(&self, worker: NewWorker, feeds: bool) -> io::Result<ProcessEnd> {
        make_room_for_a_process()?;
        let (ours, theirs) = Lifeline::pair()?;
        let end = self.end_of(&worker, &ours)?;
        let request = Box::new(Request { worker, feeds, ours, theirs });
        self.commands.send(SupervisorCommand::Request(request));
        Ok(end)
    }

    fn end_of(&self, worker: &NewWorker, ours: &Lifeline) -> io::Result<ProcessEnd> {
        let (dozing, commands) = (Arc::clone(&self.dozing), self.commands.clone());
        let alert = worker.limits.need_looks().then_some(Alert { dozing, commands });
        Ok(ProcessEnd { lifeline: ours.try_clone()?, alert })
    }

    /// What tells it what the caller says.
    pub(crate) fn attachments(&self) -> Attachments {
        Attachments(self.commands.clone())
    }

    /// Ends a worker when it is at this message, whose item is cancelled.
    pub(crate) fn end_at(&self, worker: WorkerId, message: MessageId) {
        self.commands.send(SupervisorCommand::EndAt(worker, message));
    }

    /// Waits until every worker has ended; those that have not after `patience` are ended. Returns
    /// the reaper, to be dropped when the private directory is gone.
    pub(crate) fn finish(self, patience: Duration) -> Option<Reaper> {
        self.commands.send(SupervisorCommand::End(patience));
        // If it panicked, its workers end with their lifelines.
        self.thread.join().ok()
    }
}

impl Attachments {
    /// This process is the worker now; `pidfd` tells its end.
    pub(crate) fn started(
        &self,
        worker: WorkerId,
        pid: u32,
        pidfd: Option<OwnedFd>,
        manner: Manner,
    ) {
        self.0.send(SupervisorCommand::Said(worker, Word::Started { pid, pidfd, manner }));
    }

    /// There will be no such worker.
    pub(crate) fn not_started(&self, worker: WorkerId, failure: Failure) {
        self.0.send(SupervisorCommand::Said(worker, Word::NotStarted(failure)));
    }

    /// The caller has gone: no worker is needed any more.
    pub(crate) fn end_all(&self) {
        self.0.send(SupervisorCommand::End(Duration::ZERO));
    }

    /// The process has ended with this status, in the form of `waitpid`.
    pub(crate) fn ended(&self, worker: WorkerId, status: i32) {
        self.0.send(SupervisorCommand::Said(worker, Word::Ended(status)));
    }
}

struct SupervisorLoop {
    commands: Wakeable<SupervisorCommand>,
    /// The run's private directory.
    directory: PathBuf,
    report: ReportWorker,
    /// Present if the caller provides workers.
    caller: Option<Sender<Outgoing>>,
    workers: HashMap<WorkerId, WorkerProcess>,
    reaper: Reaper,
    /// Since when no worker is needed any more, and how long the supervisor waits for them.
    ending: Option<(Instant, Duration)>,
    /// Whether the supervisor has said what the end of the run waits for.
    has_said: bool,
    /// The latest look at the workers.
    looked: Instant,
    vigil: Vigil,
}

impl SupervisorLoop {
    fn run(mut self) -> Reaper {
        loop {
            self.take_commands();
            self.read_logs();
            self.reap();
            self.look();
            if self.ending.is_some() && self.workers.is_empty() {
                return self.reaper;
            }
            self.wait();
        }
    }

    fn take_commands(&mut self) {
        loop {
            match self.commands.values.try_recv() {
                Ok(SupervisorCommand::Start(start)) => self.start(*start),
                Ok(SupervisorCommand::Request(request)) => self.request(*request),
                Ok(SupervisorCommand::Said(worker, word)) => self.heed(worker, word),
                Ok(SupervisorCommand::Wake) => self.vigil.stir(Instant::now()),
                Ok(SupervisorCommand::EndAt(worker, message)) => {
                    self.workers.get_mut(&worker).into_iter().for_each(|p| p.end_at(message));
                }
                Ok(SupervisorCommand::End(patience)) => {
                    self.ending = Some((Instant::now(), patience));
                }
                Err(TryRecvError::Empty) => return,
                // The run was given up.
                Err(TryRecvError::Disconnected) => {
                    self.ending.get_or_insert((Instant::now(), Duration::ZERO));
                    return;
                }
            }
        }
    }

    fn start(&mut self, Start { worker, launch, ours, theirs }: Start) {
        self.part_with_predecessors(worker.id);
        let started = self
            .start_reaper(launch.needs_reaper)
            .and_then(|()| WorkerProcess::start(&worker, &launch, ours, theirs));
        match started {
            Ok(process) => {
                process.tether.process().iter().for_each(|group| self.reaper.add(*group));
                self.workers.insert(worker.id, process);
            }
            Err(error) => {
                let reason = format!("its process could not be started: {error}");
                self.lost(worker.id, Loss::of_no_message(reason));
            }
        }
    }

    fn request(&mut self, Request { worker, feeds, ours, theirs }: Request) {
        self.part_with_predecessors(worker.id);
        match WorkerProcess::await_caller(&worker, ours) {
            Ok(process) => {
                self.workers.insert(worker.id, process);
                let start = ToCaller::Start { worker: worker.id, step: worker.step, feeds };
                // Who sends the frames notices a caller that is gone.
                if let Some(caller) = &self.caller {
                    caller.send((start, vec![theirs.into()]));
                }
            }
            Err(error) => {
                let reason = format!("its place could not be prepared: {error}");
                self.lost(worker.id, Loss::of_no_message(reason));
            }
        }
    }

    /// Ends the predecessor, which is not trusted any longer, unless it has done its last work and
    /// is ending.
    fn part_with_predecessors(&mut self, new: WorkerId) {
        for (other, process) in &self.workers {
            if other.slot == new.slot && process.is_at_work() {
                process.kill();
            }
        }
        // One that cannot be ended notices that its lifeline does.
        self.workers
            .retain(|other, process| other.slot != new.slot || process.tether.can_be_ended());
    }

    /// Takes what the caller says about a worker. It may be late: the worker may be gone.
    fn heed(&mut self, worker: WorkerId, word: Word) {
        let Some(process) = self.workers.get_mut(&worker) else { return };
        match word {
            Word::Started { pid, pidfd, manner } => match Attached::new(pid, pidfd, manner) {
                Ok(attached) => {
                    let event = process.adopt(attached);
                    event.into_iter().for_each(|event| (self.report)(WorkerEvent::Said(event)));
                }
                Err(error) => {
                    self.workers.remove(&worker);
                    let reason = format!("its process {pid} cannot be watched: {error}");
                    self.lost(worker, Loss::of_no_message(reason));
                }
            },
            Word::NotStarted(failure) => {
                self.workers.remove(&worker);
                let reason = format!("the caller could not start it: {failure}");
                self.lost(worker, Loss::of_no_message(reason));
            }
            Word::Ended(status) => process.tether.told(status),
        }
    }

    fn start_reaper(&mut self, is_needed: bool) -> io::Result<()> {
        if !is_needed {
            return Ok(());
        }
        let children = self.workers.values().filter(|process| process.tether.is_child());
        self.reaper.start(&self.directory, children.filter_map(|child| child.tether.process()))
    }

    fn lost(&self, worker: WorkerId, loss: Loss) {
        (self.report)(WorkerEvent::Lost { worker, loss });
    }

    /// Passes on what the workers have printed and logged.
    fn read_logs(&mut self) {
        for process in self.workers.values_mut() {
            let report = &self.report;
            process.logs.retain_mut(|log| log.read(|event| report(WorkerEvent::Said(event))));
        }
    }

    /// Reports those that have ended.
    fn reap(&mut self) {
        let (now, is_over) = (Instant::now(), self.ending.is_some());
        let ended = self.workers.extract_if(|_, process| process.has_ended(now, is_over));
        for (id, mut process) in ended.collect::<Vec<_>>() {
            let status: Option<ExitStatus> = process.tether.reap();
            if process.tether.is_child() {
                process.tether.process().iter().for_each(|group| self.reaper.remove(*group));
            }
            for log in &mut process.logs {
                log.read_rest(|event| (self.report)(WorkerEvent::Said(event)));
            }
            if sent_late(status) {
                (self.report)(WorkerEvent::SentLate { worker: id });
            }
            self.lost(id, process.into_loss(status));
        }
    }

    /// Ends those that are beyond a limit, and all of them when the run's patience is over.
    fn look(&mut self) {
        let now = Instant::now();
        self.say_what_it_waits_for();
        let since = now - std::mem::replace(&mut self.looked, now);
        if since > FROZEN {
            // The whole program was suspended, and perhaps the workers too.
            self.workers.values_mut().for_each(|process| process.forgive(since, now));
        }
        let over = self.ending.filter(|(start, patience)| now - *start >= *patience);
        if self.ending.is_some_and(|(start, patience)| now - start >= patience.min(FAREWELL)) {
            self.workers.retain(|_, process| process.tether.can_be_ended());
        }
        for process in self.workers.values_mut() {
            if process.is_ending(now) {
                continue;
            }
            process.overdue().into_iter().for_each(|event| (self.report)(WorkerEvent::Said(event)));
            if let Some(loss) = process.check(now) {
                process.end(loss, now);
            } else if let Some((_, patience)) = over {
                if !patience.is_zero() {
                    let text = format!(
                        "its worker has not ended within {} s after its last work: its threads \
                         and exit functions are cut off",
                        patience.as_secs_f64()
                    );
                    (self.report)(WorkerEvent::Said(process.says(Level::Warning, text)));
                }
                process.end(Loss::of_no_message("the run has ended".to_owned()), now);
            }
        }
    }

    /// Says once why a run that is done does not end.
    fn say_what_it_waits_for(&mut self) {
        let Some((since, patience)) = self.ending else { return };
        if self.has_said || since.elapsed() < NOTICE || patience <= NOTICE {
            return;
        }
        self.has_said = true;
        for process in self.workers.values() {
            let text = format!(
                "the run waits for the threads and exit functions of its worker, {} s at most",
                patience.as_secs_f64()
            );
            (self.report)(WorkerEvent::Said(process.says(Level::Info, text)));
        }
    }

    /// Waits for a command, the end of a worker, output of a worker, or the next look.
    fn wait(&mut self) {
        let now = Instant::now();
        let limited = || self.workers.values().filter(|process| process.is_limited());
        if limited().any(WorkerProcess::is_at_work) {
            self.vigil.stir(now);
        }
        let often = self.ending.is_some()
            || self.workers.values().any(WorkerProcess::needs_attention)
            || (limited().next().is_some() && self.vigil.is_awake(now));
        let mut files = vec![PollFd::new(&self.commands.wakeup, PollFlags::IN)];
        for process in self.workers.values() {
            let logs = process.logs.iter().filter(|log| !log.is_paused());
            files.extend(logs.map(|log| PollFd::new(log, PollFlags::IN)));
            let pidfd = process.tether.pidfd();
            files.extend(pidfd.map(|pidfd| PollFd::from_borrowed_fd(pidfd, PollFlags::IN)));
            files.extend(process.lifeline().map(|end| PollFd::new(end, PollFlags::empty())));
        }
        // A signal only makes the next look come early.
        let _ = poll(&mut files, Some(&timespec(if often { LOOK } else { GLANCE })));
        self.commands.wakeup.clear();
    }
}
