//! A FITS file; it is in memory, and is opened by its name under /proc.
#![no_main]

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsRawFd;
use std::sync::{LazyLock, Mutex};

use drpipe::stages::{ReadOptions, read_frame};

static FILE: LazyLock<Mutex<File>> = LazyLock::new(|| {
    let path = format!("/dev/shm/drpipe-fuzz-{}.fits", std::process::id());
    let file = File::create(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    Mutex::new(file)
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut file = FILE.lock().unwrap();
    file.set_len(0).unwrap();
    file.rewind().unwrap();
    file.write_all(data).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let options = ReadOptions { max_pixels: 10_000, verify_checksum: true, ..Default::default() };
    let _ = read_frame(path.as_ref(), "fuzz", &options);
});
