//! Follows a run on a thread of its own, so that the terminal never waits for the network, nor
//! the run for the terminal.

use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::cli::output::CommandError;
use crate::cli::target::Target;
use crate::monitor::{Lines, NextLine, SseEvent, SseParser};
use crate::status::{History, State, View};

/// The wait before the next attempt to connect.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);
/// How long a monitor may be silent: it sends a comment every 15 s at least.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(40);

/// News from the run.
pub(super) enum News {
    /// The snapshot that comes first.
    Whole(Box<Whole>),
    /// A new view.
    View(Box<View>),
    /// The connection is lost, with the reason.
    Lost(String),
    /// The result of an action.
    Answer(Result<String, CommandError>),
}

#[derive(Deserialize)]
pub(super) struct Whole {
    pub(super) view: View,
    pub(super) history: History,
    pub(super) may_steer: bool,
}

/// Follows the run until it ends or the receiver is gone.
pub(super) fn follow(run: Target, news: Sender<News>) {
    let follow = move || {
        loop {
            let Err(why) = follow_once(&run, &news) else { return };
            if news.send(News::Lost(why)).is_err() {
                return;
            }
            thread::sleep(RECONNECT_DELAY);
        }
    };
    thread::spawn(follow);
}

/// An action for the run; `said` is the sentence once it is done.
pub(super) struct Order {
    pub(super) action: &'static str,
    pub(super) body: Value,
    pub(super) said: String,
}

/// Makes the run carry out actions, one after the other; the results arrive as news.
pub(super) fn steer(run: Target, news: Sender<News>) -> Sender<Order> {
    let (sender, orders) = channel::<Order>();
    thread::spawn(move || {
        for Order { action, body, said } in orders {
            let result = run.post(action, &body).map(|_| said);
            if news.send(News::Answer(result)).is_err() {
                return;
            }
        }
    });
    sender
}

/// Follows the run until it ends or the receiver is gone.
///
/// # Errors
/// If the connection is lost.
fn follow_once(run: &Target, news: &Sender<News>) -> Result<(), String> {
    let path = run.path("stream");
    let (status, mut lines) = run.client.lines(&path).map_err(|error| error.to_string())?;
    if status != 200 {
        return Err(refusal(status, &mut lines));
    }
    let mut parser = SseParser::default();
    let mut heard = Instant::now();
    loop {
        let line = match lines.next(SILENCE_TIMEOUT).map_err(|error| error.to_string())? {
            NextLine::Line(line) => line,
            NextLine::End => return Err("the run is gone".to_owned()),
            NextLine::Nothing if heard.elapsed() < SILENCE_TIMEOUT => continue,
            NextLine::Nothing => return Err("the monitor has stopped sending".to_owned()),
        };
        heard = Instant::now();
        let event = parser.add(&line).map_err(|error| error.to_string())?;
        let Some(SseEvent { kind, data }) = event else { continue };
        let unknown = |error| format!("cannot understand what the monitor sends: {error}");
        let (update, over) = match kind.as_str() {
            "snapshot" => {
                let whole: Box<Whole> = serde_json::from_str(&data).map_err(unknown)?;
                let over = whole.view.state == State::Ended;
                (News::Whole(whole), over)
            }
            "view" => {
                let view: Box<View> = serde_json::from_str(&data).map_err(unknown)?;
                let over = view.state == State::Ended;
                (News::View(view), over)
            }
            _ => continue,
        };
        if news.send(update).is_err() || over {
            return Ok(());
        }
    }
}

/// Why the monitor refuses, in its own words.
fn refusal(status: u16, lines: &mut Lines) -> String {
    let said = match lines.next(RECONNECT_DELAY) {
        Ok(NextLine::Line(line)) => serde_json::from_str(&line).unwrap_or_default(),
        _ => Value::Null,
    };
    let said = said["error"].as_str().map(str::to_owned);
    said.unwrap_or_else(|| format!("the answer was HTTP status {status}"))
}
