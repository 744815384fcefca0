//! The wire, as the other side sees it: exact texts, bad input, random input.

use dynmem_agent_protocol::{
    Assigned, GuestMessage, Hello, HostMessage, LineDecoder, MAX_LINE_BYTES, MAX_SIZE, Message, ProtocolError, Reason,
    Report, Welcome, encode,
};
use dynmem_units::Bytes;
use proptest::prelude::*;

fn decode_all<M: Message>(decoder: &mut LineDecoder, mut chunk: &[u8]) -> Vec<Result<M, ProtocolError>> {
    std::iter::from_fn(|| decoder.next(&mut chunk)).collect()
}

fn decode_one(line: &str) -> Result<GuestMessage, ProtocolError> {
    let mut messages = decode_all(&mut LineDecoder::new(), format!("{line}\n").as_bytes());
    assert_eq!(messages.len(), 1, "{line}");
    messages.remove(0)
}

fn report() -> Report {
    Report {
        seq: 7,
        uptime_ms: 1234,
        visible_bytes: Bytes::from_mib(256),
        available_bytes: Bytes::from_mib(128),
        free_bytes: Bytes::from_mib(64),
        committed_bytes: Some(Bytes::from_mib(500)),
        hot_file_bytes: Bytes::from_mib(8),
        reserved_bytes: Some(Bytes::from_mib(40)),
        ballooned_bytes: None,
        swap_total_bytes: Bytes::from_mib(100),
        swap_used_bytes: Bytes::from_mib(1),
        swap_in_bytes_per_s: Bytes::ZERO,
        refault_bytes_per_s: Bytes::new(4096),
        stall_hundredths: 150,
        psi_available: true,
        reason: Reason::Pressure,
    }
}

#[test]
fn a_report_on_the_wire_is_one_plain_line() {
    let line = encode(&GuestMessage::Report(report())).expect("a believable report");
    assert_eq!(
        String::from_utf8(line).expect("JSON is UTF-8"),
        concat!(
            r#"{"type":"report","seq":7,"uptime_ms":1234,"visible_bytes":268435456,"available_bytes":134217728,"#,
            r#""free_bytes":67108864,"committed_bytes":524288000,"hot_file_bytes":8388608,"reserved_bytes":41943040,"#,
            r#""swap_total_bytes":104857600,"swap_used_bytes":1048576,"swap_in_bytes_per_s":0,"#,
            r#""refault_bytes_per_s":4096,"stall_hundredths":150,"psi_available":true,"reason":"pressure"}"#,
            "\n"
        )
    );
}

#[test]
fn a_newer_peer_is_understood() {
    let newer = r#"{"type":"hello","protocol":9,"agent_version":"3.0","kernel":"7.2","colour":{"deep":[1,2]}}"#;
    let hello = Hello { protocol: 9, agent_version: "3.0".into(), kernel: "7.2".into() };
    assert_eq!(decode_one(newer), Ok(GuestMessage::Hello(hello)));
    assert_eq!(decode_one(r#"{"type":"song","verse":1}"#), Ok(GuestMessage::Unknown));
    let reason = r#"{"type":"report","seq":0,"uptime_ms":1,"visible_bytes":2,"available_bytes":1,"reason":"whim"}"#;
    assert!(matches!(decode_one(reason), Ok(GuestMessage::Report(Report { reason: Reason::Unknown, .. }))));
}

#[test]
fn an_older_peer_may_leave_out_what_it_does_not_know() {
    let line = r#"{"type":"report","seq":0,"uptime_ms":1,"visible_bytes":2,"available_bytes":1}"#;
    let Ok(GuestMessage::Report(report)) = decode_one(line) else { panic!("a short report is a report") };
    assert_eq!((report.committed_bytes, report.stall_hundredths, report.psi_available), (None, 0, false));
}

#[test]
fn numbers_that_are_no_sizes_are_refused() {
    for value in ["-1", "NaN", "1.5", "1e30", "1e999", "Infinity", "null", "true", "[]", "99999999999999999999999"] {
        let line = format!(r#"{{"type":"report","seq":0,"uptime_ms":1,"visible_bytes":{value},"available_bytes":0}}"#);
        assert!(matches!(decode_one(&line), Err(ProtocolError::Malformed(_))), "{value}");
    }
}

#[test]
fn each_broken_rule_is_named() {
    type Change = fn(&mut Report);
    let cases: [(Change, &str); 6] = [
        (
            |r| r.visible_bytes = Bytes::new(MAX_SIZE.get() + 1),
            "visible_bytes is 1125899906842625B, which is more than",
        ),
        (|r| r.committed_bytes = Some(Bytes::MAX), "committed_bytes"),
        (
            |r| r.available_bytes = Bytes::from_mib(257),
            "available_bytes is 257MiB, more than visible_bytes, which is 256",
        ),
        (|r| r.swap_used_bytes = Bytes::from_mib(101), "swap_used_bytes is 101MiB, more than swap_total_bytes"),
        (|r| r.stall_hundredths = 10_001, "stall_hundredths is 10001, out of range: 0 to 10000"),
        (
            |r| *r = Report { reason: Reason::Periodic, ..Report::default() },
            "visible_bytes is 0: a running guest has memory",
        ),
    ];
    for (change, sentence) in cases {
        let mut claim = report();
        change(&mut claim);
        // Our own side refuses to send it, and a liar's line is refused too.
        let message = GuestMessage::Report(claim);
        assert!(encode(&message).expect_err(sentence).to_string().contains(sentence));
        let line = serde_json::to_string(&message).expect("serialisable");
        assert!(decode_one(&line).expect_err(sentence).to_string().contains(sentence), "{line}");
    }
}

#[test]
fn a_text_that_a_terminal_would_obey_is_refused() {
    for text in ["\u{1b}[2J".to_owned(), "a\nb".to_owned(), "x".repeat(129)] {
        let error = encode(&GuestMessage::Hello(Hello::new("0.1.0", text))).expect_err("unfit");
        assert_eq!(error, ProtocolError::UnfitText("kernel"));
    }
}

#[test]
fn a_line_of_exactly_the_limit_fits_and_one_byte_more_does_not() {
    let base = r#"{"type":"song","x":""}"#.len() + 1;
    let line =
        |spare: usize| format!("{{\"type\":\"song\",\"x\":\"{}\"}}\n", "y".repeat(MAX_LINE_BYTES - base + spare));
    let mut decoder = LineDecoder::new();
    assert_eq!(line(0).len(), MAX_LINE_BYTES);
    assert_eq!(decode_all(&mut decoder, line(0).as_bytes()), [Ok(GuestMessage::Unknown)]);
    assert_eq!(decode_all::<GuestMessage>(&mut decoder, line(1).as_bytes()), [Err(ProtocolError::TooLong)]);
}

#[test]
fn after_an_oversized_line_and_a_garbage_line_the_next_one_is_read() {
    let mut stream = vec![b'x'; 3 * MAX_LINE_BYTES];
    stream.extend_from_slice(b"\n\x00\xff{]\n\r\n\n{\"type\":\"song\"}\r\n");
    let mut decoder = LineDecoder::new();
    let outcomes = decode_all::<GuestMessage>(&mut decoder, &stream);
    assert!(
        matches!(
            &outcomes[..],
            [Err(ProtocolError::TooLong), Err(ProtocolError::Malformed(_)), Ok(GuestMessage::Unknown)]
        ),
        "{outcomes:?}"
    );
    assert_eq!((decoder.discarded_lines(), decoder.discarded_bytes()), (2, 3 * MAX_LINE_BYTES as u64 + 4));
}

#[test]
fn a_new_connection_forgets_the_old_ones_unfinished_line() {
    let mut decoder = LineDecoder::new();
    assert!(decode_all::<GuestMessage>(&mut decoder, b"{\"type\":\"so").is_empty());
    decoder.reset();
    assert_eq!(decode_all(&mut decoder, b"{\"type\":\"song\"}\n"), [Ok(GuestMessage::Unknown)]);
    assert_eq!(decoder.discarded_lines(), 1);
}

fn any_size() -> impl Strategy<Value = Bytes> {
    (0..=MAX_SIZE.get()).prop_map(Bytes::new)
}

prop_compose! {
    fn any_report()(
        (seq, uptime_ms, psi_available) in any::<(u64, u64, bool)>(),
        stall_hundredths in 0..=10_000_u32,
        visible in 1..=MAX_SIZE.get(),
        parts in any::<[u64; 3]>(),
        (committed_bytes, reserved_bytes, ballooned_bytes) in proptest::option::of(any_size())
            .prop_flat_map(|size| (Just(size), proptest::option::of(any_size()), proptest::option::of(any_size()))),
        (swap_total_bytes, swap_in_bytes_per_s, refault_bytes_per_s) in (any_size(), any_size(), any_size()),
        reason in prop_oneof![Just(Reason::Periodic), Just(Reason::Change), Just(Reason::Pressure)],
    ) -> Report {
        let [available_bytes, free_bytes, hot_file_bytes] = parts.map(|part| Bytes::new(part % (visible + 1)));
        Report {
            seq, uptime_ms, visible_bytes: Bytes::new(visible), available_bytes, free_bytes, committed_bytes,
            hot_file_bytes, reserved_bytes, ballooned_bytes, swap_total_bytes,
            swap_used_bytes: swap_total_bytes.scale(1, 3), swap_in_bytes_per_s, refault_bytes_per_s,
            stall_hundredths, psi_available, reason,
        }
    }
}

fn any_guest_message() -> impl Strategy<Value = GuestMessage> {
    prop_oneof![
        any_report().prop_map(GuestMessage::Report),
        (any::<u32>(), "[ -~]{0,128}", "[ -~]{0,128}").prop_map(|(protocol, agent_version, kernel)| {
            GuestMessage::Hello(Hello { protocol, agent_version, kernel })
        }),
    ]
}

fn any_host_message() -> impl Strategy<Value = HostMessage> {
    prop_oneof![
        any::<(u32, u32)>()
            .prop_map(|(protocol, heartbeat_ms)| HostMessage::Welcome(Welcome { protocol, heartbeat_ms })),
        proptest::collection::vec(any_size(), 5).prop_map(|sizes| {
            HostMessage::Assigned(Assigned {
                assigned_bytes: sizes[0],
                demand_bytes: sizes[1],
                target_bytes: sizes[2],
                minimum_bytes: sizes[3],
                maximum_bytes: sizes[4],
            })
        }),
    ]
}

/// Feeds `stream` in pieces of the given sizes, over and over.
fn decode_in_pieces(stream: &[u8], sizes: &[usize]) -> Vec<Result<GuestMessage, ProtocolError>> {
    let (mut decoder, mut outcomes, mut rest) = (LineDecoder::new(), Vec::new(), stream);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, tail) = rest.split_at((*size).min(rest.len()));
        outcomes.extend(decode_all(&mut decoder, piece));
        rest = tail;
    }
    outcomes
}

proptest! {
    #[test]
    fn what_the_guest_sends_is_what_the_host_reads(message in any_guest_message()) {
        let line = encode(&message).expect("believable");
        prop_assert_eq!(decode_all(&mut LineDecoder::new(), &line), [Ok(message)]);
    }

    #[test]
    fn what_the_host_sends_is_what_the_guest_reads(message in any_host_message()) {
        let line = encode(&message).expect("believable");
        prop_assert_eq!(decode_all(&mut LineDecoder::new(), &line), [Ok(message)]);
    }

    #[test]
    fn random_bytes_never_panic_and_never_hide_the_next_line(
        garbage in proptest::collection::vec(any::<u8>(), 0..6000),
        message in any_guest_message(),
    ) {
        let mut decoder = LineDecoder::new();
        decode_all::<GuestMessage>(&mut decoder, &garbage);
        decode_all::<GuestMessage>(&mut decoder, b"\n");
        prop_assert_eq!(decode_all(&mut decoder, &encode(&message).expect("believable")), [Ok(message)]);
    }

    #[test]
    fn it_does_not_matter_where_a_stream_is_cut(
        parts in proptest::collection::vec(
            prop_oneof![
                4 => any_guest_message().prop_map(|message| encode(&message).expect("believable")),
                1 => proptest::collection::vec(any::<u8>(), 0..500),
                1 => (4000..9000_usize).prop_map(|length| vec![b'x'; length]),
            ],
            0..8,
        ),
        sizes in proptest::collection::vec(1..700_usize, 1..6),
    ) {
        let stream = parts.concat();
        prop_assert_eq!(decode_in_pieces(&stream, &sizes), decode_all(&mut LineDecoder::new(), &stream));
    }
}
