//! Server-sent events of a monitor.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drpipe::fuzzing::events(data));
