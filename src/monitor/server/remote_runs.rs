//! Runs of other programs: discovered, followed, and remembered after their end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::Method;
use hyper::header::CONTENT_TYPE;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Connection;
use super::access::Refusal;
use super::feed::{self, SseFrame, json};
use super::local_run::Thumbnails;
use super::relay::{Answer, history, is_name, status_of, whole};
use super::respond::{EVENTS, as_json};
use super::thumbnail::is_png;
use crate::base::lock::lock;
use crate::monitor::client::{Client, ClientError, LineSplitter, SseEvent, SseParser};
use crate::monitor::directory::{self, LiveRun};
use crate::status::{State, View};

/// The time between two searches for runs.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(1);
/// The time between two requests for the history of a run.
const HISTORY_INTERVAL: Duration = Duration::from_secs(5);
/// How many runs are remembered after their end.
const MAX_ENDED_RUNS: usize = 50;
/// How long a stream may be silent: a run sends a comment every 15 s at least.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(40);
/// The longest history, in bytes.
const MAX_HISTORY_BYTES: usize = 64 << 20;
/// The characters that an entry's name keeps in a path.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// The runs that a monitor shows.
#[derive(Default)]
pub(crate) struct RemoteRuns {
    runs: Mutex<Runs>,
}

#[derive(Default)]
struct Runs {
    by_name: BTreeMap<String, Arc<RemoteRun>>,
    /// The names of those that have ended, the oldest first.
    ended: Vec<String>,
}

/// A run of another program.
pub(crate) struct RemoteRun {
    name: String,
    client: Client,
    /// Whether it runs on this machine, so that its files can be read.
    is_here: bool,
    feed: watch::Sender<SseFrame>,
    known: Mutex<Known>,
    thumbnails: Thumbnails,
}

/// What is known about a run.
#[derive(Default)]
struct Known {
    view: Option<View>,
    history: Bytes,
    /// Whether the run itself lets this monitor steer.
    may_steer: bool,
    has_ended: bool,
}

/// The first event of a run's stream.
#[derive(Deserialize)]
struct Snapshot {
    view: Box<RawValue>,
    history: Box<RawValue>,
    may_steer: bool,
}

#[derive(Deserialize)]
struct Listed {
    run: String,
    state: State,
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        Self { status: 503, why: error.to_string() }
    }
}

impl RemoteRuns {
    /// Follows the runs of this user on this machine, and those that the clients reach.
    pub(crate) async fn discover(self: Arc<Self>, clients: Vec<Client>) {
        for client in clients {
            tokio::spawn(Arc::clone(&self).discover_at(client));
        }
        loop {
            let found = tokio::task::spawn_blocking(directory::live_runs).await;
            for LiveRun { name, socket } in found.unwrap_or_default() {
                self.follow(name, Client::socket(&socket), true);
            }
            sleep(DISCOVERY_INTERVAL).await;
        }
    }

    async fn discover_at(self: Arc<Self>, client: Client) {
        let only =
            client.base().strip_prefix("/runs/").map(|name| name.trim_matches('/').to_owned());
        loop {
            // A monitor that does not answer now may do so later.
            if let Ok(listed) = ask(&client, "/api/runs").await
                && let Ok(listed) = serde_json::from_slice::<Vec<Listed>>(&listed)
            {
                for Listed { run, state } in listed {
                    let is_wanted = only.as_ref().is_none_or(|only| *only == run);
                    if state != State::Ended && is_wanted && is_name(&run) {
                        self.follow(run, client.clone(), false);
                    }
                }
            }
            sleep(DISCOVERY_INTERVAL).await;
        }
    }

    /// Follows a run, unless it is followed already.
    fn follow(self: &Arc<Self>, name: String, client: Client, is_here: bool) {
        let mut runs = lock(&self.runs);
        // A run of another machine never replaces one of this machine with the same name: it would
        // be steered by mistake.
        let stays = |known: &Arc<RemoteRun>| match (known.is_here, is_here) {
            (false, true) => false,
            (true, false) => true,
            _ => !known.has_ended(),
        };
        if runs.by_name.get(&name).is_some_and(stays) {
            return;
        }
        let run = Arc::new(RemoteRun {
            name: name.clone(),
            client,
            is_here,
            feed: watch::channel(SseFrame::default()).0,
            known: Mutex::default(),
            thumbnails: Thumbnails::new(PathBuf::new()),
        });
        runs.ended.retain(|ended| *ended != name);
        runs.by_name.insert(name, Arc::clone(&run));
        drop(runs);
        let runs = Arc::clone(self);
        tokio::spawn(async move {
            run.follow().await;
            runs.remember(&run);
        });
    }

    /// Keeps what is known about a run that has ended, and forgets the oldest such run.
    fn remember(&self, run: &RemoteRun) {
        let mut runs = lock(&self.runs);
        if !runs.by_name.get(&run.name).is_some_and(|known| std::ptr::eq(&**known, run)) {
            // Another run has taken its name.
            return;
        }
        if lock(&run.known).view.is_none() {
            // It ended before it sent a view.
            runs.by_name.remove(&run.name);
            return;
        }
        runs.ended.push(run.name.clone());
        if runs.ended.len() > MAX_ENDED_RUNS {
            let oldest = runs.ended.remove(0);
            runs.by_name.remove(&oldest);
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<RemoteRun>> {
        let run = lock(&self.runs).by_name.get(name).cloned()?;
        let has_view = lock(&run.known).view.is_some();
        has_view.then_some(run)
    }

    fn known(&self, name: &str) -> Result<Arc<RemoteRun>, Refusal> {
        let gone = || Refusal { status: 404, why: format!("the run {name:?} no longer exists") };
        self.find(name).ok_or_else(gone)
    }

    /// The views of all runs, the newest first.
    pub(crate) fn views(&self) -> Vec<View> {
        let runs = lock(&self.runs);
        let mut views: Vec<View> =
            runs.by_name.values().filter_map(|run| lock(&run.known).view.clone()).collect();
        views.sort_by(|a, b| b.started.cmp(&a.started));
        views
    }

    /// The view of the run now, and whether the client may steer it.
    pub(crate) async fn latest(&self, name: &str, may: bool) -> Result<(SseFrame, bool), Refusal> {
        let run = self.known(name)?;
        // A user who has just steered the run must see the effect.
        if !run.has_ended()
            && let Ok(view) = ask(&run.client, &run.path("api/view")).await
        {
            run.take_view(&view);
        }
        let frame = run.feed.borrow().clone();
        Ok((frame, may && run.may_steer()))
    }

    pub(crate) fn history(&self, name: &str) -> Result<Bytes, Refusal> {
        Ok(self.known(name)?.history())
    }

    pub(crate) fn stream(
        &self,
        name: &str,
        may: bool,
        connection: Arc<Connection>,
    ) -> Result<Body, Refusal> {
        let run = self.known(name)?;
        let history = run.history();
        Ok(feed::stream(&run.feed, &history, may && run.may_steer(), connection))
    }

    /// The thumbnail that event `number` announced. After the end of a run on this machine it
    /// is made from the file.
    pub(crate) async fn picture(&self, name: &str, number: u64) -> Option<Bytes> {
        let run = self.find(name)?;
        if run.has_ended() {
            let View { products, .. } = lock(&run.known).view.clone()?;
            let here = products.iter().filter(|p| run.is_here && p.path.is_absolute());
            return run.thumbnails.get(here, number).await;
        }
        let picture = ask(&run.client, &run.path(&format!("api/pictures/{number}"))).await.ok()?;
        is_png(&picture).then_some(picture)
    }

    pub(crate) async fn quarantined(&self, name: &str, entry: &str) -> Result<Response, Refusal> {
        let run = self.known(name)?;
        let entry = utf8_percent_encode(entry, IN_PATH);
        let answer = run.pass_on(&format!("quarantine/{entry}")).await?;
        let (status, body) = whole(answer).await?;
        Ok((status, as_json(body)).into_response())
    }

    /// The run's events, one a line, as they come.
    pub(crate) async fn events(&self, name: &str, after: u64) -> Result<Response, Refusal> {
        let run = self.known(name)?;
        let (answer, sender) = run.pass_on(&format!("events?after={after}")).await?;
        let status = status_of(&answer);
        // The connection lasts as long as its sender.
        let body = Body::new(answer.into_body().map_frame(move |frame| {
            let _open = &sender;
            frame
        }));
        Ok((status, [(CONTENT_TYPE, EVENTS)], body).into_response())
    }

    /// Passes an action on to the run.
    pub(crate) async fn steer(
        &self,
        name: &str,
        action: &str,
        body: Bytes,
    ) -> Result<Response, Refusal> {
        let run = self.known(name)?;
        run.not_over()?;
        let known = ["pause", "resume", "workers", "retry", "cancel", "drain", "stop"];
        if !known.contains(&action) {
            let why = format!("there is no {action:?}; expected one of {}", known.join(", "));
            return Err(Refusal { status: 404, why });
        }
        let request =
            run.client.request(Method::POST, &run.path(&format!("api/{action}")), body)?;
        let (status, body) = whole(run.client.send(request).await?).await?;
        Ok((status, as_json(body)).into_response())
    }
}

/// Gets the body of a successful answer.
async fn ask(client: &Client, path: &str) -> Result<Bytes, Refusal> {
    let request = client.request(Method::GET, path, Bytes::new())?;
    let (answer, _sender) = client.send(request).await?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_HISTORY_BYTES).collect();
    let failed = |why: String| Refusal { status: 503, why };
    let body = timeout(SILENCE_TIMEOUT, body).await.map_err(|error| failed(error.to_string()))?;
    let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
    if status == 200 { Ok(body) } else { Err(failed(format!("{path} was answered with {status}"))) }
}

impl RemoteRun {
    fn has_ended(&self) -> bool {
        lock(&self.known).has_ended
    }

    fn may_steer(&self) -> bool {
        let known = lock(&self.known);
        known.may_steer && !known.has_ended
    }

    fn not_over(&self) -> Result<(), Refusal> {
        match self.has_ended() {
            true => Err(Refusal { status: 409, why: "the run is over".to_owned() }),
            false => Ok(()),
        }
    }

    /// Passes a request on to the run.
    async fn pass_on(&self, what: &str) -> Result<Answer, Refusal> {
        self.not_over()?;
        let path = self.path(&format!("api/{what}"));
        Ok(self.client.send(self.client.request(Method::GET, &path, Bytes::new())?).await?)
    }

    fn keep_history(&self, text: Bytes) {
        if let Some(history) = history(text) {
            lock(&self.known).history = history;
        }
    }

    fn history(&self) -> Bytes {
        let history = lock(&self.known).history.clone();
        if history.is_empty() { Bytes::from_static(b"{}") } else { history }
    }

    fn path(&self, rest: &str) -> String {
        format!("/runs/{}/{rest}", self.name)
    }

    /// Follows the run to its end, however it ends.
    async fn follow(&self) {
        const MAX_FAILURES: u32 = 3;
        let mut failed = 0;
        while failed < MAX_FAILURES {
            match self.read_stream().await {
                Ok(()) if self.has_ended() => return,
                Ok(()) => failed = 0,
                Err(_) => failed += 1,
            }
            sleep(DISCOVERY_INTERVAL).await;
        }
        self.give_up();
    }

    /// Reads the run's stream until it ends or breaks.
    async fn read_stream(&self) -> Result<(), Refusal> {
        let request = self.client.request(Method::GET, &self.path("api/stream"), Bytes::new())?;
        let (answer, _sender) = self.client.send(request).await?;
        let broken = |why: &str| Refusal { status: 503, why: why.to_owned() };
        if answer.status() != StatusCode::OK {
            return Err(broken("the run does not send its state"));
        }
        let mut body = answer.into_body();
        let (mut lines, mut parser) = (LineSplitter::default(), SseParser::default());
        let mut asked_at = Instant::now();
        loop {
            let frame = timeout(SILENCE_TIMEOUT, body.frame())
                .await
                .map_err(|_| broken("it has stopped sending"))?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|error| broken(&error.to_string()))?;
            let data = frame.data_ref().map_or(&[][..], |data| data);
            lines.add(data).map_err(|error| broken(&error.to_string()))?;
            while let Some(line) = lines.next() {
                let event = parser.add(&line).map_err(|error| broken(&error.to_string()))?;
                if let Some(SseEvent { kind, data }) = event {
                    self.take(&kind, &data);
                }
            }
            if asked_at.elapsed() > HISTORY_INTERVAL && !self.has_ended() {
                asked_at = Instant::now();
                if let Ok(history) = ask(&self.client, &self.path("api/history")).await {
                    self.keep_history(history);
                }
            }
        }
    }

    fn take(&self, event: &str, data: &str) {
        match event {
            "snapshot" => {
                if let Ok(snapshot) = serde_json::from_str::<Snapshot>(data) {
                    lock(&self.known).may_steer = snapshot.may_steer;
                    self.keep_history(Bytes::from(snapshot.history.get().to_owned()));
                    self.take_view(snapshot.view.get().as_bytes());
                }
            }
            "history" => self.keep_history(Bytes::from(data.to_owned())),
            "view" => self.take_view(data.as_bytes()),
            _ => {}
        }
    }

    fn take_view(&self, text: &[u8]) {
        // A view that cannot be read, or belongs to another run, is not shown.
        if let Ok(view) = serde_json::from_slice::<View>(text)
            && view.run == self.name
        {
            self.show(view);
        }
    }

    fn show(&self, view: View) {
        let mut frame = SseFrame::of(&view, &json(&view));
        let mut known = lock(&self.known);
        if known.view.as_ref().is_some_and(|latest| latest.number > view.number) {
            return;
        }
        known.has_ended = frame.over;
        frame.history = frame.over.then(|| known.history.clone());
        known.view = Some(view);
        drop(known);
        self.feed.send_replace(frame);
    }

    /// Shows the run as lost: without a last view, its program was killed or cannot be reached.
    fn give_up(&self) {
        let Some(mut view) = lock(&self.known).view.clone() else {
            lock(&self.known).has_ended = true;
            return;
        };
        view.state = State::Ended;
        view.verdict = Some("lost".to_owned());
        view.says = view.in_words();
        view.reason = Some(
            "the program ended without a report: it was killed, or its machine cannot be reached. \
             These are the last numbers that it sent"
                .to_owned(),
        );
        view.number += 1;
        self.show(view);
    }
}
