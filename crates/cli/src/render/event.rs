//! Events, a line each.

use dynmem_api::EventView;
use serde::Serialize;

use super::{Show, Style, printable, time::utc};

/// Events in the order they are given.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Events<'e>(pub(crate) &'e [EventView]);

impl Show for Events<'_> {
    fn text(&self, _: &Style) -> String {
        self.0.iter().map(|event| event.text(&Style::default())).collect::<Vec<_>>().join("\n")
    }
}

impl Show for EventView {
    /// `2026-01-31 23:59:58Z  web01  start-refused  Not enough memory …`: the
    /// same columns whatever comes later, so that lines can be followed.
    fn text(&self, _: &Style) -> String {
        format!(
            "{}Z  {:<12}  {:<18}  {}",
            utc(self.time_unix_ms),
            printable(self.vm.as_deref().unwrap_or("host")),
            printable(&self.kind),
            printable(&self.message)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn an_event_is_a_line_whatever_it_says() {
        let mut event = samples::event();
        assert_eq!(
            Events(std::slice::from_ref(&event)).text(&Style::default()),
            "2026-01-01 00:00:00Z  web01         start-refused       Not enough memory"
        );
        event.vm = None;
        event.message = "Two\nlines".into();
        assert_eq!(
            event.text(&Style::default()),
            "2026-01-01 00:00:00Z  host          start-refused       Two\u{fffd}lines"
        );
    }
}
