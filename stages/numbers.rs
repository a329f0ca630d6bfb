//! Stages for whole numbers: small enough to read at a glance, and to try
//! pipelines with.

use crate::prelude::*;

/// Counts from `first` to `last`, both included.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Integers {
    /// The first number.
    #[serde(default)]
    first: i64,
    /// The last number; below `first`, the step emits nothing.
    last: i64,
    /// How many were made.
    #[serde(skip)]
    made: i64,
}

impl Integers {
    /// Counts from `first` to `last`, both included.
    pub fn new(first: i64, last: i64) -> Self {
        Self { first, last, made: 0 }
    }
}

impl Producer for Integers {
    type Out = i64;

    fn expected(&self) -> Option<u64> {
        let count = i128::from(self.last) - i128::from(self.first) + 1;
        u64::try_from(count.max(0)).ok()
    }

    fn next(&mut self, out: &mut Emitter<'_, i64>) -> Result<Next> {
        match self.first.checked_add(self.made) {
            Some(number) if number <= self.last => out.send(number)?,
            _ => return Ok(Next::Done),
        }
        self.made += 1;
        Ok(Next::More)
    }
}

/// Adds `value` to each number. A sum beyond 64 bits fails.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// What to add.
    value: i64,
}

impl Stage for Add {
    type In = i64;
    type Out = i64;

    fn run(&mut self, number: i64, out: &mut Emitter<'_, i64>) -> Result<()> {
        let sum = number.checked_add(self.value);
        out.send(sum.ok_or_else(|| overflow(&format!("{number} + {}", self.value)))?)
    }
}

/// Squares each number. A square beyond 64 bits fails.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Square {}

impl Stage for Square {
    type In = i64;
    type Out = i64;

    fn run(&mut self, number: i64, out: &mut Emitter<'_, i64>) -> Result<()> {
        out.send(number.checked_mul(number).ok_or_else(|| overflow(&format!("{number}^2")))?)
    }
}

/// Sends even numbers to one next step and odd ones to another.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvenOdd {
    /// The name of the next step for even numbers.
    even: String,
    /// The name of the next step for odd numbers.
    odd: String,
}

impl Stage for EvenOdd {
    type In = i64;
    type Out = i64;

    fn validate_in(&self, context: &Context) -> Result<()> {
        context.expect_next_step("even", &self.even)?;
        context.expect_next_step("odd", &self.odd)
    }

    fn run(&mut self, number: i64, out: &mut Emitter<'_, i64>) -> Result<()> {
        out.send_to(if number % 2 == 0 { &self.even } else { &self.odd }, number)
    }
}

/// Writes each number as decimal text.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FormatNumber {}

impl Stage for FormatNumber {
    type In = i64;
    type Out = String;

    fn run(&mut self, number: i64, out: &mut Emitter<'_, String>) -> Result<()> {
        out.send(number.to_string())
    }
}

/// Adds up all numbers and sends the sum once, at the end. If a
/// number takes the sum beyond 64 bits, that number fails.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sum {
    #[serde(skip)]
    total: i64,
}

impl Stage for Sum {
    type In = i64;
    type Out = i64;
    const SINGLETON: bool = true;
    const STATEFUL: bool = true;

    fn run(&mut self, number: i64, _: &mut Emitter<'_, i64>) -> Result<()> {
        let sum = self.total.checked_add(number);
        self.total = sum.ok_or_else(|| overflow(&format!("{} + {number}", self.total)))?;
        Ok(())
    }

    fn finish(&mut self, out: &mut Emitter<'_, i64>) -> Result<()> {
        out.send(self.total)
    }
}

fn overflow(what: &str) -> Failure {
    Failure::permanent(format!("{what} does not fit into 64 bits"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{TestBench, from_params, produce, run};

    #[test]
    fn integers_include_both_ends() {
        let made =
            |params| produce(from_params::<Integers>(params).unwrap()).unwrap().into_values();
        assert_eq!(made(json!({ "first": 3, "last": 5 })), [3, 4, 5]);
        assert_eq!(made(json!({ "last": 199 })), (0..200).collect::<Vec<_>>());
        assert!(made(json!({ "first": 2, "last": 1 })).is_empty());
        let end = json!({ "first": i64::MAX - 1, "last": i64::MAX });
        assert_eq!(made(end), [i64::MAX - 1, i64::MAX]);
    }

    #[test]
    fn arithmetic_beyond_64_bits_is_a_failure() {
        let squares = run(Square {}, [-3, 4]).unwrap();
        assert_eq!(squares.into_values(), [9, 16]);
        assert!(run(Square {}, [i64::MAX]).is_err());
        let add: Add = from_params(json!({ "value": 2 })).unwrap();
        assert_eq!(run(add, [1]).unwrap().into_values(), [3]);
        let add: Add = from_params(json!({ "value": 1 })).unwrap();
        assert!(run(add, [i64::MAX]).is_err());
    }

    #[test]
    fn even_and_odd_numbers_part() {
        let stage: EvenOdd = from_params(json!({ "even": "E", "odd": "O" })).unwrap();
        let bench = TestBench::new().next_steps(["O", "E"]);
        let routed = bench.run(stage, [1, 2, -3]).unwrap();
        assert_eq!(routed.outputs, [("O".into(), 1), ("E".into(), 2), ("O".into(), -3)]);
    }

    #[test]
    fn the_sum_comes_at_the_end() {
        assert_eq!(run(Sum::default(), 1..=10).unwrap().into_values(), [55]);
        let text = run(FormatNumber {}, [-5]).unwrap();
        assert_eq!(text.into_values(), ["-5"]);
    }
}
