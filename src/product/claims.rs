//! Claims on names: which input of a run each product is made from.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::whole_file::write_new;
use crate::base::failure::{Context as _, Failure, Result};
use crate::base::lock::lock;
use crate::stage::Context;

/// Limits the memory of a program that makes one run after the other: claims of this many
/// runs are kept, finished ones included.
const RUNS: usize = 8;

/// The owner of each claimed path.
type Table = Arc<Mutex<HashMap<PathBuf, Box<str>>>>;

/// The claims of each run in this process, the latest run last.
static TABLES: Mutex<VecDeque<(String, Table)>> = Mutex::new(VecDeque::new());

/// The claims of one run.
pub(super) enum Claims {
    /// In memory: all workers of the run are threads of this process.
    InMemory(Table),
    /// One file per claim in this directory: some workers are processes.
    Shared(PathBuf),
}

impl Default for Claims {
    fn default() -> Self {
        Self::InMemory(Table::default())
    }
}

impl Claims {
    /// Opens the claims of the run that `context` belongs to.
    ///
    /// # Errors
    /// If the directory of the run's claims cannot be made.
    pub(super) fn of(context: &Context) -> Result<Self> {
        let Some(private) = context.private_directory() else {
            return Ok(Self::InMemory(table_of(context.run())));
        };
        let directory = private.join("claims");
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make the directory {}", directory.display()))?;
        Ok(Self::Shared(directory))
    }

    /// Returns the owner of a path, if it is claimed.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn owner(&self, path: &Path) -> Result<Option<String>> {
        match self {
            Self::InMemory(table) => Ok(lock(table).get(path).map(ToString::to_string)),
            Self::Shared(directory) => owner_shared(directory, path)
                .with_context(|| format!("cannot find out which input claimed {}", path.display())),
        }
    }

    /// Claims a path for an owner; returns the other owner if it is taken. The same owner
    /// may claim a path again, because a retry replaces what an earlier attempt left.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn claim(&self, path: &Path, owner: &str) -> Result<Option<String>> {
        match self {
            Self::InMemory(table) => Ok(claim_in_memory(table, path, owner)),
            Self::Shared(directory) => claim_shared(directory, path, owner)
                .with_context(|| format!("cannot claim {} for one input", path.display())),
        }
    }
}

/// Refuses a product that would replace the one of another owner.
///
/// # Errors
/// A permanent failure that names both owners, if there is another one.
pub(super) fn refuse_other(path: &Path, other: Option<&String>, owner: &str) -> Result<()> {
    match other {
        None => Ok(()),
        Some(other) => Err(Failure::permanent(format!(
            "{} was already made from {other} and would be overwritten by {owner}: give their \
             products different names or directories",
            path.display()
        ))),
    }
}

fn claim_in_memory(table: &Table, path: &Path, owner: &str) -> Option<String> {
    let mut claims = lock(table);
    match claims.get(path) {
        Some(other) => (**other != *owner).then(|| other.to_string()),
        None => {
            claims.insert(path.to_owned(), owner.into());
            None
        }
    }
}

/// Looks for the claim that [`claim_shared`] made.
fn owner_shared(directory: &Path, path: &Path) -> std::io::Result<Option<String>> {
    let (hash, start) = (hash_of(path), claim_on(path));
    let mut number = 0_u32;
    loop {
        match fs::read(directory.join(format!("{hash:016x}-{number}"))) {
            Ok(found) => {
                if let Some(owner) = found.strip_prefix(&start[..]) {
                    return Ok(Some(String::from_utf8_lossy(owner).into_owned()));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        number += 1;
    }
}

fn hash_of(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// The first bytes of the file of a claim on a path.
fn claim_on(path: &Path) -> Vec<u8> {
    let mut claim = path.as_os_str().as_bytes().to_vec();
    claim.push(0);
    claim
}

/// Makes the file of a claim: it is named by a hash of the path and holds the path, a NUL
/// byte and the owner. Only one process can make it, and it appears whole.
fn claim_shared(directory: &Path, path: &Path, owner: &str) -> std::io::Result<Option<String>> {
    let (hash, mut claim) = (hash_of(path), claim_on(path));
    let owner_at = claim.len();
    claim.extend(owner.as_bytes());
    let mut number = 0_u32;
    loop {
        let file = directory.join(format!("{hash:016x}-{number}"));
        if write_new(&file, &claim)? {
            return Ok(None);
        }
        let found = fs::read(&file)?;
        if let Some(other) = found.strip_prefix(&claim[..owner_at]) {
            let same = other == owner.as_bytes();
            return Ok((!same).then(|| String::from_utf8_lossy(other).into_owned()));
        }
        // The file belongs to another path with the same hash.
        number += 1;
    }
}

fn table_of(run: &str) -> Table {
    let mut tables = lock(&TABLES);
    if let Some((_, table)) = tables.iter().find(|(name, _)| name == run) {
        return Arc::clone(table);
    }
    let table = Table::default();
    tables.push_back((run.to_owned(), Arc::clone(&table)));
    if tables.len() > RUNS {
        let idle = tables.iter().position(|(_, table)| Arc::strong_count(table) == 1);
        idle.and_then(|idle| tables.remove(idle));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> (tempfile::TempDir, [Claims; 2]) {
        let directory = tempfile::tempdir().unwrap();
        let shared = Claims::Shared(directory.path().to_owned());
        (directory, [Claims::default(), shared])
    }

    #[test]
    fn the_first_owner_keeps_a_path_and_may_claim_it_again() {
        let (_directory, both) = both();
        for claims in both {
            let claim = |path: &str, owner| claims.claim(Path::new(path), owner).unwrap();
            assert_eq!(claim("/out/x", "a"), None);
            assert_eq!(claim("/out/x", "b").as_deref(), Some("a"));
            assert_eq!(claim("/out/x", "a"), None);
            assert_eq!(claims.owner(Path::new("/out/y")).unwrap(), None);
            assert_eq!(claim("/out/y", "b"), None);
            assert_eq!(claims.owner(Path::new("/out/y")).unwrap().as_deref(), Some("b"));
        }
    }

    #[test]
    fn of_many_at_once_one_gets_the_path() {
        let (_directory, both) = both();
        for claims in both {
            let names: Vec<String> = (0..8).map(|n| n.to_string()).collect();
            let others: Vec<Option<String>> = std::thread::scope(|scope| {
                let claim = |name| claims.claim(Path::new("/out/x"), name).unwrap();
                let threads: Vec<_> =
                    names.iter().map(|name| scope.spawn(move || claim(name))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let winners: Vec<_> = (0..8).filter(|n| others[*n].is_none()).collect();
            assert_eq!(winners.len(), 1);
            let winner = &names[winners[0]];
            assert!(others.iter().flatten().all(|other| other == winner));
        }
    }

    #[test]
    fn two_paths_of_one_hash_are_two_claims() {
        let directory = tempfile::tempdir().unwrap();
        let path = Path::new("/out/x");
        assert_eq!(claim_shared(directory.path(), path, "a").unwrap(), None);
        let file = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
        fs::write(&file, b"/out/other\0b").unwrap();
        assert_eq!(claim_shared(directory.path(), path, "a").unwrap(), None);
        assert_eq!(claim_shared(directory.path(), path, "c").unwrap().as_deref(), Some("a"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
