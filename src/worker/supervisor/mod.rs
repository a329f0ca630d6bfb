//! Worker processes, seen from the program. One thread starts them, notices at once when one has
//! died, ends those that take too long or too much memory, and ends only after all of them.

mod launch;
mod limits;
mod worker_process;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::mpsc::TryRecvError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::reaper::Reaper;
use super::{ReportWorker, WorkerEvent};
use crate::base::ids::WorkerId;
use crate::event::Level;
use crate::protocol::lifeline::Lifeline;
use crate::protocol::report::Loss;
use crate::transport::descriptors::make_room_for_a_process;
use crate::transport::wakeable::{self, Sender, Wakeable, timespec};

pub(crate) use launch::{Launch, Origin};
pub(crate) use limits::Limits;
pub(crate) use worker_process::NewWorker;
use worker_process::{WorkerProcess, sent_late};

/// The time between two looks at the workers while one of them has a limit or is ending; a
/// limit is exceeded by no more than this.
const LOOK: Duration = Duration::from_millis(20);
/// The time between two looks otherwise; only signs of life are looked for.
const GLANCE: Duration = Duration::from_secs(1);
/// A run that is done but does not end says after this time what it waits for.
const NOTICE: Duration = Duration::from_secs(3);
/// If the supervisor itself has not looked for this long, the workers were suspended too.
const FROZEN: Duration = Duration::from_secs(5);

/// Starts and ends worker processes, from any thread.
pub(crate) struct Supervisor {
    commands: Sender<SupervisorCommand>,
    thread: JoinHandle<Reaper>,
}

enum SupervisorCommand {
    Start(Box<Start>),
    /// No worker is needed any more: those that have not ended after this time are ended.
    End(Duration),
}

struct Start {
    worker: NewWorker,
    ours: Lifeline,
    theirs: Lifeline,
}

impl Supervisor {
    /// Starts the supervisor of a run with this private `directory`.
    ///
    /// # Errors
    /// If the system has no thread or file descriptor left.
    pub(crate) fn start(directory: &Path, report: ReportWorker) -> io::Result<Self> {
        let (sender, commands) = wakeable::queue()?;
        let supervisor = SupervisorLoop {
            commands,
            directory: directory.to_owned(),
            report,
            workers: HashMap::new(),
            reaper: Reaper::default(),
            ending: None,
            has_said: false,
            looked: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("supervisor".into());
        let thread = thread.spawn(move || supervisor.run())?;
        Ok(Self { commands: sender, thread })
    }

    /// Starts a worker and returns the program's end of its lifeline. A later failure is reported
    /// as the loss of the worker.
    ///
    /// # Errors
    /// If the process has no file descriptors left.
    pub(crate) fn spawn(&self, worker: NewWorker) -> io::Result<Lifeline> {
        make_room_for_a_process()?;
        let (ours, theirs) = Lifeline::pair()?;
        let hubs = ours.try_clone()?;
        self.commands.send(SupervisorCommand::Start(Box::new(Start { worker, ours, theirs })));
        Ok(hubs)
    }

    /// Waits until every worker has ended; those that have not after `patience` are ended. Returns
    /// the reaper, to be dropped when the private directory is gone.
    pub(crate) fn finish(self, patience: Duration) -> Option<Reaper> {
        self.commands.send(SupervisorCommand::End(patience));
        // If it panicked, its workers end with their lifelines.
        self.thread.join().ok()
    }
}

struct SupervisorLoop {
    commands: Wakeable<SupervisorCommand>,
    /// The run's private directory.
    directory: PathBuf,
    report: ReportWorker,
    workers: HashMap<WorkerId, WorkerProcess>,
    reaper: Reaper,
    /// Since when no worker is needed any more, and how long the supervisor waits for them.
    ending: Option<(Instant, Duration)>,
    /// Whether the supervisor has said what the end of the run waits for.
    has_said: bool,
    /// The latest look at the workers.
    looked: Instant,
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

    fn start(&mut self, Start { worker, ours, theirs }: Start) {
        let id = worker.id;
        // The predecessor is not trusted any longer, unless it has done its last work and is
        // ending.
        for (other, process) in &self.workers {
            if other.slot == id.slot && process.is_at_work() {
                process.kill();
            }
        }
        let started = self
            .start_reaper(worker.launch.needs_reaper)
            .and_then(|()| WorkerProcess::start(&worker, ours, theirs));
        match started {
            Ok(process) => {
                self.reaper.add(process.id());
                self.workers.insert(id, process);
            }
            Err(error) => {
                let reason = format!("its process could not be started: {error}");
                self.lost(id, Loss::of_no_message(reason));
            }
        }
    }

    fn start_reaper(&mut self, is_needed: bool) -> io::Result<()> {
        if !is_needed {
            return Ok(());
        }
        self.reaper.start(&self.directory, self.workers.values().map(WorkerProcess::id))
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
        let ended: Vec<WorkerId> = self
            .workers
            .iter()
            .filter_map(|(id, process)| process.has_ended().then_some(*id))
            .collect();
        for id in ended {
            let Some(mut process) = self.workers.remove(&id) else { continue };
            let status: Option<ExitStatus> = process.reap();
            self.reaper.remove(process.id());
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
        for process in self.workers.values_mut() {
            if process.is_ending(now) {
                continue;
            }
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
    fn wait(&self) {
        let often =
            self.ending.is_some() || self.workers.values().any(WorkerProcess::needs_attention);
        let mut files = vec![PollFd::new(&self.commands.wakeup, PollFlags::IN)];
        for process in self.workers.values() {
            let logs = process.logs.iter().filter(|log| !log.is_paused());
            files.extend(logs.map(|log| PollFd::new(log, PollFlags::IN)));
            files.extend(process.pidfd.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        }
        // A signal only makes the next look come early.
        let _ = poll(&mut files, Some(&timespec(if often { LOOK } else { GLANCE })));
        self.commands.wakeup.clear();
    }
}
