//! Reports of workers to the router.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drpipe::fuzzing::reports(data));
