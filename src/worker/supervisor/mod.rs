//! Worker processes: the side of the program. One thread starts them, sees at
//! once when one has died, ends those that take too long or too much memory,
//! and is over only when all of them are.

use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command as Program, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::liveness::{Life, SILENCE, describe};
use super::log_pipe::Words;
use super::page::Page;
use super::process::{
    Assignment, EXIT_FULL, EXIT_LATE, INTERPRETER, ITSELF, MAIN, VARIABLE, without_itself,
};
use super::reaper::Reaper;
use super::{reaper, usage};
use crate::driver::hub::{Command, Commander};
use crate::event::{Cause, Event, Level};
use crate::protocol::lifeline::Lifeline;
use crate::protocol::report::{Blame, Loss, Suspect};
use crate::transport::descriptors::make_room_for_a_process;
use crate::transport::zmq::link::Place;

/// Workers with a limit of time or memory are looked at this often, and all
/// others this often.
const LOOK: Duration = Duration::from_millis(20);
const GLANCE: Duration = Duration::from_secs(1);
/// Between being asked to end and being ended.
const GRACE: Duration = Duration::from_secs(2);
/// A worker that was just started says that it is one within this time.
const START: Duration = Duration::from_secs(30);
/// After this time it is said what the end of the run waits for.
const NOTICE: Duration = Duration::from_secs(3);
/// If the supervisor itself has not looked for so long, time stood still.
const FROZEN: Duration = Duration::from_secs(5);

/// The limits of a step's workers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For one message.
    pub(crate) timeout: Option<Duration>,
    /// The most memory of one worker, in bytes.
    pub(crate) memory: Option<u64>,
}

/// Starts and ends worker processes from any thread.
pub(crate) struct Supervisor {
    orders: mpsc::Sender<SupervisorCommand>,
    /// A byte in this pipe wakes the thread.
    wake: PipeWriter,
    thread: JoinHandle<()>,
}

/// What a worker in Python runs on.
pub(crate) struct Interpreter {
    pub(crate) program: PathBuf,
    /// The script to run.
    pub(crate) main: PathBuf,
}

enum SupervisorCommand {
    Start(Box<Start>),
    /// No worker is needed any more: those that have not ended after this time
    /// are ended.
    End(Duration),
}

struct Start {
    post: Assignment,
    python: Option<Interpreter>,
    limits: Limits,
    ours: Lifeline,
    theirs: Lifeline,
}

impl Supervisor {
    /// # Errors
    /// If the system has no thread or file descriptor left.
    pub(crate) fn start(commander: Commander) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let (reader, wake) = io::pipe()?;
        let watcher = SupervisorLoop {
            received,
            wake: reader,
            commander,
            children: HashMap::new(),
            keeper: Reaper::default(),
            ending: None,
            has_said: false,
            abandoned: false,
            looked: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("supervisor".into());
        let thread = thread.spawn(move || watcher.run())?;
        Ok(Self { orders, wake, thread })
    }

    /// Starts a worker and returns the program's end of its lifeline. What goes
    /// wrong is told as the worker's loss.
    ///
    /// # Errors
    /// If the process has no file descriptors left.
    pub(crate) fn spawn(
        &self,
        post: Assignment,
        python: Option<Interpreter>,
        limits: Limits,
    ) -> io::Result<Lifeline> {
        make_room_for_a_process()?;
        let (ours, theirs) = Lifeline::pair()?;
        let hubs = ours.try_clone()?;
        self.order(SupervisorCommand::Start(Box::new(Start {
            post,
            python,
            limits,
            ours,
            theirs,
        })));
        Ok(hubs)
    }

    /// Waits until every worker has ended; those that have not after `patience`
    /// are ended.
    pub(crate) fn finish(self, patience: Duration) {
        self.order(SupervisorCommand::End(patience));
        let _ = self.thread.join();
    }

    fn order(&self, order: SupervisorCommand) {
        if self.orders.send(order).is_ok() {
            // Fails only if the thread has gone, when nothing is to be woken.
            let _ = (&self.wake).write(&[0]);
        }
    }
}

struct SupervisorLoop {
    received: mpsc::Receiver<SupervisorCommand>,
    wake: PipeReader,
    commander: Commander,
    children: HashMap<Place, WorkerProcess>,
    keeper: Reaper,
    /// Since when no worker is needed any more, and for how long they are waited for.
    ending: Option<(Instant, Duration)>,
    /// Whether it was said what the end of the run waits for.
    has_said: bool,
    /// The run was given up: nobody sends orders any more.
    abandoned: bool,
    /// The latest look at the workers.
    looked: Instant,
}

/// One worker process.
struct WorkerProcess {
    step: Arc<str>,
    number: usize,
    child: Child,
    /// Readable when the process has ended.
    pidfd: Option<OwnedFd>,
    page: Page,
    limits: Limits,
    started: Instant,
    life: Life,
    /// A message at which it was when time stood still, and for how long that was.
    forgiven: Option<(u64, Duration)>,
    /// Why it is being ended, and when it will be by force.
    ended: Option<(Loss, Instant)>,
    /// What it prints.
    words: Vec<Words>,
    in_python: bool,
    /// Kept open for as long as the worker lives.
    _lifeline: Lifeline,
}

impl SupervisorLoop {
    fn run(mut self) {
        loop {
            loop {
                match self.received.try_recv() {
                    Ok(SupervisorCommand::Start(start)) => self.start(*start),
                    Ok(SupervisorCommand::End(patience)) => {
                        self.ending = Some((Instant::now(), patience))
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        self.abandoned = true;
                        self.ending.get_or_insert((Instant::now(), Duration::ZERO));
                        break;
                    }
                }
            }
            self.listen();
            self.reap();
            self.look();
            if self.ending.is_some() && self.children.is_empty() {
                return self.keeper.end();
            }
            self.wait();
        }
    }

    fn start(&mut self, start: Start) {
        let place = start.post.place;
        // Whoever held the place before is not trusted any longer, unless it has done its
        // last work and is ending.
        for (other, ward) in &self.children {
            if other.worker == place.worker && ward.page.at_work().is_some() {
                signal(&ward.child, Signal::KILL);
            }
        }
        match self.have_kept(&start).and_then(|()| WorkerProcess::new(start)) {
            Ok(ward) => {
                self.keeper.knows(ward.child.id());
                self.children.insert(place, ward);
            }
            Err(error) => {
                let reason = format!("its process could not be started: {error}");
                self.commander.send(Command::Lost { place, loss: Loss::of_no_message(reason) });
            }
        }
    }

    /// What an interpreter starts must not outlive the program either.
    fn have_kept(&mut self, start: &Start) -> io::Result<()> {
        let Start { post, python: Some(_), .. } = start else { return Ok(()) };
        self.keeper.begin(&post.directory, self.children.values().map(|ward| ward.child.id()))
    }

    /// Passes on what the workers have printed.
    fn listen(&mut self) {
        for ward in self.children.values_mut() {
            let commander = &self.commander;
            ward.words.retain_mut(|words| words.read(|event| commander.send(Command::Tell(event))));
        }
    }

    /// Takes leave of those that have ended.
    fn reap(&mut self) {
        let has_ended =
            |(place, ward): (&Place, &WorkerProcess)| ward.has_ended().then_some(*place);
        let dead: Vec<Place> = self.children.iter().filter_map(has_ended).collect();
        for place in dead {
            let Some(mut ward) = self.children.remove(&place) else { continue };
            // What it had started and left behind; until it is waited for, the
            // number of its group is no other's.
            signal(&ward.child, Signal::KILL);
            let status = ward.child.wait().ok();
            self.keeper.forgets(ward.child.id());
            for words in &mut ward.words {
                words.read_rest(|event| self.commander.send(Command::Tell(event)));
            }
            if status.and_then(|status| status.code()) == Some(EXIT_LATE.into()) {
                self.commander.send(Command::Late { place });
            }
            self.commander.send(Command::Lost { place, loss: ward.loss(status) });
        }
    }

    /// Ends those that are beyond a limit.
    fn look(&mut self) {
        let now = Instant::now();
        let waited = self.ending.map(|(since, patience)| (now - since, patience));
        let over = waited.is_some_and(|(waited, patience)| waited >= patience);
        self.say_what_it_waits_for();
        let since = now - std::mem::replace(&mut self.looked, now);
        if since > FROZEN {
            // The whole program stood still, and the workers with it, perhaps.
            self.children.values_mut().for_each(|ward| ward.forgive(since, now));
        }
        for ward in self.children.values_mut() {
            match &ward.ended {
                Some((_, by_force)) if *by_force <= now => signal(&ward.child, Signal::KILL),
                Some(_) => {}
                None => {
                    if let Some(loss) = ward.fault(now) {
                        ward.end(loss, now);
                    } else if over {
                        if let Some((_, patience)) = waited.filter(|(_, p)| !p.is_zero()) {
                            self.commander.send(Command::Tell(ward.says(
                                Level::Warning,
                                format!(
                                    "its worker has not ended within {} s after its last work: \
                                     what its threads and exit functions still do is cut off",
                                    patience.as_secs_f64()
                                ),
                            )));
                        }
                        ward.end(Loss::of_no_message("the run has ended".to_owned()), now);
                    }
                }
            }
        }
    }

    /// A run that does not end though all is done says why, once.
    fn say_what_it_waits_for(&mut self) {
        let Some((since, patience)) = self.ending else { return };
        if self.has_said || since.elapsed() < NOTICE || patience <= NOTICE {
            return;
        }
        self.has_said = true;
        for ward in self.children.values() {
            let text = format!(
                "the run waits for the threads and exit functions of its worker, {} s at most",
                patience.as_secs_f64()
            );
            self.commander.send(Command::Tell(ward.says(Level::Info, text)));
        }
    }

    /// Waits for an order, the end of a worker, or the next look.
    fn wait(&self) {
        let limited = |ward: &WorkerProcess| {
            let Limits { timeout, memory } = ward.limits;
            timeout.is_some() || memory.is_some() || ward.ended.is_some() || ward.pidfd.is_none()
        };
        let paused = |ward: &WorkerProcess| ward.words.iter().any(Words::is_paused);
        let soon = |ward: &WorkerProcess| limited(ward) || paused(ward);
        let often = self.ending.is_some() || self.children.values().any(soon);
        let time = if often { LOOK } else { GLANCE };
        let time =
            Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        let mut files = Vec::new();
        if !self.abandoned {
            files.push(PollFd::new(&self.wake, PollFlags::IN));
        }
        let pidfds = self.children.values().filter_map(|ward| ward.pidfd.as_ref());
        files.extend(pidfds.map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        let words = self.children.values().flat_map(|ward| &ward.words);
        let heard = words.filter(|words| !words.is_paused());
        files.extend(heard.map(|words| PollFd::new(words, PollFlags::IN)));
        // An interruption only makes the next look come early.
        let _ = poll(&mut files, Some(&time));
        if !self.abandoned && files[0].revents().contains(PollFlags::IN) {
            // One read takes every byte that has gathered; the orders
            // themselves are in the channel.
            let _ = (&self.wake).read(&mut [0; 64]);
        }
    }
}

impl WorkerProcess {
    fn new(start: Start) -> io::Result<Self> {
        let Start { post, python, limits, ours, theirs } = start;
        let (page, file) = Page::create()?;
        let text = serde_json::to_vec(&post)?;
        // This very program, also if its file has been replaced meanwhile. The
        // arguments are for those who read a list of processes.
        let mut program = Program::new(ITSELF);
        if let Some(Interpreter { program: interpreter, main }) = &python {
            program.env(INTERPRETER, interpreter).env(MAIN, main);
        }
        let mut child = reaper::mark(&mut program, &post.directory)
            .arg0(std::env::args_os().next().unwrap_or_else(|| "drpipe".into()))
            .args(["worker", post.context.step(), &post.context.worker().to_string()])
            .env(VARIABLE, std::process::id().to_string())
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(without_itself)?;
        let (step, worker) = (post.context.step(), post.context.worker());
        let printed = child.stdout.take().map(|stream| Words::printed(stream, step, worker));
        let complained = child.stderr.take().map(|stream| Words::complained(stream, step, worker));
        let words = printed.into_iter().chain(complained).collect::<io::Result<_>>()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        // Where the system has none, the next look finds out.
        let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let started = Instant::now();
        // If it has died already, its end tells why.
        let _ = ours.send_post(&text, file.as_fd());
        Ok(Self {
            step: step.into(),
            number: worker,
            child,
            pidfd,
            page,
            limits,
            started,
            life: Life::new(started),
            forgiven: None,
            ended: None,
            words,
            in_python: python.is_some(),
            _lifeline: ours,
        })
    }

    /// Why the worker must be ended, if it must.
    fn fault(&mut self, now: Instant) -> Option<Loss> {
        let beats = self.page.beats();
        if beats == 0 && now - self.started > START {
            return Some(self.found(Blame::Death, self.never_began()));
        }
        let process = self.child.id();
        if beats != 0 && self.life.has_stopped(beats, now, || usage::time_of(process)) {
            let silence = SILENCE.as_secs();
            return Some(
                self.found(Blame::Death, format!("it gave no sign of life for {silence} s")),
            );
        }
        if let (Some(limit), Some(at)) = (self.limits.timeout, self.page.at_work())
            && at.time > limit + self.forgiven_at(at.message)
        {
            let reason = format!("it took longer than the time limit of {} s", limit.as_secs_f64());
            let suspect = Suspect::Message(at.message);
            return Some(Loss { reason, cause: Cause::TimedOut, suspect, blame: Blame::Limit });
        }
        let limit = self.limits.memory?;
        let used = usage::memory_of(self.child.id()).filter(|used| *used > limit)?;
        Some(self.found(
            Blame::Limit,
            format!("it used {} MiB of memory, its limit is {} MiB", used >> 20, limit >> 20),
        ))
    }

    fn never_began(&self) -> String {
        let seconds = START.as_secs();
        if self.in_python {
            return format!("its interpreter did not become a worker within {seconds} s");
        }
        let program = std::env::current_exe().unwrap_or_default();
        format!(
            "{} did not become a worker within {seconds} s: its main must call \
             drpipe::pipeline::serve_worker first",
            program.display(),
        )
    }

    /// Does not hold it against the worker that time stood still.
    fn forgive(&mut self, time: Duration, now: Instant) {
        self.life.forgive(now);
        self.started = self.started.max(now - START.min(time));
        if let Some(at) = self.page.at_work() {
            self.forgiven = Some((at.message, self.forgiven_at(at.message) + time));
        }
    }

    fn forgiven_at(&self, message: u64) -> Duration {
        self.forgiven.filter(|(at, _)| *at == message).map_or(Duration::ZERO, |(_, time)| time)
    }

    /// A loss at what the worker is at now.
    fn found(&self, blame: Blame, reason: String) -> Loss {
        let at_work = self.page.at_work();
        let suspect = at_work.map_or(Suspect::None, |at| Suspect::Message(at.message));
        Loss { reason, cause: Cause::Lost, suspect, blame }
    }

    fn says(&self, level: Level, text: String) -> Event {
        let (step, worker) = (Arc::clone(&self.step), self.number);
        Event::Said { step, worker, level, logger: String::new(), text }
    }

    /// Asks the worker to end.
    fn end(&mut self, loss: Loss, now: Instant) {
        signal(&self.child, Signal::TERM);
        self.ended = Some((loss, now + GRACE));
    }

    /// What there is to say of a worker that has ended.
    fn loss(mut self, status: Option<ExitStatus>) -> Loss {
        if let Some((loss, _)) = self.ended.take() {
            return loss;
        }
        let reason = status.map_or_else(|| "its process is gone".to_owned(), describe);
        let is_by =
            |signal: Signal| status.is_some_and(|status| status.signal() == Some(signal.as_raw()));
        let is_full = status.is_some_and(|status| status.code() == Some(EXIT_FULL.into()));
        let blame = match () {
            () if is_by(Signal::TERM) => Blame::Request,
            () if is_full => Blame::Limit,
            () => Blame::Death,
        };
        self.found(blame, reason)
    }

    /// Whether the process has ended; it stays to be waited for.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // An error means that there is no such child any more.
        pid.is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), options), Ok(None)))
    }
}

/// Sends a signal to the worker and all that it has started; those that have
/// gone need none.
fn signal(child: &Child, signal: Signal) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal);
    }
}
