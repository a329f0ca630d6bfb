//! Wake-ups and processor time of the threads of this program, as the kernel counts them.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

/// What the threads of one name have used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Use {
    /// How often a thread gave the processor up to wait, so had to be woken.
    pub waits: f64,
    /// How often it was taken from a thread.
    pub preemptions: f64,
    /// Processor time in microseconds.
    pub cpu: f64,
    /// Microseconds in which a thread could have run and others had the processor.
    pub queued: f64,
}

impl Use {
    fn with(self, other: Self, of: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            waits: of(self.waits, other.waits),
            preemptions: of(self.preemptions, other.preemptions),
            cpu: of(self.cpu, other.cpu),
            queued: of(self.queued, other.queued),
        }
    }
}

/// By the first word of the threads' names.
#[derive(Debug, Clone)]
pub struct Counters {
    at: Instant,
    threads: BTreeMap<&'static str, Use>,
}

/// What each message has cost.
#[derive(Debug, Clone)]
pub struct Costs {
    /// Time by the clock in microseconds.
    pub wall: f64,
    threads: BTreeMap<&'static str, Use>,
}

impl Counters {
    pub fn read() -> Self {
        let mut threads = BTreeMap::<_, Use>::new();
        for thread in fs::read_dir("/proc/self/task").unwrap() {
            let folder = thread.unwrap().path();
            let text = |file: &str| fs::read_to_string(folder.join(file));
            // A thread may end meanwhile.
            let (Ok(name), Ok(status), Ok(schedule)) =
                (text("comm"), text("status"), text("schedstat"))
            else {
                continue;
            };
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap().trim().parse::<f64>().unwrap()
            };
            let times: Vec<f64> =
                schedule.split_whitespace().map(|nanos| nanos.parse().unwrap()).collect();
            let used = Use {
                waits: field("voluntary_ctxt_switches:"),
                preemptions: field("nonvoluntary_ctxt_switches:"),
                cpu: times[0] / 1e3,
                queued: times[1] / 1e3,
            };
            let known = threads.entry(group(&name)).or_default();
            *known = known.with(used, |known, used| known + used);
        }
        Self { at: Instant::now(), threads }
    }

    /// What was used since, for each of so many messages.
    pub fn since(&self, before: &Self, messages: usize) -> Costs {
        let per_message = |(name, now): (&&'static str, &Use)| {
            let before = before.threads.get(name).copied().unwrap_or_default();
            (*name, now.with(before, |now, before| (now - before) / messages as f64))
        };
        Costs {
            wall: (self.at - before.at).as_secs_f64() * 1e6 / messages as f64,
            threads: self.threads.iter().map(per_message).collect(),
        }
    }
}

impl Costs {
    pub fn of(&self, name: &str) -> Use {
        self.threads.get(name).copied().unwrap_or_default()
    }

    pub fn total(&self) -> Use {
        let add = |total: Use, used: &Use| total.with(*used, |total, used| total + used);
        self.threads.values().fold(Use::default(), add)
    }
}

/// "WORK 3" is a thread of "WORK"; those of libzmq and the program's first are "other".
fn group(name: &str) -> &'static str {
    let first = name.split_whitespace().next().unwrap_or_default();
    if first.starts_with("IDLE") {
        return "IDLE";
    }
    let known = ["SEND", "WORK", "END", "router"];
    known.into_iter().find(|known| *known == first).unwrap_or("other")
}
