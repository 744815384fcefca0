//! [`Screen`]: the live table on a terminal; a line per step anywhere else.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
};

use dynmem_api::{DriverView, Integration, VmState, VmView};
use dynmem_units::Bytes;
use tokio::{sync::watch, task::JoinHandle};

use super::observer::{Sample, Sighting};

/// Cells of the bar that stands for a guest's maximum.
const BAR_CELLS: u64 = 28;

/// Where the demo is shown.
#[derive(Debug)]
pub(crate) enum Screen {
    /// A terminal: a table that is drawn over and over, with a caption.
    Live { caption: watch::Sender<String>, task: JoinHandle<()> },
    /// No terminal: one line per step.
    Lines,
}

impl Screen {
    /// The screen that fits stderr.
    pub(crate) fn start(samples: watch::Receiver<Sample>, live: bool) -> Self {
        if !live || !io::stderr().is_terminal() {
            return Self::Lines;
        }
        let (caption, captions) = watch::channel(String::new());
        Self::Live { caption, task: tokio::spawn(draw(samples, captions)) }
    }

    /// Says what happens now.
    pub(crate) fn say(&self, sentence: &str) {
        match self {
            Self::Live { caption, .. } => drop(caption.send_replace(sentence.to_owned())),
            Self::Lines => eprintln!("{sentence}"),
        }
    }

    /// Leaves the last picture where it is.
    pub(crate) async fn finish(self) {
        if let Self::Live { caption, task } = self {
            drop(caption); // the last picture is drawn, and the task ends
            let _ = task.await;
        }
    }
}

/// Draws each sample over the last one until nobody tells captions any more.
async fn draw(mut samples: watch::Receiver<Sample>, mut captions: watch::Receiver<String>) {
    let mut lines_drawn = 0;
    let mut ended = false;
    while !ended {
        tokio::select! {
            changed = samples.changed() => ended = changed.is_err(),
            changed = captions.changed() => ended = changed.is_err(),
        }
        let picture = picture(&samples.borrow_and_update(), &captions.borrow_and_update());
        let mut output = String::new();
        if lines_drawn > 0 {
            let _ = write!(output, "\x1b[{lines_drawn}A"); // up to where the last one began
        }
        let columns = columns();
        for line in picture.lines() {
            let shown: String = line.chars().take(columns).collect(); // a wrapped line would count as two
            let _ = writeln!(output, "{shown}\x1b[K"); // and no rest of a longer line
        }
        lines_drawn = picture.lines().count();
        let _ = io::stderr().write_all(output.as_bytes());
    }
}

/// The terminal's width; any width where there is none.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok();
    size.filter(|size| size.ws_col > 0).map_or(usize::MAX, |size| size.ws_col.into())
}

fn picture(sample: &Sample, caption: &str) -> String {
    let mut picture = format!("\n  {caption}\n\n");
    let _ = writeln!(
        picture,
        "  {:8} {:9} {:28} {:>9} {:>9} {:>9}  status",
        "guest", "state", "█ assigned  │ demand", "assigned", "demand", "target"
    );
    for guest in &sample.guests {
        let _ = writeln!(picture, "  {}", row(guest));
    }
    let host = sample.host.as_ref().map_or_else(
        || "the daemon does not answer; guests run on".to_owned(),
        |host| {
            format!(
                "pool {} MiB: guests hold {}, QEMU itself {}, free {}",
                host.memory_bytes.mib(),
                host.assigned_bytes.mib(),
                host.overhead_bytes.mib(),
                host.available_bytes.mib()
            )
        },
    );
    let _ = writeln!(picture, "\n  {host}");
    picture
}

fn row(guest: &Sighting) -> String {
    let assigned = guest.lent.unwrap_or_default().assigned();
    let Some(view) = &guest.view else {
        return format!("{:8} {:9} {:28} {:>9}", guest.name, "?", "", mib(assigned));
    };
    format!(
        "{:8} {:9} {} {:>9} {:>9} {:>9}  {}",
        guest.name,
        view.state,
        bar(assigned, view.demand_bytes, view.settings.maximum_bytes),
        mib(assigned),
        mib(view.demand_bytes),
        mib(view.target_bytes),
        status(view)
    )
}

fn mib(bytes: Bytes) -> String {
    if bytes.is_zero() { String::new() } else { format!("{} MiB", bytes.mib()) }
}

/// Assigned as a bar on the scale of the maximum, with demand marked in it.
fn bar(assigned: Bytes, demand: Bytes, maximum: Bytes) -> String {
    let cells = |bytes: Bytes| bytes.scale(BAR_CELLS, maximum.get().max(1)).get().min(BAR_CELLS);
    let mark = cells(demand).min(BAR_CELLS - 1);
    let cell = |at| match at {
        at if at == mark && !demand.is_zero() => '│',
        at if at < cells(assigned) => '█',
        _ => '░',
    };
    (0..BAR_CELLS).map(cell).collect()
}

fn status(view: &VmView) -> String {
    if let DriverView::Frozen { reason, .. } = &view.driver {
        return reason.clone();
    }
    match (view.memory_status, view.integration, view.state) {
        (Some(status), Integration::BalloonStatistics, _) => format!("{status} (no agent)"),
        (Some(status), ..) => status.to_string(),
        (None, _, VmState::Failed) => view.state_reason.clone().unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_assigned_and_marks_demand() {
        let half = bar(Bytes::from_mib(512), Bytes::from_mib(256), Bytes::GIB);
        assert_eq!(half, "███████│██████░░░░░░░░░░░░░░");
        let beyond = bar(Bytes::GIB, Bytes::from_mib(5000), Bytes::GIB);
        assert_eq!(beyond, format!("{}│", "█".repeat(27)));
        assert_eq!(bar(Bytes::ZERO, Bytes::ZERO, Bytes::ZERO), "░".repeat(28));
    }
}
