"""The numbers from docs/WIRE.md: kinds of messages, results, notes and extension types."""

from __future__ import annotations

#: The version of the protocol.
VERSION = 3

# The kinds of messages from worker to router.
READY = 1
INIT_FAILED = 2
DONE = 3
PRODUCED = 4
FINISHED = 5
NOTES = 6
RETURNED = 7
RELEASED = 8
ASIDE = 9
CANCEL = 10

# The kinds of messages from router to worker.
GRANT = 16
WORK = 17
FINISH = 18
STOP = 19
ACKNOWLEDGED = 20
NOT_CANCELLED = 21
TOLD = 22

# The results of PRODUCED. After AT_WORK, the grant is still in use.
RESULT_MORE = 0
RESULT_IDLE = 1
RESULT_NO_MORE = 2
RESULT_FAILED = 3
RESULT_AT_WORK = 4
RESULT_BARRIER = 5

# The kinds of notes.
NOTE_EXPECTED = 0
NOTE_PRODUCT = 1
NOTE_WARNING = 2
NOTE_ACTIONS = 3

# The priorities of messages.
PRIORITY_NORMAL = 0
PRIORITY_HIGH = 1

# The outcomes of a completion.
OUTCOME_DONE = 0
OUTCOME_FAILED = 1
OUTCOME_PANICKED = 2
OUTCOME_DEFERRED = 3

# The ends of an item.
ITEM_DONE = 0
ITEM_FAILED = 1
ITEM_DROPPED = 2
ITEM_CANCELLED = 3

# The causes of a failed item.
CAUSE_FAILED = 0
CAUSE_PANICKED = 1
CAUSE_LOST = 2
CAUSE_TIMED_OUT = 3
CAUSE_LATE = 4
CAUSE_CANCELLED = 5
CAUSE_IN_VAIN = 6

# The kinds of outputs and of batches.
KIND_ONE = 0
KIND_PACK = 1

# The places of a payload's buffers.
BUFFER_FRAME = 0
BUFFER_SEGMENT = 1

#: The next step of a value that goes back to the producer, with the end of its item.
RESULTS = 0xFFFF_FFFF
#: Replaces the length of an origin if there is no origin.
NO_ORIGIN = 0xFFFF_FFFF
#: Replaces the length of bytes if the next frame contains them.
IN_FRAME = 0x8000_0000

# The extension types of MessagePack.
EXTENSION_ARRAY = 1
EXTENSION_TYPED = 2
EXTENSION_TUPLE = 3
EXTENSION_COMPLEX = 4

#: The first byte of a header that holds a pickle.
PICKLE_MARK = 0xC1
