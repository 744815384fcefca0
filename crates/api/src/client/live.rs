//! [`LiveStream`]: server-sent events, one after the other, each bounded.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use http_body_util::Full;
use hyper::{
    Method,
    body::{Body, Bytes as Chunk, Incoming},
    client::conn::http1::SendRequest,
};
use tokio::time;

use super::{
    Client, ClientError, MAX_RESPONSE_BYTES, QUICK,
    exchange::{Question, Wire},
};
use crate::{Live, LiveQuery};

/// A daemon that says nothing for so long is gone: it keeps streams alive every
/// 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// What `GET /v1/live` tells, as it comes.
pub struct LiveStream {
    client: Client,
    body: Incoming,
    /// Moves the bytes; none once it has ended.
    connection: Option<Pin<Box<Wire>>>,
    /// As long as this is there, the connection is kept.
    _sender: SendRequest<Full<Chunk>>,
    /// What was read and not told yet.
    buffer: Vec<u8>,
    /// No blank line is in the buffer before this.
    searched: usize,
}

impl Client {
    /// The host and all VMs as they are, and then what changes, at most every
    /// `query.interval_ms`; and events as they happen.
    pub async fn live(&self, query: LiveQuery) -> Result<LiveStream, ClientError> {
        let path = query.interval_ms.map_or_else(String::new, |interval| format!("?interval_ms={interval}"));
        let question = Question::new(Method::GET, format!("/v1/live{path}"), QUICK);
        let (sender, connection, body) = self.open(question).await?;
        let connection = Some(connection);
        Ok(LiveStream { client: self.clone(), body, connection, _sender: sender, buffer: Vec::new(), searched: 0 })
    }
}

impl LiveStream {
    /// The next one; `None` when the daemon has ended the stream.
    ///
    /// May be dropped before it is done: nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Live>, ClientError> {
        loop {
            while let Some(told) = self.take()? {
                let (name, data) = read_event(&told);
                let read = Live::read(&name, &data).map_err(|error| self.client.garbage(200, error.to_string()))?;
                if let Some(live) = read {
                    return Ok(Some(live));
                }
            }
            let more = time::timeout(SILENCE, self.more()).await;
            match more.map_err(|_| self.client.timed_out(SILENCE))?? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }

    /// The bytes of the next event, if all of it is there.
    fn take(&mut self) -> Result<Option<String>, ClientError> {
        let Some(end) = self.buffer[self.searched..].windows(2).position(|pair| pair == b"\n\n") else {
            self.searched = self.buffer.len().saturating_sub(1);
            if self.buffer.len() > MAX_RESPONSE_BYTES {
                return Err(self.client.too_large());
            }
            return Ok(None);
        };
        let rest = self.buffer.split_off(self.searched + end + 2);
        let event = std::mem::replace(&mut self.buffer, rest);
        self.searched = 0;
        String::from_utf8(event).map(Some).map_err(|error| self.client.garbage(200, error.to_string()))
    }

    async fn more(&mut self) -> Result<Option<Chunk>, ClientError> {
        let Self { body, connection, client, .. } = self;
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
                    return Poll::Ready(match frame {
                        None => Ok(None),
                        Some(Err(error)) => Err(client.broken(error)),
                        Some(Ok(frame)) => match frame.into_data() {
                            Ok(chunk) => Ok(Some(chunk)),
                            Err(_) => continue, // trailers say nothing here
                        },
                    });
                }
                match connection.as_mut().map(|connection| connection.as_mut().poll(cx)) {
                    // The body says how it ended.
                    Some(Poll::Ready(_)) => *connection = None,
                    Some(Poll::Pending) | None => return Poll::Pending,
                }
            }
        })
        .await
    }
}

/// The name and the data of an event; comments have neither.
fn read_event(text: &str) -> (String, String) {
    let (mut name, mut data) = (String::new(), Vec::new());
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => data.push(value),
            _ => {}
        }
    }
    (name, data.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_name_and_its_lines_of_data() {
        let read = |text: &str| read_event(text);
        assert_eq!(read("event: change\nid: 5\ndata: {\"a\":\ndata:1}\n\n"), ("change".into(), "{\"a\":\n1}".into()));
        assert_eq!(read(": keep-alive\n\n"), (String::new(), String::new()));
    }
}
