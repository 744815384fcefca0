use std::time::Duration;

use dynmem_agent_protocol::{Assigned, GuestMessage, Hello, HostMessage, LineDecoder, Report, encode};
use dynmem_core::{Event, GuestReport, VmId};
use dynmem_units::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{AgentLink, AgentStatus, CHUNK_BYTES, Connection, FLOOD_WINDOWS, Limits, SILENCE, WINDOW, WINDOW_BYTES};
use crate::fact::{Fact, FactSender, News};

/// A link whose guest is the test.
struct Bench {
    listener: UnixListener,
    facts: mpsc::Receiver<Fact>,
    assigned: watch::Sender<Assigned>,
    status: watch::Receiver<AgentStatus>,
    link: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agent.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let (sender, facts) = mpsc::channel(16);
        let (assigned, assigned_rx) = watch::channel(Assigned::default());
        let (status_tx, status) = watch::channel(AgentStatus::default());
        let link = AgentLink {
            path,
            limits: Limits { reach: Bytes::GIB },
            facts: FactSender { vm: VmId(0), run: 1, facts: sender },
            assigned: assigned_rx,
            status: status_tx,
        };
        Self { listener, facts, assigned, status, link: tokio::spawn(link.run()), _folder: folder }
    }

    async fn guest(&self) -> UnixStream {
        self.listener.accept().await.expect("it connects").0
    }

    async fn report(&mut self) -> GuestReport {
        let fact = timeout(Duration::from_secs(30), self.facts.recv()).await.expect("in time").expect("the link lives");
        let Fact::Machine { news: News::Event(Event::Report(report)), .. } = fact else { panic!("{fact:?}") };
        report
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.link.abort();
    }
}

/// A report that can be told from others by its `available`.
fn report(number: u64) -> Vec<u8> {
    let report = Report {
        seq: number,
        visible_bytes: Bytes::from_mib(512),
        available_bytes: Bytes::new(number),
        ..Report::default()
    };
    encode(&GuestMessage::Report(report)).expect("a right report")
}

/// What the host says next.
async fn heard(guest: &mut UnixStream, decoder: &mut LineDecoder, rest: &mut Vec<u8>) -> HostMessage {
    loop {
        let mut bytes = rest.as_slice();
        let message = decoder.next::<HostMessage>(&mut bytes);
        *rest = bytes.to_vec();
        if let Some(message) = message {
            return message.expect("the host's own words are right");
        }
        let mut chunk = [0; 512];
        let length = timeout(Duration::from_secs(30), guest.read(&mut chunk)).await.expect("in time").expect("open");
        assert!(length > 0, "the host hung up");
        rest.extend_from_slice(&chunk[..length]);
    }
}

#[tokio::test]
async fn a_greeting_is_answered_and_news_is_told() {
    let bench = Bench::new();
    let mut guest = bench.guest().await;
    let hello = encode(&GuestMessage::Hello(Hello::new("0.1.0", "6.1.0"))).expect("right");
    guest.write_all(&hello).await.expect("open");
    let (mut decoder, mut rest) = (LineDecoder::new(), Vec::new());
    assert!(matches!(heard(&mut guest, &mut decoder, &mut rest).await, HostMessage::Welcome(_)));
    assert_eq!(heard(&mut guest, &mut decoder, &mut rest).await, HostMessage::Assigned(Assigned::default()));
    for mib in 1..=100 {
        bench.assigned.send_replace(Assigned { assigned_bytes: Bytes::from_mib(mib), ..Assigned::default() });
    }
    let HostMessage::Assigned(told) = heard(&mut guest, &mut decoder, &mut rest).await else { panic!("not assigned") };
    assert_eq!(told.assigned_bytes, Bytes::from_mib(100), "only the newest is told");
    assert_eq!(bench.status.borrow().hello, Some(("0.1.0".to_owned(), "6.1.0".to_owned())));
}

#[tokio::test]
async fn an_agent_that_was_there_before_the_daemon_is_greeted_at_its_first_report() {
    let mut bench = Bench::new();
    let mut guest = bench.guest().await;
    guest.write_all(&report(7)).await.expect("open");
    assert_eq!(bench.report().await.available, Bytes::new(7));
    let (mut decoder, mut rest) = (LineDecoder::new(), Vec::new());
    assert!(matches!(heard(&mut guest, &mut decoder, &mut rest).await, HostMessage::Welcome(_)));
}

#[tokio::test]
async fn of_a_thousand_reports_few_go_on_and_the_newest_is_one_of_them() {
    let mut bench = Bench::new();
    let mut guest = bench.guest().await;
    let burst: Vec<u8> = (1..=1000).flat_map(report).collect();
    let writing = tokio::spawn(async move { guest.write_all(&burst).await.map(|()| guest) });
    let mut count = 0;
    while bench.report().await.available != Bytes::new(1000) {
        count += 1;
    }
    assert!(count < 500, "{count} went on");
    drop(writing.await.expect("no panic").expect("all was read"));
}

#[tokio::test]
async fn a_guest_that_does_not_listen_is_heard_all_the_same() {
    let mut bench = Bench::new();
    let mut guest = bench.guest().await;
    for number in 1..200_u64 {
        bench.assigned.send_replace(Assigned { assigned_bytes: Bytes::new(number), ..Assigned::default() });
        guest.write_all(&report(number)).await.expect("open");
        while bench.report().await.available != Bytes::new(number) {}
    }
}

#[tokio::test]
async fn what_is_refused_is_counted_and_the_next_line_counts_again() {
    let mut bench = Bench::new();
    let mut guest = bench.guest().await;
    let giant = Report {
        visible_bytes: Bytes::from_mib(2048), // more than the machine can have
        ..Report::default()
    };
    let giant = encode(&GuestMessage::Report(giant)).expect("the wire allows it");
    guest.write_all(&[b"no json\n".as_slice(), &giant, &vec![b'x'; 10_000], b"\n"].concat()).await.expect("open");
    guest.write_all(&report(1)).await.expect("open");
    assert_eq!(bench.report().await.available, Bytes::new(1));
    assert_eq!(bench.status.borrow().refused, 3);
}

#[tokio::test]
async fn a_connection_that_ends_is_made_again() {
    let mut bench = Bench::new();
    for number in 1..=3 {
        let mut guest = bench.guest().await;
        guest.write_all(&report(number)).await.expect("open");
        assert_eq!(bench.report().await.available, Bytes::new(number));
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_on_which_nothing_is_heard_is_opened_anew_and_one_that_is_used_is_not() {
    let mut bench = Bench::new();
    let began = Instant::now();
    let mut silent = bench.guest().await;
    let mut guest = bench.guest().await; // the link has hung up
    assert_eq!(silent.read(&mut [0]).await.expect("closed in order"), 0);
    assert!(began.elapsed() >= SILENCE);
    for number in 1..=4 {
        tokio::time::advance(SILENCE / 2).await;
        guest.write_all(&report(number)).await.expect("open");
        assert_eq!(bench.report().await.available, Bytes::new(number));
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_of_more_than_is_read_is_a_flood_and_less_is_none() {
    let mut connection = Connection::new();
    for window in 0..=FLOOD_WINDOWS {
        assert!(!connection.floods(), "after {window} windows");
        connection.count(WINDOW_BYTES);
        tokio::time::advance(WINDOW).await;
    }
    connection.count(1);
    assert!(connection.floods());
    tokio::time::advance(WINDOW).await;
    connection.count(1);
    assert!(!connection.floods(), "a window that is not full ends it");
}

#[tokio::test(start_paused = true)]
async fn so_many_bytes_are_read_in_a_moment_and_then_no_more() {
    let mut connection = Connection::new();
    connection.count(WINDOW_BYTES - 1);
    assert!(connection.read_at() <= Instant::now());
    connection.count(CHUNK_BYTES);
    assert_eq!(connection.read_at(), Instant::now() + WINDOW, "the rest waits in the guest");
    tokio::time::advance(WINDOW).await;
    connection.count(0);
    assert!(connection.read_at() <= Instant::now());
}
