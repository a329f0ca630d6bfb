//! Makes answers of other runs safe to pass on: a browser treats them as answers of this monitor.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::access::Refusal;

/// The longest answer that is passed on, in bytes.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// The longest name of a run, in bytes: several times those that drpipe makes.
const MAX_NAME_BYTES: usize = 100;
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// An answer, and the sender whose life keeps its connection open.
pub(crate) type Answer = (hyper::Response<Incoming>, SendRequest<Full<Bytes>>);

/// Reads the answer: its status and its whole body.
///
/// # Errors
/// If it is too long, or does not come in time.
pub(crate) async fn whole((answer, _sender): Answer) -> Result<(StatusCode, Bytes), Refusal> {
    let status = status_of(&answer);
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect();
    let failed = |why: String| Refusal { status: 503, why };
    let body = timeout(ANSWER_TIMEOUT, body).await.map_err(|error| failed(error.to_string()))?;
    let body = body.map_err(|error| failed(error.to_string()))?;
    Ok((status, body.to_bytes()))
}

/// The status to pass on: never a redirection, which could lead anywhere.
pub(crate) fn status_of(answer: &hyper::Response<Incoming>) -> StatusCode {
    let status = answer.status();
    match status == StatusCode::OK || status.is_client_error() || status.is_server_error() {
        true => status,
        false => StatusCode::BAD_GATEWAY,
    }
}

/// Returns whether the text can be the name of a run.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(plain)
}

/// Accepts the history of another run if it is a JSON object on one line: with several lines
/// it could begin an event of its own in a viewer's stream.
pub(crate) fn history(text: Bytes) -> Option<Bytes> {
    let is_object = serde_json::from_slice::<BTreeMap<String, &RawValue>>(&text).is_ok();
    (is_object && !text.iter().any(|byte| b"\r\n".contains(byte))).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_runs_elsewhere_are_names() {
        assert!(is_name("20260101T000000Z-bnk3qx"));
        for text in ["", "a/../b", "a?b", "a b", "a\u{202e}b", &"a".repeat(101)] {
            assert!(!is_name(text), "{text:?}");
        }
    }

    #[test]
    fn a_history_is_one_line_of_json() {
        assert!(history(Bytes::from_static(b"{\"at_s\":[1]}")).is_some());
        for text in ["{\"at_s\":\r[1]}", "{}\n\nevent: snapshot\ndata: {}", "<b>", "[1]"] {
            assert!(history(Bytes::from(text)).is_none(), "{text:?}");
        }
    }
}
