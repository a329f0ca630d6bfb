//! A process that was started before the run and has made itself ready to become a worker: it
//! becomes one when it is handed the files of a worker, and before that it may fork others.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use rustix::net::SendFlags;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitOptions, child_subreaper, getpid,
    getrlimit, kill_process_group, set_child_subreaper, waitid, waitpid,
};

use super::lock::lock;
use super::passing::send_files;

/// What it is asked for, in one byte with the files of a worker: its standard input, output and
/// error. It answers `FORK` with the number of the new process, or with 0 if its state cannot be
/// shared. It answers nothing to `BECOME`.
const FORK: u8 = b'F';
const BECOME: u8 = b'B';
/// The time limit for a fork, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module's documentation. Dropping it ends a process that has not become a worker.
pub(crate) struct Prepared {
    process: Pid,
    line: UnixStream,
    surroundings: Surroundings,
    is_worker: AtomicBool,
    /// Lets the thread end that has started the process. The system ends the process with that
    /// thread, if the process asks for it.
    _bound: Sender<()>,
}

impl Prepared {
    /// Starts a process, as the leader of a process group of its own, with one end of a line as
    /// standard input. Returns its standard output, too.
    ///
    /// # Errors
    /// If the system refuses a process, a thread or a file descriptor.
    pub(crate) fn start(mut command: Command) -> io::Result<(Self, ChildStdout)> {
        let (line, theirs) = UnixStream::pair()?;
        line.set_read_timeout(Some(PATIENCE))?;
        let surroundings = Surroundings::now();
        let (bound, free) = mpsc::channel::<()>();
        let (sender, started) = mpsc::channel::<io::Result<Child>>();
        let start = move || {
            command.process_group(0).stdin(Stdio::from(OwnedFd::from(theirs)));
            let child = command.stdout(Stdio::piped()).spawn();
            // The command has the other side's end of the line.
            drop(command);
            let _ = sender.send(child);
            let _ = free.recv();
        };
        thread::Builder::new().name("prepared".into()).spawn(start)?;
        let mut child = started.recv().map_err(io::Error::other)??;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let process = Pid::from_child(&child);
        let is_worker = AtomicBool::new(false);
        Ok((Self { process, line, surroundings, is_worker, _bound: bound }, stdout))
    }

    /// The process at the other end of this line: a child of this program from before it began.
    /// Its first message is its number.
    ///
    /// # Errors
    /// If it does not say its number, or is no child of this program.
    pub(crate) fn of_child(line: OwnedFd) -> io::Result<Self> {
        let line = UnixStream::from(line);
        line.set_read_timeout(Some(PATIENCE))?;
        let number = Pid::from_raw(read_number(&line)?).ok_or(io::ErrorKind::InvalidData)?;
        is_child(number)?;
        let (surroundings, is_worker) = (Surroundings::now(), AtomicBool::new(false));
        Ok(Self { process: number, line, surroundings, is_worker, _bound: mpsc::channel().0 })
    }

    pub(crate) fn process(&self) -> Pid {
        self.process
    }

    pub(crate) fn line(&self) -> &UnixStream {
        &self.line
    }

    /// Whether a process that is started now would be started in the same surroundings.
    pub(crate) fn is_up_to_date(&self) -> bool {
        self.surroundings == Surroundings::now()
    }

    /// Waits for a process that ends by itself, and returns how it has ended.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn wait(self) -> io::Result<ExitStatus> {
        self.is_worker.store(true, Ordering::Relaxed);
        wait_for(self.process)
    }

    /// Lets the process become a worker with these files.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn become_worker(&self, files: &[BorrowedFd<'_>; 3]) -> io::Result<Pid> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        send_files(&self.line, &[BECOME], files, flags)?;
        self.is_worker.store(true, Ordering::Relaxed);
        Ok(self.process)
    }

    /// Lets the process fork a worker with these files, which becomes a child of this program.
    /// None if it cannot.
    ///
    /// # Errors
    /// If it is not known whether it has.
    pub(crate) fn fork(&self, files: &[BorrowedFd<'_>; 3]) -> io::Result<Option<Pid>> {
        let Ok(adopting) = Adopting::begin() else { return Ok(None) };
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        if send_files(&self.line, &[FORK], files, flags).is_err() {
            return Ok(None);
        }
        let forked = read_number(&self.line).and_then(|number| match Pid::from_raw(number) {
            Some(process) => is_child(process).map(|()| Some(process)),
            None => Ok(None),
        });
        drop(adopting);
        if forked.is_err() {
            self.kill();
        }
        forked
    }

    fn kill(&self) {
        // One that has already ended is no error.
        let _ = kill_process_group(self.process, Signal::KILL);
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !*self.is_worker.get_mut() {
            self.kill();
            let _ = wait_for(self.process);
        }
    }
}

/// Waits for a child, and returns how it has ended.
///
/// # Errors
/// What the system refuses.
pub(crate) fn wait_for(child: Pid) -> io::Result<ExitStatus> {
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(ExitStatus::from_raw(status.as_raw())),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn read_number(mut line: &UnixStream) -> io::Result<i32> {
    let mut number = [0; 4];
    line.read_exact(&mut number)?;
    Ok(i32::from_le_bytes(number))
}

/// # Errors
/// If the process is no child of this program.
fn is_child(process: Pid) -> io::Result<()> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(process), options).map(drop)?)
}

/// What a process gets from its parent when it starts, and might get differently later.
#[derive(PartialEq)]
struct Surroundings {
    directory: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    files: Rlimit,
}

impl Surroundings {
    fn now() -> Self {
        Self {
            directory: std::env::current_dir().ok(),
            environment: std::env::vars_os().collect(),
            files: getrlimit(Resource::Nofile),
        }
    }
}

/// While one exists, the processes whose parents end become children of this program.
struct Adopting {
    was: Option<Pid>,
    _turn: std::sync::MutexGuard<'static, ()>,
}

impl Adopting {
    fn begin() -> io::Result<Self> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = lock(&TURN);
        let was = child_subreaper()?;
        set_child_subreaper(Some(getpid()))?;
        Ok(Self { was, _turn: turn })
    }
}

impl Drop for Adopting {
    fn drop(&mut self) {
        // If it stays so, orphans are waited for when this program ends.
        let _ = set_child_subreaper(self.was);
    }
}

/// The files of a worker, in the order in which they are handed over.
pub(crate) fn files_of<'f>(
    input: &'f impl AsFd,
    output: &'f impl AsFd,
    error: &'f impl AsFd,
) -> [BorrowedFd<'f>; 3] {
    [input.as_fd(), output.as_fd(), error.as_fd()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_alive(process: Pid) -> bool {
        std::path::Path::new("/proc").join(process.as_raw_nonzero().to_string()).exists()
    }

    #[test]
    fn one_that_no_worker_is_made_of_ends() {
        let mut command = Command::new("sleep");
        command.arg("600");
        let (prepared, _output) = Prepared::start(command).unwrap();
        let process = prepared.process();
        assert!(is_alive(process));
        drop(prepared);
        assert!(!is_alive(process));
    }

    #[test]
    fn one_that_ends_by_itself_is_waited_for() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 7"]);
        let (prepared, _output) = Prepared::start(command).unwrap();
        assert_eq!(prepared.wait().unwrap().code(), Some(7));
    }

    /// Of one that has ended, nothing can be forked; whether one that ends then has forked is not
    /// known.
    #[test]
    fn one_that_ends_forks_nothing() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let files = files_of(&null, &null, &null);
        let (prepared, _output) = Prepared::start(Command::new("true")).unwrap();
        // A process that another test is just starting may have the other end for a moment.
        assert_eq!(prepared.line().read(&mut [0]).unwrap(), 0, "it has ended");
        assert!(prepared.fork(&files).is_ok_and(|found| found.is_none()));
        assert!(prepared.become_worker(&files).is_err());
        let mut command = Command::new("sh");
        command.args(["-c", "head -c 1 >&2"]).stderr(Stdio::null());
        let (prepared, _output) = Prepared::start(command).unwrap();
        assert!(prepared.fork(&files).is_err());
        let adopting = Adopting::begin().unwrap();
        assert_eq!(adopting.was, None, "the program adopts orphans only while it waits for a fork");
    }

    #[test]
    fn an_answer_that_names_no_child_is_none() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "printf '\\001\\000\\000\\000' >&0; sleep 600"]);
        let (prepared, _output) = Prepared::start(command).unwrap();
        assert!(prepared.fork(&files_of(&null, &null, &null)).is_err());
    }
}
