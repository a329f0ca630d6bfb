//! The sockets of this user's runs on this machine. Each run listens on one while it lasts, so
//! that other programs of the user find it by its name.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::base::nearest::nearest;
use crate::base::own_files::{check_private, make_private};

/// The end of a socket's name.
const SUFFIX: &str = ".sock";
/// The beginning of a socket's name until it listens.
const PENDING_PREFIX: &str = ".";
/// How often a run makes a new socket after another program mistook its last one for that of a
/// killed run. Even once is rare.
const MAX_TRIES: usize = 16;

/// A run in progress on this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct LiveRun {
    /// Its name.
    pub name: String,
    /// The socket on which it listens.
    pub socket: PathBuf,
}

/// The socket of a run, which only this user can open. Dropping it removes the socket.
#[derive(Debug)]
pub(crate) struct RunSocket {
    pub(crate) path: PathBuf,
    pub(crate) listener: UnixListener,
    /// The device and the inode of the socket.
    file: (u64, u64),
}

impl RunSocket {
    /// Listens for programs that look for the run of this name.
    ///
    /// # Errors
    /// If there is no directory for it; the error names each directory that was tried.
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
        let path = directory.join(format!("{run}{SUFFIX}"));
        for _ in 0..MAX_TRIES {
            make_private(directory)?;
            match Self::make(directory, &path) {
                // Another program mistook it for the socket of a killed run and removed it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if is_live(&path) {
                        return Err(io::Error::other("another run of this name is under way"));
                    }
                }
                result => return result,
            }
        }
        Err(io::Error::other("another program removes each new socket as soon as it is made"))
    }

    /// Makes the socket; it gets its name once it listens, because a socket that refuses
    /// connections counts as that of a killed run, and is removed.
    fn make(directory: &Path, path: &Path) -> io::Result<Self> {
        let unnamed =
            tempfile::Builder::new().prefix(PENDING_PREFIX).make_in(directory, |unnamed| {
                let listener = UnixListener::bind(unnamed)?;
                fs::set_permissions(unnamed, fs::Permissions::from_mode(0o600))?;
                Ok(listener)
            })?;
        let (listener, unnamed) = unnamed.into_parts();
        listener.set_nonblocking(true)?;
        // Of two runs with one name, the second gets no socket.
        fs::hard_link(&unnamed, path)?;
        let found = fs::symlink_metadata(&unnamed)?;
        Ok(Self { path: path.to_owned(), listener, file: (found.dev(), found.ino()) })
    }

    /// Returns whether other programs find it: the directory of a session is removed at the
    /// last logout.
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

/// The directories in which sockets may be, the best first: a run and the programs that look
/// for it may belong to different sessions. `DRPIPE_RUNTIME_DIR` replaces all of them.
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

/// The directories that are not searched for runs because they belong to another user, or other
/// users can access them; each with the reason.
pub(crate) fn unsafe_places() -> Vec<String> {
    let problem = |place: PathBuf| match check_private(&place) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Some(format!("{}: {error}", place.display()))
        }
        _ => None,
    };
    directories().into_iter().filter_map(problem).collect()
}

/// The runs of this user in progress on this machine, in the order of their names. Removes the
/// sockets that killed runs have left.
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
        if file.starts_with(PENDING_PREFIX) {
            is_live(&socket);
            return None;
        }
        let name = file.strip_suffix(SUFFIX)?.to_owned();
        is_live(&socket).then_some(LiveRun { name, socket })
    };
    children.filter_map(|child| run(child.ok()?.path())).collect()
}

/// Returns whether a program listens; if none does, removes the socket.
fn is_live(path: &Path) -> bool {
    match try_connect(path) {
        Ok(()) => true,
        Err(Errno::CONNREFUSED) => {
            // A file that is not a socket gives this error too.
            if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
                let _ = fs::remove_file(path);
            }
            false
        }
        // A run that a debugger has stopped answers later.
        Err(error) => error == Errno::AGAIN,
    }
}

/// Connects without waiting.
fn try_connect(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
}

/// Why a name does not identify one run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FindRunError {
    /// No run is in progress.
    #[error("no run of this user is under way on this machine")]
    NoRun,
    /// No name of a run begins or ends with this part.
    #[error("there is no run {part:?}; the runs under way are {}{}", runs.join(", "), hint(nearest.as_deref()))]
    Unknown {
        /// The part that was given.
        part: String,
        /// The names of the runs in progress.
        runs: Vec<String>,
        /// The nearest name.
        nearest: Option<String>,
    },
    /// Several runs are in progress, and no name was given.
    #[error("{} runs are under way; name one of them: {}", runs.len(), runs.join(", "))]
    Unnamed {
        /// Their names.
        runs: Vec<String>,
    },
    /// Several names begin or end with this part.
    #[error("{part:?} matches several runs: {}; give more of the name", runs.join(", "))]
    Ambiguous {
        /// The part that was given.
        part: String,
        /// The names.
        runs: Vec<String>,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default()
}

/// Finds the run that `part` means: by its name, or by a unique beginning or end of its name; an
/// empty part means the only run.
///
/// # Errors
/// If no run matches, or more than one.
pub fn find_run(part: &str) -> Result<LiveRun, FindRunError> {
    pick(live_runs(), part)
}

fn pick(runs: Vec<LiveRun>, part: &str) -> Result<LiveRun, FindRunError> {
    if runs.is_empty() {
        return Err(FindRunError::NoRun);
    }
    if let Some(run) = runs.iter().find(|run| run.name == part) {
        return Ok(run.clone());
    }
    let is_meant = |run: &&LiveRun| run.name.starts_with(part) || run.name.ends_with(part);
    let found: Vec<&LiveRun> = runs.iter().filter(is_meant).collect();
    let names = |runs: &[&LiveRun]| runs.iter().map(|run| run.name.clone()).collect();
    let part = part.to_owned();
    Err(match found[..] {
        [run] => return Ok(run.clone()),
        [] => {
            let nearest = nearest(&part, runs.iter().map(|run| run.name.as_str()));
            let nearest = nearest.map(str::to_owned);
            FindRunError::Unknown { part, runs: names(&runs.iter().collect::<Vec<_>>()), nearest }
        }
        _ if part.is_empty() => FindRunError::Unnamed { runs: names(&found) },
        _ => FindRunError::Ambiguous { part, runs: names(&found) },
    })
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
        assert!(
            pick(runs(), "2026")
                .unwrap_err()
                .to_string()
                .contains("matches several runs: 20260101T000000Z-11, ")
        );
        assert!(
            pick(runs(), "13")
                .unwrap_err()
                .to_string()
                .contains("under way are 20260101T000000Z-11, ")
        );
        assert!(
            pick(runs(), "").unwrap_err().to_string().starts_with("2 runs are under way; name one")
        );
        assert_eq!(pick(vec![run("a")], "").unwrap().name, "a");
        assert!(pick(Vec::new(), "a").unwrap_err().to_string().starts_with("no run "));
    }

    #[test]
    fn a_socket_is_found_while_somebody_listens_and_removed_when_nobody_does() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("drpipe");
        let open = RunSocket::open_in(&directory, "A").unwrap();
        assert_eq!(fs::metadata(&open.path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        // The state that a killed run leaves.
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
