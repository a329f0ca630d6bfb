//! The caller of a run: the program that has started it and stays attached to it by a socket. It
//! provides workers and may steer the run; when it dies, the run ends (docs/ATTACH.md).

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::TryRecvError;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Control;
use crate::base::failure::Failure;
use crate::protocol::control::{
    ControlSocket, FromCaller, Hello, Manner, Received, ToCaller, Verb,
};
use crate::protocol::wire::{VERSION, WireError};
use crate::transport::wakeable::{Wakeable, timespec};
use crate::worker::supervisor::{Attachments, Outgoing};

/// How long the caller may take to say HELLO, or to read a frame when the socket is full.
const PATIENCE: Duration = Duration::from_secs(10);

/// The answer to PUT.
const NO_QUEUE: &str = "PUT is for a run whose producer is a work queue (class Queue): this run has \
                        none, so nothing was put in";

/// A program that has said HELLO.
pub(crate) struct Caller {
    socket: ControlSocket,
    /// Readable when the program has ended: a fork of it may hold the socket open.
    pidfd: OwnedFd,
    pid: u32,
}

/// Why a program cannot be the caller of a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCaller {
    #[error("--attach: standard input cannot be used as the caller's socket: {0}")]
    Unusable(#[from] io::Error),
    #[error("the caller did not say HELLO within {} s", PATIENCE.as_secs())]
    Silent,
    #[error(
        "the caller speaks version {0} of the protocol, and drpipe {release} speaks version \
         {VERSION}: the drpipe program and the caller's drpipe package must be of one version",
        release = env!("CARGO_PKG_VERSION")
    )]
    OtherVersion(u16),
    #[error("process {said} says HELLO, but process {maker} has made the socket")]
    Stranger { said: u32, maker: u32 },
    #[error("the caller's first frame is not HELLO")]
    NotHello,
    #[error("the caller broke the protocol: {0}")]
    Broken(#[from] WireError),
}

impl Caller {
    /// Waits for the HELLO of the program at the other end. One that is refused is told why.
    ///
    /// # Errors
    /// If there is none, or it cannot be the caller.
    pub(crate) fn accept(file: OwnedFd) -> Result<Self, NoCaller> {
        let socket = ControlSocket::of(file)?;
        let pid = hello(&socket).inspect_err(|why| {
            refuse(&socket, Failure::permanent(why.to_string()));
        })?;
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pidfd = pidfd_open(number.ok_or(NoCaller::NotHello)?, PidfdFlags::empty());
        Ok(Self { socket, pidfd: pidfd.map_err(io::Error::from)?, pid })
    }

    /// What tells the caller how the run has ended.
    ///
    /// # Errors
    /// If the process has no file descriptor left.
    pub(crate) fn farewell(&self) -> io::Result<Farewell> {
        self.socket.try_clone().map(Farewell)
    }

    /// Starts the thread that sends the frames to the caller and does what it says. The thread ends
    /// when all senders of frames have gone, or the caller has.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn attend(
        self,
        frames: Wakeable<Outgoing>,
        attachments: Attachments,
        control: Control,
    ) -> io::Result<JoinHandle<()>> {
        let (backlog, full_since) = (VecDeque::new(), None);
        let attendant =
            Attendant { caller: self, frames, backlog, full_since, attachments, control };
        Builder::new().name("caller".into()).spawn(move || attendant.run())
    }
}

fn hello(socket: &ControlSocket) -> Result<u32, NoCaller> {
    let Received { frame, .. } = first_frame(socket)?;
    let FromCaller::Hello(Hello { version, pid: said, .. }) = FromCaller::decode(frame)? else {
        return Err(NoCaller::NotHello);
    };
    if version != VERSION {
        return Err(NoCaller::OtherVersion(version));
    }
    let maker = socket.maker()?;
    if said == maker { Ok(said) } else { Err(NoCaller::Stranger { said, maker }) }
}

fn first_frame(socket: &ControlSocket) -> Result<Received, NoCaller> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(received) = socket.receive()? {
            return Ok(received);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NoCaller::Silent);
        }
        // A signal only makes the next look come early.
        let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timespec(left)));
    }
}

fn refuse(socket: &ControlSocket, failure: Failure) {
    // A caller that is gone needs no answer.
    let _ = socket.send(&ToCaller::Refused(failure).encode(), &[]);
}

/// Tells the caller how the run has ended, after everything else.
pub(crate) struct Farewell(ControlSocket);

impl Farewell {
    /// There will be no run.
    pub(crate) fn refuse(&self, reason: String) {
        refuse(&self.0, Failure::permanent(reason));
    }

    /// The run has ended with this exit code; the file has the report.
    pub(crate) fn over(&self, exit_code: u8, report: Option<OwnedFd>) {
        let files: Vec<_> = report.iter().map(AsFd::as_fd).collect();
        let frame = ToCaller::Over { exit_code }.encode();
        let until = Instant::now() + PATIENCE;
        // A caller that is gone, or does not read, needs no answer.
        while self.0.send(&frame, &files).is_ok_and(|sent| !sent) && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            let _ = poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], Some(&timespec(left)));
        }
    }
}

/// The thread's side: see [`Caller::attend`].
struct Attendant {
    caller: Caller,
    frames: Wakeable<Outgoing>,
    /// Frames for which the socket has no room yet.
    backlog: VecDeque<Outgoing>,
    /// Since when there is no room.
    full_since: Option<Instant>,
    attachments: Attachments,
    control: Control,
}

/// Why the caller is no longer attached.
#[derive(Debug, thiserror::Error)]
enum Gone {
    #[error("the program that started this run has ended")]
    Ended,
    #[error("the program that started this run has read nothing for {} s", PATIENCE.as_secs())]
    Deaf,
    #[error("the program that started this run broke the protocol: {0}")]
    Broken(#[from] WireError),
    #[error("the program that started this run said HELLO twice")]
    Twice,
}

impl Attendant {
    fn run(mut self) {
        loop {
            let is_last = self.take_frames();
            let turn = self.send_frames().and_then(|()| self.receive());
            if let Err(gone) = turn {
                return self.part(&gone);
            }
            if is_last && self.backlog.is_empty() {
                return;
            }
            self.wait();
        }
    }

    /// Lets the run end without its caller: in order if nothing is lost by that, else at once.
    fn part(self, gone: &Gone) {
        let reason = gone.to_string();
        let has_ended = matches!(gone, Gone::Ended | Gone::Deaf);
        if !(has_ended && self.control.caller_gone(reason.clone()).is_ok()) {
            self.control.abandon(reason);
            self.attachments.end_all();
        }
    }

    /// Returns whether no more frames can come.
    fn take_frames(&mut self) -> bool {
        loop {
            match self.frames.values.try_recv() {
                Ok(frame) => self.backlog.push_back(frame),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    fn send_frames(&mut self) -> Result<(), Gone> {
        while let Some((frame, files)) = self.backlog.front() {
            let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            let sent = self.caller.socket.send(&frame.encode(), &files).map_err(|_| Gone::Ended)?;
            if !sent {
                let since = *self.full_since.get_or_insert_with(Instant::now);
                return if since.elapsed() < PATIENCE { Ok(()) } else { Err(Gone::Deaf) };
            }
            self.full_since = None;
            self.backlog.pop_front();
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Gone> {
        while let Some(received) = self.caller.socket.receive().map_err(|_| Gone::Ended)? {
            let frame = FromCaller::decode(received.frame)?;
            self.heed(frame, received.files.into_iter().next())?;
        }
        let mut end = [PollFd::new(&self.caller.pidfd, PollFlags::IN)];
        match poll(&mut end, Some(&timespec(Duration::ZERO))) {
            Ok(1..) => Err(Gone::Ended),
            _ => Ok(()),
        }
    }

    fn heed(&mut self, frame: FromCaller, file: Option<OwnedFd>) -> Result<(), Gone> {
        match frame {
            FromCaller::Hello(_) => return Err(Gone::Twice),
            FromCaller::Started { worker, manner: Manner::Caller, .. } => {
                self.attachments.started(worker, self.caller.pid, None, Manner::Caller);
            }
            FromCaller::Started { worker, pid, manner } => {
                self.attachments.started(worker, pid, file, manner);
            }
            FromCaller::NotStarted { worker, failure } => {
                self.attachments.not_started(worker, failure);
            }
            FromCaller::Ended { worker, status } => self.attachments.ended(worker, status),
            FromCaller::Request { number, verb } => {
                let error = self.carry_out(verb).err().map(|error| error.to_string());
                self.answer(number, error)?;
            }
            FromCaller::Put { number, .. } => self.answer(number, Some(NO_QUEUE.to_owned()))?,
        }
        Ok(())
    }

    fn answer(&mut self, number: u32, error: Option<String>) -> Result<(), Gone> {
        self.backlog.push_back((ToCaller::Answer { number, error }, Vec::new()));
        self.send_frames()
    }

    fn carry_out(&self, verb: Verb) -> Result<(), super::SteerError> {
        match verb {
            Verb::Pause(step) => self.control.pause(step.as_deref()),
            Verb::Resume(step) => self.control.resume(step.as_deref()),
            Verb::SetWorkers { step, workers } => self.control.set_workers(&step, workers as usize),
            Verb::Cancel { origin, running } => self.control.cancel(&origin, running).map(drop),
            Verb::Drain => {
                self.control.drain();
                Ok(())
            }
            Verb::Stop => {
                self.control.stop_now();
                Ok(())
            }
        }
    }

    /// Waits for frames of either side, for room in the socket, or for the caller's end.
    fn wait(&self) {
        let socket = match self.backlog.is_empty() {
            true => PollFlags::IN,
            false => PollFlags::IN | PollFlags::OUT,
        };
        let mut files = [
            PollFd::new(&self.caller.socket, socket),
            PollFd::new(&self.caller.pidfd, PollFlags::IN),
            PollFd::new(&self.frames.wakeup, PollFlags::IN),
        ];
        let left = self.full_since.map(|since| PATIENCE.saturating_sub(since.elapsed()));
        let left = left.map(timespec);
        // A signal only makes the next look come early.
        let _ = poll(&mut files, left.as_ref());
        self.frames.wakeup.clear();
    }
}
