//! The API over TCP, by the real daemon: TLS, tokens, roles, limits.

mod common;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Arc,
};

use common::{Site, definition, refusal, until};
use dynmem_api::{Client, ClientError, Live, LiveQuery, NewToken, StopMode, StopRequest, TokenRole};
use dynmem_daemon::Daemon;
use dynmem_footprint::Footprint;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// A site that others reach by TCP, with a token of each role.
struct Reached {
    site: Site,
    files: Footprint,
    reader: NewToken,
    operator: NewToken,
}

fn token(name: &str, role: TokenRole) -> NewToken {
    NewToken::make(name, role).expect("there is randomness")
}

/// A certificate for 127.0.0.1 and its key, as PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

impl Reached {
    async fn new() -> Self {
        let mut reached = Self::without_daemon();
        reached.site.start_daemon().await;
        reached
    }

    fn without_daemon() -> Self {
        let files = Footprint::new().expect("a folder");
        let path = files.path().display();
        let settings = format!(
            "[host]\nmemory = \"2560MB\"\nreserve = \"512MB\"\n[tcp]\nlisten = \"127.0.0.1:0\"\n\
             certificate = \"{path}/tls.pem\"\nkey = \"{path}/tls.key\"\ntokens = \"{path}/tokens\"\n"
        );
        let site = Site::without_daemon(&settings);
        let (reader, operator) = (token("wall", TokenRole::Read), token("console", TokenRole::Operate));
        let reached = Self { site, files, reader, operator };
        let (certificate, key) = certificate();
        reached.write("tls.pem", &certificate);
        reached.write("tls.key", &key);
        reached.write("tokens", &format!("# for tests\n{}\n{}\n", reached.reader.entry, reached.operator.entry));
        reached
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("written");
        fs::set_permissions(self.file(name), Permissions::from_mode(0o600)).expect("ours");
    }

    fn url(&self) -> String {
        format!("https://{}", self.site.tcp.expect("it listens"))
    }

    fn client(&self, secret: &str) -> Client {
        Client::over_tls(&self.url(), secret, Some(&self.file("tls.pem"))).expect("all is right")
    }

    /// Bytes to the daemon, before anything was said.
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.site.tcp.expect("it listens")).await.expect("it listens")
    }

    /// The same, once hands were shaken.
    async fn shake_hands(&self) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.file("tls.pem")).expect("PEM")).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("there are some")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        TlsConnector::from(Arc::new(config)).connect(name, self.connect().await).await.expect("it is trusted")
    }

    /// A request byte for byte; its answer to the end of the connection.
    async fn raw(&self, request: &str) -> String {
        let mut stream = self.shake_hands().await;
        let _ = stream.write_all(request.as_bytes()).await; // it may have heard enough
        rest(stream).await
    }
}

/// What comes until the connection ends, however it ends.
async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn who_may_read_sees_everything_and_changes_nothing() {
    let reached = Reached::new().await;
    reached.site.define("web01").await;
    let reader = reached.client(&reached.reader.secret);
    assert_eq!(reader.vms().await.expect("a list"), reached.site.client.vms().await.expect("a list"));
    assert_eq!(reader.socket(), None);

    let problem = refusal(reader.start("web01").await);
    assert_eq!((problem.status, problem.title.as_str()), (403, "Not allowed"));
    assert_eq!(problem.detail, "This takes a token of role operate, and wall has role read: use another");
    for refused in [
        refusal(reader.create(&definition("web02")).await),
        refusal(reader.dry_run_start("web01").await),
        refusal(reader.delete("web01").await),
        refusal(reader.enable_meter("web01").await),
        refusal(reader.start("nobody").await),
    ] {
        assert_eq!(refused.status, 403, "{refused:?}");
    }
    assert_eq!(reached.site.vm("web01").await.state, dynmem_api::VmState::Off);
}

#[tokio::test]
async fn who_may_operate_does_what_the_socket_lets_one_do() {
    let reached = Reached::new().await;
    let operator = reached.client(&reached.operator.secret);
    operator.create(&definition("web01")).await.expect("a new VM");
    operator.start("web01").await.expect("there is memory");
    assert_eq!(operator.vm_with_tag("web01").await.expect("it exists").0.name, "web01");
    let force = StopRequest { mode: StopMode::Force, ..StopRequest::default() };
    operator.stop("web01", &force).await.expect("it runs");
    operator.delete("web01").await.expect("it is off");
}

#[tokio::test]
async fn without_a_token_of_this_daemon_nothing_is_told_not_even_what_there_is() {
    let reached = Reached::new().await;
    let stranger = token("wall", TokenRole::Operate).secret;
    let problem = refusal(reached.client(&stranger).vms().await);
    assert_eq!((problem.status, problem.title.as_str()), (401, "Token needed"));
    for path in ["/v1/vms", "/v1/version", "/metrics", "/v1/live", "/v2/none", "/assets/none.js"] {
        for (line, challenge) in [
            (String::new(), "www-authenticate: Bearer realm=\"dynmem\"\r\n"),
            (format!("Authorization: Bearer {stranger}\r\n"), "error=\"invalid_token\""),
        ] {
            let answer = reached.raw(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n{line}\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{path}: {answer}");
            assert!(answer.contains("application/problem+json") && answer.contains(challenge), "{path}: {answer}");
        }
    }
    // The dashboard's files hold nothing of this daemon.
    let answer = reached.raw("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("<title>dynmem</title>"), "{answer:.300}");
    let head = format!("Authorization: Bearer {}\r\nConnection: close", reached.reader.secret);
    let answer = reached.raw(&format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("dynmem_build_info"), "{answer:.300}");
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_nothing() {
    let reached = Reached::new().await;
    let mut stream = reached.connect().await;
    let token = &reached.operator.secret;
    let request = format!("GET /v1/vms HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it listens");
    let answer = rest(stream).await;
    assert!(!answer.contains("HTTP") && answer.len() < 16, "{answer:?}");

    let plain = Client::over_tls(&reached.url().replace("https", "http"), token, None).expect_err("no TLS");
    assert!(plain.to_string().contains("without TLS, the token would go to whoever listens"), "{plain}");
}

#[tokio::test]
async fn a_daemon_that_can_not_show_who_it_is_gets_no_token() {
    let reached = Reached::new().await;
    let other = reached.file("other.pem");
    fs::write(&other, certificate().0).expect("written");
    let token = &reached.reader.secret;
    let client = Client::over_tls(&reached.url(), token, Some(&other)).expect("all is right");
    let error = client.vms().await.expect_err("another's certificate");
    assert!(matches!(error, ClientError::Untrusted { .. }) && error.is_unreachable(), "{error}");
    assert!(error.to_string().contains("Name the CA that it is from with --ca or DYNMEM_CA"), "{error}");

    // The certificate is for 127.0.0.1.
    let url = reached.url().replace("127.0.0.1", "localhost");
    let client = Client::over_tls(&url, token, Some(&reached.file("tls.pem"))).expect("all is right");
    let error = client.vms().await.expect_err("another name");
    assert!(matches!(error, ClientError::Untrusted { .. }), "{error}");
}

#[tokio::test]
async fn who_says_nothing_or_too_much_is_ended() {
    let reached = Reached::new().await;
    let silent = async { rest(reached.connect().await).await };
    let mute = async { rest(reached.shake_hands().await).await };
    let half = async {
        let mut stream = reached.shake_hands().await;
        stream.write_all(b"GET /v1/vms HTTP/1.1\r\nHost:").await.expect("it listens");
        rest(stream).await
    };
    let (silent, mute, half) = tokio::join!(silent, mute, half);
    assert!(silent.is_empty() && !mute.contains("200 OK") && !half.contains("200 OK"), "{silent} {mute} {half}");

    let long = format!("GET /v1/vms HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    let answer = reached.raw(&long).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.is_empty(), "{answer}");
    let body = "x".repeat(70_000);
    let request = |secret: &str| {
        format!(
            "POST /v1/vms HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {secret}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let answer = reached.raw(&request(&reached.operator.secret)).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let answer = reached.raw(&request(&reached.reader.secret)).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "its body is not even read: {answer}");
    reached.client(&reached.reader.secret).host().await.expect("the daemon is well");
}

#[tokio::test]
async fn connections_over_tcp_are_bounded_and_leave_the_socket_alone() {
    let reached = Reached::new().await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        let stream = reached.shake_hands().await;
        streams.push(stream);
    }
    let mut one_more = reached.connect().await; // waits in the kernel's queue
    reached.site.client.host().await.expect("the socket has places of its own");
    drop(streams);
    one_more.write_all(b"this is no TLS").await.expect("it listens");
    rest(one_more).await;
    reached.client(&reached.reader.secret).host().await.expect("there is a place again");
}

#[tokio::test]
async fn what_changes_is_told_live_until_the_daemon_ends() {
    let mut reached = Reached::new().await;
    let reader = reached.client(&reached.reader.secret);
    let mut stream = reader.live(LiveQuery { interval_ms: Some(100) }).await.expect("a stream");
    let first = stream.next().await.expect("it goes on").expect("it goes on");
    assert!(matches!(&first, Live::Snapshot(snapshot) if snapshot.vms.is_empty()), "{first:?}");
    reached.site.define("web01").await;
    loop {
        let told = stream.next().await.expect("it goes on").expect("it goes on");
        if matches!(&told, Live::Change(change) if change.vms.iter().any(|vm| vm.name == "web01")) {
            break;
        }
    }
    let read_on = tokio::spawn(async move {
        while stream.next().await?.is_some() {}
        Ok::<_, ClientError>(())
    });
    reached.site.stop_daemon().await;
    read_on.await.expect("no panic").expect("ended, and not cut off");
}

#[tokio::test]
async fn a_token_that_is_taken_away_ends_what_it_had_opened() {
    let reached = Reached::new().await;
    let reload = reached.site.reload.clone().expect("it listens");
    let reader = reached.client(&reached.reader.secret);
    let mut stream = reader.live(LiveQuery::default()).await.expect("a stream");
    stream.next().await.expect("it goes on").expect("a snapshot");

    reached.write("tokens", "wall read\n");
    let error = reload.reload().expect_err("a bad line").to_string();
    assert!(error.contains("tokens, line 1: a line has three words"), "{error}");
    reader.host().await.expect("what was, holds");

    let newcomer = token("new", TokenRole::Read);
    reached.write("tokens", &format!("{}\n", newcomer.entry));
    let (certificate, key) = certificate();
    reached.write("tls.pem", &certificate);
    reached.write("tls.key", &key);
    reload.reload().expect("all is right");
    while let Ok(Some(_)) = stream.next().await {}
    let error = reader.host().await.expect_err("it knows the old certificate");
    assert!(matches!(error, ClientError::Untrusted { .. }), "{error}");
    assert_eq!(refusal(reached.client(&reached.reader.secret).host().await).status, 401);
    reached.client(&newcomer.secret).host().await.expect("a new token");
}

#[tokio::test]
async fn a_daemon_with_a_secret_that_others_can_read_does_not_start() {
    let reached = Reached::without_daemon();
    let prepare = async || {
        let outcome = Daemon::prepare(reached.site.config(), reached.site.hypervisor()).await;
        outcome.err().map(|error| format!("{error:#}"))
    };
    fs::set_permissions(reached.file("tls.key"), Permissions::from_mode(0o640)).expect("ours");
    let error = prepare().await.expect("refused");
    assert!(error.contains("tls.key ([tcp] key) has mode 0640") && error.contains(": chmod 600 "), "{error}");
    fs::set_permissions(reached.file("tls.key"), Permissions::from_mode(0o600)).expect("ours");
    fs::remove_file(reached.file("tokens")).expect("it is there");
    let error = prepare().await.expect("refused");
    assert!(error.contains("tokens ([tcp] tokens): No such file"), "{error}");
    reached.write("tokens", "");
    until("it starts", || async { prepare().await.map_or(Ok(()), Err) }).await;
}
