//! What is shown of a run, as it goes to everybody who looks: made once, however many
//! they are.

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

/// After this time without news a reader hears that the connection stands.
const QUIET: Duration = Duration::from_secs(15);
/// A reader that takes nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often new events are looked for.
const LOOK: Duration = Duration::from_millis(50);
/// About so many bytes of events are sent at a time.
const PORTION: usize = 64 << 10;

/// What is shown of a run at one moment.
#[derive(Clone, Default)]
pub(crate) struct SseFrame {
    /// The number of the last event in it.
    pub(crate) number: u64,
    /// The view, as JSON.
    pub(crate) view: Bytes,
    /// The view as an event of the page's stream.
    frame: Bytes,
    /// How the numbers went to the end, as JSON; only with the last view.
    pub(crate) history: Option<Bytes>,
    /// Whether it is the last.
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

    /// The view with what whoever asks may do, as JSON.
    pub(crate) fn view_for(&self, may_steer: bool) -> Vec<u8> {
        let members = self.view.strip_suffix(b"}").unwrap_or_default();
        [members, format!(",\"may_steer\":{may_steer}}}").as_bytes()].concat()
    }
}

/// As JSON; what is shown has no value that cannot be written so.
pub(crate) fn json(value: &impl Serialize) -> Bytes {
    let text = serde_json::to_vec(value);
    text.unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}").into_bytes()).into()
}

/// A page's stream: all at once first, then every view that differs, up to the last.
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
    tokio::spawn(letting_go(connection, async move {
        let mut over = first.over;
        give(&sender, snapshot).await?;
        while !over {
            tokio::select! {
                changed = receiver.changed() => changed.map_err(|_| Stuck(false))?,
                () = sender.closed() => return Err(Stuck(false)),
                () = sleep(QUIET) => {
                    give(&sender, Bytes::from_static(b": still here\n\n")).await?;
                    continue;
                }
            }
            let moment = receiver.borrow_and_update().clone();
            over = moment.over;
            if let Some(history) = &moment.history {
                let frame = [b"event: history\ndata: ", history.as_ref(), b"\n\n"].concat();
                give(&sender, frame.into()).await?;
            }
            give(&sender, moment.frame).await?;
        }
        Ok(())
    }));
    body
}

/// The events that follow, one a line, to the end of the run.
pub(crate) fn events(mut watcher: Watcher, connection: Arc<Connection>) -> Body {
    let (sender, body) = channel();
    tokio::spawn(letting_go(connection, async move {
        loop {
            let (lines, over) = portion(&mut watcher);
            if !lines.is_empty() {
                give(&sender, lines.into()).await?;
            } else if over {
                return Ok(());
            } else {
                tokio::select! {
                    () = sender.closed() => return Err(Stuck(false)),
                    () = sleep(LOOK) => {}
                }
            }
        }
    }));
    body
}

/// What can be sent now, and whether nothing follows.
fn portion(watcher: &mut Watcher) -> (Vec<u8>, bool) {
    let mut lines = Vec::new();
    while lines.len() < PORTION {
        match watcher.next(Some(Duration::ZERO)) {
            Seen::Event(told) => lines.extend_from_slice(&json(&*told)),
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

/// The reader is gone, or, if true, there but takes nothing.
struct Stuck(bool);

/// Closes the connection of a reader that takes nothing any more.
async fn letting_go(connection: Arc<Connection>, sending: impl Future<Output = Result<(), Stuck>>) {
    if let Err(Stuck(true)) = sending.await {
        connection.close();
    }
}

async fn give(sender: &mpsc::Sender<Bytes>, piece: Bytes) -> Result<(), Stuck> {
    match timeout(PATIENCE, sender.send(piece)).await {
        Ok(sent) => sent.map_err(|_| Stuck(false)),
        Err(_) => Err(Stuck(true)),
    }
}

/// A body, and what feeds it: it holds one piece while the reader takes another.
fn channel() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let pieces = ReceiverStream::new(receiver).map(Ok::<Bytes, Infallible>);
    (sender, Body::from_stream(pieces))
}
