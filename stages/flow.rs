//! Stages for messages of any type: to pass, delay, fail or discard them.

use std::time::Duration;

use crate::prelude::*;

/// Passes each message on as it is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pass {}

impl Stage for Pass {
    type In = Any;
    type Out = Any;

    fn run(&mut self, message: Any, out: &mut Emitter<'_, Any>) -> Result<()> {
        out.send(message)
    }
}

/// Waits a while, then passes the message on as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sleep {
    /// How long to wait for each message.
    #[schemars(range(min = 0), extend("unit" = "s"))]
    seconds: f64,
}

impl Sleep {
    fn duration(&self) -> Result<Duration> {
        Duration::try_from_secs_f64(self.seconds).map_err(|error| {
            Failure::permanent(format!("\"seconds\" is {}, not a duration: {error}", self.seconds))
        })
    }
}

impl Stage for Sleep {
    type In = Any;
    type Out = Any;

    fn validate(&self) -> Result<()> {
        self.duration().map(drop)
    }

    fn run(&mut self, message: Any, out: &mut Emitter<'_, Any>) -> Result<()> {
        std::thread::sleep(self.duration()?);
        out.send(message)
    }
}

/// Fails on every n-th message of a worker and passes the others on; shows how a pipeline handles
/// failures.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// Which messages fail: 1 means every message, 3 every third. Each worker counts its own,
    /// attempts included.
    #[serde(default = "default_every")]
    #[schemars(range(min = 1))]
    every: u64,
    /// How they fail.
    #[serde(default)]
    how: FailHow,
    #[serde(skip)]
    seen: u64,
}

fn default_every() -> u64 {
    1
}

/// The ways to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FailHow {
    /// A failure that may be retried.
    #[default]
    Error,
    /// A failure that is never retried.
    Permanent,
    /// A panic, as from a bug.
    Panic,
}

impl Stage for Fail {
    type In = Any;
    type Out = Any;

    fn validate(&self) -> Result<()> {
        if self.every == 0 {
            return Err(Failure::permanent("\"every\" is 0, expected 1 or more"));
        }
        Ok(())
    }

    fn run(&mut self, message: Any, out: &mut Emitter<'_, Any>) -> Result<()> {
        self.seen += 1;
        if !self.seen.is_multiple_of(self.every) {
            return out.send(message);
        }
        let text = format!("message {} of this worker fails as requested", self.seen);
        match self.how {
            FailHow::Error => Err(Failure::retryable(text)),
            FailHow::Permanent => Err(Failure::permanent(text)),
            #[expect(clippy::panic, reason = "the configuration asks for a panic")]
            FailHow::Panic => panic!("{text}"),
        }
    }
}

/// Takes each message and does nothing with it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Discard {}

impl Consumer for Discard {
    type In = Any;

    fn run(&mut self, _: Any) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{TestBench, any, from_params, run};

    fn message() -> Any {
        any(&7_i64).unwrap()
    }

    #[test]
    fn messages_pass_unchanged() {
        let passed = run(Pass {}, [message()]).unwrap();
        assert_eq!(passed.outputs, [("NEXT".to_owned(), message())]);
        let sleep: Sleep = from_params(json!({ "seconds": 0.001 })).unwrap();
        assert_eq!(run(sleep, [message()]).unwrap().outputs.len(), 1);
    }

    #[test]
    fn durations_that_make_no_sense_are_refused() {
        for seconds in [-1.0, 1e300] {
            let sleep: Sleep = from_params(json!({ "seconds": seconds })).unwrap();
            assert!(sleep.validate().is_err(), "{seconds}");
        }
    }

    #[test]
    fn every_third_message_fails() {
        let bench = TestBench::new();
        let mut stage: Fail = from_params(json!({ "every": 3, "how": "permanent" })).unwrap();
        let results: Vec<bool> =
            (0..6).map(|_| bench.call(1, |out| stage.run(message(), out)).is_ok()).collect();
        assert_eq!(results, [true, true, false, true, true, false]);
    }

    #[test]
    #[should_panic(expected = "as requested")]
    fn a_panic_is_a_panic() {
        let stage: Fail = from_params(json!({ "how": "panic" })).unwrap();
        let _ = run(stage, [message()]);
    }
}
