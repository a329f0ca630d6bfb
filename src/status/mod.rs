//! The state of a run: the sum of its events. Dashboard, terminal, metrics and reports all show
//! this state, so they always agree.

pub(crate) mod bottleneck;
mod lines;
mod pace;
mod rate_history;
mod sentence;
mod series;
mod state;
pub mod stream;
#[cfg(test)]
pub(crate) mod testing;
mod time_left;
mod view;

pub(crate) use lines::overdue_in_words;
pub use lines::{FailureLine, Line, ProductLine};
pub(crate) use rate_history::RateHistory;
pub(crate) use sentence::bottleneck;
pub(crate) use sentence::pipeline_in_words;
pub use series::{History, StepHistory, WorkerHistory};
pub use state::{State, Status};
pub use view::{EdgeView, Standing, StepView, View};
