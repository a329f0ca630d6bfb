//! The runs of other programs: found, followed, and remembered after their end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::Method;
use hyper::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Connection;
use super::access::Refusal;
use super::feed::{self, SseFrame, json};
use super::local_run::Pictures;
use super::relay::{Answer, history, is_name, status_of, whole};
use super::routes::{EVENTS, as_json};
use super::thumbnail::is_png;
use crate::monitor::client::{Client, ClientError, LineSplitter, SseEvent, SseParser};
use crate::monitor::directory;
use crate::monitor::directory::LiveRun;
use crate::status::{State, View};

/// How often runs are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How often the history of a run is asked for.
const REVIEW: Duration = Duration::from_secs(5);
/// So many runs are remembered after their end.
const REMEMBERED: usize = 50;
/// A run says something at least this often, if only that it is there.
const SILENCE: Duration = Duration::from_secs(40);
/// The longest history, in bytes.
const MOST_HISTORY: usize = 64 << 20;

/// The runs that a monitor shows.
#[derive(Default)]
pub(crate) struct RemoteRuns {
    runs: Mutex<Runs>,
}

#[derive(Default)]
struct Runs {
    by_name: BTreeMap<String, Arc<Followed>>,
    /// Those that are over, the oldest first.
    over: Vec<String>,
}

/// A run of another program.
pub(crate) struct Followed {
    name: String,
    client: Client,
    /// Whether it is on this machine, so that its files can be read.
    is_here: bool,
    feed: watch::Sender<SseFrame>,
    kept: Mutex<Kept>,
    pictures: Pictures,
}

/// What is known of a run.
#[derive(Default)]
struct Kept {
    view: Option<View>,
    history: Bytes,
    /// Whether the run itself lets this monitor steer.
    may_steer: bool,
    over: bool,
}

/// What a run's stream says first.
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        Self { status: 503, why: error.to_string() }
    }
}

impl RemoteRuns {
    /// Follows the runs of this user on this machine, and those at the addresses.
    pub(crate) async fn look(self: Arc<Self>, elsewhere: Vec<Client>) {
        for client in elsewhere {
            tokio::spawn(Arc::clone(&self).look_elsewhere(client));
        }
        loop {
            let found = tokio::task::spawn_blocking(directory::live_runs).await;
            for LiveRun { name, socket } in found.unwrap_or_default() {
                self.follow(name, Client::socket(&socket), true);
            }
            sleep(LOOK).await;
        }
    }

    async fn look_elsewhere(self: Arc<Self>, client: Client) {
        let only =
            client.base().strip_prefix("/runs/").map(|name| name.trim_matches('/').to_owned());
        loop {
            // Who is not there may be there later.
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
            sleep(LOOK).await;
        }
    }

    /// Follows a run that is not followed yet.
    fn follow(self: &Arc<Self>, name: String, client: Client, is_here: bool) {
        let mut runs = lock(&self.runs);
        // No run elsewhere takes the name of one of this machine, which would be steered in
        // its place.
        let keeps = |known: &Arc<Followed>| match (known.is_here, is_here) {
            (false, true) => false,
            (true, false) => true,
            _ => !known.is_over(),
        };
        if runs.by_name.get(&name).is_some_and(keeps) {
            return;
        }
        let run = Arc::new(Followed {
            name: name.clone(),
            client,
            is_here,
            feed: watch::channel(SseFrame::default()).0,
            kept: Mutex::default(),
            pictures: Pictures::new(PathBuf::new()),
        });
        runs.over.retain(|over| *over != name);
        runs.by_name.insert(name, Arc::clone(&run));
        drop(runs);
        let several = Arc::clone(self);
        tokio::spawn(async move {
            run.follow().await;
            several.remember(&run);
        });
    }

    /// Keeps what is known of a run that is over, and forgets the oldest.
    fn remember(&self, run: &Followed) {
        let mut runs = lock(&self.runs);
        if !runs.by_name.get(&run.name).is_some_and(|known| std::ptr::eq(&**known, run)) {
            // Another run has taken its name.
            return;
        }
        if lock(&run.kept).view.is_none() {
            // It ended before it said anything.
            runs.by_name.remove(&run.name);
            return;
        }
        runs.over.push(run.name.clone());
        if runs.over.len() > REMEMBERED {
            let oldest = runs.over.remove(0);
            runs.by_name.remove(&oldest);
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Followed>> {
        let run = lock(&self.runs).by_name.get(name).cloned()?;
        let is_known = lock(&run.kept).view.is_some();
        is_known.then_some(run)
    }

    fn known(&self, name: &str) -> Result<Arc<Followed>, Refusal> {
        let gone = || Refusal { status: 404, why: format!("there is no run {name:?} any more") };
        self.find(name).ok_or_else(gone)
    }

    /// What is shown of all runs, the newest first.
    pub(crate) fn views(&self) -> Vec<View> {
        let runs = lock(&self.runs);
        let mut views: Vec<View> =
            runs.by_name.values().filter_map(|run| lock(&run.kept).view.clone()).collect();
        views.sort_by(|a, b| b.started.cmp(&a.started));
        views
    }

    /// What is shown of the run now, and whether who asks may steer it.
    pub(crate) async fn latest(&self, name: &str, may: bool) -> Result<(SseFrame, bool), Refusal> {
        let run = self.known(name)?;
        // What somebody has just done is to be seen at once.
        if !run.is_over()
            && let Ok(view) = ask(&run.client, &run.path("api/view")).await
        {
            run.take_view(&view);
        }
        let moment = run.feed.borrow().clone();
        Ok((moment, may && run.may_steer()))
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

    /// A picture; those of a run that is over are still in their places.
    pub(crate) async fn picture(&self, name: &str, number: u64) -> Option<Bytes> {
        let run = self.find(name)?;
        if run.is_over() {
            let View { products, .. } = lock(&run.kept).view.clone()?;
            let here = products.iter().filter(|p| run.is_here && p.path.is_absolute());
            return run.pictures.of(here, number).await;
        }
        let picture = ask(&run.client, &run.path(&format!("api/pictures/{number}"))).await.ok()?;
        is_png(&picture).then_some(picture)
    }

    pub(crate) async fn quarantined(&self, name: &str, entry: &str) -> Result<Response, Refusal> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let mut path = String::new();
        for character in entry.chars() {
            let mut bytes = [0; 4];
            match plain(character) {
                true => path.push(character),
                false => character
                    .encode_utf8(&mut bytes)
                    .bytes()
                    .for_each(|byte| path.push_str(&format!("%{byte:02X}"))),
            }
        }
        let run = self.known(name)?;
        let answer = run.pass_on(&format!("quarantine/{path}")).await?;
        let (status, body) = whole(answer).await?;
        Ok((status, as_json(body)).into_response())
    }

    /// The run's events, one a line, as they come.
    pub(crate) async fn events(&self, name: &str, after: u64) -> Result<Response, Refusal> {
        let run = self.known(name)?;
        let (answer, sender) = run.pass_on(&format!("events?after={after}")).await?;
        let status = status_of(&answer);
        // The connection lasts as long as what it brings.
        let body = Body::new(answer.into_body().map_frame(move |frame| {
            let _lasting = &sender;
            frame
        }));
        Ok((status, [(CONTENT_TYPE, EVENTS)], body).into_response())
    }

    /// Has the run do what was posted.
    pub(crate) async fn steer(
        &self,
        name: &str,
        action: &str,
        body: Bytes,
    ) -> Result<Response, Refusal> {
        let run = self.known(name)?;
        run.not_over()?;
        let known = ["pause", "resume", "workers", "retry", "drain", "stop"];
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

/// The body of a good answer.
async fn ask(client: &Client, path: &str) -> Result<Bytes, Refusal> {
    let request = client.request(Method::GET, path, Bytes::new())?;
    let (answer, _sender) = client.send(request).await?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MOST_HISTORY).collect();
    let failed = |why: String| Refusal { status: 503, why };
    let body = timeout(SILENCE, body).await.map_err(|error| failed(error.to_string()))?;
    let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
    if status == 200 { Ok(body) } else { Err(failed(format!("{path} was answered with {status}"))) }
}

impl Followed {
    fn is_over(&self) -> bool {
        lock(&self.kept).over
    }

    fn may_steer(&self) -> bool {
        let kept = lock(&self.kept);
        kept.may_steer && !kept.over
    }

    fn not_over(&self) -> Result<(), Refusal> {
        match self.is_over() {
            true => Err(Refusal { status: 409, why: "the run is over".to_owned() }),
            false => Ok(()),
        }
    }

    /// Has the run answer.
    async fn pass_on(&self, what: &str) -> Result<Answer, Refusal> {
        self.not_over()?;
        let path = self.path(&format!("api/{what}"));
        Ok(self.client.send(self.client.request(Method::GET, &path, Bytes::new())?).await?)
    }

    fn keep_history(&self, text: Bytes) {
        if let Some(history) = history(text) {
            lock(&self.kept).history = history;
        }
    }

    fn history(&self) -> Bytes {
        let kept = lock(&self.kept).history.clone();
        if kept.is_empty() { Bytes::from_static(b"{}") } else { kept }
    }

    fn path(&self, rest: &str) -> String {
        format!("/runs/{}/{rest}", self.name)
    }

    /// Follows the run to its end, however it ends.
    async fn follow(&self) {
        const TRIES: u32 = 3;
        let mut failed = 0;
        while failed < TRIES {
            match self.read_stream().await {
                Ok(()) if self.is_over() => return,
                Ok(()) => failed = 0,
                Err(_) => failed += 1,
            }
            sleep(LOOK).await;
        }
        self.give_up();
    }

    /// Reads the run's stream until it ends or breaks.
    async fn read_stream(&self) -> Result<(), Refusal> {
        let request = self.client.request(Method::GET, &self.path("api/stream"), Bytes::new())?;
        let (answer, _sender) = self.client.send(request).await?;
        let broken = |why: &str| Refusal { status: 503, why: why.to_owned() };
        if answer.status() != StatusCode::OK {
            return Err(broken("the run does not tell what it does"));
        }
        let mut body = answer.into_body();
        let (mut lines, mut parser) = (LineSplitter::default(), SseParser::default());
        let mut reviewed = Instant::now();
        loop {
            let frame = timeout(SILENCE, body.frame()).await.map_err(|_| broken("it is silent"))?;
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
            if reviewed.elapsed() > REVIEW && !self.is_over() {
                reviewed = Instant::now();
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
                    lock(&self.kept).may_steer = snapshot.may_steer;
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
        match serde_json::from_slice::<View>(text) {
            Ok(view) if view.run == self.name => self.show(view),
            // What is not understood is not shown, nor what says that it is another run.
            _ => {}
        }
    }

    fn show(&self, view: View) {
        let mut moment = SseFrame::of(&view, &json(&view));
        let mut kept = lock(&self.kept);
        if kept.view.as_ref().is_some_and(|known| known.number > view.number) {
            return;
        }
        kept.over = moment.over;
        moment.history = moment.over.then(|| kept.history.clone());
        kept.view = Some(view);
        drop(kept);
        self.feed.send_replace(moment);
    }

    /// A run that has gone without a last word was killed.
    fn give_up(&self) {
        let Some(mut view) = lock(&self.kept).view.clone() else {
            lock(&self.kept).over = true;
            return;
        };
        view.state = State::Ended;
        view.verdict = Some("lost".to_owned());
        view.says = view.in_words();
        view.reason = Some(
            "the program has gone without a last word: it was killed, or its machine cannot be \
             reached. These are the last numbers that it told"
                .to_owned(),
        );
        view.number += 1;
        self.show(view);
    }
}
