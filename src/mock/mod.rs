//! `check --mock`: runs the graph of a pipeline with stages that do nothing but fail, to see
//! whether its workers, queues and policies do what they promise.
//!
//! What becomes of a message at a step depends on the seed, the step's name and the message's
//! number alone. So all counts can be predicted, and a run is compared with them.

pub(crate) mod faults;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use signal_hook::consts::SIGSEGV;
use signal_hook::low_level::emulate_default_handler;

use crate::base::failure::{Failure, Result};
use crate::event::{Counts, Report, Verdict};
use crate::pipeline::Pipeline;
use crate::plan::{OnError, Plan, Step};
use crate::stage::registry::{Kind, Registry};
use crate::stage::{Emitter, Next, Producer, Stage};
use faults::{Bears, Fate, Faults, FaultsError, Numbered};

/// The running time of a slow message: long enough to be seen, short enough for many.
const SLOW: Duration = Duration::from_millis(5);
/// The longest wait before a retry: the mock tries the policy, not the user's patience.
const LONGEST_BACKOFF: Duration = Duration::from_millis(2);
/// A next step that no configuration can have, because names contain no comma.
const UNDECLARED: &str = "no,such,step";

/// The names of the mock classes. No configuration can mean them by accident.
const PRODUCER: &str = "(mock producer)";
const STAGE: &str = "(mock)";

/// The registry with the mock classes, which the workers of a mocked pipeline need.
pub(crate) fn with_mocks(registry: &Registry) -> Registry {
    let mut registry = registry.clone();
    registry.producer::<MockProducer>(PRODUCER);
    registry.stage::<MockStage>(STAGE);
    registry
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct MockProducer {
    faults: Faults,
    #[serde(skip)]
    next: u64,
}

impl Producer for MockProducer {
    type Out = Numbered;

    fn next(&mut self, out: &mut Emitter<'_, Numbered>) -> Result<Next> {
        if self.next >= self.faults.messages {
            return Ok(Next::Done);
        }
        let message = Numbered { number: self.next, steps: 0 };
        self.next += 1;
        pass_on(&self.faults, message, out).map(|()| Next::More)
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct MockStage {
    faults: Faults,
    bears: Bears,
}

impl Stage for MockStage {
    type In = Numbered;
    type Out = Numbered;

    fn run(&mut self, message: Numbered, out: &mut Emitter<'_, Numbered>) -> Result<()> {
        match self.faults.fate(out.context().step(), self.bears, &message) {
            Fate::Fails => Err(Failure::retryable("the mock fails as requested")),
            #[expect(clippy::panic, reason = "the configuration asks for a panic")]
            Fate::Panics => panic!("the mock panics as requested"),
            Fate::GoesAstray => out.send_to(UNDECLARED, message),
            Fate::IsSlow => {
                std::thread::sleep(SLOW);
                pass_on(&self.faults, message, out)
            }
            Fate::Aborts => std::process::abort(),
            Fate::Segfaults => Ok(emulate_default_handler(SIGSEGV)?),
            Fate::Hangs => loop {
                std::thread::park();
            },
            Fate::Passes => pass_on(&self.faults, message, out),
        }
    }
}

/// Sends the message to one of the next steps, if there are any.
fn pass_on(faults: &Faults, message: Numbered, out: &mut Emitter<'_, Numbered>) -> Result<()> {
    let way = faults.way(out.context().step(), &message, out.next_steps().len());
    let Some(next) = out.next_steps().get(way).cloned() else { return Ok(()) };
    out.send_to(&next, Numbered { steps: message.steps + 1, ..message })
}

impl Pipeline {
    /// Replaces the stages by mocks, with the same graph, workers, queues and policies. Also
    /// returns what to expect of a run.
    ///
    /// # Errors
    /// If a fault cannot happen anywhere in this pipeline.
    pub(crate) fn mocked(
        mut self,
        faults: &Faults,
    ) -> std::result::Result<(Self, Expectation), FaultsError> {
        faults.check_plan(&self.plan)?;
        let expectation = Expectation::of(&self.plan, faults);
        let registry = with_mocks(&Registry::new());
        for step in &mut self.plan.steps {
            let is_producer = step.kind == Kind::Producer;
            step.python = None;
            (step.is_open, step.feed, step.acknowledges) = (false, false, false);
            step.class = if is_producer { PRODUCER } else { STAGE }.to_owned();
            step.params = json!({"faults": faults, "bears": Bears::of(step)});
            let backoff = &mut step.options.backoff.value;
            *backoff = (*backoff).min(LONGEST_BACKOFF);
            if let Some(class) = registry.get(&step.class) {
                step.build = class.with_params(step.params.clone());
            }
        }
        Ok((self, expectation))
    }
}

/// The expected result of a run of mocks.
#[derive(Debug)]
pub(crate) struct Expectation {
    /// The steps in the order of the plan.
    steps: Vec<(String, Counts)>,
    /// The steps under the policy `stop` at which a message fails. If there are any, what else
    /// is done depends on which message comes first.
    stopping: Vec<String>,
}

impl Expectation {
    fn of(plan: &Plan, faults: &Faults) -> Self {
        let mut counts = vec![Counts::default(); plan.steps.len()];
        let mut stopping = Vec::new();
        let producers = plan.steps.iter().enumerate().filter(|(_, s)| s.kind == Kind::Producer);
        for (producer, _) in producers {
            for number in 0..faults.messages {
                let stopped = follow(plan, faults, producer, number, &mut counts);
                stopping.extend(stopped.filter(|name| !stopping.contains(name)));
            }
        }
        let names = plan.steps.iter().map(|step| step.name.clone());
        Self { steps: names.zip(counts).collect(), stopping }
    }

    /// Describes how the run differed. A run that a signal interrupted only has to balance.
    pub(crate) fn differences(&self, report: &Report) -> Vec<String> {
        let mut found = imbalances(report);
        let as_expected = match &report.verdict {
            Verdict::Interrupted => return found,
            Verdict::Stopped(reason) => {
                let by_step = |name: &String| reason.starts_with(&format!("\"{name}\" failed"));
                self.stopping.iter().any(by_step)
            }
            verdict => self.stopping.is_empty() && *verdict == self.verdict(),
        };
        if !as_expected {
            let expected = match self.stopping.as_slice() {
                [] => format!("{:?}", self.verdict()),
                names => format!("Stopped by {}", names.join(" or ")),
            };
            found.push(format!("the run ended as {:?}; expected {expected}", report.verdict));
        }
        if self.stopping.is_empty() {
            for ((name, expected), step) in self.steps.iter().zip(&report.steps) {
                if *expected != step.counts {
                    found.push(format!("{name}: found {:?}; expected {expected:?}", step.counts));
                }
            }
        }
        found
    }

    fn verdict(&self) -> Verdict {
        let failed = self.steps.iter().any(|(_, counts)| counts.failed + counts.dropped > 0);
        if failed { Verdict::SomeFailed } else { Verdict::Done }
    }
}

/// Follows a message from its producer to its end. Returns the step at which it stops the run, if
/// it does.
fn follow(
    plan: &Plan,
    faults: &Faults,
    producer: usize,
    number: u64,
    counts: &mut [Counts],
) -> Option<String> {
    let mut message = Numbered { number, steps: 0 };
    let mut place = producer;
    loop {
        let step = &plan.steps[place];
        if step.kind != Kind::Producer {
            counts[place].received += 1;
            let fate = faults.fate(&step.name, Bears::of(step), &message);
            if !matches!(fate, Fate::Passes | Fate::IsSlow) {
                fail(step, fate, &mut counts[place]);
                return (*step.options.on_error == OnError::Stop).then(|| step.name.clone());
            }
            counts[place].done += 1;
        }
        let way = faults.way(&step.name, &message, step.routes.len());
        let route = step.routes.get(way)?;
        counts[place].emitted += 1;
        message.steps += 1;
        place = route.to;
    }
}

fn fail(step: &Step, fate: Fate, counts: &mut Counts) {
    if fate != Fate::GoesAstray {
        let lost = matches!(fate, Fate::Aborts | Fate::Segfaults);
        let more = if lost { *step.options.lost_retries } else { 0 };
        counts.retried += u64::from(*step.options.retries) + u64::from(more);
    }
    match *step.options.on_error {
        OnError::Skip => counts.dropped += 1,
        OnError::Stop | OnError::Quarantine | OnError::Tell => counts.failed += 1,
    }
}

/// Describes where messages were lost or came from nowhere.
fn imbalances(report: &Report) -> Vec<String> {
    let mut found = Vec::new();
    let (mut emitted, mut received) = (0, 0);
    for step in &report.steps {
        let Counts { received: got, done, failed, dropped, .. } = step.counts;
        if step.kind != Kind::Producer && got != done + failed + dropped {
            let name = &step.name;
            found.push(format!(
                "{name}: received {got}, but done + failed + dropped is {}",
                done + failed + dropped
            ));
        }
        emitted += step.counts.emitted;
        received += got;
    }
    if emitted != received {
        found.push(format!(
            "all steps together emitted {emitted} messages, but received {received}"
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Mode;
    use crate::stages::{Discard, Integers, Pass};

    const ALL: Bears = Bears { deaths: true, hangs: true };

    /// A graph with a branch, a join and a loop.
    fn pipeline(policy: OnError) -> Pipeline {
        Pipeline::builder()
            .producer("IN", || Integers::new(1, 1))
            .next_step("A")
            .next_step("B")
            .stage("A", Pass::default)
            .threads(3)
            .queue_limit(Some(2))
            .next_step("B")
            .next_step("OUT")
            .stage("B", Pass::default)
            .retries(2, Duration::from_secs(100))
            .on_error(policy)
            .next_step("OUT")
            .feedback("A")
            .consumer("OUT", Discard::default)
            .on_error(OnError::Skip)
            .build()
            .unwrap()
    }

    fn mocked(policy: OnError, faults: &str) -> (Report, Expectation) {
        let directory = tempfile::tempdir().unwrap();
        let mut pipeline = pipeline(policy);
        pipeline.set_quarantine(directory.path().to_owned());
        let (pipeline, expectation) = pipeline.mocked(&Faults::parse(faults).unwrap()).unwrap();
        (pipeline.run(Mode::Threads).unwrap(), expectation)
    }

    const SOME: &str = "fail=0.1,panic=0.1,undeclared=0.1,slow=0.01,messages=300";

    #[test]
    fn the_ledger_is_the_expected_one() {
        for seed in 0..5 {
            let faults = format!("{SOME},seed={seed}");
            for policy in [OnError::Quarantine, OnError::Skip, OnError::Stop] {
                let (report, expectation) = mocked(policy, &faults);
                assert_eq!(expectation.differences(&report), Vec::<String>::new());
                assert_eq!(report.exit_code, if policy == OnError::Stop { 3 } else { 1 });
            }
        }
        let (report, expectation) = mocked(OnError::Stop, "");
        assert_eq!(expectation.differences(&report), Vec::<String>::new());
        assert_eq!(report.verdict, Verdict::Done);
    }

    #[test]
    fn a_ledger_that_is_another_is_found() {
        let (report, expectation) = mocked(OnError::Quarantine, SOME);
        type Change = fn(&mut Report);
        let changes: [(Change, usize); 4] = [
            (|report| report.verdict = Verdict::Done, 1),
            (|report| report.steps[1].counts.retried += 1, 1),
            // The step, the sum over all, and what was expected.
            (|report| report.steps[1].counts.received += 1, 3),
            (|report| report.steps[0].counts.emitted -= 1, 2),
        ];
        for (change, count) in changes {
            let mut changed = report.clone();
            change(&mut changed);
            let found = expectation.differences(&changed);
            assert_eq!(found.len(), count, "{found:?}");
        }
    }

    #[test]
    fn faults_are_as_frequent_as_asked_for() {
        let faults = Faults::parse("fail=0.2,panic=0.3,messages=7,seed=1").unwrap();
        let fates = (0..10_000).map(|number| faults.fate("S", ALL, &Numbered { number, steps: 3 }));
        let fates: Vec<Fate> = fates.collect();
        let part = |fate| fates.iter().filter(|f| **f == fate).count() as f64 / fates.len() as f64;
        // Five standard deviations of a binomial distribution.
        let near = |part: f64, of: f64| (part - of).abs() < 5.0 * (of * (1.0 - of) / 1e4).sqrt();
        assert!(near(part(Fate::Fails), 0.2) && near(part(Fate::Panics), 0.3));
        let other = Faults::parse("fail=0.2,panic=0.3,seed=2").unwrap();
        let differ = |number: &u64| {
            let message = Numbered { number: *number, steps: 3 };
            faults.fate("S", ALL, &message) != other.fate("S", ALL, &message)
        };
        assert!((0..100).any(|number| differ(&number)), "the seed makes no difference");
    }

    #[test]
    fn names_and_values_that_make_no_sense_are_refused() {
        for (text, part) in [
            ("fial=0.1", "did you mean \"fail\"?"),
            ("colour=0.1", "expected one of fail, panic"),
            ("fail", "expected name=value"),
            ("fail=2", "expected a probability from 0 to 1"),
            ("fail=NaN", "expected a probability from 0 to 1"),
            ("messages=-1", "expected a whole number"),
            ("fail=0.6,panic=0.6", "add up to 1.2"),
        ] {
            let error = Faults::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
