//! What has happened in simulations: a kind of fault that never shows is not tested.

use std::ops::AddAssign;

use super::Faults;

#[derive(Default)]
pub(super) struct Seen {
    /// Reports of workers that had been lost or asked to stop.
    pub(super) stale: u64,
    /// How many items were done, failed, dropped and cancelled.
    pub(super) told: [u64; 4],
    /// Producers that went on behind a barrier.
    pub(super) barriers: u64,
    /// Messages that a stage has put off, and that waited in vain.
    pub(super) deferred: u64,
    pub(super) in_vain: u64,
    /// How often an operator has cancelled something.
    pub(super) cancelled: u64,
    /// Runs that have gone on to their end without their caller.
    pub(super) partings: u64,
    /// Messages of high priority that were given while one of normal priority waited.
    pub(super) overtakes: u64,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.stale += other.stale;
        self.barriers += other.barriers;
        self.deferred += other.deferred;
        self.in_vain += other.in_vain;
        self.partings += other.partings;
        self.overtakes += other.overtakes;
        self.cancelled += other.cancelled;
        (0..4).for_each(|outcome| self.told[outcome] += other.told[outcome]);
    }
}

impl Seen {
    /// Checks that what these faults bring about has happened in many simulations.
    pub(super) fn check(&self, name: &str, faults: Faults) {
        assert!(self.stale > 0 || faults.deaths == 0, "{name}: no report came after a death");
        assert!(self.overtakes > 0 || faults.one_by_one, "{name}: nothing was overtaken");
        assert!(self.partings > 0 || faults.partings == 0, "{name}: no run went on to its end");
        assert!(self.barriers > 0 || faults.fed, "{name}: no barrier has fallen");
        let deferrals = self.deferred.min(self.in_vain) > 0;
        assert!(deferrals || faults.deferrals == 0, "{name}: nothing was deferred, or in vain");
        let Faults { failures, stops, cancels, .. } = faults;
        let may_cancel = cancels > 0 && faults.steering > 0;
        assert!(self.cancelled > 0 || !may_cancel, "{name}: no operator has cancelled anything");
        let expected = [true, failures > 0, stops > 0, cancels > 0].map(|so| so && faults.told);
        let seen = self.told.map(|count| count > 0);
        let all = (0..4).all(|outcome| seen[outcome] || !expected[outcome]);
        assert!(all, "{name}: told of {:?} only", self.told);
    }
}
