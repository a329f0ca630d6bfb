//! Starts a run that this program feeds.

use std::sync::Arc;

use super::super::{Handle, Mode, Pipeline, Report, RunError, Verdict};
use super::intake::{Intake, Kept};
use crate::driver::commands::commands;
use crate::plan::Plan;
use crate::stage::data::{ANY, Data};
use crate::transport::feed::{FeedPort, link};

/// The feed of a run, as the run sees it.
pub(crate) struct Feeding {
    pub(crate) port: FeedPort,
    pub(crate) end: EndOfFeed,
}

/// Why a run could not go on, if that is how it ended.
type Reason = Option<Arc<str>>;

/// Ends all items that are open when the run is over, however it ends.
pub(crate) struct EndOfFeed(Option<Box<dyn FnOnce(Reason) + Send>>);

impl EndOfFeed {
    pub(crate) fn tell(mut self, result: &Result<Report, RunError>) {
        let reason = match result {
            Ok(Report { verdict: Verdict::Stopped(reason), .. }) => Some(reason.as_str().into()),
            Ok(_) => None,
            Err(error) => Some(error.to_string().into()),
        };
        self.end(reason);
    }

    fn end(&mut self, reason: Reason) {
        if let Some(end) = self.0.take() {
            end(reason);
        }
    }
}

impl Drop for EndOfFeed {
    fn drop(&mut self) {
        self.end(Some(RunError::Panicked.to_string().into()));
    }
}

impl Pipeline {
    /// Starts a run that this program feeds. `is_read` says whether somebody reads how items end.
    ///
    /// # Errors
    /// As [`Pipeline::start_with_feed`].
    pub(crate) fn start_fed<In: Data, Out: Data, K: Kept>(
        mut self,
        is_read: bool,
    ) -> Result<(Arc<Intake<K>>, Handle), RunError> {
        let feed = fed_step(&self.plan)?;
        self.plan.feed_here(feed);
        if let Some(step) = self.plan.steps.iter().find(|step| step.is_open) {
            return Err(RunError::NoCaller { step: step.name.clone() });
        }
        check_types::<In, Out>(&self.plan, feed)?;
        let channel = commands()?;
        let waker = channel.1.wakeup.waker();
        let (link, port) = link(waker, self.plan.leads_to_processes(feed));
        let intake = Arc::new(Intake::new(&self.plan, feed, link, is_read));
        let (hearer, ender) = (Arc::clone(&intake), Arc::clone(&intake));
        let port = port(Box::new(move |message| hearer.hear(message)));
        let end = EndOfFeed(Some(Box::new(move |reason| ender.over(reason))));
        let run = self.begin(Mode::Threads, channel, Some(Feeding { port, end }))?;
        Ok((intake, run))
    }
}

/// The producer, which must be a feed.
fn fed_step(plan: &Plan) -> Result<usize, RunError> {
    plan.feed().ok_or_else(|| {
        let producer = plan.steps.first();
        let step = producer.map(|step| step.name.clone()).unwrap_or_default();
        let class = producer.map(|step| step.class.clone()).unwrap_or_default();
        RunError::NoFeed { step, class }
    })
}

/// Checks that the steps take and give back what the program says. What steps in other languages
/// take is not known in advance.
fn check_types<In: Data, Out: Data>(plan: &Plan, feed: usize) -> Result<(), RunError> {
    let is_known = |found: &&'static str| *found != ANY;
    if let Some(route) = plan.steps[feed].routes.first() {
        let step = &plan.steps[route.to];
        if let Some(found) = step.input.filter(is_known).filter(|found| *found != In::TYPE) {
            let (step, verb, expected) = (step.name.clone(), "takes", In::TYPE);
            return Err(RunError::OtherType { step, verb, found, expected });
        }
    }
    for step in plan.steps.iter().filter(|step| *step.options.results) {
        let found = step.output.filter(is_known);
        if let Some(found) = found.filter(|found| Out::TYPE != ANY && *found != Out::TYPE) {
            let (step, verb, expected) = (step.name.clone(), "gives back", Out::TYPE);
            return Err(RunError::OtherType { step, verb, found, expected });
        }
    }
    Ok(())
}
