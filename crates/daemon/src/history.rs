//! The history: a thread that owns it, because SQLite waits for the disk.
//!
//! ```text
//!  Snapshot (watch) ──each second──▶ queue ──▶ Keeper ──each minute──▶ store::History
//!  GETs ──Question─────────────────▶ (bounded)   └──Series──▶ GETs
//! ```
//! The supervisor knows nothing of it. A queue that is full loses a second,
//! and that is counted and told; a disk that takes nothing loses what is older
//! than some minutes; a history that is damaged is moved aside. None of it
//! stops anything else.

mod keeper;
mod sample;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use dynmem_api::{HistoryQuery, Problem};
use dynmem_store::history::{Series, Subject};
use tokio::{
    sync::{oneshot, watch},
    time::{MissedTickBehavior, interval},
};

use crate::{
    advice::Advice,
    clock::unix_ms,
    log::Log,
    supervisor::{Snapshot, shutting_down},
};
use keeper::Keeper;
pub(crate) use sample::{host_history, vm_history};

/// Messages under way to the thread. Each may hold a snapshot of its own, so
/// there are few.
const MESSAGES_MAX: usize = 16;
/// From one sample to the next.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

enum Message {
    /// What there was at a second, and how many seconds before it found no
    /// place.
    Look {
        at_unix_s: u64,
        snapshot: Arc<Snapshot>,
        lost: u64,
    },
    Question(Question, oneshot::Sender<Result<Series, Problem>>),
}

/// Which part of the history is wanted. The span has been checked.
struct Question {
    subject: Subject,
    span: (u64, u64),
    step_seconds: Option<u64>,
}

/// Asks for parts of the history.
#[derive(Clone, Debug)]
pub(crate) struct HistoryReader {
    thread: SyncSender<Message>,
}

/// Starts the thread for the history at `path`; what follows from it is advised
/// on `advice`. It ends when
/// nobody is left who could sample or ask, and all is written.
pub(crate) fn start(
    path: PathBuf,
    log: Log,
    advice: watch::Sender<Arc<Advice>>,
) -> std::io::Result<(HistoryReader, JoinHandle<()>)> {
    let (thread, messages) = sync_channel(MESSAGES_MAX);
    let handle = thread::Builder::new()
        .name("history".to_owned())
        .spawn(move || keep(Keeper::new(path, log, advice), &messages))?;
    Ok((HistoryReader { thread }, handle))
}

fn keep(mut keeper: Keeper, messages: &Receiver<Message>) {
    while let Ok(message) = messages.recv() {
        match message {
            Message::Look { at_unix_s, snapshot, lost } => keeper.look(at_unix_s, &snapshot, lost),
            Message::Question(Question { subject, span, step_seconds }, reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(
                    keeper.series(&subject, span, step_seconds).map_err(|error| Problem::new(500, error.to_string())),
                );
            }
        }
    }
    keeper.flush();
}

/// Samples once a second for as long as there is a supervisor.
pub(crate) async fn watch(mut snapshots: watch::Receiver<Arc<Snapshot>>, history: HistoryReader) {
    if snapshots.changed().await.is_err() {
        return; // what is there before the first has no VMs: they would be taken for deleted
    }
    let mut beat = interval(SAMPLE_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut lost = 0;
    loop {
        beat.tick().await;
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        match history.thread.try_send(Message::Look { at_unix_s: unix_ms() / 1000, snapshot, lost }) {
            Ok(()) => lost = 0,
            Err(TrySendError::Full(_)) => lost += 1,
            Err(TrySendError::Disconnected(_)) => return,
        }
    }
}

impl HistoryReader {
    /// The points of a subject, as `query` wants them, and the span that they
    /// are of.
    pub(crate) async fn ask(&self, subject: Subject, query: &HistoryQuery) -> Result<((u64, u64), Series), Problem> {
        let span = query.checked_span(unix_ms() / 1000).map_err(|rule| Problem::new(400, rule))?;
        let (reply, outcome) = oneshot::channel();
        let question = Question { subject, span, step_seconds: query.step };
        self.thread.try_send(Message::Question(question, reply)).map_err(|error| match error {
            TrySendError::Full(_) => Problem::new(503, "The history is busy: try again"),
            TrySendError::Disconnected(_) => shutting_down(),
        })?;
        Ok((span, outcome.await.unwrap_or_else(|_| Err(shutting_down()))?))
    }
}
