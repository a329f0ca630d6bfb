//! The sockets of the runs of this user on this machine: each run listens on one while
//! it lasts, so that the other programs of the user find it by its name.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::base::nearest::nearest;
use crate::base::own_files::{check_private, make_private};

/// What the name of a socket ends with.
const ENDING: &str = ".sock";
/// What it begins with before it is one that runs are found by.
const UNNAMED: &str = ".";
/// So often one is made anew that was taken for that of a run that was killed.
const TRIES: usize = 16;

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
pub(crate) struct RunSocket {
    pub(crate) path: PathBuf,
    pub(crate) listener: UnixListener,
    /// Which file it is: its device and its number there.
    file: (u64, u64),
}

impl RunSocket {
    /// Listens for those who look for the run of this name.
    ///
    /// # Errors
    /// If there is no directory for it; the error names those that were tried.
    pub(crate) fn open(run: &str) -> io::Result<Self> {
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
        let path = directory.join(format!("{run}{ENDING}"));
        for _ in 0..TRIES {
            make_private(directory)?;
            match Self::make(directory, &path) {
                // Whoever removes the sockets of killed runs has met it before it listened.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if is_live(&path) {
                        return Err(io::Error::other("another run of this name is under way"));
                    }
                }
                result => return result,
            }
        }
        Err(io::Error::other("something removes each new socket at once"))
    }

    /// It gets its name when it listens already: one that refuses is taken for the socket of
    /// a run that was killed, and removed.
    fn make(directory: &Path, path: &Path) -> io::Result<Self> {
        let unnamed = tempfile::Builder::new().prefix(UNNAMED).make_in(directory, |unnamed| {
            let listener = UnixListener::bind(unnamed)?;
            fs::set_permissions(unnamed, fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        })?;
        let (listener, unnamed) = unnamed.into_parts();
        listener.set_nonblocking(true)?;
        // Of two runs of one name the second gets none.
        fs::hard_link(&unnamed, path)?;
        let found = fs::symlink_metadata(&unnamed)?;
        Ok(Self { path: path.to_owned(), listener, file: (found.dev(), found.ino()) })
    }

    /// Whether those who look find it: the directory of a session goes with its last login.
    pub(crate) fn is_there(&self) -> bool {
        let found = fs::symlink_metadata(&self.path);
        found.is_ok_and(|found| (found.dev(), found.ino()) == self.file)
    }
}

impl Drop for RunSocket {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where sockets may be, the best place first: a run and those who look for it may have been
/// started in different sessions. Whoever names a place means no other.
fn directories() -> Vec<PathBuf> {
    let given = |variable: &str| {
        let path = std::env::var_os(variable).map(PathBuf::from);
        path.filter(|path| path.is_absolute()).map(|path| path.join("drpipe"))
    };
    if let Some(only) = given("DRPIPE_RUNTIME_DIR") {
        return vec![only];
    }
    let user = rustix::process::geteuid().as_raw();
    let of_session = given("XDG_RUNTIME_DIR");
    let usual = [format!("/run/user/{user}/drpipe"), format!("/tmp/drpipe-{user}")];
    let mut all: Vec<PathBuf> = of_session.into_iter().collect();
    for path in usual.map(PathBuf::from) {
        if !all.contains(&path) {
            all.push(path);
        }
    }
    all
}

/// Places where runs of this user would be found, were these not in somebody else's hands;
/// with the reasons.
pub fn unsafe_places() -> Vec<String> {
    let problem = |place: PathBuf| match check_private(&place) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Some(format!("{}: {error}", place.display()))
        }
        _ => None,
    };
    directories().into_iter().filter_map(problem).collect()
}

/// The runs of this user that are under way on this machine, in the order of their
/// names. Sockets that killed runs have left are removed.
pub fn live_runs() -> Vec<LiveRun> {
    let places = directories().into_iter().filter(|place| check_private(place).is_ok());
    let mut runs: Vec<LiveRun> = places.flat_map(|place| live_in(&place)).collect();
    runs.sort();
    runs.dedup_by(|a, b| a.name == b.name);
    runs
}

fn live_in(directory: &Path) -> Vec<LiveRun> {
    let Ok(children) = fs::read_dir(directory) else { return Vec::new() };
    let run = |socket: PathBuf| {
        let file = socket.file_name()?.to_str()?;
        if file.starts_with(UNNAMED) {
            is_live(&socket);
            return None;
        }
        let name = file.strip_suffix(ENDING)?.to_owned();
        is_live(&socket).then_some(LiveRun { name, socket })
    };
    children.filter_map(|child| run(child.ok()?.path())).collect()
}

/// Whether somebody listens; where nobody does, the file is removed.
fn is_live(path: &Path) -> bool {
    match try_connect(path) {
        Ok(()) => true,
        Err(Errno::CONNREFUSED) => {
            // So a file is answered that is no socket at all.
            if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
                let _ = fs::remove_file(path);
            }
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
        let (stale, begun) = (directory.join("B.sock"), directory.join(".begun"));
        drop(UnixListener::bind(&stale).unwrap());
        drop(UnixListener::bind(&begun).unwrap());
        let names = || live_in(&directory).into_iter().map(|run| run.name).collect::<Vec<_>>();
        assert_eq!(names(), ["A"]);
        assert!(!stale.exists() && !begun.exists());
        drop(open);
        assert!(names().is_empty() && fs::read_dir(&directory).unwrap().next().is_none());
    }

    #[test]
    fn of_two_runs_of_one_name_the_second_gets_no_socket() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("drpipe");
        let first = RunSocket::open_in(&directory, "A").unwrap();
        let error = RunSocket::open_in(&directory, "A").unwrap_err().to_string();
        assert!(error.contains("another run of this name"), "{error}");
        assert!(first.is_there() && is_live(&first.path));
        let path = first.path.clone();
        std::mem::forget(first);
        assert!(is_live(&path), "it goes only with the program");
    }

    #[test]
    fn a_socket_whose_directory_was_removed_is_made_again() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("drpipe");
        let lost = RunSocket::open_in(&directory, "A").unwrap();
        fs::remove_dir_all(&directory).unwrap();
        assert!(!lost.is_there());
        let again = RunSocket::open_in(&directory, "A").unwrap();
        drop(lost);
        assert!(again.is_there() && is_live(&again.path));
    }

    #[test]
    fn runs_are_looked_for_where_other_sessions_put_them() {
        let all = directories();
        let user = rustix::process::geteuid().as_raw();
        let usual = [format!("/run/user/{user}/drpipe"), format!("/tmp/drpipe-{user}")];
        assert!(usual.iter().all(|place| all.contains(&PathBuf::from(place))), "{all:?}");
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
