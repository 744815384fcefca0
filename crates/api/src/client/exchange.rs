//! One request, one bounded answer within a deadline.

use std::{io, path::Path, pin::Pin, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::{Bytes as Chunk, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    time,
};

use super::{Client, ClientError, MAX_RESPONSE_BYTES, Place};
use crate::{Problem, SettingsTag};

/// Bytes that go both ways.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// The bytes to and from a daemon.
type Stream = TokioIo<Box<dyn Duplex>>;
/// What moves them.
pub(super) type Wire = http1::Connection<Stream, Full<Chunk>>;
/// An answer that goes on.
type Opened = (http1::SendRequest<Full<Chunk>>, Pin<Box<Wire>>, Incoming);

/// What is asked.
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) path: String,
    /// JSON.
    pub(super) body: Vec<u8>,
    /// Only if the settings are still these.
    pub(super) if_match: Option<SettingsTag>,
    pub(super) patience: Duration,
}

impl Question {
    pub(super) fn new(method: Method, path: impl Into<String>, patience: Duration) -> Self {
        Self { method, path: path.into(), body: Vec::new(), if_match: None, patience }
    }

    pub(super) fn with(self, body: &impl Serialize) -> Self {
        Self { body: serde_json::to_vec(body).expect("requests are plain data"), ..self }
    }

    /// For the daemon at `place`.
    fn request(self, place: &Place) -> Result<Request<Full<Chunk>>, hyper::http::Error> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(header::HOST, place.authority())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = place.authorization() {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some(tag) = self.if_match {
            request = request.header(header::IF_MATCH, tag.to_string());
        }
        request.body(Full::from(self.body))
    }
}

/// What was answered: a success.
pub(super) struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Chunk,
}

impl Client {
    /// The answer's value.
    pub(super) async fn ask<T: DeserializeOwned>(&self, question: Question) -> Result<T, ClientError> {
        self.value(&self.exchange(question).await?)
    }

    /// The answer's value, and the tag of the settings in it.
    pub(super) async fn ask_tagged<T: DeserializeOwned>(
        &self,
        question: Question,
    ) -> Result<(T, SettingsTag), ClientError> {
        let answer = self.exchange(question).await?;
        let tag = answer.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
        let tag = tag.and_then(SettingsTag::from_header);
        let tag = tag.ok_or_else(|| self.garbage(answer.status.as_u16(), "it has no ETag".to_owned()))?;
        Ok((self.value(&answer)?, tag))
    }

    fn value<T: DeserializeOwned>(&self, answer: &Answered) -> Result<T, ClientError> {
        serde_json::from_slice(&answer.body).map_err(|error| self.garbage(answer.status.as_u16(), error.to_string()))
    }

    /// The answer, if it is a success; the daemon's problem or our surprise
    /// otherwise.
    pub(super) async fn exchange(&self, question: Question) -> Result<Answered, ClientError> {
        let patience = question.patience;
        let request = question.request(&self.place).map_err(|error| self.broken(error))?;
        let answer = time::timeout(patience, self.send(request)).await.map_err(|_| self.timed_out(patience))??;
        if answer.status.is_success() { Ok(answer) } else { Err(self.refused(&answer)) }
    }

    async fn send(&self, request: Request<Full<Chunk>>) -> Result<Answered, ClientError> {
        let (mut sender, connection) = self.connect().await?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
            let (status, headers) = (response.status(), response.headers().clone());
            Ok(Answered { status, headers, body: self.read(response.into_body()).await? })
        };
        // The connection moves the bytes; it may end before the answer is
        // read to its end, but never answers by itself.
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }

    /// A success whose body goes on, and the connection that brings it.
    pub(super) async fn open(&self, question: Question) -> Result<Opened, ClientError> {
        let patience = question.patience;
        let request = question.request(&self.place).map_err(|error| self.broken(error))?;
        let opened = async {
            let (mut sender, connection) = self.connect().await?;
            let mut connection = Box::pin(connection);
            let head = sender.send_request(request);
            tokio::pin!(head);
            let response = tokio::select! {
                biased;
                response = &mut head => response,
                _ = &mut connection => head.await,
            }
            .map_err(|error| self.broken(error))?;
            if response.status().is_success() {
                return Ok((sender, connection, response.into_body()));
            }
            let (status, headers) = (response.status(), response.headers().clone());
            let body = tokio::select! {
                biased;
                body = self.read(response.into_body()) => body?,
                _ = connection => Chunk::new(),
            };
            Err(self.refused(&Answered { status, headers, body }))
        };
        time::timeout(patience, opened).await.map_err(|_| self.timed_out(patience))?
    }

    async fn connect(&self) -> Result<(http1::SendRequest<Full<Chunk>>, Wire), ClientError> {
        let stream: Box<dyn Duplex> = match &self.place {
            Place::Socket(socket) => {
                Box::new(UnixStream::connect(socket).await.map_err(|error| unreachable(socket, error))?)
            }
            #[cfg(feature = "tls")]
            Place::Remote(remote) => Box::new(remote.connect().await?),
        };
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))
    }

    fn refused(&self, answer: &Answered) -> ClientError {
        match serde_json::from_slice::<Problem>(&answer.body) {
            Ok(problem) => ClientError::Refused(problem),
            Err(_) => self.garbage(answer.status.as_u16(), "an error without a reason".to_owned()),
        }
    }

    async fn read(&self, body: Incoming) -> Result<Chunk, ClientError> {
        match Limited::new(body, MAX_RESPONSE_BYTES).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(self.too_large()),
            Err(error) => Err(self.broken(error)),
        }
    }

    pub(super) fn timed_out(&self, patience: Duration) -> ClientError {
        ClientError::TimedOut { at: self.place.to_string(), seconds: patience.as_secs() }
    }

    pub(super) fn too_large(&self) -> ClientError {
        ClientError::TooLarge { at: self.place.to_string() }
    }

    pub(super) fn garbage(&self, status: u16, reason: String) -> ClientError {
        ClientError::Garbage { at: self.place.to_string(), status, reason }
    }

    pub(super) fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Broken { at: self.place.to_string(), source: source.into() }
    }
}

fn unreachable(socket: &Path, source: io::Error) -> ClientError {
    let socket = socket.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning { socket },
        io::ErrorKind::PermissionDenied => ClientError::PermissionDenied { socket },
        _ => ClientError::Connect { at: socket.display().to_string(), source },
    }
}
