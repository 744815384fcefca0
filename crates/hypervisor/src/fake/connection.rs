//! Sockets of an imitated machine: bytes between peers and the machine's task.

use std::{io, path::Path};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::JoinSet,
};

use super::machine::Message;

/// Chunks that may wait for a peer to read them before more are dropped.
const OUTGOING_MAX: usize = 256;
const READ_BYTES: usize = 16 << 10;

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
    let (mut reader, mut writer) = stream.split();
    let mut chunk = vec![0; READ_BYTES];
    loop {
        tokio::select! {
            count = reader.read(&mut chunk) => match count {
                Ok(count @ 1..) => {
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
