//! Memory of segments that is used again. The system clears and maps new memory page by page, which
//! takes ten times as long as filling it.
//!
//! The maker of a segment keeps the only mapping that can be written to. Everybody else, the other
//! parts of the maker too, reads through a file description of its own, which is opened for reading
//! and has a shared lock. The system removes that lock with the last descriptor and the last mapping
//! of the description, in whatever process they are and however that ends. A block is therefore
//! used again only if its maker gets the exclusive lock: then nobody reads it any longer, and before
//! anybody can, all of it is written anew.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use memmap2::{MmapMut, MmapOptions};
use rustix::fs::{FlockOperation, MemfdFlags, SealFlags, fcntl_add_seals, flock, memfd_create};
use rustix::process::{Resource, getrlimit};

use crate::base::lock::lock;

/// Limits the bytes that are kept.
const MOST_BYTES: usize = 256 << 20;
/// A block that was not filled for this long goes back to the system.
const IDLE: Duration = Duration::from_secs(2);

/// The seals of a segment: nobody can cut it or write to it, except by the mapping that its maker
/// has.
pub(super) const SEALS: SealFlags =
    SealFlags::FUTURE_WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// The blocks of this process.
static KEPT: Mutex<Option<FreeList>> = Mutex::new(None);

/// Copies the array into shared memory, and returns that opened for reading. Keeps at most
/// `most_blocks`: each takes a descriptor.
///
/// # Errors
/// If the system has no memory or file descriptor left.
pub(super) fn publish(array: &[u8], most_blocks: usize) -> io::Result<File> {
    let again = lock(&KEPT).as_mut().and_then(|kept| kept.take(array.len()));
    let block = match again {
        Some(mut block) => {
            block.fill(array);
            block
        }
        None => Block::new(array)?,
    };
    let reader = block.open()?;
    keep(block, most_blocks);
    Ok(reader)
}

fn keep(block: Block, most_blocks: usize) {
    let mut kept = lock(&KEPT);
    if kept.is_none() {
        // If the system has no thread left, nothing is used again.
        let returns = thread::Builder::new().name("memory".into()).spawn(return_what_is_idle);
        if returns.is_err() {
            return;
        }
    }
    let kept = kept.get_or_insert_with(|| FreeList::new(most_bytes(), most_blocks));
    kept.give(block, Instant::now());
}

/// Leaves most of a limited address space (`ulimit -v`) to others.
fn most_bytes() -> usize {
    let limit = getrlimit(Resource::As).current.map(|limit| limit / 16);
    limit
        .and_then(|limit| usize::try_from(limit).ok())
        .map_or(MOST_BYTES, |limit| limit.min(MOST_BYTES))
}

/// Gives blocks back to the system until there is none.
fn return_what_is_idle() {
    let mut is_any_left = true;
    while is_any_left {
        thread::sleep(IDLE);
        let mut kept = lock(&KEPT);
        let idle = kept.as_mut().map(|kept| kept.take_idle(Instant::now()));
        is_any_left = kept.as_ref().is_some_and(|kept| !kept.blocks.is_empty());
        if !is_any_left {
            *kept = None;
        }
        drop(kept);
        // It takes the system some time, for which nobody should have to wait.
        drop(idle);
    }
}

/// Memory that its maker may write to.
struct Block {
    memory: MmapMut,
    file: File,
}

impl Block {
    fn new(array: &[u8]) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("drpipe", flags)?);
        // Not by the mapping: if there is no memory a call fails, but a store ends the process.
        file.write_all(array)?;
        // SAFETY: the file cannot be cut, because it is sealed below and nobody else has it before.
        // This process writes to the mapping in `fill` alone, where nobody reads the file, and no
        // other process can write to it.
        let memory = unsafe { MmapOptions::new().len(array.len()).map_mut(&file)? };
        fcntl_add_seals(&file, SEALS)?;
        Ok(Self { memory, file })
    }

    /// Overwrites all of it. Nobody may be reading it.
    fn fill(&mut self, array: &[u8]) {
        self.memory.copy_from_slice(array);
    }

    /// Opens the block for readers.
    fn open(&self) -> io::Result<File> {
        let reader = File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))?;
        flock(&reader, FlockOperation::NonBlockingLockShared)?;
        Ok(reader)
    }

    fn is_read(&self) -> bool {
        // Whatever else it may be that refuses the lock, the block is not used again.
        flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_err()
            || flock(&self.file, FlockOperation::Unlock).is_err()
    }
}

/// Blocks that wait until nobody reads them. One that is taken is in the list no longer, so it
/// never has two owners.
struct FreeList {
    /// In the order in which they were filled, and when that was.
    blocks: Vec<(Block, Instant)>,
    most_bytes: usize,
    most_blocks: usize,
}

impl FreeList {
    fn new(most_bytes: usize, most_blocks: usize) -> Self {
        Self { blocks: Vec::new(), most_bytes, most_blocks }
    }

    fn bytes(&self) -> usize {
        self.blocks.iter().map(|(block, _)| block.memory.len()).sum()
    }

    /// Takes a block of this length that nobody reads. The one that was filled first is the most
    /// likely.
    fn take(&mut self, length: usize) -> Option<Block> {
        let is_free = |(block, _): &(Block, _)| block.memory.len() == length && !block.is_read();
        self.blocks.iter().position(is_free).map(|at| self.blocks.remove(at).0)
    }

    /// Keeps a block, if there is room for it beside those of its length and those that are read.
    fn give(&mut self, block: Block, now: Instant) {
        let length = block.memory.len();
        if length > self.most_bytes {
            return;
        }
        while self.bytes() + length > self.most_bytes || self.blocks.len() >= self.most_blocks {
            let is_useless =
                |(kept, _): &(Block, _)| kept.memory.len() != length && !kept.is_read();
            let Some(at) = self.blocks.iter().position(is_useless) else { return };
            self.blocks.remove(at);
        }
        self.blocks.push((block, now));
    }

    /// Takes the blocks that were not filled for a while. Where one is still read, its readers
    /// keep the memory.
    fn take_idle(&mut self, now: Instant) -> Vec<(Block, Instant)> {
        let is_idle = |filled: Instant| now.saturating_duration_since(filled) >= IDLE;
        let first = self.blocks.iter().position(|(_, filled)| !is_idle(*filled));
        self.blocks.drain(..first.unwrap_or(self.blocks.len())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::FileExt;
    use std::process::{Command, Stdio};

    use memmap2::Mmap;

    use super::*;

    const LENGTH: usize = 8192;

    fn list() -> FreeList {
        FreeList::new(4 * LENGTH, 100)
    }

    fn content(reader: &File) -> Vec<u8> {
        let mut content = vec![0; LENGTH];
        reader.read_exact_at(&mut content, 0).unwrap();
        content
    }

    /// Takes a block that no test reads. A process that another test is just starting still has its
    /// descriptors for a moment.
    fn taken(list: &mut FreeList) -> Block {
        loop {
            match list.take(LENGTH) {
                Some(block) => return block,
                None => thread::yield_now(),
            }
        }
    }

    fn mapped(reader: &File) -> Mmap {
        // SAFETY: the block is not filled again while it is mapped: that is what is tested.
        unsafe { MmapOptions::new().map_copy_read_only(reader).unwrap() }
    }

    #[test]
    fn a_block_is_used_again_once_its_last_descriptor_and_its_last_mapping_are_gone() {
        let (mut list, now) = (list(), Instant::now());
        let block = Block::new(&[1; LENGTH]).unwrap();
        let address = block.memory.as_ptr();
        let reader = block.open().unwrap();
        list.give(block, now);
        assert!(list.take(LENGTH).is_none(), "a reader has a descriptor");
        let (mapping, copy) = (mapped(&reader), reader.try_clone().unwrap());
        drop(reader);
        assert!(list.take(LENGTH).is_none(), "a reader has a copy of the descriptor");
        drop(copy);
        assert!(list.take(LENGTH).is_none(), "a reader has it mapped");
        assert_eq!(mapping[..], [1; LENGTH]);
        drop(mapping);
        assert!(list.take(LENGTH - 1).is_none(), "it has another length");
        let mut block = taken(&mut list);
        assert!(list.take(LENGTH).is_none(), "it has an owner");
        assert_eq!(block.memory.as_ptr(), address);
        block.fill(&[2; LENGTH]);
        assert_eq!(content(&block.open().unwrap()), [2; LENGTH]);
    }

    #[test]
    fn a_reader_in_another_process_holds_a_block_until_it_has_ended_however_it_does() {
        let (mut list, now) = (list(), Instant::now());
        let block = Block::new(&[1; LENGTH]).unwrap();
        let reader: OwnedFd = block.open().unwrap().into();
        list.give(block, now);
        // It holds the descriptor as its standard error and reads nothing.
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(reader).spawn();
        let child = child.as_mut().unwrap();
        assert!(list.take(LENGTH).is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        taken(&mut list);
    }

    #[test]
    fn only_the_maker_can_write_to_a_block() {
        let block = Block::new(&[1; LENGTH]).unwrap();
        let reader = block.open().unwrap();
        assert!(reader.write_at(&[2], 0).is_err());
        assert!(block.file.write_at(&[2], 0).is_err());
        assert!(block.file.set_len(1).is_err() && reader.set_len(1).is_err());
        assert!(MmapOptions::new().map_raw(&reader).is_err());
        assert!(MmapOptions::new().map_raw(&block.file).is_err());
        assert_eq!(content(&reader), [1; LENGTH]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut list, now) = (list(), Instant::now());
        let kept =
            |list: &FreeList| list.blocks.iter().map(|(b, _)| b.memory.len()).collect::<Vec<_>>();
        let block = |length: usize| Block::new(&vec![1; length]).unwrap();
        for length in [LENGTH / 2, LENGTH, LENGTH, LENGTH, LENGTH, 5 * LENGTH] {
            list.give(block(length), now);
        }
        assert_eq!(kept(&list), [LENGTH; 4], "what has another length makes room");
        let readers: Vec<File> =
            list.blocks.iter().skip(1).map(|(b, _)| b.open().unwrap()).collect();
        for _ in 0..2 {
            list.give(block(LENGTH / 2), now);
        }
        assert_eq!(kept(&list), [LENGTH, LENGTH, LENGTH, LENGTH / 2, LENGTH / 2]);
        list.give(block(LENGTH / 4), now);
        assert_eq!(kept(&list), [LENGTH, LENGTH, LENGTH, LENGTH / 2, LENGTH / 4]);
        drop(readers);
        list.most_blocks = 2;
        list.give(block(LENGTH / 4), now);
        assert_eq!(kept(&list), [LENGTH / 4, LENGTH / 4]);
    }

    #[test]
    fn what_was_not_filled_for_a_while_is_given_back_and_its_readers_keep_it() {
        let (mut list, now) = (list(), Instant::now());
        let block = Block::new(&[1; LENGTH]).unwrap();
        let reader = block.open().unwrap();
        list.give(block, now);
        list.give(Block::new(&[2; LENGTH]).unwrap(), now + IDLE / 2);
        assert!(list.take_idle(now + IDLE / 2).is_empty());
        assert_eq!(list.take_idle(now + IDLE).len(), 1);
        assert_eq!(content(&reader), [1; LENGTH]);
        assert_eq!(list.take_idle(now + IDLE * 2).len(), 1);
        assert!(list.blocks.is_empty());
    }
}
