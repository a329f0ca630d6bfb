//! A worker process, and the router's end of everything that it is connected to.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::{Value, json};

use super::transcript::{Role, Transcript};
use super::wire::{Incoming, Outgoing, Said};
use crate::support::program::package;

/// Nothing in a transcript takes this long unless something hangs.
const LIMIT: Duration = Duration::from_secs(30);
const NEXT_STEPS: [&str; 2] = ["NEXT", "OTHER"];
const WHOLE: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);
const SEALS: SealFlags = WHOLE.union(SealFlags::FUTURE_WRITE);
/// `W`, the number 3 and the incarnation 7.
const IDENTITY: &[u8] = b"W\x03\0\0\0\x07\0\0\0";

/// What the workers are written in.
#[derive(Debug, Clone)]
pub enum Language {
    Rust,
    /// With this interpreter.
    Python(PathBuf),
}

pub struct Process {
    child: Child,
    socket: zmq::Socket,
    /// None when the router is played dead.
    lifeline: Option<UnixStream>,
    page: File,
    gate: UnixListener,
    /// Calls that wait at the gate, by name.
    waiting: HashMap<String, UnixStream>,
    /// The segments that were sent, open so that no number is given to another.
    sent: Vec<File>,
    private: PathBuf,
    directory: tempfile::TempDir,
}

impl Process {
    pub fn start(transcript: &Transcript, language: &Language) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let private = directory.path().join("private");
        std::fs::create_dir(&private).unwrap();
        let socket = zmq::Context::new().socket(zmq::ROUTER).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
        socket.bind(&format!("ipc://{}/router", private.display())).unwrap();
        let gate = UnixListener::bind(directory.path().join("gate")).unwrap();
        let (lifeline, theirs) = UnixStream::pair().unwrap();
        let errors = File::create(directory.path().join("errors")).unwrap();
        let child = command(language)
            .args(["worker", "STEP", "0"])
            .env("DRPIPE_WORKER", std::process::id().to_string())
            .env("DRPIPE_PRIVATE", &private)
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(errors.try_clone().unwrap()))
            .stderr(errors)
            .spawn()
            .unwrap();
        let page = memory("page", &[0; 32], SealFlags::empty());
        let process = Self {
            child,
            socket,
            lifeline: Some(lifeline),
            page,
            gate,
            waiting: HashMap::new(),
            sent: Vec::new(),
            private,
            directory,
        };
        let text = process.post(transcript, language).to_string();
        let post = memory("post", text.as_bytes(), SealFlags::empty());
        process.send_file(0, post.as_fd());
        process.send_file(0, process.page.as_fd());
        process
    }

    fn post(&self, transcript: &Transcript, language: &Language) -> Value {
        let (role, class) = match transcript.role {
            Role::Producer => ("producer", "ScriptedProducer"),
            Role::Stage => ("stage", "ScriptedStage"),
        };
        let mut params = transcript.params.clone();
        params.insert("gate".into(), json!(self.directory.path().join("gate")));
        let mut post = json!({
            "place": {"worker": 3, "incarnation": 7},
            "context": {
                "run": "r", "step": "STEP", "worker": 0, "next_steps": NEXT_STEPS, "codec": "messagepack",
                "next_codecs": ["messagepack", "messagepack"], "private": null, "pipeline": "", "written": [],
            },
            "class": transcript.class.as_deref().unwrap_or(class),
            "params": params,
            "directory": self.private,
            "memory_limit": transcript.memory_limit,
        });
        if let Language::Python(_) = language {
            let paths = [package().join("python/tests/steps")];
            post["python"] = json!({"module": "scripted", "role": role, "paths": paths, "to_python": [true, true]});
        }
        post
    }

    pub fn send(&mut self, message: Outgoing, seals: bool) {
        let Outgoing { head, frames, segments } = message;
        for segment in segments {
            let file = memory("segment", &segment, if seals { SEALS } else { SealFlags::empty() });
            self.send_file(1, file.as_fd());
            self.sent.push(file);
        }
        let parts = [IDENTITY.to_vec(), head].into_iter().chain(frames);
        self.socket.send_multipart(parts, 0).unwrap();
    }

    /// The next message of the worker.
    pub fn receive(&self) -> Said {
        let parts = self.socket.recv_multipart(0);
        let mut parts =
            parts.unwrap_or_else(|error| panic!("the worker says nothing: {error}")).into_iter();
        assert_eq!(parts.next().unwrap(), IDENTITY, "the identity");
        let head = parts.next().unwrap();
        Incoming::parse(&head, parts.collect(), &|| self.receive_segment())
    }

    /// The messages that the worker has sent before it ended.
    pub fn rest(&self) -> Vec<Said> {
        let is_there = || self.socket.poll(zmq::POLLIN, 0).unwrap() > 0;
        std::iter::from_fn(|| is_there().then(|| self.receive())).collect()
    }

    /// The message at work on, according to the page, and the signs of life.
    pub fn page(&self) -> (u64, u64) {
        let mut words = [0; 32];
        self.page.read_exact_at(&mut words, 0).unwrap();
        let word = |at: usize| u64::from_ne_bytes(words[at..at + 8].try_into().unwrap());
        (word(0), word(16))
    }

    /// Waits until a call waits at the gate under this name.
    pub fn await_call(&mut self, name: &str) {
        while !self.waiting.contains_key(name) {
            await_readable(&self.gate, "no call comes to the gate");
            let (stream, _) = self.gate.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            self.waiting.insert(line.trim().to_owned(), stream);
        }
    }

    /// Lets the call go on.
    pub fn open_gate(&mut self, name: &str) {
        self.waiting.remove(name).expect("a call waits there");
    }

    pub fn die(&mut self) {
        self.lifeline = None;
    }

    /// Waits for the end of the process. Returns its exit code, or the signal that ended it.
    pub fn end(&mut self) -> (Option<i32>, Option<i32>) {
        let pid = Pid::from_child(&self.child);
        await_readable(&pidfd_open(pid, PidfdFlags::empty()).unwrap(), "the worker does not end");
        let status = self.child.wait().unwrap();
        if self.lifeline.is_none() {
            assert!(!self.private.exists(), "the private directory is left");
        }
        (status.code(), status.signal())
    }

    /// What the process has printed.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("errors")).unwrap_or_default()
    }

    /// Whether a segment with this number was sent to the worker.
    pub fn has_sent(&self, inode: u64) -> bool {
        self.sent.iter().any(|file| file.metadata().unwrap().ino() == inode)
    }

    fn send_file(&self, byte: u8, file: BorrowedFd<'_>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file];
        assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
        let lifeline = self.lifeline.as_ref().unwrap();
        let sent = sendmsg(lifeline, &[IoSlice::new(&[byte])], &mut control, SendFlags::NOSIGNAL);
        assert_eq!(sent.unwrap(), 1);
    }

    /// A segment comes before the message that refers to it.
    fn receive_segment(&self) -> File {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let lifeline = self.lifeline.as_ref().unwrap();
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        recvmsg(lifeline, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)
            .expect("a segment comes before its message");
        let files = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        let file = files.flatten().next().expect("a descriptor comes with its byte");
        let seals = fcntl_get_seals(&file).unwrap();
        let is_read_only = seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE);
        assert!(seals.contains(WHOLE) && is_read_only, "a segment is sealed");
        File::from(file)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The program that is the worker in Rust.
pub fn program() -> PathBuf {
    let programs = Path::new(env!("CARGO_BIN_EXE_drpipe")).parent().unwrap();
    let program = programs.join("examples/conformance_worker");
    assert!(program.exists(), "build the examples first: cargo build --examples");
    program
}

fn command(language: &Language) -> Command {
    let mut command = Command::new(program());
    if let Language::Python(interpreter) = language {
        let main: OsString = package().join("python/src/worker_main.py").into();
        command.env("DRPIPE_PYTHON", interpreter).env("DRPIPE_PYTHON_MAIN", main);
    }
    command
}

/// A file in memory with this in it.
fn memory(name: &str, content: &[u8], seals: SealFlags) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags).unwrap());
    file.write_all(content).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

fn await_readable(file: &impl AsFd, otherwise: &str) {
    let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
    let mut files = [PollFd::new(file, PollFlags::IN)];
    assert!(poll(&mut files, Some(&limit)).unwrap() > 0, "{otherwise}");
}
