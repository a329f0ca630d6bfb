//! Answers: JSON, refusals, and the headers by which a monitor knows another.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::access::Refusal;

/// The header that marks the answers of `drpipe monitor`.
pub(crate) const MONITOR: &str = "x-drpipe-monitor";
/// The header with the user whose monitor it is.
pub(crate) const USER: &str = "x-drpipe-user";
/// The media type of events, one a line.
pub(crate) const EVENTS: &str = "application/x-ndjson";

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

/// A body that is JSON already.
pub(crate) fn as_json(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

pub(crate) fn not_found(why: impl Into<String>) -> Refusal {
    Refusal { status: 404, why: why.into() }
}
