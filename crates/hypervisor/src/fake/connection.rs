//! Sockets of an imitated machine: bytes between peers and the machine's task.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::Path,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::JoinSet,
};

use super::machine::Message;

/// Chunks that may wait for a peer to read them before more are dropped.
const OUTGOING_MAX: usize = 256;
const READ_BYTES: usize = 16 << 10;
/// Files that may come with one chunk.
const FILES_MAX: usize = 4;

/// What is spoken on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Qmp,
    Monitor,
    Agent,
}

/// One connected peer, as the machine's task sees it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: u64,
    pub(super) port: Port,
    outgoing: mpsc::Sender<Vec<u8>>,
}

impl Peer {
    /// Sends if there is room: a peer that does not read must not stop the
    /// machine. False if it is gone or stuck.
    pub(super) fn send(&self, bytes: Vec<u8>) -> bool {
        self.outgoing.try_send(bytes).is_ok()
    }
}

/// Listens on `path`, for as long as the task that it returns lives.
pub(super) fn listen(tasks: &mut JoinSet<()>, path: &Path, port: Port, inbox: mpsc::Sender<Message>) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        for nth in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            let id = nth * 3 + port as u64; // unlike any on the other sockets
            connections.spawn(serve(stream, id, port, inbox.clone()));
            while connections.try_join_next().is_some() {}
        }
    });
    Ok(())
}

async fn serve(mut stream: UnixStream, id: u64, port: Port, inbox: mpsc::Sender<Message>) {
    let (outgoing, mut to_send) = mpsc::channel(OUTGOING_MAX);
    let peer = Peer { id, port, outgoing };
    if inbox.send(Message::Connected(peer)).await.is_err() {
        return;
    }
    let (reader, mut writer) = stream.split();
    let (mut chunk, mut files) = (vec![0; READ_BYTES], Vec::new());
    loop {
        tokio::select! {
            count = read(reader.as_ref(), &mut chunk, &mut files) => match count {
                Ok(count @ 1..) => {
                    if !files.is_empty() && inbox.send(Message::Files(std::mem::take(&mut files))).await.is_err() {
                        return;
                    }
                    if inbox.send(Message::Bytes(id, chunk[..count].to_vec())).await.is_err() {
                        return;
                    }
                }
                _ => break,
            },
            bytes = to_send.recv() => {
                let Some(bytes) = bytes else { break };
                if writer.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = inbox.send(Message::Disconnected(id)).await; // the machine may be gone
}

/// Reads what is there, and the files that came with it.
async fn read(stream: &UnixStream, chunk: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
        let mut with = RecvAncillaryBuffer::new(&mut space);
        let read = stream.try_io(Interest::READABLE, || {
            Ok(recvmsg(stream, &mut [IoSliceMut::new(chunk)], &mut with, RecvFlags::CMSG_CLOEXEC)?.bytes)
        });
        for message in with.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                files.extend(received);
            }
        }
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}
