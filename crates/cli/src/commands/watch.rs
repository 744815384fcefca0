//! `dynmem watch`: the host and its VMs, moment after moment.
//!
//! On a terminal the moments are drawn over each other on the alternate
//! screen, and the last one stays when it ends. Elsewhere they follow each
//! other, as text or as JSON lines.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use anyhow::Result;
use dynmem_api::Client;
use dynmem_definition::NamePattern;
use tokio::time::{self, MissedTickBehavior};

use super::{events::Patience, interrupt::Interrupt, select::select};
use crate::{
    args::WatchArgs,
    render::{Frame, Output, Show, now_unix_ms},
};

pub(super) async fn run(args: &WatchArgs, client: &Client, output: &mut Output) -> Result<()> {
    let mut frame = look(client, &args.names).await?; // no daemon, no screen
    let mut interrupt = Interrupt::new()?;
    let mut screen = Screen::open(output)?;
    let mut patience = Patience::default();
    let mut ticks = time::interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await; // the first is at once, and we have looked
    let mut left = args.count;
    let ended = loop {
        if let Err(error) = screen.draw(&frame, output) {
            break Err(error.into());
        }
        left = left.map(|count| count - 1);
        if left == Some(0) {
            break Ok(());
        }
        let next = async {
            loop {
                ticks.tick().await;
                if let Some(frame) = patient_look(client, &args.names, &mut patience).await? {
                    break Ok::<_, anyhow::Error>(frame);
                }
            }
        };
        tokio::select! {
            () = interrupt.asked() => break Ok(()),
            next = next => match next {
                Ok(next) => frame = next,
                Err(error) => break Err(error),
            },
        }
    };
    screen.close(&frame, output)?;
    ended
}

async fn look(client: &Client, names: &[NamePattern]) -> Result<Frame> {
    let host = client.host().await?;
    let vms = select(client.vms().await?, names)?;
    Ok(Frame { time_unix_ms: now_unix_ms(), host, vms })
}

/// Looks, with patience for a daemon that restarts and for VMs that were
/// deleted meanwhile.
async fn patient_look(client: &Client, names: &[NamePattern], patience: &mut Patience) -> Result<Option<Frame>> {
    let Some(host) = patience.judge(client.host().await)? else { return Ok(None) };
    let Some(mut vms) = patience.judge(client.vms().await)? else { return Ok(None) };
    vms.retain(|vm| names.is_empty() || names.iter().any(|name| name.matches(&vm.name)));
    Ok(Some(Frame { time_unix_ms: now_unix_ms(), host, vms: select(vms, &[])? }))
}

/// The alternate screen of a terminal, or the plain stream of anything else.
struct Screen {
    live: bool,
}

const OPEN: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l"; // alternate screen, no cursor, no wrapping
const CLOSE: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";

impl Screen {
    fn open(output: &mut Output) -> io::Result<Self> {
        let screen = Self { live: output.is_live() };
        if screen.live {
            output.raw(OPEN)?;
        }
        Ok(screen)
    }

    fn draw(&mut self, frame: &Frame, output: &mut Output) -> io::Result<()> {
        if !self.live {
            output.show_next(frame)?;
            return if output.is_json() { Ok(()) } else { output.raw("\n") };
        }
        let rows = output.screen().map_or(24, |(_, rows)| rows);
        output.raw(&redraw(&frame.text(&output.style()), rows))
    }

    /// Gives the terminal back, with the last moment on it.
    fn close(mut self, frame: &Frame, output: &mut Output) -> io::Result<()> {
        if !self.live {
            return Ok(());
        }
        self.live = false;
        output.raw(CLOSE)?;
        output.line(&frame.text(&output.style()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.live {
            let _ = io::stdout().write_all(CLOSE.as_bytes()).and_then(|()| io::stdout().flush());
        }
    }
}

/// What draws `text` over the last moment, on so many rows. The last row is
/// the cursor's.
fn redraw(text: &str, rows: usize) -> String {
    let mut lines: Vec<Cow<str>> = text.lines().map(Cow::Borrowed).collect();
    let room = rows.saturating_sub(1).max(1);
    if lines.len() > room {
        let more = lines.len() - (room - 1);
        lines.truncate(room - 1);
        lines.push(Cow::Owned(format!("… and {more} more")));
    }
    let drawn: String = lines.iter().flat_map(|line| [line, "\u{1b}[K\r\n"]).collect();
    format!("\u{1b}[H{drawn}\u{1b}[J")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_the_screen_is_counted() {
        assert_eq!(redraw("a\nb", 24), "\u{1b}[Ha\u{1b}[K\r\nb\u{1b}[K\r\n\u{1b}[J");
        let drawn = redraw("a\nb\nc\nd", 4);
        assert!(drawn.contains("b\u{1b}[K\r\n… and 2 more"), "{drawn:?}");
        assert!(!drawn.contains('c'));
        redraw("a\nb", 0);
    }
}
