//! Large arrays in memory that processes share: sealed memfd files. They have no name, so nothing is
//! left behind if a process dies: the system frees a segment with its last holder, unless its maker
//! uses the memory again.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::process::{Resource, getrlimit};

use super::free_list;
use crate::base::lock::lock;

/// The size in bytes from which an array gets a segment of its own.
pub(crate) const SHARED_FROM: usize = 256 << 10;

thread_local! {
    /// Whether large arrays that this thread emits go to another process.
    static SHARING: Cell<bool> = const { Cell::new(false) };
}

/// Puts large arrays that this thread emits from now on into segments.
pub(crate) fn share_from_here() {
    SHARING.set(true);
}

/// Lets `act` put large arrays into segments if `shares` says so.
pub(crate) fn sharing<R>(shares: bool, act: impl FnOnce() -> R) -> R {
    let before = SHARING.replace(shares);
    let result = act();
    SHARING.set(before);
    result
}

/// Whether this thread puts an array of this size, in bytes, into a segment.
pub(crate) fn is_wanted(size: usize) -> bool {
    size >= SHARED_FROM && SHARING.get()
}

/// One array, mapped read-only.
pub(crate) struct Segment {
    map: Mmap,
    file: File,
}

/// The segments that are mapped in this process, by address: so an array on its way through is
/// recognized as one.
static BY_ADDRESS: Mutex<BTreeMap<usize, Weak<Segment>>> = Mutex::new(BTreeMap::new());

/// Limits the segments of this process: each takes a file descriptor, and workers, sockets and
/// the files of stages need some too.
fn most() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    let limit = || getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 4;
    *MOST.get_or_init(|| usize::try_from(limit()).unwrap_or(usize::MAX))
}

fn is_full() -> bool {
    lock(&BY_ADDRESS).len() >= most()
}

/// Copies the array into a segment of its own.
///
/// # Errors
/// If there are too many already, or the system has no memory or file descriptor left.
pub(crate) fn create(array: &[u8]) -> io::Result<Bytes> {
    if is_full() {
        return Err(io::Error::other("there are too many segments already"));
    }
    map(free_list::publish(array, most() / 2)?)
}

/// Maps the array in another process's segment.
///
/// # Errors
/// If it is not sealed, not of that length, or cannot be mapped.
pub(crate) fn open(file: OwnedFd, length: u64) -> io::Result<Bytes> {
    let size = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
    if size != length || size == 0 {
        return Err(io::Error::other(format!("a segment has {size} bytes, expected {length}")));
    }
    let seals = fcntl_get_seals(&file)?;
    let is_whole = seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL);
    if !is_whole || !seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE) {
        return Err(io::Error::other("a segment is not sealed"));
    }
    if is_full() {
        // Slower, but otherwise the descriptors would run out.
        let mut array = vec![0; length as usize];
        File::from(file).read_exact_at(&mut array, 0)?;
        return Ok(array.into());
    }
    map(File::from(file))
}

/// Returns the segment that consists of `array`, if there is one.
pub(crate) fn of(array: &Bytes) -> Option<Arc<Segment>> {
    let found = lock(&BY_ADDRESS).get(&(array.as_ptr() as usize)).and_then(Weak::upgrade);
    found.filter(|segment| segment.map.len() == array.len())
}

fn map(file: File) -> io::Result<Bytes> {
    // SAFETY: the callers have sealed the file, or seen that it is sealed, against shrinking: no
    // process can cut what is mapped. Nobody can write to it either, or its maker alone, and that
    // writes only when no descriptor and no mapping such as this is left (`free_list`).
    // It is mapped privately, which systems allow for sealed files that refuse a shared mapping:
    // the pages are the same.
    let map = unsafe { MmapOptions::new().map_copy_read_only(&file)? };
    let segment = Arc::new(Segment { map, file });
    lock(&BY_ADDRESS).insert(segment.map.as_ptr() as usize, Arc::downgrade(&segment));
    Ok(Bytes::from_owner(Shared(segment)))
}

/// Lets `Bytes` own a segment.
struct Shared(Arc<Segment>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.map
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Segment {
    /// Removes the entry before the memory is unmapped: its address may be reused afterwards.
    fn drop(&mut self) {
        lock(&BY_ADDRESS).remove(&(self.map.as_ptr() as usize));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};

    use super::*;

    #[test]
    fn an_array_is_shared_without_a_further_copy_and_known_by_its_address() {
        let array = create(&[7; SHARED_FROM]).unwrap();
        assert!(array.iter().all(|byte| *byte == 7));
        let segment = of(&array).unwrap();
        let other = open(segment.file.try_clone().unwrap().into(), SHARED_FROM as u64).unwrap();
        assert_ne!(other.as_ptr(), array.as_ptr());
        assert_eq!(other, array);
        assert!(of(&array.slice(1..)).is_none(), "a part is not the whole");
        drop(segment);
        let weak = Arc::downgrade(&of(&other).unwrap());
        drop(other);
        assert!(weak.upgrade().is_none(), "nobody holds it any longer");
        assert!(of(&Bytes::from(vec![0; 10])).is_none());
    }

    #[test]
    fn what_could_change_or_be_cut_is_refused() {
        const CUT: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);
        let file = |seals| {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let mut file = File::from(memfd_create("test", flags).unwrap());
            file.write_all(&[1; 100]).unwrap();
            fcntl_add_seals(&file, seals).unwrap();
            file.into()
        };
        for seals in [SealFlags::empty(), CUT, SealFlags::WRITE, SealFlags::FUTURE_WRITE] {
            let error = open(file(seals), 100).unwrap_err();
            assert!(error.to_string().contains("not sealed"), "{error}");
        }
        for seals in [SealFlags::WRITE, SealFlags::FUTURE_WRITE] {
            assert_eq!(open(file(CUT | seals), 100).unwrap(), [1; 100][..]);
            let error = open(file(CUT | seals), 101).unwrap_err();
            assert!(error.to_string().contains("100 bytes, expected 101"), "{error}");
        }
    }
}
