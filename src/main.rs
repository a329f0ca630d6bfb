//! The `drpipe` program: the command line over the built-in stages.

use std::process::ExitCode;

use drpipe::memory::huge_pages::HugePages;

#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

fn main() -> ExitCode {
    drpipe::cli::Cli::new().builtin_stages().run()
}
