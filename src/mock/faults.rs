//! The faults in a run of mocks: which, how often, and where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::nearest::nearest;
use crate::plan::{Plan, Step};
use crate::stage::data::Data;
use crate::stage::registry::Kind;

/// The probabilities of faults, and the number of messages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Faults {
    fail: f64,
    panic: f64,
    slow: f64,
    undeclared: f64,
    abort: f64,
    segfault: f64,
    hang: f64,
    pub(crate) messages: u64,
    seed: u64,
}

const NAMES: [&str; 9] =
    ["fail", "panic", "slow", "undeclared", "abort", "segfault", "hang", "messages", "seed"];
/// The number of messages unless the faults say otherwise.
const MESSAGES: u64 = 100;

/// Why faults cannot be had as they were asked for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum FaultsError {
    #[error("found {0:?}; expected name=value, such as fail=0.1")]
    NoValue(String),
    #[error("there is no fault \"{name}\"; {}", expected_instead_of(name))]
    Unknown { name: String },
    #[error("{name}={value}: expected a probability from 0 to 1, such as {name}=0.1")]
    NotAProbability { name: String, value: String },
    #[error("{name}={value}: expected a whole number of 0 or more")]
    NotANumber { name: String, value: String },
    #[error("the probabilities add up to {0}; expected 1 at most")]
    TooMany(f64),
    #[error(
        "\"hang\" needs a step whose workers are processes (\"nb_process\") with a \"timeout\"; \
         this pipeline has none"
    )]
    NeedsTimeout,
    #[error(
        "\"abort\" and \"segfault\" would end this program, not only one worker: they need a step \
         whose workers are processes (\"nb_process\"); this pipeline has none"
    )]
    NeedsProcesses,
}

impl Faults {
    /// Reads `fail=0.1,panic=0.05,messages=500,seed=7`.
    ///
    /// # Errors
    /// Says what is wrong, what was expected, and the nearest name.
    pub(crate) fn parse(text: &str) -> Result<Self, FaultsError> {
        let mut faults = Self { messages: MESSAGES, ..Self::default() };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return Err(FaultsError::NoValue(part.to_owned()));
            };
            faults.set(name.trim(), value.trim())?;
        }
        let all: f64 = faults.fates().iter().map(|(part, _)| part).sum();
        if all > 1.0 {
            return Err(FaultsError::TooMany(all));
        }
        Ok(faults)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), FaultsError> {
        let part = match name {
            "fail" => &mut self.fail,
            "panic" => &mut self.panic,
            "slow" => &mut self.slow,
            "undeclared" => &mut self.undeclared,
            "abort" => &mut self.abort,
            "segfault" => &mut self.segfault,
            "hang" => &mut self.hang,
            "messages" => return number(name, value).map(|number| self.messages = number),
            "seed" => return number(name, value).map(|number| self.seed = number),
            _ => return Err(FaultsError::Unknown { name: name.to_owned() }),
        };
        let is_part = |part: &f64| (0.0..=1.0).contains(part);
        *part = value.parse().ok().filter(is_part).ok_or_else(|| FaultsError::NotAProbability {
            name: name.to_owned(),
            value: value.to_owned(),
        })?;
        Ok(())
    }

    fn fates(&self) -> [(f64, Fate); 7] {
        [
            (self.fail, Fate::Fails),
            (self.panic, Fate::Panics),
            (self.undeclared, Fate::GoesAstray),
            (self.slow, Fate::IsSlow),
            (self.abort, Fate::Aborts),
            (self.segfault, Fate::Segfaults),
            (self.hang, Fate::Hangs),
        ]
    }

    /// Decides what happens to a message at a step whose workers survive these faults.
    pub(crate) fn fate(&self, step: &str, bears: Bears, message: &Numbered) -> Fate {
        let drawn = part_of_one(self.draw(step, message, 0));
        let mut bound = 0.0;
        for (part, fate) in self.fates() {
            bound += part;
            if drawn < bound {
                return if bears.all(fate) { fate } else { Fate::Passes };
            }
        }
        Fate::Passes
    }

    /// Whether any fault would end or block the program itself, without processes.
    pub(crate) fn need_processes(&self) -> bool {
        self.abort + self.segfault + self.hang > 0.0
    }

    /// Checks that each of the faults can happen somewhere in the plan.
    ///
    /// # Errors
    /// Names the workers that a fault needs and the plan has not.
    pub(crate) fn check_plan(&self, plan: &Plan) -> Result<(), FaultsError> {
        let asked = self.fates().into_iter().filter(|(part, _)| *part > 0.0);
        let nowhere = |fate: &Fate| !plan.steps.iter().any(|step| Bears::of(step).all(*fate));
        match asked.map(|(_, fate)| fate).find(nowhere) {
            None => Ok(()),
            Some(Fate::Hangs) => Err(FaultsError::NeedsTimeout),
            Some(_) => Err(FaultsError::NeedsProcesses),
        }
    }

    /// Chooses which of `count` next steps a message goes to.
    pub(crate) fn way(&self, step: &str, message: &Numbered, count: usize) -> usize {
        (self.draw(step, message, 1) % count.max(1) as u64) as usize
    }

    fn draw(&self, step: &str, message: &Numbered, purpose: u64) -> u64 {
        let name = step.bytes().fold(self.seed, |state, byte| mix(state, u64::from(byte)));
        [message.number, message.steps, purpose].into_iter().fold(name, mix)
    }
}

fn number(name: &str, value: &str) -> Result<u64, FaultsError> {
    let wrong = |_| FaultsError::NotANumber { name: name.to_owned(), value: value.to_owned() };
    value.parse().map_err(wrong)
}

fn expected_instead_of(name: &str) -> String {
    match nearest(name, NAMES) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("expected one of {}", NAMES.join(", ")),
    }
}

/// Hashes two numbers with the finalizer of SplitMix64.
fn mix(state: u64, value: u64) -> u64 {
    let mut z = state.rotate_left(5).wrapping_add(value).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Maps a hash to a number from 0 to below 1.
fn part_of_one(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Passes,
    IsSlow,
    Fails,
    Panics,
    GoesAstray,
    Aborts,
    Segfaults,
    Hangs,
}

/// What a step's workers survive. Faults that would end or block the whole program happen only
/// at steps that survive them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Bears {
    /// All workers are processes.
    pub(crate) deaths: bool,
    /// All workers are processes, and the time of a message is limited.
    pub(crate) hangs: bool,
}

impl Bears {
    pub(crate) fn of(step: &Step) -> Self {
        let deaths = step.processes() == step.workers() && step.kind != Kind::Producer;
        Self { deaths, hangs: deaths && step.options.timeout.is_some() }
    }

    fn all(self, fate: Fate) -> bool {
        match fate {
            Fate::Aborts | Fate::Segfaults => self.deaths,
            Fate::Hangs => self.hangs,
            _ => true,
        }
    }
}

/// What the mocks send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    /// The number of steps it has passed: on a loop, each turn is decided anew.
    pub(crate) steps: u64,
}

impl Data for Numbered {
    const TYPE: &'static str = "drpipe/Numbered/1";
}
