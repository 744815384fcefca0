//! `dynmem top`: who holds the host's memory and who needs it, on one screen,
//! by the keyboard.
//!
//! ```text
//!  daemon ──live stream──▶ Link ──News──▶ ┐
//!  terminal ────────────────────keys────▶ ├ Top (pure) ──▶ screen::lines ──▶ terminal
//!  daemon ◀─"explain web01"──── Wish ◀─── ┘
//! ```
//! Nothing here has a source of its own: it shows what the API tells. The screen
//! is drawn when something has changed, and only the rows that are seen.

mod bars;
mod details;
mod link;
mod model;
mod screen;
#[cfg(test)]
mod tests;

use std::{
    env,
    future::pending,
    io::{self, IsTerminal as _},
    pin::pin,
    time::Duration,
};

use anyhow::Result;
use crossterm::event::{Event, EventStream, KeyEventKind};
use dynmem_api::{Client, ExplanationView};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use ratatui::{DefaultTerminal, widgets::Paragraph};
use tokio::time::{sleep, timeout};

use self::{
    link::{Link, News},
    model::{Top, Wish},
    screen::{Ink, lines},
};
use crate::usage::Usage;

/// An explanation that takes longer is not shown this time.
const PATIENCE: Duration = Duration::from_secs(2);
/// What changes within this time is drawn once.
const FRAME: Duration = Duration::from_millis(50);

/// Shows it until somebody has seen enough.
pub(crate) async fn run(client: &Client) -> Result<()> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Usage("dynmem top needs a terminal: dynmem watch writes to anything".to_owned()).into());
    }
    let daemon = Link::open(client).await?; // no daemon, no screen
    let (ours, theirs) = (env!("CARGO_PKG_VERSION"), client.version().await?.version);
    let top = Top { other_version: (theirs != ours).then_some(theirs), ..Top::default() };
    let ink = Ink { is_coloured: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) };
    let mut terminal = ratatui::try_init()?;
    let sources = Sources { link: daemon, keys: EventStream::new(), explaining: None };
    let outcome = watch(top, ink, sources, client, &mut terminal).await;
    ratatui::restore();
    outcome
}

async fn watch<'c>(
    mut top: Top,
    ink: Ink,
    mut sources: Sources<'c>,
    client: &'c Client,
    terminal: &mut DefaultTerminal,
) -> Result<()> {
    loop {
        terminal.draw(|frame| {
            let area = frame.area();
            frame.render_widget(Paragraph::new(lines(&top, ink, area.width.into(), area.height.into())), area);
        })?;
        let mut wish = take(&mut top, sources.next().await)?;
        let mut frame_ends = pin!(sleep(FRAME));
        while wish != Wish::Quit {
            if let (None, Some(name)) = (&sources.explaining, top.take_question()) {
                sources.explaining = Some(explain(client, name).boxed());
            }
            wish = tokio::select! {
                thing = sources.next() => take(&mut top, thing)?,
                () = &mut frame_ends => break,
            };
        }
        if wish == Wish::Quit {
            return Ok(());
        }
    }
}

/// What happens.
enum Thing {
    News(News),
    /// None when the terminal is gone.
    Input(Option<io::Result<Event>>),
    Explained(Option<ExplanationView>),
}

/// Where it comes from.
struct Sources<'c> {
    link: Link<'c>,
    keys: EventStream,
    explaining: Option<BoxFuture<'c, Option<ExplanationView>>>,
}

impl Sources<'_> {
    /// Whatever is first. Whoever stops waiting misses nothing.
    async fn next(&mut self) -> Thing {
        let explained = async {
            match &mut self.explaining {
                Some(explaining) => explaining.await,
                None => pending().await,
            }
        };
        let explanation = tokio::select! {
            news = self.link.next() => return Thing::News(news),
            input = self.keys.next() => return Thing::Input(input),
            explanation = explained => explanation,
        };
        self.explaining = None;
        Thing::Explained(explanation)
    }
}

fn take(top: &mut Top, thing: Thing) -> io::Result<Wish> {
    match thing {
        Thing::News(news) => top.hear(news),
        Thing::Input(Some(Ok(Event::Key(key)))) if key.kind != KeyEventKind::Release => return Ok(top.press(key)),
        Thing::Input(Some(Ok(_))) => {} // another size
        Thing::Input(Some(Err(error))) => return Err(error),
        Thing::Input(None) => return Ok(Wish::Quit),
        Thing::Explained(explanation) => top.explanation = explanation,
    }
    Ok(Wish::Nothing)
}

async fn explain(client: &Client, name: String) -> Option<ExplanationView> {
    timeout(PATIENCE, client.explain(&name)).await.ok()?.ok()
}
