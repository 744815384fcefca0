//! The client against a scripted peer that does everything QEMU should not.

use std::{
    fs::File,
    io::{IoSliceMut, Read as _, Seek as _, Write as _},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::PathBuf,
    time::Duration,
};

use dynmem_qmp::{
    Client, Event, Events, MAX_LINE_BYTES, QmpError,
    commands::{GetFd, QueryBalloon, QueryStatus, QueryVersion, Quit, SetBalloon, Stop},
    connect,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest},
    net::{UnixListener, UnixStream},
};

const PATIENCE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);

/// The peer, as the test scripts it.
struct Peer {
    stream: BufReader<UnixStream>,
    _directory: TempDir,
}

fn listen() -> (TempDir, PathBuf, UnixListener) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("qmp.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    (directory, path, listener)
}

impl Peer {
    /// A peer and a client that have negotiated.
    async fn pair() -> (Self, Client, Events) {
        let (directory, path, listener) = listen();
        let client = tokio::spawn(async move { connect(&path, PATIENCE).await });
        let (stream, _) = listener.accept().await.expect("the client comes");
        let mut peer = Self { stream: BufReader::new(stream), _directory: directory };
        peer.say(r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#).await;
        let request = peer.hear().await;
        assert_eq!(request["execute"], "qmp_capabilities");
        peer.answer(&request, json!({})).await;
        let (client, events) = client.await.expect("no panic").expect("connected");
        (peer, client, events)
    }

    async fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.expect("a line");
        serde_json::from_str(&line).expect("the client speaks JSON")
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).await.expect("the client reads");
    }

    async fn say(&mut self, line: &str) {
        self.send(format!("{line}\r\n").as_bytes()).await;
    }

    async fn answer(&mut self, request: &Value, value: Value) {
        self.say(&json!({"return": value, "id": request["id"]}).to_string()).await;
    }
}

fn running() -> Value {
    json!({"status": "running", "running": true, "a field of the future": [1, 2, 3]})
}

/// Proves that the connection still works.
async fn works(peer: &mut Peer, client: &Client) {
    let (status, ()) = tokio::join!(client.call(QueryStatus {}), async {
        let request = peer.hear().await;
        peer.answer(&request, running()).await;
    });
    assert_eq!(status.expect("an answer").status, "running");
}

#[tokio::test]
async fn answers_find_their_calls_in_any_order() {
    let (mut peer, client, _events) = Peer::pair().await;
    let calls = async { tokio::join!(client.call(QueryBalloon {}), client.call(QueryStatus {})) };
    let script = async {
        let (first, second) = (peer.hear().await, peer.hear().await);
        assert_ne!(first["id"], second["id"]);
        for request in [&second, &first] {
            let value = if request["execute"] == "query-balloon" { json!({"actual": 42}) } else { running() };
            peer.answer(request, value).await;
        }
    };
    let ((balloon, status), ()) = tokio::join!(calls, script);
    assert_eq!(balloon.expect("an answer").actual, 42);
    assert_eq!(status.expect("an answer").status, "running");
}

#[tokio::test]
async fn arguments_go_out_as_qemu_wants_them() {
    let (mut peer, client, _events) = Peer::pair().await;
    let script = async {
        let request = peer.hear().await;
        assert_eq!((&request["execute"], &request["arguments"]), (&json!("balloon"), &json!({"value": 7})));
        peer.answer(&request, json!({})).await;
    };
    let (done, ()) = tokio::join!(client.call(SetBalloon { value: 7 }), script);
    done.expect("done");
}

#[tokio::test]
async fn an_answer_in_pieces_is_an_answer() {
    let (mut peer, client, _events) = Peer::pair().await;
    let script = async {
        let request = peer.hear().await;
        let line = format!("{}\r\n", json!({"return": running(), "id": request["id"]}));
        for byte in line.as_bytes() {
            peer.send(&[*byte]).await;
            tokio::task::yield_now().await;
        }
    };
    let (status, ()) = tokio::join!(client.call(QueryStatus {}), script);
    assert_eq!(status.expect("an answer").status, "running");
}

#[tokio::test]
async fn a_refusal_carries_qemus_words() {
    let (mut peer, client, _events) = Peer::pair().await;
    let script = async {
        let request = peer.hear().await;
        let error = json!({"class": "DeviceNotActive", "desc": "No balloon device has been activated"});
        peer.say(&json!({"error": error, "id": request["id"]}).to_string()).await;
    };
    let (refused, ()) = tokio::join!(client.call(QueryBalloon {}), script);
    let error = refused.expect_err("refused");
    assert_eq!(error.to_string(), "QEMU refused query-balloon: No balloon device has been activated");
    assert!(matches!(error, QmpError::Refused { class, .. } if class == "DeviceNotActive"));
    works(&mut peer, &client).await;
}

#[tokio::test]
async fn an_answer_of_the_wrong_shape_fails_that_call_alone() {
    let (mut peer, client, _events) = Peer::pair().await;
    for value in [json!("text"), json!({"actual": "much"}), Value::Null] {
        let script = async {
            let request = peer.hear().await;
            peer.answer(&request, value).await;
        };
        let (answer, ()) = tokio::join!(client.call(QueryBalloon {}), script);
        assert!(matches!(answer, Err(QmpError::Protocol { command: "query-balloon", .. })));
    }
    works(&mut peer, &client).await;
}

#[tokio::test]
async fn garbage_and_strange_messages_are_skipped() {
    let (mut peer, client, mut events) = Peer::pair().await;
    for line in [
        "garbage",
        "",
        "[]",
        "7",
        "null",
        r#"{"event": "FROM_THE_FUTURE", "data": {"x": 1}}"#,
        r#"{"event": 7}"#,
        r#"{"return": {}, "id": 99999}"#,
        r#"{"return": {}, "id": "mine"}"#,
        r#"{"return": {}}"#,
        r#"{"error": {"class": "GenericError", "desc": "JSON parse error"}}"#,
        r#"{"QMP": {}}"#,
        r#"{"event": "STOP"}"#,
    ] {
        peer.say(line).await;
    }
    peer.send(b"\xff\xfe\x00\n").await;
    works(&mut peer, &client).await;
    assert_eq!(events.next().await, Some(Event::Stop), "the only event of ours");
}

#[tokio::test]
async fn a_line_that_is_too_long_is_skipped() {
    let (mut peer, client, mut events) = Peer::pair().await;
    let long = vec![b'x'; MAX_LINE_BYTES];
    for _ in 0..3 {
        peer.send(&long).await;
    }
    peer.send(b"\n").await;
    peer.say(r#"{"event": "RESUME"}"#).await;
    assert_eq!(events.next().await, Some(Event::Resume));
    works(&mut peer, &client).await;
}

#[tokio::test]
async fn a_call_that_takes_too_long_fails_alone_and_its_late_answer_is_dropped() {
    let (mut peer, client, _events) = Peer::pair().await;
    let error = client.with_patience(SHORT).call(QueryVersion {}).await.expect_err("nobody answers");
    assert!(matches!(error, QmpError::Timeout { command: "query-version", .. }), "{error}");
    let late = peer.hear().await;
    let script = async {
        let request = peer.hear().await;
        peer.answer(&late, json!({"qemu": {"major": 1, "minor": 2, "micro": 3}})).await;
        peer.answer(&request, running()).await;
    };
    let (status, ()) = tokio::join!(client.call(QueryStatus {}), script);
    assert_eq!(status.expect("its own answer").status, "running");
}

#[tokio::test]
async fn a_peer_that_does_not_read_makes_calls_time_out_and_events_still_arrive() {
    let (mut peer, client, mut events) = Peer::pair().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20_000 {
        let client = client.with_patience(SHORT);
        calls.spawn(async move { client.call(Stop {}).await });
    }
    while let Some(outcome) = calls.join_next().await {
        assert!(matches!(outcome.expect("no panic"), Err(QmpError::Timeout { .. })));
    }
    peer.say(r#"{"event": "STOP"}"#).await;
    assert_eq!(events.next().await, Some(Event::Stop), "reading goes on while writing is stuck");
}

#[tokio::test]
async fn a_slow_reader_of_events_loses_the_oldest_and_is_told() {
    let (mut peer, client, mut events) = Peer::pair().await;
    for _ in 0..10_000 {
        peer.say(r#"{"event": "BALLOON_CHANGE", "data": {"actual": 1}}"#).await;
    }
    peer.say(r#"{"event": "STOP"}"#).await;
    works(&mut peer, &client).await; // everything before it has been read
    assert!(matches!(events.next().await, Some(Event::Lagged(missed)) if missed > 9000));
    let mut last = events.next().await;
    while last != Some(Event::Stop) {
        assert_eq!(last, Some(Event::BalloonChange { actual: 1 }));
        last = events.next().await;
    }
}

#[tokio::test]
async fn a_closed_connection_ends_calls_and_events() {
    let (mut peer, client, mut events) = Peer::pair().await;
    let waiting = client.clone();
    let call = tokio::spawn(async move { waiting.call(QueryStatus {}).await });
    peer.hear().await;
    drop(peer);
    assert!(matches!(call.await.expect("no panic"), Err(QmpError::Closed)));
    assert_eq!(events.next().await, None);
    assert!(matches!(client.call(Quit {}).await, Err(QmpError::Closed)));
}

#[tokio::test]
async fn the_connection_ends_with_its_last_client() {
    let (mut peer, client, events) = Peer::pair().await;
    let other = client.clone();
    drop(client);
    works(&mut peer, &other).await;
    drop((other, events));
    let mut line = String::new();
    assert_eq!(peer.stream.read_line(&mut line).await.expect("the end"), 0);
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_named() {
    let error = connect("/nonexistent/qmp.sock".as_ref(), PATIENCE).await.expect_err("nobody");
    assert!(error.to_string().starts_with("Can't connect to QEMU's control socket /nonexistent/qmp.sock: "), "{error}");
}

#[tokio::test]
async fn a_peer_that_does_not_greet_is_given_up() {
    let (_directory, path, _listener) = listen();
    let error = connect(&path, SHORT).await.expect_err("silence");
    assert_eq!(error.to_string(), "QEMU did not answer greeting within 50ms");
}

#[tokio::test]
async fn a_peer_that_hangs_up_before_its_greeting_is_closed() {
    let (_directory, path, listener) = listen();
    let client = tokio::spawn(async move { connect(&path, PATIENCE).await });
    drop(listener.accept().await.expect("the client comes"));
    assert!(matches!(client.await.expect("no panic"), Err(QmpError::Closed)));
}

#[tokio::test]
async fn a_file_goes_with_its_command_and_with_no_other() {
    let (mut peer, client, _events) = Peer::pair().await;
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"precious").expect("written");
    let call = tokio::spawn(async move {
        client.call_with_file(GetFd { fdname: "save" }, file.into()).await?;
        client.call(Stop {}).await
    });
    let (request, received) = peer.hear_with_files().await;
    assert_eq!((&request["execute"], &request["arguments"]["fdname"]), (&json!("getfd"), &json!("save")));
    let [received] = <[OwnedFd; 1]>::try_from(received).expect("one file");
    let mut text = String::new();
    let mut file = File::from(received);
    file.rewind().and_then(|()| file.read_to_string(&mut text)).expect("readable");
    assert_eq!(text, "precious", "it is that file");
    peer.answer(&request, json!({})).await;
    let (request, received) = peer.hear_with_files().await;
    assert_eq!((&request["execute"], received.len()), (&json!("stop"), 0));
    peer.answer(&request, json!({})).await;
    call.await.expect("no panic").expect("both are answered");
}

impl Peer {
    /// A line that comes in one piece, and the files that came with it.
    async fn hear_with_files(&mut self) -> (Value, Vec<OwnedFd>) {
        let stream = self.stream.get_ref();
        let mut bytes = vec![0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut with = RecvAncillaryBuffer::new(&mut space);
        let count = loop {
            stream.readable().await.expect("the client is there");
            let read = stream.try_io(Interest::READABLE, || {
                Ok(recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut with, RecvFlags::CMSG_CLOEXEC)?.bytes)
            });
            match read {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {} // what woke us was old
                read => break read.expect("a line"),
            }
        };
        bytes.truncate(count);
        let files = with.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        let files = files.flatten().collect();
        (serde_json::from_slice(&bytes).expect("the client speaks JSON"), files)
    }
}
