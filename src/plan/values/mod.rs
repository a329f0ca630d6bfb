//! The forms that values of keys have: what is allowed, and what it becomes.

mod choices;
mod numbers;
mod parts;
mod texts;

pub use choices::OnError;
pub(crate) use choices::{Flag, Policy, Urgency, Version};
pub use numbers::WorkerRange;
pub(crate) use numbers::{
    ByteLimit, Bytes, Items, MessageLimit, Retries, STEP_WORKERS, TimeLimit, Wait, Workers, number,
};
pub(crate) use parts::{FirstStep, LastStep, Parameters, StepList, Steps};
pub(crate) use texts::{
    DashboardAddress, Directories, Directory, Interpreter, StepName, StepNames, Text, Title,
    wrong_name,
};
