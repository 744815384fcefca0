//! A refusal: [`Problem`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a request was refused, as `application/problem+json` (RFC 9457).
///
/// Status codes: 400 malformed or a rule broken, 401 no token or a wrong one, 403 a token of a
/// lesser role (both over TCP only), 404 unknown VM, 409 wrong
/// state, duplicate name or not enough memory, 412 settings that are not those
/// of `If-Match`, 413 too large, 500 the daemon's
/// own fault, 503 shutting down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    /// A URI for the sort of problem; `about:blank` where the status says it.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The sort of problem in two or three words.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do, a sentence that people read as it is.
    pub detail: String,
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

impl Problem {
    /// The content type of a problem.
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    /// A problem with the usual title of its status.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        let title = match status {
            400 => "Bad request",
            401 => "Token needed",
            403 => "Not allowed",
            404 => "Not found",
            405 => "Method not allowed",
            408 => "Too slow",
            409 => "Conflict",
            412 => "Changed meanwhile",
            413 => "Too large",
            415 => "Not JSON",
            503 => "Shutting down",
            _ => "Internal error",
        };
        Self { kind: about_blank(), title: title.to_owned(), status, detail: detail.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_problem_json() {
        let json = serde_json::to_string(&Problem::new(404, "No VM is named \"web9\"")).expect("plain data");
        assert_eq!(
            json,
            r#"{"type":"about:blank","title":"Not found","status":404,"detail":"No VM is named \"web9\""}"#
        );
    }
}
