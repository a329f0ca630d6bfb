//! Policies: pure functions that answer one question each. They change nothing; the
//! router carries out what they answer.
//!
//! - `dispatch`: which worker gets the next messages, and how many
//! - `ending`: what comes next at the end of a group of steps
//! - `ordering`: whether a message may be given, where results come in order
//! - `retry`: whether a failed attempt is repeated, and when; the same for lost workers
//! - `scaling`: when a step gets another worker, and when it lets one go

pub(super) mod dispatch;
pub(super) mod ending;
pub(super) mod ordering;
pub(super) mod retry;
pub(super) mod scaling;
