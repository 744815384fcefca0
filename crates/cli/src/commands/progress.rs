//! [`Progress`]: while something takes its time, a person is told what goes on.
//!
//! ```text
//!  live stream ──▶ LiveState ──┐
//!  explanation of a start ─────┼──▶ one line on standard error, drawn over itself
//!  a tick each second ─────────┘
//! ```
//! Only on a terminal: a script waits in silence. What is over at once is not
//! told either.

use std::{
    future,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use dynmem_api::{Client, LiveQuery, LiveState, LiveStream, VmState};
use rustix::termios::tcgetwinsize;
use tokio::time::{self, Instant};

use crate::render::progress_line;

/// What is over sooner needs no words.
const SHORT: Duration = Duration::from_millis(700);
/// The seconds are counted this often.
const TICK: Duration = Duration::from_secs(1);
/// The daemon tells changes this far apart.
const INTERVAL_MS: u32 = 500;
const WIDTH: usize = 80; // where the terminal does not say
const CLEAR: &str = "\r\u{1b}[K";

/// The line, while somebody waits.
pub(super) struct Progress<'c> {
    client: &'c Client,
    began: Instant,
    stage: Stage,
    is_drawn: bool,
}

enum Stage {
    /// Nobody looks on, or nobody tells.
    Quiet,
    /// It may be over soon.
    Short,
    /// It is told; without a stream if that has ended.
    Told { stream: Option<Box<LiveStream>>, state: Box<LiveState> },
}

impl<'c> Progress<'c> {
    pub(super) fn new(client: &'c Client) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let stage = if io::stderr().is_terminal() && !is_dumb { Stage::Short } else { Stage::Quiet };
        Self { client, began: Instant::now(), stage, is_drawn: false }
    }

    /// Waits for the next line about the first of `pending`; for ever if there
    /// will be none.
    ///
    /// May be dropped before it is done: nothing is lost.
    pub(super) async fn next(&mut self, pending: &[String]) -> String {
        loop {
            match &mut self.stage {
                Stage::Quiet => return future::pending().await,
                Stage::Short => {
                    time::sleep_until(self.began + SHORT).await;
                    self.stage = listen(self.client).await;
                }
                Stage::Told { stream, state } => {
                    tokio::select! {
                        told = told(stream) => match told {
                            Some(told) => state.apply(told),
                            None => *stream = None,
                        },
                        () = time::sleep(TICK) => {}
                    }
                }
            }
            if let Some(line) = self.line(pending).await {
                return line;
            }
        }
    }

    async fn line(&self, pending: &[String]) -> Option<String> {
        let Stage::Told { state, .. } = &self.stage else { return None };
        let (first, others) = pending.split_first()?;
        let vm = state.vms.get(first)?;
        // Who has to give memory for it is in its explanation.
        let why = if vm.state == VmState::Starting { self.client.explain(first).await.ok() } else { None };
        let width = tcgetwinsize(io::stderr()).ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        Some(progress_line(vm, why.as_ref(), self.began.elapsed(), others.len(), width.unwrap_or(WIDTH)))
    }

    /// Draws a line over the last one.
    pub(super) fn draw(&mut self, line: &str) {
        self.is_drawn = true;
        write(&format!("{CLEAR}{line}"));
    }

    /// Takes the line away, for what is said for good.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            write(CLEAR);
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How things are, and who tells what changes; nobody if that is refused.
async fn listen(client: &Client) -> Stage {
    let Ok(mut stream) = client.live(LiveQuery { interval_ms: Some(INTERVAL_MS) }).await else { return Stage::Quiet };
    let Ok(Some(first)) = stream.next().await else { return Stage::Quiet };
    let mut state = LiveState::default();
    state.apply(first);
    Stage::Told { stream: Some(Box::new(stream)), state: Box::new(state) }
}

/// What is told next; none at the end, and then never again.
async fn told(stream: &mut Option<Box<LiveStream>>) -> Option<dynmem_api::Live> {
    match stream {
        Some(stream) => stream.next().await.ok().flatten(),
        None => future::pending().await,
    }
}

/// A terminal that is gone is no reason to end.
fn write(text: &str) {
    let mut stderr = io::stderr();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
