//! The dashboard: the page that people see in a browser, beside the API.
//!
//! ```text
//!  request ──┬─ path of one of the page's files ──▶ the file, in the program since it was built
//!            └─ any other ──▶ the API (over TCP: only with a token)
//! ```
//! The files hold no data, so they take no token: the page asks for one, and
//! shows it with each request to the API. It has no other source, and its policy
//! lets it ask nobody else.

use axum::{
    Router,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// A file of the page.
struct File {
    /// Its path in `ui/dist`.
    name: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// What the page may do: its own script and style, requests to who served it,
/// and nothing else; and nobody shows it inside of another page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page, and the API for all that is not a file of it.
pub(super) fn beside(api: Router) -> Router {
    let with = |router: Router, file: &'static File| {
        let answer = async move |headers: HeaderMap| answer(file, &headers);
        router.route(&file.path(), get(answer))
    };
    FILES.iter().fold(Router::new(), with).fallback_service(api)
}

impl File {
    fn path(&self) -> String {
        if self.name == "index.html" { "/".to_owned() } else { format!("/{}", self.name) }
    }

    fn kind(&self) -> &'static str {
        match self.name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            _ => "application/octet-stream",
        }
    }

    /// Names of assets change with what is in them; the page that names them
    /// keeps its own.
    fn caching(&self) -> &'static str {
        if self.name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" }
    }
}

fn answer(file: &'static File, asked: &HeaderMap) -> Response {
    let head: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_TYPE, file.kind()),
        (header::CACHE_CONTROL, file.caching()),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::VARY, "accept-encoding"),
    ];
    let is_compressed = takes_gzip(asked);
    let mut response = (head, if is_compressed { file.gzip } else { file.plain }).into_response();
    if is_compressed {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Whether whoever asks can read gzip: named, and not with a weight of 0.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let lines = asked.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| {
        let mut words = coding.split(';').map(str::trim);
        let is_gzip = words.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        is_gzip && !words.any(|word| matches!(word, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_what_it_names_are_in_the_program() {
        let find = |name: &str| FILES.iter().find(|file| file.name == name);
        let page = find("index.html").expect("the page");
        let text = std::str::from_utf8(page.plain).expect("text");
        let named: Vec<_> = text.split('"').filter_map(|word| word.strip_prefix("./")).collect();
        assert!(named.len() >= 2, "script and style: {text}");
        for name in named {
            let file = find(name).unwrap_or_else(|| panic!("{name} is not there"));
            assert!(file.kind() != "application/octet-stream" && file.caching().contains("immutable"), "{name}");
            assert!(file.gzip.starts_with(&[0x1f, 0x8b]) && file.gzip.len() < file.plain.len(), "{name}");
        }
        assert_eq!((page.caching(), page.path().as_str()), ("no-cache", "/"));
    }

    #[test]
    fn only_who_reads_gzip_gets_it() {
        let takes = |line: &str| {
            takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, line.parse().expect("a header"))]))
        };
        for line in ["gzip", "GZIP", "br;q=1.0, gzip;q=0.8", "deflate,gzip"] {
            assert!(takes(line), "{line}");
        }
        for line in ["", "br", "gzip;q=0", "identity", "xgzip"] {
            assert!(!takes(line), "{line}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
