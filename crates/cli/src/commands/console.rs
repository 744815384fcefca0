//! `dynmem vm console`: a person's terminal on a guest's serial line.
//!
//! ```text
//! keys ──▶ thread (reads block) ──▶ bounded channel ──▶ console.sock
//! screen ◀───────────────────────────────────────────── console.sock
//! ```
//! The terminal is raw meanwhile, so that every key but Ctrl-] is the guest's;
//! [`Raw`] puts it back however this ends.

use std::{
    io::{self, IsTerminal, Read, Write},
    path::Path,
    thread,
};

use anyhow::{Context, Result, bail};
use dynmem_api::Client;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
};

use super::{interrupt::Interrupt, select::one};
use crate::render::Output;

/// Ctrl-], as telnet has it.
const ESCAPE: u8 = 0x1d;
/// Pieces of input on their way, at most 4 KiB each.
const QUEUE: usize = 16;
/// Keys that a guest has not read yet; what is typed beyond is lost, as on a
/// real line.
const PENDING_BYTES_MAX: usize = 64 << 10;

pub(super) async fn run(name: &str, client: &Client, output: &mut Output) -> Result<()> {
    if client.socket().is_none() {
        bail!("The console of {name} is a socket on the daemon's machine: run `dynmem vm console {name}` there");
    }
    let vm = one(client.vms().await?, name)?;
    let Some(path) = vm.console_path.as_deref() else {
        bail!("VM {:?} is {}: it has a console only while it is on", vm.name, vm.state);
    };
    let console = connect(path).await?;
    let terminal = io::stdin().is_terminal();
    if terminal {
        let _ = writeln!(io::stderr(), "Connected to {}. Ctrl-] leaves; Enter may wake a prompt.", vm.name);
    }
    let interrupt = Interrupt::new()?; // first, so that no signal finds the terminal raw and ends us
    let raw = if terminal { Some(Raw::new()?) } else { None };
    let ended = exchange(console, terminal, interrupt, output).await;
    drop(raw);
    if terminal {
        let _ = writeln!(io::stderr(), "\nLeft the console of {}", vm.name);
    }
    ended
}

async fn connect(path: &Path) -> Result<UnixStream> {
    UnixStream::connect(path).await.with_context(|| match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            format!("Permission to use {} was denied: be in the group dynmem, or be root", path.display())
        }
        _ => format!("Could not connect to the console at {}", path.display()),
    })
}

/// Carries bytes both ways until the console closes, the person leaves, or a
/// signal ends us.
async fn exchange(
    mut console: UnixStream,
    terminal: bool,
    mut interrupt: Interrupt,
    output: &mut Output,
) -> Result<()> {
    let mut keys = keys();
    let mut typing = true;
    let (mut from_guest, mut to_guest) = console.split();
    let mut said = [0; 4096];
    let mut pending = Vec::new();
    loop {
        // A guest that does not read must not keep a person from leaving.
        let listen = typing && (terminal || pending.is_empty());
        tokio::select! {
            () = interrupt.asked() => return Ok(()),
            read = from_guest.read(&mut said) => match read.context("The console broke")? {
                0 => return Ok(()),
                count => output.bytes(&said[..count])?,
            },
            written = to_guest.write(&pending), if !pending.is_empty() => {
                pending.drain(..written.context("The console broke")?);
            }
            piece = keys.recv(), if listen => match piece {
                Some(piece) if terminal && piece.contains(&ESCAPE) => return Ok(()),
                Some(piece) => {
                    pending.extend_from_slice(&piece);
                    pending.truncate(PENDING_BYTES_MAX);
                }
                None if terminal => return Ok(()), // the terminal is gone
                None => typing = false, // the input is over; the guest may have more to say
            },
        }
    }
}

/// Standard input, piece by piece. A thread of its own reads, because reading
/// a terminal can only block; it ends with the process.
fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = io::stdin().lock().read(&mut piece) {
            if sender.blocking_send(piece[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A raw terminal, until it is dropped.
struct Raw {
    before: Termios,
}

impl Raw {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // If it fails, the terminal is gone, and there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
