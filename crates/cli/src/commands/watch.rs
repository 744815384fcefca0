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
use dynmem_api::{
    Client, ClientError, HostView, LIVE_INTERVAL_MAX_MS, LIVE_INTERVAL_MIN_MS, LiveQuery, LiveState, LiveStream, VmView,
};
use dynmem_definition::NamePattern;
use tokio::time::{self, Interval, MissedTickBehavior};

use super::{events::Patience, interrupt::Interrupt, select::select};
use crate::{
    args::WatchArgs,
    render::{Frame, Output, Show, now_unix_ms},
};

pub(super) async fn run(args: &WatchArgs, client: &Client, output: &mut Output) -> Result<()> {
    output.refuse_endless_csv()?;
    let mut source = Source::new(args, client);
    let mut frame = source.first(&args.names).await?; // no daemon, no screen
    let mut interrupt = Interrupt::new()?;
    let mut screen = Screen::open(output)?;
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
        tokio::select! {
            () = interrupt.asked() => break Ok(()),
            next = source.next(&args.names, &mut ticks) => match next {
                Ok(next) => frame = next,
                Err(error) => break Err(error),
            },
        }
    };
    screen.close(&frame, output)?;
    ended
}

/// Where moments come from.
struct Source<'a> {
    client: &'a Client,
    query: LiveQuery,
    /// What the daemon tells by itself; none while it is away.
    live: Option<(LiveStream, LiveState)>,
    /// It tells nothing by itself, and is asked again and again.
    asked: bool,
    patience: Patience,
}

impl<'a> Source<'a> {
    fn new(args: &WatchArgs, client: &'a Client) -> Self {
        let interval_ms = u32::try_from(args.interval.as_millis()).unwrap_or(LIVE_INTERVAL_MAX_MS);
        let interval_ms = Some(interval_ms.clamp(LIVE_INTERVAL_MIN_MS, LIVE_INTERVAL_MAX_MS));
        Self { client, query: LiveQuery { interval_ms }, live: None, asked: false, patience: Patience::default() }
    }

    /// The first moment; a name that means nothing is an error here.
    async fn first(&mut self, names: &[NamePattern]) -> Result<Frame> {
        self.listen().await?;
        if let Some((_, state)) = &self.live {
            select(state.vms.values().cloned().collect(), names)?;
            return Ok(frame(state.host.clone(), state.vms.values().cloned(), names));
        }
        let host = self.client.host().await?;
        let vms = select(self.client.vms().await?, names)?;
        Ok(Frame { time_unix_ms: now_unix_ms(), host, vms })
    }

    /// The moment of the next tick, with patience for a daemon that restarts
    /// and for VMs that were deleted meanwhile.
    async fn next(&mut self, names: &[NamePattern], ticks: &mut Interval) -> Result<Frame> {
        loop {
            let Some((stream, state)) = &mut self.live else {
                ticks.tick().await;
                if self.asked {
                    let Some(host) = self.patience.judge(self.client.host().await)? else { continue };
                    let Some(vms) = self.patience.judge(self.client.vms().await)? else { continue };
                    return Ok(frame(host, vms.into_iter(), names));
                }
                let listening = self.listen().await;
                self.patience.judge(listening)?;
                continue;
            };
            tokio::select! {
                biased;
                told = stream.next() => match told {
                    Ok(Some(told)) => state.apply(told),
                    Ok(None) | Err(_) => self.live = None, // it restarts, and is waited for
                },
                _ = ticks.tick() => return Ok(frame(state.host.clone(), state.vms.values().cloned(), names)),
            }
        }
    }

    /// Lets the daemon tell by itself; one that is too old for that, or tells
    /// too many others already, is asked.
    async fn listen(&mut self) -> Result<(), ClientError> {
        let mut state = LiveState::default();
        match self.client.live(self.query).await {
            Ok(mut stream) => match stream.next().await {
                Ok(Some(told)) => {
                    state.apply(told);
                    self.live = Some((stream, state));
                }
                Ok(None) | Err(_) => self.asked = true,
            },
            Err(ClientError::Refused(problem)) if [404, 503].contains(&problem.status) => self.asked = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn frame(host: HostView, vms: impl Iterator<Item = VmView>, names: &[NamePattern]) -> Frame {
    let watched = |vm: &VmView| names.is_empty() || names.iter().any(|name| name.matches(&vm.name));
    let mut vms: Vec<_> = vms.filter(watched).collect();
    vms.sort_by(|one, other| one.name.cmp(&other.name));
    Frame { time_unix_ms: now_unix_ms(), host, vms }
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
            return if output.is_text() { output.raw("\n") } else { Ok(()) };
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
