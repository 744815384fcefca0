//! Lines out of chunks: [`LineDecoder`], and its counterpart [`encode`].

use crate::{MAX_LINE_BYTES, Message, ProtocolError};

/// Characters of a parser's complaint that are kept.
const MAX_COMPLAINT_CHARS: usize = 160;

/// One line, its newline included.
///
/// Refuses what the other side would refuse: a value that breaks its own
/// rules, a message that does not fit.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, ProtocolError> {
    message.check()?;
    let mut line = serde_json::to_vec(message).map_err(|error| malformed(&error))?;
    line.push(b'\n');
    if line.len() > MAX_LINE_BYTES { Err(ProtocolError::TooLong) } else { Ok(line) }
}

/// Turns a stream of chunks, cut anywhere, into messages.
///
/// It holds at most one line. A line that is too long or not a message is one
/// error, counted, and the next line is read as if nothing had happened.
#[derive(Debug, Default)]
pub struct LineDecoder {
    line: Vec<u8>,
    skipping: bool,
    discarded_lines: u64,
    discarded_bytes: u64,
}

impl LineDecoder {
    /// A decoder at the beginning of a line.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next message or fault in `chunk`, which moves past what was read.
    /// `None` when the chunk is used up; call again with the next one. Empty
    /// lines are no messages: a sender may start with one to end whatever its
    /// predecessor left unfinished.
    pub fn next<M: Message>(&mut self, chunk: &mut &[u8]) -> Option<Result<M, ProtocolError>> {
        while !chunk.is_empty() {
            let newline = chunk.iter().position(|byte| *byte == b'\n');
            let (piece, rest) = match newline {
                Some(at) => (&chunk[..at], &chunk[at + 1..]),
                None => (*chunk, &[][..]),
            };
            *chunk = rest;
            let complete = newline.is_some();
            if let Some(outcome) = self.take(piece, complete) {
                return Some(outcome);
            }
        }
        None
    }

    /// Forgets an unfinished line: for a new connection.
    pub fn reset(&mut self) {
        if !self.line.is_empty() {
            self.discarded_lines += 1;
            self.discarded_bytes += self.line.len() as u64;
        }
        self.line.clear();
        self.skipping = false;
    }

    /// How many lines were thrown away so far.
    pub fn discarded_lines(&self) -> u64 {
        self.discarded_lines
    }

    /// How many bytes these lines had.
    pub fn discarded_bytes(&self) -> u64 {
        self.discarded_bytes
    }

    /// Takes a piece without a newline; `complete` if a newline followed it.
    fn take<M: Message>(&mut self, piece: &[u8], complete: bool) -> Option<Result<M, ProtocolError>> {
        if self.skipping {
            self.discarded_bytes += piece.len() as u64;
            self.skipping = !complete;
            return None;
        }
        if self.line.len() + piece.len() >= MAX_LINE_BYTES {
            self.discarded_lines += 1;
            self.discarded_bytes += (self.line.len() + piece.len()) as u64;
            self.line.clear();
            self.skipping = !complete;
            return Some(Err(ProtocolError::TooLong));
        }
        self.line.extend_from_slice(piece);
        if !complete {
            return None;
        }
        let outcome = self.parse();
        if matches!(outcome, Some(Err(_))) {
            self.discarded_lines += 1;
            self.discarded_bytes += self.line.len() as u64;
        }
        self.line.clear();
        outcome
    }

    fn parse<M: Message>(&self) -> Option<Result<M, ProtocolError>> {
        if self.line.trim_ascii().is_empty() {
            return None;
        }
        let message = serde_json::from_slice::<M>(&self.line).map_err(|error| malformed(&error));
        Some(message.and_then(|message| message.check().map(|()| message)))
    }
}

/// The parser's complaint may quote what the other side sent: keep it short
/// and printable.
fn malformed(error: &serde_json::Error) -> ProtocolError {
    let complaint: String = error
        .to_string()
        .chars()
        .take(MAX_COMPLAINT_CHARS)
        .map(|character| if character.is_control() { '?' } else { character })
        .collect();
    ProtocolError::Malformed(complaint)
}
