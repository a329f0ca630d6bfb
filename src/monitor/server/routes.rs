//! What is asked for, and what answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Path, Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::access::{AccessPolicy, Peer, Refusal, RequestInfo};
use super::local_run::LocalRun;
use super::remote_runs::RemoteRuns;
use super::{Connection, assets, feed, metrics};
use crate::base::path_name::name_of_path;
use crate::status::View;

/// The longest body of a request, in bytes.
const MOST_BODY: usize = 4 << 10;
/// The body of a request that is refused is waited for this long.
const TO_SEND: Duration = Duration::from_secs(1);
/// What `drpipe monitor` says it is by.
pub(crate) const MONITOR: &str = "x-drpipe-monitor";
/// The type of events, one a line.
pub(crate) const EVENTS: &str = "application/x-ndjson";
/// Whose it is.
pub(crate) const USER: &str = "x-drpipe-user";

/// What is served.
pub(crate) struct Site {
    pub(crate) policy: AccessPolicy,
    pub(crate) shown: Shown,
}

/// The runs that are shown.
pub(crate) enum Shown {
    /// That of this program.
    LocalRun(Arc<LocalRun>),
    /// Those of other programs.
    RemoteRuns(Arc<RemoteRuns>),
}

/// Whether who asks may steer.
#[derive(Clone, Copy)]
struct Steers(bool);

type Answer = Result<Response, Refusal>;

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::FORBIDDEN);
        let mut response =
            (status, as_json(json!({"error": self.why}).to_string())).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let value = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        response
    }
}

pub(crate) fn as_json(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

fn not_found(why: impl Into<String>) -> Refusal {
    Refusal { status: 404, why: why.into() }
}

/// All paths of a site.
pub(crate) fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/page/{file}", get(file))
        .route("/api/runs", get(runs))
        .route("/metrics", get(all_metrics))
        .route("/runs/{run}", get(to_page))
        .route("/runs/{run}/", get(page_of))
        .route("/runs/{run}/page/{file}", get(file_of))
        .route("/runs/{run}/metrics", get(run_metrics))
        .route("/runs/{run}/api/view", get(view))
        .route("/runs/{run}/api/history", get(history))
        .route("/runs/{run}/api/stream", get(stream))
        .route("/runs/{run}/api/events", get(events))
        .route("/runs/{run}/api/pictures/{number}", get(picture))
        .route("/runs/{run}/api/quarantine/{entry}", get(quarantine))
        .route("/runs/{run}/api/{action}", post(steer))
        .fallback(async || not_found("there is nothing of this name"))
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guarded))
        .with_state(site)
}

/// Lets in whom the site lets in, and says to browsers what answers may be used for.
async fn guarded(State(site): State<Arc<Site>>, mut request: Request, next: Next) -> Response {
    let judgement = site.policy.authorize(&facts(&request));
    let policy = match request.uri().path().contains("/api/") {
        // What tells of runs is no page, whatever is in it.
        true => "default-src 'none'; frame-ancestors 'none'; sandbox",
        false => "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    };
    let mut response = match judgement {
        Ok(may_steer) => {
            request.extensions_mut().insert(Steers(may_steer));
            next.run(request).await
        }
        Err(refusal) => {
            // What is still on its way at the connection's end takes the answer with it.
            let _ = timeout(TO_SEND, to_bytes(request.into_body(), MOST_BODY)).await;
            refusal.into_response()
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Shown::RemoteRuns(_) = site.shown {
        headers.insert(HeaderName::from_static(MONITOR), HeaderValue::from_static("1"));
        let user = HeaderValue::from(rustix::process::geteuid().as_raw());
        headers.insert(HeaderName::from_static(USER), user);
    }
    response
}

fn facts(request: &Request) -> RequestInfo<'_> {
    let headers = request.headers();
    let text = |name: &str| one(headers, name);
    let passed_on = |name: &HeaderName| {
        const SAYING_SO: [&str; 6] =
            ["forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"];
        name.as_str().starts_with("x-forwarded") || SAYING_SO.contains(&name.as_str())
    };
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let is_page = !request.uri().path().contains("/api/");
    RequestInfo {
        way: request.extensions().get::<Peer>().copied().unwrap_or_default(),
        changes,
        visits: is_page
            && text("sec-fetch-mode") == Some("navigate")
            && text("sec-fetch-dest") == Some("document"),
        host: text("host"),
        origin: text("origin"),
        fetch_site: text("sec-fetch-site"),
        forwarded: headers.keys().any(passed_on),
        authorization: text("authorization"),
        marked: text("x-drpipe") == Some("1"),
    }
}

/// The header if it is there once; what is there twice, or is no text, is as good as wrong.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    if all.next().is_some() { Some("") } else { Some(first.to_str().unwrap_or("")) }
}

impl Site {
    fn run(&self, run: &str) -> Result<(), Refusal> {
        let known = match &self.shown {
            Shown::LocalRun(own) => own.run == run,
            Shown::RemoteRuns(several) => several.find(run).is_some(),
        };
        if known {
            return Ok(());
        }
        let names: Vec<String> = self.views().into_iter().map(|view| view.run).collect();
        Err(not_found(format!("there is no run {run:?} here; shown are: {}", names.join(", "))))
    }

    fn views(&self) -> Vec<View> {
        match &self.shown {
            Shown::LocalRun(own) => vec![own.stream.view()],
            Shown::RemoteRuns(several) => several.views(),
        }
    }
}

async fn page() -> Answer {
    static_file("index.html")
}

async fn page_of(State(site): State<Arc<Site>>, Path(run): Path<String>) -> Answer {
    site.run(&run)?;
    static_file("index.html")
}

async fn to_page(State(site): State<Arc<Site>>, Path(run): Path<String>, uri: Uri) -> Answer {
    site.run(&run)?;
    let there = [(header::LOCATION, format!("{}/", uri.path()))];
    Ok((StatusCode::PERMANENT_REDIRECT, there).into_response())
}

async fn file(Path(name): Path<String>) -> Answer {
    static_file(&name)
}

async fn file_of(Path((_, name)): Path<(String, String)>) -> Answer {
    static_file(&name)
}

fn static_file(name: &str) -> Answer {
    let (kind, text) = assets::file(name).ok_or_else(|| not_found("there is no such file"))?;
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn runs(State(site): State<Arc<Site>>, Extension(may): Extension<Steers>) -> Response {
    let rows: Vec<Value> = site.views().iter().map(|view| row(view, may.0)).collect();
    as_json(feed::json(&rows))
}

/// A run in the list of runs.
fn row(view: &View, may_steer: bool) -> Value {
    json!({
        "run": view.run,
        "pipeline": view.pipeline,
        "directory": name_of_path(&view.directory),
        "state": view.state,
        "paused": view.paused,
        "verdict": view.verdict,
        "exit_code": view.exit_code,
        "started": view.started,
        "elapsed_s": view.elapsed.as_secs_f64(),
        "host": view.host,
        "pid": view.pid,
        "emitted": view.emitted,
        "expected": view.expected,
        "finished": view.finished,
        "skipped": view.skipped,
        "failure_count": view.failure_count,
        "bottleneck": view.bottleneck,
        "eta_s": view.eta_s,
        "may_steer": may_steer,
    })
}

fn prometheus(views: &[View]) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics::text(views)).into_response()
}

async fn all_metrics(State(site): State<Arc<Site>>) -> Response {
    prometheus(&site.views())
}

async fn run_metrics(State(site): State<Arc<Site>>, Path(run): Path<String>) -> Answer {
    site.run(&run)?;
    let views: Vec<View> = site.views().into_iter().filter(|view| view.run == run).collect();
    Ok(prometheus(&views))
}

async fn view(
    State(site): State<Arc<Site>>,
    Extension(may): Extension<Steers>,
    Path(run): Path<String>,
) -> Answer {
    site.run(&run)?;
    let (moment, may_steer) = match &site.shown {
        Shown::LocalRun(own) => (own.refresh(), may.0),
        Shown::RemoteRuns(several) => several.latest(&run, may.0).await?,
    };
    Ok(as_json(moment.view_for(may_steer)))
}

async fn history(State(site): State<Arc<Site>>, Path(run): Path<String>) -> Answer {
    site.run(&run)?;
    Ok(as_json(match &site.shown {
        Shown::LocalRun(own) => own.history(),
        Shown::RemoteRuns(several) => several.history(&run)?,
    }))
}

async fn stream(
    State(site): State<Arc<Site>>,
    Extension(may): Extension<Steers>,
    Extension(connection): Extension<Arc<Connection>>,
    Path(run): Path<String>,
) -> Answer {
    site.run(&run)?;
    let body = match &site.shown {
        Shown::LocalRun(own) => {
            own.refresh();
            feed::stream(&own.feed, &own.history(), may.0, connection)
        }
        Shown::RemoteRuns(several) => several.stream(&run, may.0, connection)?,
    };
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], body).into_response())
}

async fn events(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Arc<Connection>>,
    Path(run): Path<String>,
    uri: Uri,
) -> Answer {
    site.run(&run)?;
    let after = match uri.query() {
        None | Some("") => 0,
        Some(query) => {
            query.strip_prefix("after=").and_then(|n| n.parse().ok()).ok_or_else(|| Refusal {
                status: 400,
                why: format!("found {query:?}; expected after=NUMBER"),
            })?
        }
    };
    match &site.shown {
        Shown::LocalRun(own) => {
            let body = feed::events(own.stream.watch_after(after), connection);
            Ok(([(header::CONTENT_TYPE, EVENTS)], body).into_response())
        }
        Shown::RemoteRuns(several) => several.events(&run, after).await,
    }
}

async fn picture(
    State(site): State<Arc<Site>>,
    Path((run, number)): Path<(String, String)>,
) -> Answer {
    site.run(&run)?;
    let number = number.parse().map_err(|_| not_found("a picture has a number"))?;
    let picture = match &site.shown {
        Shown::LocalRun(own) => own.picture(number).await,
        Shown::RemoteRuns(several) => several.picture(&run, number).await,
    };
    let picture = picture.ok_or_else(|| not_found("there is no picture of this number"))?;
    Ok(([(header::CONTENT_TYPE, "image/png")], picture).into_response())
}

async fn quarantine(
    State(site): State<Arc<Site>>,
    Path((run, entry)): Path<(String, String)>,
) -> Answer {
    site.run(&run)?;
    match &site.shown {
        Shown::LocalRun(own) => {
            let own = Arc::clone(own);
            let reason = tokio::task::spawn_blocking(move || own.quarantined(&entry)).await;
            reason
                .ok()
                .flatten()
                .map(as_json)
                .ok_or_else(|| not_found("there is no such entry in quarantine"))
        }
        Shown::RemoteRuns(several) => several.quarantined(&run, &entry).await,
    }
}

async fn steer(
    State(site): State<Arc<Site>>,
    Path((run, action)): Path<(String, String)>,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    let body = to_bytes(request.into_body(), MOST_BODY).await.map_err(|_| Refusal {
        status: 413,
        why: format!("the body is longer than {MOST_BODY} bytes, or has not come whole"),
    })?;
    site.run(&run)?;
    let kind = one(&headers, "content-type").unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        let why = format!("found the content type {kind:?}; expected application/json");
        return Err(Refusal { status: 415, why });
    }
    match &site.shown {
        Shown::LocalRun(own) => {
            let own = Arc::clone(own);
            let done = tokio::task::spawn_blocking(move || own.steer(&action, &body)).await;
            let failed =
                || Refusal { status: 503, why: "the program has failed to ask".to_owned() };
            done.unwrap_or_else(|_| Err(failed()))?;
            Ok(as_json(json!({"ok": true}).to_string()))
        }
        Shown::RemoteRuns(several) => several.steer(&run, &action, body).await,
    }
}
