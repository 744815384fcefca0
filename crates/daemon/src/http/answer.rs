//! Bodies in, answers out: everything that fails is `application/problem+json`.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    extract::{Query, Request, rejection::QueryRejection},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Json, Response},
};
use dynmem_api::Problem;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

/// The largest body of a request.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// How much of the parser's complaint about a body is told.
const COMPLAINT_CHARACTERS_MAX: usize = 400;

/// A refusal as an answer.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, Problem::CONTENT_TYPE)], Json(self.0)).into_response()
    }
}

/// What a route gives.
pub(super) type Answer<T> = Result<T, Refusal>;

/// A value as JSON.
pub(super) fn json<T: Serialize>(value: T) -> Json<T> {
    Json(value)
}

pub(super) fn problem(status: u16, detail: impl Into<String>) -> Refusal {
    Refusal(Problem::new(status, detail))
}

/// A query as a value.
pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Answer<T> {
    query.map(|Query(query)| query).map_err(|error| problem(400, format!("The query is not understood: {error}")))
}

/// For routes that take no query: what was meant by one is not done without it.
pub(super) async fn no_query(request: Request, next: Next) -> Response {
    match request.uri().query() {
        None | Some("") => next.run(request).await,
        Some(query) => {
            let shown: String = query.chars().take(80).collect();
            let path: String = request.uri().path().chars().take(80).collect();
            problem(400, format!("{path} takes no query, and {shown:?} was given: leave it out")).into_response()
        }
    }
}

/// A body as a value; an empty one as `default`, where there is one.
pub(super) async fn read<T: DeserializeOwned>(body: Body, default: Option<T>) -> Answer<T> {
    let bytes = timeout(BODY_PATIENCE, to_bytes(body, BODY_BYTES_MAX)).await;
    let bytes = match bytes {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            // The only other way to fail is a connection that broke: then
            // nobody reads the answer.
            return Err(problem(413, format!("A body of at most {BODY_BYTES_MAX} bytes is read: {error}")));
        }
        Err(_) => {
            return Err(problem(400, format!("The body did not arrive within {} s", BODY_PATIENCE.as_secs())));
        }
    };
    if let (true, Some(default)) = (bytes.trim_ascii().is_empty(), default) {
        return Ok(default);
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        // It quotes what it doesn't know: of any length, and of any characters.
        let complaint = error.to_string();
        let shown = complaint.chars().map(|character| if character.is_control() { '?' } else { character });
        let shown = shown.take(COMPLAINT_CHARACTERS_MAX).collect::<String>();
        problem(400, format!("The body is not understood: {shown}"))
    })
}
