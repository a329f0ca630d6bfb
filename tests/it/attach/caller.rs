//! A caller, as a program is that starts a run and provides workers for it (docs/ATTACH.md). It
//! writes and reads the frames byte by byte.

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::support::processes::LIMIT;
use crate::support::program::{drpipe, example};

/// Squares of attached workers, as lines in `out.txt`.
pub fn squares(last: i64, work: &Value) -> Value {
    let mut step = json!({"name": "WORK", "class": "Caller", "nb_process": 2});
    step.as_object_mut().unwrap().extend(work.as_object().unwrap().clone());
    json!({
        "version": 1,
        "producer": {"name": "IN", "class": "Integers", "params": {"first": 1, "last": last}},
        "stagers": [step, {"name": "TEXT", "class": "FormatNumber"}],
        "consumer": {"name": "OUT", "class": "WriteLines", "params": {"file": "out.txt"}},
    })
}

/// The squares that a run of [`squares`] writes if nothing is lost and nothing done twice.
pub fn expected(last: i64) -> Vec<i64> {
    (1..=last).map(|number| number * number).collect()
}

/// The numbers in `out.txt`, sorted.
pub fn written(directory: &Path) -> Vec<i64> {
    let text = std::fs::read_to_string(directory.join("out.txt")).unwrap();
    let mut numbers: Vec<i64> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// A frame of the run.
#[derive(Debug)]
pub enum Frame {
    /// The run has begun; this is its private directory.
    Welcome(PathBuf),
    Refused(String),
    Start(Start),
    Answer(u32, Option<String>),
    Over(u8, Value),
    /// The run has closed the socket.
    End,
}

/// A worker that the caller must start.
#[derive(Debug)]
pub struct Start {
    pub worker: u32,
    pub incarnation: u32,
    pub step: String,
    pub lifeline: OwnedFd,
}

pub struct Caller {
    pub run: Child,
    socket: Option<OwnedFd>,
    /// The worker processes by their worker's number, each with its incarnation.
    pub workers: HashMap<u32, (u32, Child)>,
    /// The run's private directory.
    pub private: PathBuf,
    directory: tempfile::TempDir,
}

impl Caller {
    /// Starts a run of this configuration, with these options, and says nothing.
    pub fn silent(config: &Value, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("pipeline.json"), config.to_string()).unwrap();
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        let run = drpipe(directory.path())
            .args(["run", "--attach", "--quiet"])
            .args(options)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("errors")).unwrap())
            .spawn()
            .unwrap();
        let (workers, private) = (HashMap::new(), PathBuf::new());
        Self { run, socket: Some(ours), workers, private, directory }
    }

    /// Starts a run of this configuration and is welcomed.
    pub fn start(config: &Value, options: &[&str]) -> Self {
        let mut caller = Self::silent(config, options);
        caller.hello(3, std::process::id());
        match caller.receive() {
            Frame::Welcome(private) => caller.private = private,
            other => panic!("{other:?}\n{}", caller.errors()),
        }
        caller
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What the run has printed.
    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.directory().join("errors")).unwrap()
    }

    pub fn hello(&self, version: u16, pid: u32) {
        let mut frame = vec![1];
        frame.extend(version.to_le_bytes());
        frame.extend(pid.to_le_bytes());
        frame.extend(text("a test"));
        self.send(&frame);
    }

    pub fn send(&self, frame: &[u8]) {
        let mut control = SendAncillaryBuffer::default();
        let socket = self.socket.as_ref().unwrap();
        // The run may have died.
        let _ = sendmsg(socket, &[IoSlice::new(frame)], &mut control, SendFlags::NOSIGNAL);
    }

    fn send_with(&self, frame: &[u8], file: BorrowedFd<'_>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file];
        assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
        let socket = self.socket.as_ref().unwrap();
        let _ = sendmsg(socket, &[IoSlice::new(frame)], &mut control, SendFlags::NOSIGNAL);
    }

    /// Leaves the run.
    pub fn leave(&mut self) {
        self.socket = None;
    }

    /// The next frame of the run.
    pub fn receive(&mut self) -> Frame {
        let socket = self.socket.as_ref().unwrap();
        let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&limit)).unwrap();
        assert!(ready > 0, "the run says nothing:\n{}", self.errors());
        let mut bytes = vec![0; 65_536];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let Ok(received) = recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)
        else {
            return Frame::End;
        };
        let files = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        let file = files.flatten().next();
        bytes.truncate(received.bytes);
        parse(&bytes, file)
    }

    /// Starts a worker process for the run and says so.
    pub fn provide(&mut self, start: Start) {
        let Start { worker, incarnation, lifeline, .. } = start;
        let child = example("conformance_worker", self.directory())
            .args(["worker", "WORK"])
            .env("DRPIPE_WORKER", self.run.id().to_string())
            .process_group(0)
            .stdin(Stdio::from(lifeline))
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let frame = frame(2, worker, incarnation, &[&child.id().to_le_bytes()[..], &[2]].concat());
        self.send_with(&frame, pidfd.as_fd());
        self.workers.insert(worker, (incarnation, child));
    }

    /// Says that the worker cannot be started.
    pub fn decline(&self, start: &Start, why: &str) {
        let failure = [&[1, 1, 0, 0, 0][..], &text(why)].concat();
        self.send(&frame(3, start.worker, start.incarnation, &failure));
    }

    /// Waits for the worker's process, which has ended, and tells how it did.
    pub fn tell_end(&mut self, worker: u32) {
        let Some((incarnation, mut child)) = self.workers.remove(&worker) else { return };
        let status = child.wait().unwrap().into_raw();
        self.send(&frame(4, worker, incarnation, &status.to_le_bytes()));
    }

    /// Sends a request with this number.
    pub fn request(&self, number: u32, verb: &[u8]) {
        self.send(&[&[5][..], &number.to_le_bytes(), verb].concat());
    }

    /// Provides workers until the run is over. Returns the exit code and the report.
    pub fn serve(&mut self) -> (u8, Value) {
        loop {
            match self.receive() {
                Frame::Start(start) => self.provide(start),
                Frame::Over(code, report) => return (code, report),
                other => panic!("{other:?}\n{}", self.errors()),
            }
        }
    }

    /// The next worker to start.
    pub fn next_start(&mut self) -> Start {
        match self.receive() {
            Frame::Start(start) => start,
            other => panic!("{other:?}\n{}", self.errors()),
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.run.kill();
        let _ = self.run.wait();
        for (_, child) in self.workers.values_mut() {
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            let _ = child.wait();
        }
    }
}

/// A text as it stands in a frame.
pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn frame(kind: u8, worker: u32, incarnation: u32, rest: &[u8]) -> Vec<u8> {
    [&[kind][..], &worker.to_le_bytes(), &incarnation.to_le_bytes(), rest].concat()
}

fn parse(bytes: &[u8], file: Option<OwnedFd>) -> Frame {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let text = |at: usize| {
        let end = at + 4 + number(at) as usize;
        String::from_utf8(bytes[at + 4..end].to_vec()).unwrap()
    };
    match bytes.first() {
        None => Frame::End,
        Some(16) => {
            let version = 1 + 4 + number(1) as usize;
            let endpoint = text(version + 4 + number(version) as usize);
            let private = endpoint.strip_prefix("ipc://").unwrap().strip_suffix("/router").unwrap();
            Frame::Welcome(private.into())
        }
        Some(17) => Frame::Refused(text(6)),
        Some(18) => Frame::Start(Start {
            worker: number(1),
            incarnation: number(5),
            step: text(9),
            lifeline: file.unwrap(),
        }),
        Some(19) => Frame::Answer(number(1), (bytes[5] == 1).then(|| text(6))),
        Some(20) => {
            let mut report = std::fs::File::from(file.unwrap());
            std::io::Seek::rewind(&mut report).unwrap();
            Frame::Over(bytes[1], serde_json::from_reader(report).unwrap())
        }
        Some(other) => panic!("frame kind {other}"),
    }
}
