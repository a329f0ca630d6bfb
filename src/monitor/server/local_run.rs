//! The run that this program does itself, as it is shown and steered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};

use super::access::Refusal;
use super::feed::{SseFrame, json};
use super::thumbnail::thumbnail;
use crate::pipeline::{Control, SteerError};
use crate::sinks::quarantine::read_reason;
use crate::status::stream::Stream;
use crate::status::{ProductLine, View};

/// How often those who look see something new.
const TICK: Duration = Duration::from_millis(200);

/// A run of this program.
pub(crate) struct LocalRun {
    pub(crate) run: String,
    pub(crate) stream: Stream,
    pub(crate) feed: watch::Sender<SseFrame>,
    pub(crate) pictures: Pictures,
    control: Control,
    /// The last history made, with its event's number.
    history: Mutex<(u64, Bytes)>,
}

impl LocalRun {
    pub(crate) fn new(stream: Stream, control: Control) -> Self {
        let status = stream.status();
        Self {
            run: status.opened.run,
            stream,
            feed: watch::channel(SseFrame::default()).0,
            pictures: Pictures::new(status.opened.directory),
            control,
            history: Mutex::default(),
        }
    }

    /// Gives those who look what is new, for as long as the run lasts.
    pub(crate) async fn tell(&self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.feed.receiver_count() > 0 {
                self.refresh();
            }
        }
    }

    /// What is shown now.
    pub(crate) fn refresh(&self) -> SseFrame {
        let number = self.stream.number();
        if self.feed.borrow().number != number {
            let view = self.stream.view();
            let mut moment = SseFrame::of(&view, &json(&view));
            moment.history = moment.over.then(|| self.history());
            self.feed.send_replace(moment);
        }
        self.feed.borrow().clone()
    }

    /// How the numbers went so far, as JSON.
    pub(crate) fn history(&self) -> Bytes {
        let number = self.stream.number();
        let mut kept = lock(&self.history);
        if kept.0 != number || kept.1.is_empty() {
            *kept = (number, json(&self.stream.history()));
        }
        kept.1.clone()
    }

    /// The picture that event `number` has announced, made small.
    pub(crate) async fn picture(&self, number: u64) -> Option<Bytes> {
        let View { products, .. } = self.stream.view();
        self.pictures.of(products.iter(), number).await
    }

    /// Why the input in this entry of the quarantine failed, as it is kept there.
    pub(crate) fn quarantined(&self, entry: &str) -> Option<Vec<u8>> {
        let is_name = !entry.is_empty() && !entry.contains(['/', '\\']) && !entry.starts_with('.');
        let entry = is_name.then(|| self.control.quarantine().join(entry))?;
        read_reason(&entry).ok()
    }

    /// Does what was posted. Waits until the run has done it.
    pub(crate) fn steer(&self, action: &str, body: &[u8]) -> Result<(), Refusal> {
        let control = &self.control;
        let done = match action {
            "pause" => control.pause(read::<OfStep>(body)?.step.as_deref()),
            "resume" => control.resume(read::<OfStep>(body)?.step.as_deref()),
            "workers" => {
                let Workers { step, workers } = read(body)?;
                control.set_workers(&step, workers)
            }
            "retry" => control.retry(&read::<Entry>(body)?.entry),
            "drain" => {
                read::<Nothing>(body)?;
                self.not_over().map(|()| control.drain())
            }
            "stop" => {
                read::<Nothing>(body)?;
                self.not_over().map(|()| control.stop_now())
            }
            _ => {
                let why = format!(
                    "there is no {action:?}; expected pause, resume, workers, retry, drain or stop"
                );
                return Err(Refusal { status: 404, why });
            }
        };
        done.map_err(|error| Refusal {
            status: match &error {
                SteerError::Unknown(_) => 404,
                SteerError::Refused(_) => 409,
                SteerError::NoAnswer(_) => 503,
            },
            why: error.to_string(),
        })
    }

    fn not_over(&self) -> Result<(), SteerError> {
        match self.stream.status().state {
            crate::status::State::Ended => Err(SteerError::Refused("the run is over".to_owned())),
            _ => Ok(()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfStep {
    step: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Workers {
    step: String,
    workers: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    entry: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal {
        status: 400,
        why: format!("the body is not what is expected here: {error}"),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Small pictures, each made once and one at a time: the run needs the processors.
pub(crate) struct Pictures {
    /// What relative paths are relative to.
    directory: PathBuf,
    made: Mutex<BTreeMap<u64, Option<Bytes>>>,
    turn: Semaphore,
}

/// So many are kept.
const MOST_PICTURES: usize = 48;

impl Pictures {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, made: Mutex::default(), turn: Semaphore::new(1) }
    }

    /// The picture that event `number` has announced, if it is one of these.
    pub(crate) async fn of(
        &self,
        mut products: impl Iterator<Item = &ProductLine>,
        number: u64,
    ) -> Option<Bytes> {
        let path = self.directory.join(&products.find(|product| product.number == number)?.path);
        let _turn = self.turn.acquire().await.ok()?;
        if let Some(made) = lock(&self.made).get(&number) {
            return made.clone();
        }
        let make = move || picture(&path);
        let made = tokio::task::spawn_blocking(make).await.ok().flatten();
        let mut all = lock(&self.made);
        if all.len() >= MOST_PICTURES {
            all.pop_first();
        }
        all.insert(number, made.clone());
        made
    }
}

fn picture(path: &Path) -> Option<Bytes> {
    thumbnail(path).map(Bytes::from)
}
