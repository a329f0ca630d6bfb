//! Frames of the protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drpipe::fuzzing::frames(data));
