//! Payloads as values of the built-in types.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drpipe::fuzzing::values(data));
