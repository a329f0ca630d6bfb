//! The sockets of the runs of this user on this machine: each run listens on one while
//! it lasts, so that the other programs of the user find it by its name.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::nearest::nearest;

/// What the name of a socket ends with.
const ENDING: &str = ".sock";

/// A run that is under way on this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LiveRun {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub socket: PathBuf,
}

/// The socket of a run, which nobody but this user can open. It is removed when this is
/// dropped.
#[derive(Debug)]
pub(super) struct RunSocket {
    pub(super) path: PathBuf,
    pub(super) listener: UnixListener,
}

impl RunSocket {
    /// Listens for those who look for the run of this name.
    ///
    /// # Errors
    /// If there is no directory for it; the error names those that were tried.
    pub(super) fn open(run: &str) -> io::Result<Self> {
        let mut reasons = Vec::new();
        for directory in directories() {
            match Self::open_in(&directory, run) {
                Ok(socket) => return Ok(socket),
                Err(error) => reasons.push(format!("{}: {error}", directory.display())),
            }
        }
        Err(io::Error::other(reasons.join("; ")))
    }

    fn open_in(directory: &Path, run: &str) -> io::Result<Self> {
        make_private(directory)?;
        let path = directory.join(format!("{run}{ENDING}"));
        // It gets its name when it listens already: one that refuses is taken for the
        // socket of a run that was killed, and removed.
        let unnamed = directory.join(format!(".{run}"));
        let _ = fs::remove_file(&unnamed);
        let listener = UnixListener::bind(&unnamed)?;
        let named = fs::set_permissions(&unnamed, fs::Permissions::from_mode(0o600))
            .and_then(|()| listener.set_nonblocking(true))
            .and_then(|()| fs::rename(&unnamed, &path));
        if let Err(error) = named {
            let _ = fs::remove_file(&unnamed);
            return Err(error);
        }
        Ok(Self { path, listener })
    }
}

impl Drop for RunSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Where sockets may be, the best place first.
fn directories() -> Vec<PathBuf> {
    let of_session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let of_session = of_session.filter(|path| path.is_absolute()).map(|path| path.join("drpipe"));
    let user = rustix::process::geteuid().as_raw();
    of_session.into_iter().chain([PathBuf::from(format!("/tmp/drpipe-{user}"))]).collect()
}

/// Makes the directory if it is missing.
fn make_private(directory: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => check_private(directory),
    }
}

/// A directory that somebody else can write to could hold anything.
fn check_private(directory: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(directory)?;
    let mine = found.uid() == rustix::process::geteuid().as_raw();
    if !found.is_dir() || !mine {
        return Err(io::Error::other("expected a directory of this user"));
    }
    if found.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "found the mode {:o}, which lets others in; expected 700",
            found.mode() & 0o777
        )));
    }
    Ok(())
}

/// The runs of this user that are under way on this machine, in the order of their
/// names. Sockets that killed runs have left are removed.
pub fn live_runs() -> Vec<LiveRun> {
    let places = directories().into_iter().filter(|place| check_private(place).is_ok());
    let mut runs: Vec<LiveRun> = places.flat_map(|place| live_in(&place)).collect();
    runs.sort();
    runs
}

fn live_in(directory: &Path) -> Vec<LiveRun> {
    let Ok(children) = fs::read_dir(directory) else { return Vec::new() };
    let run = |socket: PathBuf| {
        let name = socket.file_name()?.to_str()?.strip_suffix(ENDING)?.to_owned();
        if name.starts_with('.') {
            return None;
        }
        is_live(&socket).then_some(LiveRun { name, socket })
    };
    children.filter_map(|child| run(child.ok()?.path())).collect()
}

/// Whether somebody listens; where nobody does, the file is removed.
fn is_live(path: &Path) -> bool {
    match try_connect(path) {
        Ok(()) => true,
        Err(Errno::CONNREFUSED) => {
            let _ = fs::remove_file(path);
            false
        }
        // A run that is stopped by a debugger answers later.
        Err(error) => error == Errno::AGAIN,
    }
}

/// Never waits.
fn try_connect(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
}

/// The run that is meant by `part`: its name, or what only its name begins or ends with;
/// an empty part means the only run that there is.
///
/// # Errors
/// If there is none or more than one; in words, with what there is.
pub fn find_run(part: &str) -> Result<LiveRun, String> {
    pick(live_runs(), part)
}

fn pick(runs: Vec<LiveRun>, part: &str) -> Result<LiveRun, String> {
    if runs.is_empty() {
        return Err("no run of this user is under way on this machine".to_owned());
    }
    if let Some(run) = runs.iter().find(|run| run.name == part) {
        return Ok(run.clone());
    }
    let meant = |run: &&LiveRun| run.name.starts_with(part) || run.name.ends_with(part);
    let found: Vec<&LiveRun> = runs.iter().filter(meant).collect();
    let list =
        |runs: &[&LiveRun]| runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    match found[..] {
        [run] => Ok(run.clone()),
        [] => {
            let names = runs.iter().map(|run| run.name.as_str());
            let hint = nearest(part, names)
                .map(|near| format!("; did you mean \"{near}\"?"))
                .unwrap_or_default();
            let all = list(&runs.iter().collect::<Vec<_>>());
            Err(format!("there is no run {part:?}: under way are {all}{hint}"))
        }
        _ if part.is_empty() => {
            Err(format!("{} runs are under way; name one of them: {}", found.len(), list(&found)))
        }
        _ => Err(format!("{part:?} may be any of {}; give more of its name", list(&found))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str) -> LiveRun {
        LiveRun { name: name.to_owned(), socket: PathBuf::new() }
    }

    #[test]
    fn a_run_is_found_by_any_part_that_only_it_begins_or_ends_with() {
        let runs = || vec![run("20260101T000000Z-11"), run("20260101T000000Z-12")];
        assert_eq!(pick(runs(), "-12").unwrap().name, "20260101T000000Z-12");
        assert_eq!(pick(runs(), "20260101T000000Z-11").unwrap().name, "20260101T000000Z-11");
        assert!(pick(runs(), "2026").unwrap_err().contains("may be any of 20260101T000000Z-11, "));
        assert!(pick(runs(), "13").unwrap_err().contains("under way are 20260101T000000Z-11, "));
        assert!(pick(runs(), "").unwrap_err().starts_with("2 runs are under way; name one"));
        assert_eq!(pick(vec![run("a")], "").unwrap().name, "a");
        assert!(pick(Vec::new(), "a").unwrap_err().starts_with("no run "));
    }

    #[test]
    fn a_socket_is_found_while_somebody_listens_and_removed_when_nobody_does() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("drpipe");
        let open = RunSocket::open_in(&directory, "A").unwrap();
        assert_eq!(fs::metadata(&open.path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        // As a run that was killed leaves it.
        let stale = directory.join("B.sock");
        drop(UnixListener::bind(&stale).unwrap());
        let names = || live_in(&directory).into_iter().map(|run| run.name).collect::<Vec<_>>();
        assert_eq!(names(), ["A"]);
        assert!(!stale.exists());
        drop(open);
        assert!(names().is_empty() && fs::read_dir(&directory).unwrap().next().is_none());
    }

    #[test]
    fn a_socket_with_a_full_backlog_is_live() {
        let place = tempfile::tempdir().unwrap();
        let open = RunSocket::open_in(&place.path().join("drpipe"), "A").unwrap();
        let mut held = Vec::new();
        let full = loop {
            let stream = rustix::net::socket_with(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::NONBLOCK,
                None,
            );
            let stream = stream.unwrap();
            let result = rustix::net::connect(&stream, &SocketAddrUnix::new(&open.path).unwrap());
            held.push(stream);
            if result.is_err() || held.len() > 10_000 {
                break result;
            }
        };
        assert_eq!(full, Err(Errno::AGAIN));
        assert!(is_live(&open.path) && open.path.exists());
    }

    #[test]
    fn a_directory_that_lets_others_in_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("drpipe");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let error = RunSocket::open_in(&directory, "A").unwrap_err().to_string();
        assert!(error.contains("found the mode 755"), "{error}");
        let link = place.path().join("link");
        std::os::unix::fs::symlink(place.path(), &link).unwrap();
        assert!(RunSocket::open_in(&link, "A").is_err());
    }
}
