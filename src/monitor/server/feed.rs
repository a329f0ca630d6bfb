//! The streams that viewers read. Their contents are made once, however many viewers there are.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::Connection;
use crate::status::stream::{Seen, Watcher};
use crate::status::{State, View};

/// How often an idle stream sends a comment, which shows that the connection is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a viewer may take nothing before its connection is closed.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// The time between two looks for new events.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The size in bytes from which on events are sent.
const BATCH_BYTES: usize = 64 << 10;

/// The view of a run at one moment, ready to be sent to any number of viewers.
#[derive(Clone, Default)]
pub(crate) struct SseFrame {
    /// The number of the last event in it.
    pub(crate) number: u64,
    /// The view, as JSON.
    pub(crate) view: Bytes,
    /// The view as an event of a stream.
    frame: Bytes,
    /// The whole history, as JSON; only with the last view.
    pub(crate) history: Option<Bytes>,
    /// Whether it is the last view.
    pub(crate) over: bool,
}

impl SseFrame {
    pub(crate) fn of(view: &View, json: &[u8]) -> Self {
        let head = format!("id: {}\nevent: view\ndata: ", view.number);
        let frame = Bytes::from([head.as_bytes(), json, b"\n\n"].concat());
        Self {
            number: view.number,
            view: frame.slice(head.len()..head.len() + json.len()),
            frame,
            history: None,
            over: view.state == State::Ended,
        }
    }

    /// The view for one viewer, as JSON: with whether it may steer.
    pub(crate) fn view_for(&self, may_steer: bool) -> Vec<u8> {
        let members = self.view.strip_suffix(b"}").unwrap_or_default();
        [members, format!(",\"may_steer\":{may_steer}}}").as_bytes()].concat()
    }
}

/// The value as JSON. No view or event has a value that JSON lacks.
pub(crate) fn json(value: &impl Serialize) -> Bytes {
    let text = serde_json::to_vec(value);
    text.unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}").into_bytes()).into()
}

/// A viewer's stream: a snapshot first, then each view that differs, up to the last.
pub(crate) fn stream(
    feed: &watch::Sender<SseFrame>,
    history: &[u8],
    may_steer: bool,
    connection: Arc<Connection>,
) -> Body {
    let mut receiver = feed.subscribe();
    let first = receiver.borrow_and_update().clone();
    let may = format!(",\"may_steer\":{may_steer}}}\n\n");
    let snapshot: [&[u8]; 6] = [
        b"retry: 1000\nevent: snapshot\ndata: {\"view\":",
        &first.view,
        b",\"history\":",
        history,
        may.as_bytes(),
        b"",
    ];
    let (sender, body) = channel();
    let snapshot = Bytes::from(snapshot.concat());
    tokio::spawn(closing_if_stuck(connection, async move {
        let mut over = first.over;
        send(&sender, snapshot).await?;
        while !over {
            tokio::select! {
                changed = receiver.changed() => changed.map_err(|_| SendError::Gone)?,
                () = sender.closed() => return Err(SendError::Gone),
                () = sleep(KEEP_ALIVE) => {
                    send(&sender, Bytes::from_static(b": still here\n\n")).await?;
                    continue;
                }
            }
            let frame = receiver.borrow_and_update().clone();
            over = frame.over;
            if let Some(history) = &frame.history {
                let history = [b"event: history\ndata: ", history.as_ref(), b"\n\n"].concat();
                send(&sender, history.into()).await?;
            }
            send(&sender, frame.frame).await?;
        }
        Ok(())
    }));
    body
}

/// The events that the watcher sees, one a line, to the end of the run.
pub(crate) fn events(mut watcher: Watcher, connection: Arc<Connection>) -> Body {
    let (sender, body) = channel();
    tokio::spawn(closing_if_stuck(connection, async move {
        loop {
            let (lines, over) = batch(&mut watcher);
            if !lines.is_empty() {
                send(&sender, lines.into()).await?;
            } else if over {
                return Ok(());
            } else {
                tokio::select! {
                    () = sender.closed() => return Err(SendError::Gone),
                    () = sleep(POLL_INTERVAL) => {}
                }
            }
        }
    }));
    body
}

/// Takes the events that can be sent now, as lines; true if nothing follows them.
fn batch(watcher: &mut Watcher) -> (Vec<u8>, bool) {
    let mut lines = Vec::new();
    while lines.len() < BATCH_BYTES {
        match watcher.next(Some(Duration::ZERO)) {
            Seen::Event(record) => lines.extend_from_slice(&json(&*record)),
            Seen::Missed(count) => {
                lines.extend_from_slice(
                    format!("{{\"event\":\"omitted\",\"count\":{count}}}").as_bytes(),
                );
            }
            Seen::Nothing => return (lines, false),
            Seen::End => return (lines, true),
        }
        lines.push(b'\n');
    }
    (lines, false)
}

/// Why sending failed.
enum SendError {
    /// The viewer has closed the connection.
    Gone,
    /// The viewer reads nothing, but the connection is open.
    Stuck,
}

/// Sends; if the viewer no longer reads, closes its connection.
async fn closing_if_stuck(
    connection: Arc<Connection>,
    sending: impl Future<Output = Result<(), SendError>>,
) {
    if let Err(SendError::Stuck) = sending.await {
        connection.close();
    }
}

async fn send(sender: &mpsc::Sender<Bytes>, piece: Bytes) -> Result<(), SendError> {
    match timeout(SEND_TIMEOUT, sender.send(piece)).await {
        Ok(sent) => sent.map_err(|_| SendError::Gone),
        Err(_) => Err(SendError::Stuck),
    }
}

/// A body and its sender: it holds one piece while the viewer takes another.
fn channel() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let pieces = ReceiverStream::new(receiver).map(Ok::<Bytes, Infallible>);
    (sender, Body::from_stream(pieces))
}
