//! What a guest sends to the host, and the host to a guest.

use std::fmt::Debug;

use dynmem_agent_protocol::{GuestMessage, HostMessage, LineDecoder, Message, ProtocolError, encode};

use super::chunks;
use crate::assert_readable;

pub(super) fn guest(data: &[u8]) {
    run::<GuestMessage>(data);
}

pub(super) fn host(data: &[u8]) {
    run::<HostMessage>(data);
}

fn run<M: Message + PartialEq + Debug>(data: &[u8]) {
    let (whole, parts) = chunks(data);
    let mut decoder = LineDecoder::new();
    let outcomes = decode::<M>(&mut decoder, std::iter::once(whole));
    assert_eq!(outcomes, decode::<M>(&mut LineDecoder::new(), parts), "it depends on how the bytes arrive");

    let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert_eq!(decoder.discarded_lines(), refused as u64, "every refusal is counted, and nothing else");
    assert!(decoder.discarded_bytes() <= whole.len() as u64);
    for outcome in outcomes {
        match outcome {
            Ok(message) => assert_sound(&message),
            Err(error) => assert_readable(&error),
        }
    }
}

fn decode<'a, M: Message>(
    decoder: &mut LineDecoder,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> Vec<Result<M, ProtocolError>> {
    let mut outcomes = Vec::new();
    for mut chunk in chunks {
        outcomes.extend(std::iter::from_fn(|| decoder.next(&mut chunk)));
    }
    outcomes
}

/// What was accepted keeps the rules, fits in a line, and reads the same again.
fn assert_sound<M: Message + PartialEq + Debug>(message: &M) {
    assert_eq!(message.check(), Ok(()));
    let line = encode(message).expect("what was accepted can be said");
    let again = LineDecoder::new().next::<M>(&mut line.as_slice());
    assert!(matches!(again, Some(Ok(again)) if again == *message), "it reads otherwise when it is read again");
}
