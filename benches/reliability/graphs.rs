//! Random graphs, run for real.

#[path = "../../tests/it/support/graphs.rs"]
mod random;

use std::process::Stdio;

use crate::processes::eventually;
use crate::{drpipe, scaled, write};

/// 200 random graphs of mocks that fail, panic, abort and hang; every queue
/// holds one message; steps with 24 threads and 4 processes, loops, eight
/// branches that join. The ledger of each is known beforehand.
pub fn graphs() {
    let count = scaled(200) as u64;
    let (mut wrong, mut messages) = (Vec::new(), 0);
    for seed in 0..count {
        let directory = tempfile::tempdir().unwrap();
        let graph = random::graph(seed);
        write(directory.path(), &graph);
        let can_die = graph.to_string().contains("timeout");
        let deaths = if can_die { ",abort=0.02,hang=0.002" } else { "" };
        let faults =
            format!("fail=0.05,panic=0.05,undeclared=0.02,messages=200,seed={seed}{deaths}");
        let mut command = drpipe(directory.path());
        command.args(["check", "--mock", &faults, "--log-level", "off"]);
        messages += 200;
        let mut program = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // A run that hangs ends this program too, with a message.
        let status = eventually("the run ends", || program.try_wait().unwrap());
        if !status.success() {
            wrong.push(seed);
        }
    }
    println!(
        "  {count} graphs, {messages} messages: {} with another ledger than the expected one {wrong:?}",
        wrong.len()
    );
}
