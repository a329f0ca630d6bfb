//! The run of this program: its views for viewers, and how it is steered.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use super::access::Refusal;
use super::feed::{SseFrame, json};
use super::thumbnail::thumbnail;
use crate::base::lock::lock;
use crate::pipeline::{self, Cancelled, Control, SteerError};
use crate::sinks::quarantine::read_reason;
use crate::status::stream::Stream;
use crate::status::{ProductLine, View};

/// The time between two views for viewers.
const REFRESH_INTERVAL: Duration = Duration::from_millis(200);

/// The run of this program.
pub(crate) struct LocalRun {
    pub(crate) name: String,
    pub(crate) stream: Stream,
    pub(crate) feed: watch::Sender<SseFrame>,
    pub(crate) thumbnails: Thumbnails,
    control: Control,
    /// The latest history as JSON, with the number of its last event.
    history: Mutex<(u64, Bytes)>,
}

impl LocalRun {
    pub(crate) fn new(stream: Stream, control: Control) -> Self {
        let status = stream.status();
        Self {
            name: status.opened.run,
            stream,
            feed: watch::channel(SseFrame::default()).0,
            thumbnails: Thumbnails::new(status.opened.directory),
            control,
            history: Mutex::default(),
        }
    }

    /// Publishes new views, for as long as the run lasts.
    pub(crate) async fn publish(&self) {
        let mut ticks = tokio::time::interval(REFRESH_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.feed.receiver_count() > 0 {
                self.refresh();
            }
        }
    }

    /// Makes and publishes the current view, unless nothing has happened since the last one.
    pub(crate) fn refresh(&self) -> SseFrame {
        let number = self.stream.number();
        if self.feed.borrow().number != number {
            let view = self.stream.view();
            let mut frame = SseFrame::of(&view, &json(&view));
            frame.history = frame.over.then(|| self.history());
            self.feed.send_replace(frame);
        }
        self.feed.borrow().clone()
    }

    /// The history so far, as JSON.
    pub(crate) fn history(&self) -> Bytes {
        let number = self.stream.number();
        let mut latest = lock(&self.history);
        if latest.0 != number || latest.1.is_empty() {
            *latest = (number, json(&self.stream.history()));
        }
        latest.1.clone()
    }

    /// The thumbnail of the picture that event `number` announced.
    pub(crate) async fn picture(&self, number: u64) -> Option<Bytes> {
        let View { products, .. } = self.stream.view();
        self.thumbnails.get(products.iter(), number).await
    }

    /// The `reason.json` of an entry in the quarantine; none if there is no such entry.
    pub(crate) fn quarantined(&self, entry: &str) -> Option<Vec<u8>> {
        let is_name = !entry.is_empty() && !entry.contains(['/', '\\']) && !entry.starts_with('.');
        let entry = is_name.then(|| self.control.quarantine().join(entry))?;
        read_reason(&entry).ok()
    }

    /// Carries out an action on the run. Blocks until the run has done it.
    ///
    /// # Errors
    /// If the action is unknown, its body is wrong, or the run refuses.
    pub(crate) fn steer(&self, action: &str, body: &[u8]) -> Result<Value, Refusal> {
        let control = &self.control;
        let done = match action {
            "pause" => control.pause(read::<StepBody>(body)?.step.as_deref()),
            "resume" => control.resume(read::<StepBody>(body)?.step.as_deref()),
            "workers" => {
                let WorkersBody { step, workers } = read(body)?;
                control.set_workers(&step, workers)
            }
            "cancel" => {
                let CancelBody { origin, running } = read(body)?;
                let cancelled = control.cancel(&origin, running);
                return cancelled.map_err(refusal).map(|cancelled| {
                    let Cancelled { waiting, in_hand, .. } = cancelled;
                    serde_json::json!({"ok": true, "waiting": waiting, "in_hand": in_hand})
                });
            }
            "retry" => control.retry(&read::<EntryBody>(body)?.entry),
            "drain" => {
                read::<EmptyBody>(body)?;
                self.not_over().map(|()| control.drain())
            }
            "stop" => {
                read::<EmptyBody>(body)?;
                self.not_over().map(|()| control.stop_now())
            }
            _ => {
                let why = format!(
                    "there is no {action:?}; expected pause, resume, workers, retry, cancel, drain \
                     or stop"
                );
                return Err(Refusal { status: 404, why });
            }
        };
        done.map_err(refusal).map(|()| serde_json::json!({"ok": true}))
    }

    fn not_over(&self) -> Result<(), SteerError> {
        match self.stream.status().state {
            crate::status::State::Ended => Err(SteerError::Refused(pipeline::Refusal::Over)),
            _ => Ok(()),
        }
    }
}

fn refusal(error: SteerError) -> Refusal {
    let status = match &error {
        SteerError::UnknownStep { .. } | SteerError::UnknownEntry { .. } => 404,
        SteerError::Refused(pipeline::Refusal::NotUnderWay { .. }) => 404,
        SteerError::Ended | SteerError::NoAnswer => 503,
        _ => 409,
    };
    Refusal { status, why: error.to_string() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelBody {
    origin: String,
    #[serde(default)]
    running: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepBody {
    step: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkersBody {
    step: String,
    workers: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryBody {
    entry: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmptyBody {}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal {
        status: 400,
        why: format!("the body of the request is invalid: {error}"),
    })
}

/// The latest thumbnails. Each is made once, and one at a time: the run needs the processors.
pub(crate) struct Thumbnails {
    /// The directory of relative paths.
    directory: PathBuf,
    made: Mutex<BTreeMap<u64, Option<Bytes>>>,
    turn: Semaphore,
}

/// How many thumbnails are kept: twice as many as a view has products.
const MAX_THUMBNAILS: usize = 48;

impl Thumbnails {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, made: Mutex::default(), turn: Semaphore::new(1) }
    }

    /// The thumbnail of the picture that event `number` announced, if it is one of `products`.
    pub(crate) async fn get(
        &self,
        mut products: impl Iterator<Item = &ProductLine>,
        number: u64,
    ) -> Option<Bytes> {
        let path = self.directory.join(&products.find(|product| product.number == number)?.path);
        let _turn = self.turn.acquire().await.ok()?;
        if let Some(made) = lock(&self.made).get(&number) {
            return made.clone();
        }
        let make = move || thumbnail(&path).map(Bytes::from);
        let made = tokio::task::spawn_blocking(make).await.ok().flatten();
        let mut all = lock(&self.made);
        if all.len() >= MAX_THUMBNAILS {
            all.pop_first();
        }
        all.insert(number, made.clone());
        made
    }
}
