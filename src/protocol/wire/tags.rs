//! The tags of docs/WIRE.md, each named once. `python/src/drpipe/protocol/tags.py` has the same
//! names; a test in each language compares them with the document.

/// The version of the protocol. The router refuses workers of another version.
pub(crate) const VERSION: u16 = 3;

// Messages of a worker.
pub(super) const READY: u8 = 1;
pub(super) const INIT_FAILED: u8 = 2;
pub(super) const DONE: u8 = 3;
pub(super) const PRODUCED: u8 = 4;
pub(super) const FINISHED: u8 = 5;
pub(super) const NOTES: u8 = 6;
pub(super) const RETURNED: u8 = 7;
pub(super) const RELEASED: u8 = 8;
pub(super) const ASIDE: u8 = 9;
pub(super) const CANCEL: u8 = 10;

// Messages of the router.
pub(super) const GRANT: u8 = 16;
pub(super) const WORK: u8 = 17;
pub(super) const FINISH: u8 = 18;
pub(super) const STOP: u8 = 19;
pub(super) const ACKNOWLEDGED: u8 = 20;
pub(super) const NOT_CANCELLED: u8 = 21;
pub(super) const TOLD: u8 = 22;

// Ends of an item.
pub(super) const ITEM_DONE: u8 = 0;
pub(super) const ITEM_FAILED: u8 = 1;
pub(super) const ITEM_DROPPED: u8 = 2;
pub(super) const ITEM_CANCELLED: u8 = 3;

// Causes of a failed item.
pub(super) const CAUSE_FAILED: u8 = 0;
pub(super) const CAUSE_PANICKED: u8 = 1;
pub(super) const CAUSE_LOST: u8 = 2;
pub(super) const CAUSE_TIMED_OUT: u8 = 3;
pub(super) const CAUSE_LATE: u8 = 4;
pub(super) const CAUSE_CANCELLED: u8 = 5;
pub(super) const CAUSE_IN_VAIN: u8 = 6;

// Outputs and batches: one message, or a pack of short ones.
pub(super) const KIND_ONE: u8 = 0;
pub(super) const KIND_PACK: u8 = 1;

// Priorities of messages.
pub(super) const PRIORITY_NORMAL: u8 = 0;
pub(super) const PRIORITY_HIGH: u8 = 1;

// Outcomes of a completion.
pub(super) const OUTCOME_DONE: u8 = 0;
pub(super) const OUTCOME_FAILED: u8 = 1;
pub(super) const OUTCOME_PANICKED: u8 = 2;
pub(super) const OUTCOME_DEFERRED: u8 = 3;

// Results of PRODUCED. After AT_WORK the grant is still in use.
pub(super) const RESULT_MORE: u8 = 0;
pub(super) const RESULT_IDLE: u8 = 1;
pub(super) const RESULT_NO_MORE: u8 = 2;
pub(super) const RESULT_FAILED: u8 = 3;
pub(super) const RESULT_AT_WORK: u8 = 4;
pub(super) const RESULT_BARRIER: u8 = 5;

// Notes.
pub(super) const NOTE_EXPECTED: u8 = 0;
pub(super) const NOTE_PRODUCT: u8 = 1;
pub(super) const NOTE_WARNING: u8 = 2;
pub(super) const NOTE_ACTIONS: u8 = 3;

// Places of a buffer: the next frame, or the next segment of the lifeline.
pub(super) const BUFFER_FRAME: u8 = 0;
pub(super) const BUFFER_SEGMENT: u8 = 1;

/// The next step of a result.
pub(super) const RESULTS: u32 = 0xFFFF_FFFF;
/// The length of an origin that says that there is none.
pub(super) const NO_ORIGIN: u32 = 0xFFFF_FFFF;
/// The length of bytes that says that they are the next frame.
pub(super) const IN_FRAME: u32 = 0x8000_0000;
