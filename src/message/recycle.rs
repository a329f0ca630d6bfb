//! Reuse of large blocks. A block that is freed goes back to the system and comes back page by
//! page, which costs more than filling it.

use std::sync::Mutex;

use bytes::Bytes;

use crate::base::lock::lock;

/// The size in bytes from which a block is kept for the next user.
const KEEP_FROM: usize = 64 << 10;
/// Limits the bytes of a block that is kept: larger ones are rare and would never be reused.
const KEEP_UP_TO: usize = 640 << 10;
/// Limits the number of blocks that are kept: long queues of short messages use this many,
/// about 70 MiB.
const MOST: usize = 256;

static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Returns an empty vector with room for `room` bytes.
pub(crate) fn vector(room: usize) -> Vec<u8> {
    let kept = if room < KEEP_FROM { None } else { lock(&FREE).pop() };
    match kept {
        Some(mut vector) => {
            vector.reserve(room);
            vector
        }
        None => Vec::with_capacity(room),
    }
}

/// Turns the vector into shared memory that comes back here when its last holder drops it.
pub(crate) fn share(vector: Vec<u8>) -> Bytes {
    if (KEEP_FROM..=KEEP_UP_TO).contains(&vector.capacity()) {
        Bytes::from_owner(Lent(vector))
    } else {
        vector.into()
    }
}

struct Lent(Vec<u8>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut free = lock(&FREE);
        if free.len() < MOST {
            self.0.clear();
            free.push(std::mem::take(&mut self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_freed_is_used_again_and_empty() {
        // Other tests share the pool, so a block may go to one of them: not all do.
        let reused = (0..100).any(|_| {
            let mut vector = vector(KEEP_FROM);
            assert!(vector.is_empty() && vector.capacity() >= KEEP_FROM);
            vector.extend_from_slice(b"before");
            let address = vector.as_ptr();
            let shared = share(vector);
            assert_eq!(shared, "before");
            drop(shared);
            let next = super::vector(KEEP_FROM);
            next.as_ptr() == address
        });
        assert!(reused);
    }

    #[test]
    fn small_and_giant_blocks_are_not_kept() {
        for room in [10, KEEP_UP_TO + 1] {
            let shared = share(vec![1; room]);
            let kept = lock(&FREE).len();
            drop(shared);
            assert!(lock(&FREE).iter().skip(kept).all(|block| block.capacity() != room));
        }
    }
}
