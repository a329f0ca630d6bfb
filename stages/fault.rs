//! Stages that go wrong on request, to try out what a pipeline does about it.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use signal_hook::consts::{SIGSEGV, SIGTERM};
use signal_hook::low_level::emulate_default_handler;

use crate::prelude::*;

/// Goes wrong on chosen messages and passes the others on.
///
/// `every`, `nth` and `numbers` choose messages; without any of them every message is chosen. The
/// faults `abort`, `segfault` and `exit` end the whole program, and `hang` and `ignore_sigterm`
/// keep it from ending, unless the step runs in worker processes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What goes wrong.
    fault: FaultKind,
    /// Chooses every n-th message that this worker sees, attempts included.
    #[schemars(range(min = 1))]
    every: Option<u64>,
    /// Chooses the n-th message that this worker sees, attempts included.
    #[schemars(range(min = 1))]
    nth: Option<u64>,
    /// Chooses the whole numbers that n divides, whichever worker receives them.
    #[schemars(range(min = 1))]
    numbers: Option<u64>,
    /// How many attempts go wrong on each message that `numbers` chose, or on every message if
    /// nothing chooses; by default all of them.
    attempts: Option<u32>,
    /// The directory in which attempts are counted, so that the count survives the end of a worker
    /// process; by default the memory of this process.
    directory: Option<PathBuf>,
    /// How long `sleep` sleeps.
    #[serde(default = "default_seconds")]
    #[schemars(range(min = 0), extend("unit" = "s"))]
    seconds: f64,
    /// How much memory `leak` takes for each message and never releases.
    #[serde(default = "default_bytes")]
    #[schemars(extend("unit" = "bytes"))]
    bytes: usize,
    /// How often `flood` sends each message.
    #[serde(default = "default_count")]
    count: u64,
    /// Whether `fail` may be retried.
    #[serde(default = "default_retryable")]
    retryable: bool,
    /// The code that `exit` ends the process with.
    #[serde(default)]
    code: u8,
    #[serde(skip)]
    seen: u64,
}

fn default_seconds() -> f64 {
    1.0
}

fn default_bytes() -> usize {
    1 << 20
}

fn default_count() -> u64 {
    1000
}

fn default_retryable() -> bool {
    true
}

/// The ways to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Returns a failure.
    Fail,
    /// Panics, as from a bug.
    Panic,
    /// Aborts the process, as a C library may.
    Abort,
    /// Ends the process by SIGSEGV, as after a wild pointer.
    Segfault,
    /// Ends the process with `code`, as a library that calls exit.
    Exit,
    /// Never returns.
    Hang,
    /// Never returns, and the process ignores SIGTERM.
    IgnoreSigterm,
    /// Takes `seconds`, then continues as if nothing were wrong.
    Sleep,
    /// Takes `bytes` of memory, then continues as if nothing were wrong.
    Leak,
    /// Sends the message `count` times.
    Flood,
    /// Sends the message to a step that is not among the next steps.
    UndeclaredStep,
}

/// A next step that no configuration has, because names of steps contain no comma.
const UNDECLARED: &str = "no,such,step";

impl Fault {
    fn check(&self) -> Result<()> {
        let choices = [("every", self.every), ("nth", self.nth), ("numbers", self.numbers)];
        let given = || choices.iter().filter(|(_, value)| value.is_some());
        if given().count() > 1 {
            let names: Vec<&str> = given().map(|(name, _)| *name).collect();
            let names = names.join(" and ");
            return Err(Failure::permanent(format!("{names} both choose messages: give only one")));
        }
        if let Some((name, _)) = choices.iter().find(|(_, value)| *value == Some(0)) {
            return Err(Failure::permanent(format!("\"{name}\" is 0, expected 1 or more")));
        }
        if self.attempts.is_some() && (self.every.is_some() || self.nth.is_some()) {
            return Err(Failure::permanent(
                "\"attempts\" needs a choice that is the same at each attempt: use \"numbers\"",
            ));
        }
        self.duration().map(drop)
    }

    fn duration(&self) -> Result<Duration> {
        Duration::try_from_secs_f64(self.seconds).map_err(|error| {
            Failure::permanent(format!("\"seconds\" is {}, not a duration: {error}", self.seconds))
        })
    }

    /// Whether this call goes wrong. `number` returns the message's value; `key` is the same at
    /// each attempt on a message.
    fn strikes(
        &mut self,
        context: &Context,
        key: &str,
        number: impl FnOnce() -> Result<i64>,
    ) -> Result<bool> {
        self.seen += 1;
        let chosen = match (self.every, self.nth, self.numbers) {
            (Some(every), ..) => self.seen.is_multiple_of(every),
            (_, Some(nth), _) => self.seen == nth,
            (.., Some(divisor)) => number()?.unsigned_abs().is_multiple_of(divisor),
            _ => true,
        };
        match self.attempts {
            Some(attempts) if chosen => Ok(self.attempt(context, key)? <= attempts),
            _ => Ok(chosen),
        }
    }

    /// The number of this attempt on the message, from 1.
    fn attempt(&self, context: &Context, key: &str) -> Result<u32> {
        let key = format!("{}-{}-{key}", context.run(), context.step());
        let Some(directory) = &self.directory else { return Ok(attempt_in_memory(key)) };
        std::fs::create_dir_all(directory)?;
        let file = directory.join(key);
        OpenOptions::new().create(true).append(true).open(&file)?.write_all(b"x")?;
        Ok(u32::try_from(file.metadata()?.len())?)
    }

    /// Goes wrong. `send` sends a message, to the named step if one is given.
    fn strike(&self, mut send: impl FnMut(Option<&str>) -> Result<()>) -> Result<()> {
        match self.fault {
            FaultKind::Fail if self.retryable => Err(Failure::retryable(ASKED_FOR)),
            FaultKind::Fail => Err(Failure::permanent(ASKED_FOR)),
            #[expect(clippy::panic, reason = "the configuration asks for a panic")]
            FaultKind::Panic => panic!("{ASKED_FOR}"),
            FaultKind::Abort => std::process::abort(),
            FaultKind::Segfault => Ok(emulate_default_handler(SIGSEGV)?),
            FaultKind::Exit => std::process::exit(self.code.into()),
            FaultKind::Hang => hang(),
            FaultKind::IgnoreSigterm => {
                signal_hook::flag::register(SIGTERM, Arc::new(AtomicBool::new(false)))?;
                hang()
            }
            FaultKind::Sleep => {
                std::thread::sleep(self.duration()?);
                send(None)
            }
            FaultKind::Leak => {
                let mut memory: Vec<u8> = Vec::new();
                memory.try_reserve_exact(self.bytes)?;
                // Pages that are not written to cost no memory.
                memory.resize(self.bytes, 1);
                std::mem::forget(memory);
                send(None)
            }
            FaultKind::Flood => (0..self.count).try_for_each(|_| send(None)),
            FaultKind::UndeclaredStep => send(Some(UNDECLARED)),
        }
    }
}

const ASKED_FOR: &str = "this message fails as requested";

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// The attempts of all workers in this process: the next attempt on a message may be another
/// worker's.
fn attempt_in_memory(key: String) -> u32 {
    static ATTEMPTS: Mutex<Option<HashMap<String, u32>>> = Mutex::new(None);
    let mut attempts = ATTEMPTS.lock().unwrap_or_else(PoisonError::into_inner);
    let count = attempts.get_or_insert_default().entry(key).or_default();
    *count += 1;
    *count
}

impl Stage for Fault {
    type In = Any;
    type Out = Any;

    fn validate(&self) -> Result<()> {
        self.check()
    }

    fn run(&mut self, message: Any, out: &mut Emitter<'_, Any>) -> Result<()> {
        let number = || message.open::<i64>().context("\"numbers\" chooses whole numbers only");
        if !self.strikes(out.context(), &out.message().to_string(), number)? {
            return out.send(message);
        }
        self.strike(|step| match step {
            None => out.send(message.clone()),
            Some(step) => out.send_to(step, message.clone()),
        })
    }
}

/// Emits the whole numbers from 0 on and goes wrong on chosen ones.
///
/// The parameters are those of `Fault`, applied to calls instead of messages. After a failure the
/// producer tries the same number again if the step has `retries`.
#[derive(Debug, Deserialize, JsonSchema)]
// Serde cannot deny unknown fields beside flattened ones; the check of parameters does.
#[schemars(extend("additionalProperties" = false))]
pub struct FaultyProducer {
    /// How many numbers to emit.
    messages: i64,
    #[serde(flatten)]
    fault: Fault,
    #[serde(skip)]
    next: i64,
}

impl Producer for FaultyProducer {
    type Out = i64;

    fn validate(&self) -> Result<()> {
        self.fault.check()
    }

    fn expected(&self) -> Option<u64> {
        u64::try_from(self.messages).ok()
    }

    fn next(&mut self, out: &mut Emitter<'_, i64>) -> Result<Next> {
        let number = self.next;
        if number >= self.messages {
            return Ok(Next::Done);
        }
        if self.fault.strikes(out.context(), &number.to_string(), || Ok(number))? {
            self.fault.strike(|step| match step {
                None => out.send(number),
                Some(step) => out.send_to(step, number),
            })?;
        } else {
            out.send(number)?;
        }
        self.next += 1;
        Ok(Next::More)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{TestBench, any, from_params, produce, run};

    fn message(number: i64) -> Any {
        any(&number).unwrap()
    }

    /// Which of the numbers from 0 to 8 go wrong.
    fn struck(params: Value) -> Vec<i64> {
        let bench = TestBench::new();
        let mut stage: Fault = from_params(params).unwrap();
        stage.validate().unwrap();
        let mut run = |n: &i64| bench.call(1, |out| stage.run(message(*n), out)).is_err();
        (0..9).filter(|number| run(number)).collect()
    }

    #[test]
    fn messages_are_chosen_by_their_place_or_by_their_value() {
        assert_eq!(struck(json!({ "fault": "fail" })), (0..9).collect::<Vec<_>>());
        assert_eq!(struck(json!({ "fault": "fail", "every": 3 })), [2, 5, 8]);
        assert_eq!(struck(json!({ "fault": "fail", "nth": 3 })), [2]);
        assert_eq!(struck(json!({ "fault": "undeclared_step", "numbers": 3 })), [0, 3, 6]);
    }

    #[test]
    fn choices_that_contradict_each_other_are_refused() {
        for (params, part) in [
            (json!({ "fault": "fail", "every": 2, "nth": 3 }), "every and nth"),
            (json!({ "fault": "fail", "numbers": 0 }), "\"numbers\" is 0"),
            (json!({ "fault": "fail", "every": 2, "attempts": 1 }), "use \"numbers\""),
            (json!({ "fault": "sleep", "seconds": -1 }), "not a duration"),
        ] {
            let error = from_params::<Fault>(params).unwrap().validate().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_first_attempts_go_wrong_whoever_makes_them() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("attempts");
        for (run, directory) in [("memory", None), ("files", Some(place))] {
            let bench = TestBench::new().run_name(run);
            let params = json!({ "fault": "fail", "attempts": 2, "directory": directory });
            let attempt = || {
                let mut stage: Fault = from_params(params.clone()).unwrap();
                bench.call(1, |out| stage.run(message(1), out)).is_ok()
            };
            assert_eq!([attempt(), attempt(), attempt()], [false, false, true]);
        }
    }

    #[test]
    fn failures_are_retryable_unless_they_are_not() {
        for retryable in [true, false] {
            let stage: Fault =
                from_params(json!({ "fault": "fail", "retryable": retryable })).unwrap();
            let failure = run(stage, [message(1)]).unwrap_err();
            assert_eq!(failure.is_retryable(), retryable);
        }
    }

    #[test]
    fn what_goes_on_passes_the_message_on() {
        for (params, count) in [
            (json!({ "fault": "sleep", "seconds": 0 }), 1),
            (json!({ "fault": "leak", "bytes": 10 }), 1),
            (json!({ "fault": "flood", "count": 5 }), 5),
        ] {
            let passed = run(from_params::<Fault>(params).unwrap(), [message(7)]).unwrap();
            assert_eq!(passed.outputs, vec![("NEXT".to_owned(), message(7)); count]);
        }
        let stage: Fault = from_params(json!({ "fault": "leak", "bytes": usize::MAX })).unwrap();
        assert!(run(stage, [message(7)]).is_err());
    }

    #[test]
    #[should_panic(expected = "as requested")]
    fn a_panic_is_a_panic() {
        let stage: Fault = from_params(json!({ "fault": "panic" })).unwrap();
        let _ = run(stage, [message(1)]);
    }

    #[test]
    fn a_producer_tries_the_same_number_again() {
        let params = json!({ "messages": 4, "fault": "fail", "numbers": 2, "attempts": 1 });
        let mut producer: FaultyProducer = from_params(params).unwrap();
        let bench = TestBench::new();
        let mut made = Vec::new();
        let mut failures = 0;
        loop {
            match bench.call(0, |out| producer.next(out)) {
                Ok((Next::Done, _)) => break,
                Ok((_, run)) => made.extend(run.into_values()),
                Err(_) => failures += 1,
            }
        }
        assert_eq!((made, failures), (vec![0, 1, 2, 3], 2));
        let flood = json!({ "messages": 2, "fault": "flood", "count": 2 });
        assert_eq!(
            produce(from_params::<FaultyProducer>(flood).unwrap()).unwrap().into_values(),
            [0, 0, 1, 1]
        );
    }
}
