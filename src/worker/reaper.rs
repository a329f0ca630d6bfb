//! The reaper: a process beside the program that outlives it by a moment. When the program has
//! died, it ends the remaining workers and the programs that they started, and removes the run's
//! private directory. After the normal end of a run, it ends those started programs that have left
//! the process groups of their workers.
//!
//! Workers in Rust do this themselves. An interpreter cannot: code that holds its lock may keep
//! every other thread of it waiting. So the system itself ends it with the program, and what a step
//! has started would live on.

use std::collections::BTreeSet;
use std::fmt::Arguments;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::reexec::{ITSELF, MARK, REAPER, STARTER, name_after_the_program, own_name};
use crate::protocol::lifeline::Lifeline;

/// Limits the wait for killed processes to disappear.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time between two searches for remaining processes.
const AGAIN: Duration = Duration::from_millis(10);
/// The line by which the program says that the run has ended. Before it come lines that name
/// process groups: `+` one that a worker leads, `-` one that is gone.
const FAREWELL: &str = "farewell";

/// The program's side. The process exists from the first [`Reaper::start`] on.
#[derive(Default)]
pub(crate) struct Reaper(Option<Process>);

struct Process {
    child: Child,
    line: UnixStream,
}

impl Reaper {
    /// Starts the process if it does not run yet, and names the process groups that workers
    /// lead already.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub(crate) fn start(
        &mut self,
        directory: &Path,
        groups: impl Iterator<Item = u32>,
    ) -> io::Result<()> {
        if self.0.is_none() {
            self.0 = Some(start(directory)?);
            groups.for_each(|group| self.add(group));
        }
        Ok(())
    }

    /// Adds a process group that a worker leads.
    pub(crate) fn add(&self, group: u32) {
        self.say(format_args!("+{group}"));
    }

    /// Removes a process group whose processes are all gone.
    pub(crate) fn remove(&self, group: u32) {
        self.say(format_args!("-{group}"));
    }

    /// A reaper that was killed is missed only if the program is killed too.
    fn say(&self, word: Arguments<'_>) {
        if let Some(Process { line, .. }) = &self.0 {
            let mut line = line;
            let _ = line.write_all(format!("{word}\n").as_bytes());
        }
    }
}

/// Says that no worker is left, and waits until what they have started is gone too. Until then, the
/// reaper removes the private directory if the program dies.
impl Drop for Reaper {
    fn drop(&mut self) {
        self.say(format_args!("{FAREWELL}"));
        if let Some(Process { mut child, line }) = self.0.take() {
            drop(line);
            let _ = child.wait();
        }
    }
}

fn start(directory: &Path) -> io::Result<Process> {
    let (ours, theirs) = Lifeline::pair()?;
    let line = UnixStream::from(OwnedFd::from(ours));
    // The supervisor must never block.
    line.set_nonblocking(true)?;
    let child = Command::new(ITSELF)
        .arg0(own_name())
        .arg("reaper")
        .env(STARTER, std::process::id().to_string())
        .env(REAPER, directory)
        // It is set if a step of another run has started this run.
        .env_remove(MARK)
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Process { child, line })
}

/// Runs this process as the reaper of a run with this private directory, to its end.
pub(crate) fn run(directory: &Path, line: Lifeline) -> ! {
    name_after_the_program();
    // A scheduler that ends a whole job signals every process; the program needs time to end
    // in good order.
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
    match orphans(BufReader::new(UnixStream::from(OwnedFd::from(line)))) {
        Some(groups) => end_all(&groups, directory),
        // The workers' groups are gone, but not the processes that have left them.
        None => repeat(|| end_marked(directory)),
    }
    std::process::exit(0);
}

/// Reads the groups that are left when the program has died; none if it said farewell.
fn orphans(line: impl BufRead) -> Option<BTreeSet<i32>> {
    let mut groups = BTreeSet::new();
    for word in line.lines().map_while(Result::ok) {
        if word == FAREWELL {
            return None;
        }
        groups.extend(word.strip_prefix('+').and_then(|group| group.parse::<i32>().ok()));
        if let Some(Ok(group)) = word.strip_prefix('-').map(str::parse) {
            groups.remove(&group);
        }
    }
    Some(groups)
}

fn end_all(groups: &BTreeSet<i32>, directory: &Path) {
    repeat(|| {
        for group in groups.iter().copied().filter_map(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let is_left = end_marked(directory);
        // Workers in Rust remove it too.
        let _ = std::fs::remove_dir_all(directory);
        is_left
    });
}

/// Repeats until nothing is left: a process that is about to be killed may have started another.
fn repeat(mut end: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while end() && Instant::now() < until {
        std::thread::sleep(AGAIN);
    }
}

/// Kills all processes that have the run's mark. Returns whether there was one.
fn end_marked(directory: &Path) -> bool {
    let mark = [MARK.as_bytes(), b"=", directory.as_os_str().as_bytes()].concat();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found = false;
    for pid in numbers.filter_map(Pid::from_raw) {
        // While this is open, the number is no other process's.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
        let environment = std::fs::read(path).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == mark) {
            found |= pidfd_send_signal(&process, Signal::KILL).is_ok();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_are_ended_whose_program_has_died() {
        let of = |words: &str| orphans(words.as_bytes());
        assert_eq!(of("+11\n+12\n-11\n+13\n"), Some(BTreeSet::from([12, 13])));
        assert_eq!(of("+11\nnonsense\n+x\n"), Some(BTreeSet::from([11])));
        assert_eq!(of("+11\n-11\nfarewell\n"), None);
        assert_eq!(of(""), Some(BTreeSet::new()));
    }

    #[test]
    fn what_has_the_mark_is_ended_wherever_it_is_and_all_else_lives() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("run");
        std::fs::create_dir(&directory).unwrap();
        let sleep = |mark: &Path| {
            Command::new("sleep").arg("600").env(MARK, mark).process_group(0).spawn().unwrap()
        };
        let mut other = sleep(&place.path().join("run-2"));
        let (mut marked, mut grouped) = (sleep(&directory), sleep(place.path()));
        end_all(&BTreeSet::from([grouped.id() as i32]), &directory);
        assert!(!marked.wait().unwrap().success() && !grouped.wait().unwrap().success());
        assert!(!directory.exists());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
