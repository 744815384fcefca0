//! The client against servers that behave, misbehave and are not there.

use dynmem_api::{Client, ClientError, EventsQuery, MAX_RESPONSE_BYTES, MemoryPatch, StopRequest};
use dynmem_units::Bytes;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

static SPACES: [u8; 65536] = [b' '; 65536];

/// A socket in a directory of its own, gone at the end.
struct Server {
    directory: TempDir,
    listener: UnixListener,
}

impl Server {
    fn new() -> (Self, Client) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = directory.path().join("api.sock");
        let listener = UnixListener::bind(&socket).expect("a new socket");
        (Self { directory, listener }, Client::new(socket))
    }

    /// Answers the first request with `answer`, then `filler` again and
    /// again until the client hangs up; gives the request back.
    fn answer(self, answer: impl Into<Vec<u8>>, filler: &'static [u8]) -> JoinHandle<String> {
        let answer = answer.into();
        tokio::spawn(async move {
            let (mut stream, _) = self.listener.accept().await.expect("a client");
            let request = read_request(&mut stream).await;
            let _ = stream.write_all(&answer).await; // the client may have seen enough
            while !filler.is_empty() && stream.write_all(filler).await.is_ok() {}
            drop(self.directory);
            request
        })
    }
}

async fn read_request(stream: &mut UnixStream) -> String {
    let mut request = Vec::new();
    loop {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.expect("the request");
        request.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().expect("a length")) {
                return text.into_owned();
            }
        }
        assert_ne!(read, 0, "the request ended early: {text}");
    }
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn without_a_daemon_the_error_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("api.sock");
    let expected =
        format!("No daemon listens on {}: start dynmemd, or name its socket with --socket or DYNMEM_SOCKET", {
            socket.display()
        });
    let client = Client::new(&socket);
    let error = client.vms().await.expect_err("no socket");
    assert_eq!(error.to_string(), expected);
    assert!(error.is_unreachable());

    drop(UnixListener::bind(&socket).expect("a new socket")); // what a dead daemon leaves behind
    let error = client.vms().await.expect_err("nobody listens");
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_refusal_is_the_daemons_own_sentence() {
    let (server, client) = Server::new();
    let problem = r#"{"type":"about:blank","title":"Conflict","status":409,"detail":"VM web01 runs already"}"#;
    server.answer(http("409 Conflict", problem), b"");
    let error = client.start("web01").await.expect_err("a refusal");
    assert_eq!(error.to_string(), "VM web01 runs already");
    assert!(matches!(error, ClientError::Refused(problem) if problem.status == 409));
}

#[tokio::test]
async fn an_answer_that_is_not_ours_is_called_so() {
    for answer in [
        http("200 OK", "<html>"),
        http("200 OK", "[]"),
        http("200 OK", r#"{"version":17}"#),
        http("404 Not Found", ""),
        http("500 Internal Server Error", r#"{"error":"?"}"#),
        http("302 Found", ""),
    ] {
        let (server, client) = Server::new();
        server.answer(answer.clone(), b"");
        let error = client.version().await.expect_err("garbage");
        assert!(matches!(error, ClientError::Garbage { .. }), "{answer}: {error}");
        assert!(!error.is_unreachable());
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_an_error() {
    for answer in [
        "",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"version\":",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n",
    ] {
        let (server, client) = Server::new();
        server.answer(answer, b"");
        let error = client.version().await.expect_err("broken");
        assert!(matches!(error, ClientError::Broken { .. }), "{answer}: {error}");
    }
}

#[tokio::test]
async fn an_endless_answer_ends_at_the_bound() {
    let (server, client) = Server::new();
    server.answer("HTTP/1.1 200 OK\r\n\r\n", &SPACES);
    let error = client.vms().await.expect_err("too large");
    assert!(matches!(error, ClientError::TooLarge { .. }), "{error}");

    let (server, client) = Server::new();
    server.answer(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 1_u64 << 40), &SPACES);
    let error = client.vms().await.expect_err("too large");
    assert!(matches!(error, ClientError::TooLarge { .. }), "{error}");

    let (server, client) = Server::new();
    server.answer("HTTP/1.1 200 OK\r\nx: y", &SPACES);
    let error = client.vms().await.expect_err("an endless header");
    assert!(matches!(error, ClientError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_below_the_bound_is_read_whole() {
    let (server, client) = Server::new();
    let padding = " ".repeat(MAX_RESPONSE_BYTES / 8);
    server.answer(http("200 OK", &format!(r#"{{"version":"0.1.0"{padding}}}"#)), b"");
    assert_eq!(client.version().await.expect("a large answer").version, "0.1.0");
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_never_answers_is_given_up() {
    let (server, client) = Server::new();
    let error = client.vms().await.expect_err("no answer");
    assert!(matches!(error, ClientError::TimedOut { seconds: 30, .. }), "{error}");
    let patient = StopRequest { timeout_seconds: 120, ..StopRequest::default() };
    let error = client.stop("web01", &patient).await.expect_err("no answer");
    assert!(matches!(error, ClientError::TimedOut { seconds: 150, .. }), "{error}");
    drop(server);
}

#[tokio::test]
async fn requests_carry_what_was_asked_and_nothing_else() {
    let (server, client) = Server::new();
    let seen = server.answer(http("409 Conflict", ""), b"");
    let patch = MemoryPatch { maximum: Some(Bytes::GIB), ..MemoryPatch::default() };
    client.set_memory("a/../b", &patch).await.expect_err("a canned refusal");
    let request = seen.await.expect("a request");
    assert!(request.starts_with("PATCH /v1/vms/a%2F..%2Fb/memory HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"maximum\":1073741824}"), "{request}");

    let (server, client) = Server::new();
    let seen = server.answer(http("200 OK", "[]"), b"");
    let query = EventsQuery { after: Some(7), limit: None, vm: Some("a&limit=0".into()) };
    assert_eq!(client.events(&query).await.expect("no events"), []);
    let request = seen.await.expect("a request");
    assert!(request.starts_with("GET /v1/events?after=7&vm=a%26limit%3D0 HTTP/1.1\r\n"), "{request}");

    let (server, client) = Server::new();
    let seen = server.answer("HTTP/1.1 204 No Content\r\n\r\n", b"");
    client.delete("web01").await.expect("no content is a success");
    assert!(seen.await.expect("a request").starts_with("DELETE /v1/vms/web01 HTTP/1.1\r\n"));
}
