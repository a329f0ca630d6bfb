//! The paths of a site, and their handlers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
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
use super::respond::{EVENTS, MONITOR, USER, as_json, not_found};
use super::{Connection, assets, feed, metrics};
use crate::base::path_name::name_of_path;
use crate::status::View;

/// The longest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 4 << 10;
/// How long a refusal waits for the rest of the request, so that the client reads the answer.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// The runs that a server shows, and who may see them.
pub(crate) struct Site {
    pub(crate) policy: AccessPolicy,
    pub(crate) runs: Runs,
}

/// The runs of a site.
pub(crate) enum Runs {
    /// The run of this program.
    Local(Arc<LocalRun>),
    /// Runs of other programs.
    Remote(Arc<RemoteRuns>),
}

/// Whether the client may steer.
#[derive(Clone, Copy)]
struct MaySteer(bool);

type Answer = Result<Response, Refusal>;

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
        .fallback(async || not_found("there is no page of this name"))
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard))
        .with_state(site)
}

/// Applies the access policy, and sends browsers the policy for each answer.
async fn guard(State(site): State<Arc<Site>>, mut request: Request, next: Next) -> Response {
    let access = site.policy.authorize(&request_info(&request));
    let policy = match request.uri().path().contains("/api/") {
        // Data of runs is never a page, whatever it contains.
        true => "default-src 'none'; frame-ancestors 'none'; sandbox",
        false => "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    };
    let mut response = match access {
        Ok(may_steer) => {
            request.extensions_mut().insert(MaySteer(may_steer));
            next.run(request).await
        }
        Err(refusal) => {
            // If the connection closed with a part of the request unread, the answer would be lost.
            let _ = timeout(BODY_TIMEOUT, to_bytes(request.into_body(), MAX_BODY_BYTES)).await;
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
    if let Runs::Remote(_) = site.runs {
        headers.insert(HeaderName::from_static(MONITOR), HeaderValue::from_static("1"));
        let user = HeaderValue::from(rustix::process::geteuid().as_raw());
        headers.insert(HeaderName::from_static(USER), user);
    }
    response
}

fn request_info(request: &Request) -> RequestInfo<'_> {
    let headers = request.headers();
    let text = |name: &str| one(headers, name);
    let is_forwarding = |name: &HeaderName| {
        const NAMES: [&str; 6] =
            ["forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"];
        name.as_str().starts_with("x-forwarded") || NAMES.contains(&name.as_str())
    };
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let is_page = !request.uri().path().contains("/api/");
    RequestInfo {
        peer: request.extensions().get::<Peer>().copied().unwrap_or_default(),
        changes,
        navigates: is_page
            && text("sec-fetch-mode") == Some("navigate")
            && text("sec-fetch-dest") == Some("document"),
        host: text("host"),
        origin: text("origin"),
        fetch_site: text("sec-fetch-site"),
        forwarded: headers.keys().any(is_forwarding),
        authorization: text("authorization"),
        marked: text("x-drpipe") == Some("1"),
    }
}

/// The header's value; empty, and so never valid, if it comes twice or is not text.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    if all.next().is_some() { Some("") } else { Some(first.to_str().unwrap_or("")) }
}

impl Site {
    fn run(&self, run: &str) -> Result<(), Refusal> {
        let known = match &self.runs {
            Runs::Local(local) => local.name == run,
            Runs::Remote(remote) => remote.find(run).is_some(),
        };
        if known {
            return Ok(());
        }
        let names: Vec<String> = self.views().into_iter().map(|view| view.run).collect();
        Err(not_found(format!("there is no run {run:?} here; shown are: {}", names.join(", "))))
    }

    fn views(&self) -> Vec<View> {
        match &self.runs {
            Runs::Local(local) => vec![local.stream.view()],
            Runs::Remote(remote) => remote.views(),
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

async fn runs(State(site): State<Arc<Site>>, Extension(may): Extension<MaySteer>) -> Response {
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
    Extension(may): Extension<MaySteer>,
    Path(run): Path<String>,
) -> Answer {
    site.run(&run)?;
    let (frame, may_steer) = match &site.runs {
        Runs::Local(local) => (local.refresh(), may.0),
        Runs::Remote(remote) => remote.latest(&run, may.0).await?,
    };
    Ok(as_json(frame.view_for(may_steer)))
}

async fn history(State(site): State<Arc<Site>>, Path(run): Path<String>) -> Answer {
    site.run(&run)?;
    Ok(as_json(match &site.runs {
        Runs::Local(local) => local.history(),
        Runs::Remote(remote) => remote.history(&run)?,
    }))
}

async fn stream(
    State(site): State<Arc<Site>>,
    Extension(may): Extension<MaySteer>,
    Extension(connection): Extension<Arc<Connection>>,
    Path(run): Path<String>,
) -> Answer {
    site.run(&run)?;
    let body = match &site.runs {
        Runs::Local(local) => {
            local.refresh();
            feed::stream(&local.feed, &local.history(), may.0, connection)
        }
        Runs::Remote(remote) => remote.stream(&run, may.0, connection)?,
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
    match &site.runs {
        Runs::Local(local) => {
            let body = feed::events(local.stream.watch_after(after), connection);
            Ok(([(header::CONTENT_TYPE, EVENTS)], body).into_response())
        }
        Runs::Remote(remote) => remote.events(&run, after).await,
    }
}

async fn picture(
    State(site): State<Arc<Site>>,
    Path((run, number)): Path<(String, String)>,
) -> Answer {
    site.run(&run)?;
    let number = number.parse().map_err(|_| not_found("expected the number of a picture"))?;
    let picture = match &site.runs {
        Runs::Local(local) => local.picture(number).await,
        Runs::Remote(remote) => remote.picture(&run, number).await,
    };
    let picture = picture.ok_or_else(|| not_found("there is no picture of this number"))?;
    Ok(([(header::CONTENT_TYPE, "image/png")], picture).into_response())
}

async fn quarantine(
    State(site): State<Arc<Site>>,
    Path((run, entry)): Path<(String, String)>,
) -> Answer {
    site.run(&run)?;
    match &site.runs {
        Runs::Local(local) => {
            let local = Arc::clone(local);
            let reason = tokio::task::spawn_blocking(move || local.quarantined(&entry)).await;
            reason
                .ok()
                .flatten()
                .map(as_json)
                .ok_or_else(|| not_found("there is no such entry in quarantine"))
        }
        Runs::Remote(remote) => remote.quarantined(&run, &entry).await,
    }
}

async fn steer(
    State(site): State<Arc<Site>>,
    Path((run, action)): Path<(String, String)>,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    let body = to_bytes(request.into_body(), MAX_BODY_BYTES).await.map_err(|_| Refusal {
        status: 413,
        why: format!("the body is longer than {MAX_BODY_BYTES} bytes, or incomplete"),
    })?;
    site.run(&run)?;
    let kind = one(&headers, "content-type").unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        let why = format!("found the content type {kind:?}; expected application/json");
        return Err(Refusal { status: 415, why });
    }
    match &site.runs {
        Runs::Local(local) => {
            let local = Arc::clone(local);
            let done = tokio::task::spawn_blocking(move || local.steer(&action, &body)).await;
            let failed = || Refusal {
                status: 503,
                why: "the program failed to pass the request on".to_owned(),
            };
            let done = done.unwrap_or_else(|_| Err(failed()))?;
            Ok(as_json(done.to_string()))
        }
        Runs::Remote(remote) => remote.steer(&run, &action, body).await,
    }
}
