//! The quarantine entries that a failed input had in earlier runs.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::entry::{Past, Reason};
use crate::base::lock::lock;
use crate::message::Payload;
use crate::router::FailedInput;

/// The inputs that a run tries again, with their histories. Messages carry no history, so they are
/// recognized by their contents: an input that fails at the same step is recognized by its bytes,
/// and what descends from an input by its origin, if no other input has the same.
#[derive(Clone, Default)]
pub(crate) struct Retried(Arc<Mutex<Inputs>>);

#[derive(Default)]
struct Inputs {
    count: usize,
    latest: Vec<Past>,
    /// Identical inputs each have a history of their own.
    by_contents: HashMap<u64, VecDeque<Vec<Past>>>,
    /// The value is none if several inputs have the origin.
    by_origin: HashMap<String, Option<Vec<Past>>>,
}

impl Retried {
    /// Adds an input before it is tried again.
    pub(crate) fn add(&self, path: &Path, reason: &Reason, payload: &Payload) {
        let entry = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut past = reason.retried_from.clone();
        past.push(Past {
            run: reason.run.clone(),
            entry,
            step: reason.step.clone(),
            attempts: reason.attempts,
            cause: reason.cause.clone(),
            reason: reason.reason.clone(),
            time: reason.time.clone(),
        });
        let print = print(&reason.step, reason.origin.as_deref(), payload);
        let mut inputs = lock(&self.0);
        inputs.count += 1;
        inputs.by_contents.entry(print).or_default().push_back(past.clone());
        if let Some(origin) = &reason.origin {
            let known = inputs.by_origin.contains_key(origin);
            inputs.by_origin.insert(origin.clone(), (!known).then(|| past.clone()));
        }
        inputs.latest = past;
    }

    /// The history of a failed input; empty if it has none, or if it is not known.
    pub(crate) fn history(&self, failed_input: &FailedInput) -> Vec<Past> {
        let mut inputs = lock(&self.0);
        if inputs.count < 2 {
            // Everything in this run descends from one input, or no input is tried again.
            return inputs.latest.clone();
        }
        let origin = failed_input.origin.as_deref();
        let print = print(&failed_input.step, origin, &failed_input.payload);
        if let Some(same) = inputs.by_contents.get_mut(&print)
            && let Some(past) = same.pop_front()
        {
            same.push_back(past.clone());
            return past;
        }
        let past = origin.and_then(|origin| inputs.by_origin.get(origin)).cloned();
        past.flatten().unwrap_or_default()
    }
}

fn print(step: &str, origin: Option<&str>, payload: &Payload) -> u64 {
    let mut hasher = DefaultHasher::new();
    (step, origin, &payload.header[..]).hash(&mut hasher);
    payload.buffers.iter().map(Bytes::as_ref).for_each(|buffer: &[u8]| buffer.hash(&mut hasher));
    hasher.finish()
}
