"""The numbers of docs/WIRE.md: kinds of messages, results, notes and extension types."""

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

# The kinds of messages from router to worker.
GRANT = 16
WORK = 17
FINISH = 18
STOP = 19

# The results of PRODUCED. With the last one the grant is still in use.
RESULT_MORE = 0
RESULT_IDLE = 1
RESULT_NO_MORE = 2
RESULT_FAILED = 3
RESULT_AT_WORK = 4

# The kinds of notes.
NOTE_EXPECTED = 0
NOTE_PRODUCT = 1
NOTE_WARNING = 2

# The outcomes of a completion.
OUTCOME_DONE = 0
OUTCOME_FAILED = 1
OUTCOME_PANICKED = 2

# The kinds of outputs and of batches.
KIND_ONE = 0
KIND_PACK = 1

# Where a buffer of a payload is.
BUFFER_FRAME = 0
BUFFER_SEGMENT = 1

#: In the place of the length of an origin: there is none.
NO_ORIGIN = 0xFFFF_FFFF
#: In the place of the length of bytes: they are the next frame.
IN_FRAME = 0x8000_0000

# The extension types of MessagePack.
EXTENSION_ARRAY = 1
EXTENSION_TYPED = 2
EXTENSION_TUPLE = 3
EXTENSION_COMPLEX = 4

#: The first byte of a header that holds a pickle.
PICKLE_MARK = 0xC1
