//! The identities of workers on the router's sockets.

use crate::base::ids::{Slot, WorkerId};

/// The identity of a worker. libzmq reserves those that begin with a zero byte.
pub(super) fn of(worker: WorkerId) -> [u8; 9] {
    let mut bytes = [b'W', 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[1..5].copy_from_slice(&worker.slot.0.to_le_bytes());
    bytes[5..].copy_from_slice(&worker.epoch.to_le_bytes());
    bytes
}

/// The worker that an identity stands for.
pub(super) fn worker_of(identity: &[u8]) -> Option<WorkerId> {
    let (first, rest) = identity.split_first()?;
    let (slot, epoch) = rest.split_at_checked(4)?;
    let slot = Slot(u32::from_le_bytes(slot.try_into().ok()?));
    let epoch = u32::from_le_bytes(epoch.try_into().ok()?);
    (*first == b'W').then_some(WorkerId { slot, epoch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_tells_the_worker() {
        let worker = WorkerId { slot: Slot(70_000), epoch: 3 };
        assert_eq!(worker_of(&of(worker)), Some(worker));
        for other in [&b"W"[..], b"X00001111", b"W0000111", b"", b"W000011112"] {
            assert_eq!(worker_of(other), None);
        }
    }
}
