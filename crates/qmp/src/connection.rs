//! [`Connection`]: the task that owns the socket.

use std::{
    collections::HashMap,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, Interest},
    net::UnixStream,
    sync::{broadcast, mpsc, oneshot},
};
use tracing::debug;

use crate::{Event, Lines, Message, Outcome};

/// Bytes not yet taken by QEMU before no more requests are accepted: a QEMU
/// that does not read makes callers wait (and time out), not this task grow.
const OUTGOING_MAX: usize = 64 << 10;
const READ_BYTES: usize = 16 << 10;

/// A command on its way to QEMU.
#[derive(Debug)]
pub(crate) struct Request {
    /// The command's object, without an id.
    pub(crate) body: Value,
    /// A file that goes with it.
    pub(crate) file: Option<OwnedFd>,
    /// Where its answer goes; dropped when the connection ends.
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// The task's state.
#[derive(Debug)]
pub(crate) struct Connection {
    requests: mpsc::Receiver<Request>,
    events: broadcast::Sender<Event>,
    greeting: Option<oneshot::Sender<()>>,
    waiting: HashMap<u64, oneshot::Sender<Outcome>>,
    next_id: u64,
    outgoing: Vec<u8>,
    /// Goes with the next bytes: QEMU has it then before the command that it
    /// belongs to, which is among them or comes after.
    file: Option<OwnedFd>,
}

impl Connection {
    pub(crate) fn new(
        requests: mpsc::Receiver<Request>,
        events: broadcast::Sender<Event>,
        greeting: oneshot::Sender<()>,
    ) -> Self {
        let greeting = Some(greeting);
        Self { requests, events, greeting, waiting: HashMap::new(), next_id: 0, outgoing: Vec::new(), file: None }
    }

    /// Serves until QEMU or the last caller goes away. Whoever still waits
    /// then learns it from the dropped channels.
    pub(crate) async fn run(mut self, stream: UnixStream) {
        if let Err(error) = self.serve(stream).await {
            debug!(%error, "QMP connection failed");
        }
    }

    async fn serve(&mut self, mut stream: UnixStream) -> io::Result<()> {
        let (mut reader, writer) = stream.split();
        let mut chunk = vec![0; READ_BYTES];
        let mut lines = Lines::default();
        loop {
            tokio::select! {
                count = reader.read(&mut chunk) => {
                    let count = count?;
                    if count == 0 {
                        return Ok(());
                    }
                    let dropped = lines.dropped();
                    lines.feed(&chunk[..count], |line| self.take(line));
                    if lines.dropped() > dropped {
                        debug!("skipped a line from QEMU that is too long");
                    }
                }
                request = self.requests.recv(), if self.outgoing.len() < OUTGOING_MAX => match request {
                    Some(request) => self.send(request),
                    None => return Ok(()),
                },
                written = write(writer.as_ref(), &self.outgoing, &mut self.file), if !self.outgoing.is_empty() => {
                    self.outgoing.drain(..written?);
                }
            }
        }
    }

    fn send(&mut self, Request { mut body, file, reply }: Request) {
        if reply.is_closed() {
            return; // nobody waits for it any more
        }
        self.waiting.retain(|_, reply| !reply.is_closed());
        let id = self.next_id;
        self.next_id += 1;
        body["id"] = id.into();
        self.outgoing.extend_from_slice(body.to_string().as_bytes());
        self.outgoing.push(b'\n');
        self.waiting.insert(id, reply);
        if file.is_some() {
            self.file = file;
        }
    }

    fn take(&mut self, line: &[u8]) {
        match Message::parse(line) {
            Some(Message::Greeting) => {
                self.greeting.take().map(|greeting| greeting.send(()));
            }
            Some(Message::Event(event)) => {
                let _ = self.events.send(event); // an error says that nobody listens any more
            }
            Some(Message::Answer { id, outcome }) => {
                if let Some(reply) = self.waiting.remove(&id) {
                    let _ = reply.send(outcome); // an error says that the call has timed out
                } else {
                    debug!("skipped an answer from QEMU that nobody waits for");
                }
            }
            None => debug!(bytes = line.len(), "skipped a line from QEMU that is none of ours"),
        }
    }
}

/// Writes as much as QEMU takes now, and the file with it. May be dropped:
/// nothing has happened then.
async fn write(stream: &UnixStream, bytes: &[u8], file: &mut Option<OwnedFd>) -> io::Result<usize> {
    loop {
        stream.writable().await?;
        let written = stream.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut with = SendAncillaryBuffer::new(&mut space);
            let fds = file.as_ref().map(AsFd::as_fd);
            if let Some(fd) = &fds {
                with.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)));
            }
            Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut with, SendFlags::NOSIGNAL)?)
        });
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => {
                *file = None; // it went with the first of them, or with nothing ever
                return written;
            }
        }
    }
}
