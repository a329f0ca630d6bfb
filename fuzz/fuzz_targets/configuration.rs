//! The text of a configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| drpipe::fuzzing::configuration(text));
