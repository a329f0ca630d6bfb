//! What comes from runs elsewhere, made fit to be sent on: what this monitor sends counts
//! in a browser as its own.

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

/// The longest answer, in bytes.
const MOST_ANSWER: usize = 4 << 20;
/// The longest name of a run.
const LONGEST_NAME: usize = 100;
/// An answer is there after this time.
const PATIENCE: Duration = Duration::from_secs(40);

/// An answer, and what its connection lasts as long as.
pub(crate) type Answer = (hyper::Response<Incoming>, SendRequest<Full<Bytes>>);

/// The status and the whole body.
///
/// # Errors
/// If it is too long, or does not come.
pub(crate) async fn whole((answer, _sender): Answer) -> Result<(StatusCode, Bytes), Refusal> {
    let status = status_of(&answer);
    let body = Limited::new(answer.into_body(), MOST_ANSWER).collect();
    let failed = |why: String| Refusal { status: 503, why };
    let body = timeout(PATIENCE, body).await.map_err(|error| failed(error.to_string()))?;
    let body = body.map_err(|error| failed(error.to_string()))?;
    Ok((status, body.to_bytes()))
}

/// Whatever else a run may answer, it sends nobody anywhere.
pub(crate) fn status_of(answer: &hyper::Response<Incoming>) -> StatusCode {
    let status = answer.status();
    match status == StatusCode::OK || status.is_client_error() || status.is_server_error() {
        true => status,
        false => StatusCode::BAD_GATEWAY,
    }
}

/// Whether this can be a run's name.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !text.is_empty() && text.len() <= LONGEST_NAME && text.bytes().all(plain)
}

/// The history of a run elsewhere, if it is what the pages expect: in one line, so that it
/// begins no event of its own in their streams.
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
