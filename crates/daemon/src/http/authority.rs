//! Whether a request that came over TCP may be carried out: [`decide`] says so
//! by its head alone, [`authorize`] asks before anything else looks at it.
//!
//! The Unix socket has none of this: who may open it may operate.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use dynmem_api::{Problem, TokenEntry, TokenRole};
use tokio::sync::watch;

use super::{access::Access, answer::Refusal, tokens::Tokens};

/// What a request takes: looking is GET and HEAD, and no GET acts on anything.
fn needed(method: &Method) -> TokenRole {
    if [Method::GET, Method::HEAD].contains(method) { TokenRole::Read } else { TokenRole::Operate }
}

/// Why a request is not carried out.
#[derive(Debug, PartialEq, Eq)]
enum Denial {
    /// There is no token, or it is not where one belongs.
    NoToken,
    /// Nobody's token.
    Unknown,
    /// Somebody's who may not.
    Role { name: String, has: TokenRole, needs: TokenRole },
}

/// Whose request this is, if it may be carried out.
fn decide<'a>(tokens: &'a Tokens, method: &Method, headers: &HeaderMap) -> Result<&'a TokenEntry, Denial> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Err(Denial::NoToken) };
    let (scheme, secret) = line.to_str().ok().and_then(|line| line.split_once(' ')).ok_or(Denial::NoToken)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Denial::NoToken);
    }
    let entry = tokens.find(secret.trim_ascii()).ok_or(Denial::Unknown)?;
    let needs = needed(method);
    if entry.role < needs {
        return Err(Denial::Role { name: entry.name.clone(), has: entry.role, needs });
    }
    Ok(entry)
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        let (challenge, problem) = match self {
            Self::NoToken => (
                "Bearer realm=\"dynmem\"",
                Problem::new(401, "This takes a token: send the header \"Authorization: Bearer dynmem_…\""),
            ),
            Self::Unknown => (
                "Bearer realm=\"dynmem\", error=\"invalid_token\"",
                Problem::new(
                    401,
                    "This token is nobody's: ask who runs this daemon for one (`dynmem token new` makes it, and `systemctl \
                     reload dynmemd` makes it known)",
                ),
            ),
            Self::Role { name, has, needs } => (
                "Bearer realm=\"dynmem\", error=\"insufficient_scope\"",
                Problem::new(
                    403,
                    format!("This takes a token of role {needs}, and {name} has role {has}: use another"),
                ),
            ),
        };
        // Who was refused asks again on a connection that is his alone for a moment only.
        let headers =
            [(header::WWW_AUTHENTICATE, challenge), (header::CONNECTION, "close"), (header::CACHE_CONTROL, "no-store")];
        let headers = headers.map(|(name, text)| (name, HeaderValue::from_static(text)));
        (headers, Refusal(problem)).into_response()
    }
}

/// Lets a request through if it may be carried out.
pub(super) async fn authorize(
    State(access): State<watch::Receiver<Arc<Access>>>,
    request: Request,
    next: Next,
) -> Response {
    let access = Arc::clone(&access.borrow());
    let (method, path) = (request.method(), request.uri().path());
    match decide(&access.tokens, method, request.headers()) {
        Ok(entry) => {
            if needed(method) == TokenRole::Operate {
                tracing::info!("token {} asks over TCP: {method} {path:.200}", entry.name);
            }
            next.run(request).await
        }
        Err(denial) => {
            tracing::debug!(?denial, "{method} {path:.200} was refused over TCP");
            denial.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use dynmem_api::NewToken;

    use super::*;

    struct Known {
        tokens: Tokens,
        reader: String,
        operator: String,
    }

    fn known() -> Known {
        let make = |name, role| NewToken::make(name, role).expect("there is randomness");
        let (reader, operator) = (make("wall", TokenRole::Read), make("console", TokenRole::Operate));
        let tokens = Tokens::read(&format!("{}\n{}\n", reader.entry, operator.entry)).expect("right");
        Known { tokens, reader: reader.secret, operator: operator.secret }
    }

    fn head(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (header::AUTHORIZATION, line.parse().expect("a header"))).collect()
    }

    #[test]
    fn who_reads_may_look_and_who_operates_may_do_everything() {
        let Known { tokens, reader, operator } = known();
        let may = |secret: &str, method: &Method| {
            decide(&tokens, method, &head(&[&format!("Bearer {secret}")])).map(|entry| entry.name.clone())
        };
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(may(&reader, &method), Ok("wall".to_owned()));
            assert_eq!(may(&operator, &method), Ok("console".to_owned()));
        }
        let other = Method::from_bytes(b"FROB").expect("a word");
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, other] {
            let (has, needs) = (TokenRole::Read, TokenRole::Operate);
            assert_eq!(may(&reader, &method), Err(Denial::Role { name: "wall".to_owned(), has, needs }));
            assert_eq!(may(&operator, &method), Ok("console".to_owned()));
        }
    }

    #[test]
    fn what_is_no_token_or_nobodys_opens_nothing() {
        let Known { tokens, operator, .. } = known();
        let get = |lines: &[&str]| decide(&tokens, &Method::GET, &head(lines)).map(|entry| entry.name.clone());
        let good = format!("Bearer {operator}");
        for lines in [&[][..], &["Bearer"], &["Basic dXNlcjpwYXNz"], &[&operator], &[&good, &good]] {
            assert_eq!(get(lines), Err(Denial::NoToken), "{lines:?}");
        }
        let stranger = NewToken::make("wall", TokenRole::Operate).expect("there is randomness").secret;
        for secret in ["", "x", &stranger, &operator.to_uppercase(), &operator[..operator.len() - 1]] {
            assert_eq!(get(&[&format!("Bearer {secret}")]), Err(Denial::Unknown), "{secret}");
        }
        assert_eq!(get(&[&format!("bearer  {operator}")]), Ok("console".to_owned()), "as RFC 9110 has it");
        assert_eq!(
            decide(&Tokens::default(), &Method::GET, &head(&[&good])).map(|_| ()),
            Err(Denial::Unknown),
            "nobody has a token"
        );
    }
}
