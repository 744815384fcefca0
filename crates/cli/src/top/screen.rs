//! [`lines`]: the screen as lines of text, from what is known and the size of
//! the terminal. Pure.
//!
//! ```text
//!  Host 24 GiB: 4.6 GiB free, 18.3 GiB to 6 of 8 VMs, pressure 83%, 1.1 GiB kept for itself
//!  ░░░████████████████████████████████████████████··················
//!  NAME       STATE     STATUS      ASSIGNED    DEMAND  MEMORY         TREND
//!  web01      running   ok           1.5 GiB  1.25 GiB  ████████▒▒     ▂▃▅▇▇▆
//!  …
//!  ↑↓ select  Enter details  / filter  n a d p s sort  ? help  q quit
//! ```

use std::borrow::Cow;

use dynmem_api::{MemoryStatus, VmState, VmView};
use dynmem_units::Bytes;
use ratatui::{
    style::{Color, Modifier, Style},
    text::{Line, Span},
};

use super::{
    bars, details,
    model::{Order, Page, Top},
};
use crate::render::{human, printable};

/// The smallest terminal that anything fits on.
const LEAST: (usize, usize) = (40, 8);
/// Lines above and below the rows.
const FRAME: usize = 5;
const KEYS: &str = "↑↓ select  Enter details  / filter  n a d p s sort  ? help  q quit";

/// Whether there may be colours. Nothing is said by them alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ink {
    pub(super) is_coloured: bool,
}

impl Ink {
    pub(super) fn of(self, color: Color) -> Style {
        if self.is_coloured { Style::new().fg(color) } else { Style::new() }
    }

    pub(super) fn bold(self, color: Color) -> Style {
        self.of(color).add_modifier(Modifier::BOLD)
    }
}

/// The whole screen: at most `height` lines of `width` cells.
pub(super) fn lines(top: &Top, ink: Ink, width: usize, height: usize) -> Vec<Line<'static>> {
    if width < LEAST.0 || height < LEAST.1 {
        let (columns, rows) = LEAST;
        return vec![Line::from(format!("Too small: {width}x{height}, needs {columns}x{rows}"))];
    }
    let mut lines = host(top, ink, width);
    match top.page {
        Page::List => lines.extend(list(top, ink, width, height - FRAME)),
        Page::Details => lines.extend(details::lines(top, ink, width)),
        Page::Help => lines.extend(help(ink)),
    }
    lines.resize(height - 1, Line::default());
    lines.push(footer(top, ink));
    lines
}

/// The host's three lines.
fn host(top: &Top, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let host = &top.state.host;
    let parts = [
        format!("Host {}: {} free", human(host.memory_bytes), human(host.available_bytes)),
        format!("{} to {} of {} VMs", human(host.charged_bytes), host.vms_running, host.vms_total),
        format!("pressure {}", host.system_pressure_percent),
        format!("{} kept for itself", human(host.reserve_bytes)),
    ];
    let mut numbers = String::new();
    for part in parts {
        let comma = if numbers.is_empty() { "" } else { ", " };
        if numbers.chars().count() + comma.len() + part.chars().count() > width {
            break; // the most important come first
        }
        numbers.push_str(comma);
        numbers.push_str(&part);
    }
    let whole = host.memory_bytes;
    let [kept, lent, free] = bars::host(host.reserve_bytes, host.charged_bytes, whole, width);
    let lent_ink = if host.under_pressure { ink.bold(Color::Red) } else { ink.of(Color::Blue) };
    let bar = [Span::styled(kept, ink.of(Color::DarkGray)), Span::styled(lent, lent_ink), Span::raw(free)];
    let (notice, notice_ink) = notice(top, ink);
    vec![Line::styled(numbers, ink.bold(Color::Reset)), Line::from(bar.to_vec()), Line::styled(notice, notice_ink)]
}

/// What deserves attention most, in a line.
fn notice(top: &Top, ink: Ink) -> (String, Style) {
    let bad = ink.bold(Color::Red);
    if let Some(sentence) = &top.lost {
        return (format!("! Connection lost, trying again: {}", printable(sentence)), bad);
    }
    if let Some(sentence) = &top.state.host.protection {
        return (format!("! {}", printable(sentence)), bad);
    }
    if let Some(version) = &top.other_version {
        let version = printable(version);
        let ours = env!("CARGO_PKG_VERSION");
        return (format!("The daemon is {version}, this is {ours}: some of it may be missing"), ink.of(Color::Yellow));
    }
    let event = top.events.back().map(|event| printable(&event.message).into_owned());
    (event.unwrap_or_default(), ink.of(Color::DarkGray))
}

/// How wide each column is.
struct Widths {
    name: usize,
    bar: usize,
    trend: usize,
}

impl Widths {
    /// State, status, assigned and demand, and the gaps.
    const FIXED: usize = 9 + 11 + 10 + 10 + 2;

    fn of(rows: &[&VmView], width: usize) -> Self {
        let longest = rows.iter().map(|vm| vm.name.chars().count()).max().unwrap_or(0);
        let name = longest.clamp(4, 24).min(width.saturating_sub(Self::FIXED).max(4));
        let rest = width.saturating_sub(Self::FIXED + name + 1);
        let trend = if rest >= 24 { rest / 3 } else { 0 };
        Self { name, bar: rest.saturating_sub(trend + usize::from(trend > 0)), trend }
    }
}

/// The table: its head and as many rows as fit, the selected one among them.
fn list(top: &Top, ink: Ink, width: usize, height: usize) -> Vec<Line<'static>> {
    let rows = top.rows();
    let widths = Widths::of(&rows, width);
    let selected = top.selected_in(&rows);
    let first = selected.saturating_sub(height / 2).min(rows.len().saturating_sub(height));
    let most = |vm: &&&VmView| vm.assigned_bytes.max(vm.demand_bytes).max(vm.target_bytes);
    let whole = rows.iter().map(|vm| most(&vm)).max().unwrap_or_default();
    let mut lines = vec![head(top, ink, &widths)];
    for (at, vm) in rows.iter().enumerate().skip(first).take(height) {
        let line = row(top, vm, &widths, whole, ink);
        lines.push(if at == selected { line.patch_style(Modifier::REVERSED) } else { line });
    }
    if rows.is_empty() {
        let filtered = !top.state.vms.is_empty();
        lines.push(Line::from(if filtered { "No VM passes the filter" } else { "No VM is defined" }));
    }
    lines
}

fn head(top: &Top, ink: Ink, widths: &Widths) -> Line<'static> {
    let mark = |order, name: &'static str| match (top.order == order, top.is_reversed) {
        (false, _) => Cow::Borrowed(name),
        (true, false) => Cow::Owned(format!("{name}▾")),
        (true, true) => Cow::Owned(format!("{name}▴")),
    };
    let Widths { name, bar, trend } = *widths;
    // Pressure has no column: its order is told by the bar's.
    let memory = mark(Order::Pressure, "MEMORY");
    let text = format!(
        "{:name$.name$} STATE    {:<11}{:>9} {:>9}  {memory:bar$.bar$} {:trend$.trend$}",
        mark(Order::Name, "NAME"),
        mark(Order::Status, "STATUS"),
        mark(Order::Assigned, "ASSIGNED"),
        mark(Order::Demand, "DEMAND"),
        "TREND",
    );
    Line::styled(text, ink.bold(Color::Reset).add_modifier(Modifier::UNDERLINED))
}

fn row(top: &Top, vm: &VmView, widths: &Widths, whole: Bytes, ink: Ink) -> Line<'static> {
    let Widths { name, bar, trend } = *widths;
    let (status, status_ink) = status(vm, ink);
    let shown: String = printable(&vm.name).chars().take(name).collect();
    let size = |bytes: Bytes| if vm.state.is_on() { human(bytes) } else { "–".to_owned() };
    let left = format!("{shown:name$} {:<8} ", vm.state.as_str());
    let sizes = format!("{:>9} {:>9}  ", size(vm.assigned_bytes), size(vm.demand_bytes));
    let drawn = bars::vm(vm.assigned_bytes, vm.demand_bytes, vm.target_bytes, whole, bar);
    let mut spans = vec![
        Span::raw(left),
        Span::styled(format!("{status:<11}"), status_ink),
        Span::raw(sizes),
        Span::styled(drawn, if vm.demand_bytes > vm.assigned_bytes { status_ink } else { ink.of(Color::Blue) }),
    ];
    if trend > 0 {
        let curve = top.trails.get(&vm.name).map(|trail| bars::curve(trail.iter(), trend)).unwrap_or_default();
        spans.push(Span::styled(format!(" {curve}"), ink.of(Color::Cyan)));
    }
    Line::from(spans)
}

/// How it is with a VM, in a word that reads without colour.
pub(super) fn status(vm: &VmView, ink: Ink) -> (Cow<'static, str>, Style) {
    let trouble = vm.troubles.first().map(|trouble| printable(&trouble.kind).chars().take(8).collect::<String>());
    match (vm.state, trouble, vm.memory_status) {
        (VmState::Failed, ..) => ("!! failed".into(), ink.bold(Color::Red)),
        (_, Some(kind), _) => (format!("! {kind}").into(), ink.bold(Color::Magenta)),
        (_, _, Some(MemoryStatus::Low)) => ("!! low".into(), ink.bold(Color::Red)),
        (_, _, Some(MemoryStatus::Warning)) => ("! warning".into(), ink.of(Color::Yellow)),
        (_, _, Some(MemoryStatus::Ok)) => ("ok".into(), ink.of(Color::Green)),
        (state, _, None) if state.is_on() && !vm.settings.dynamic => ("static".into(), Style::new()),
        _ => ("".into(), Style::new()),
    }
}

fn footer(top: &Top, ink: Ink) -> Line<'static> {
    let text = match (top.is_typing, top.page) {
        (true, _) => format!("Filter: {}_   Enter keeps it, Esc drops it", printable(&top.filter)),
        (false, Page::List) if !top.filter.is_empty() => format!("Filter: {}   Esc drops it", printable(&top.filter)),
        (false, Page::List) => KEYS.to_owned(),
        (false, Page::Details) => "↑↓ another VM  Esc back  ? help  q quit".to_owned(),
        (false, Page::Help) => "Any key goes back".to_owned(),
    };
    Line::styled(text, ink.of(Color::DarkGray))
}

fn help(ink: Ink) -> Vec<Line<'static>> {
    const HELP: [&str; 16] = [
        "Keys",
        "  ↑ ↓ k j, Page, Home End   select a VM",
        "  Enter → / Esc ←           its details / back to all",
        "  /                         only VMs with this in their name",
        "  n a d p s                 sort by name, assigned, demand, pressure,",
        "                            status; again: the other way round",
        "  q, Ctrl-C                 quit",
        "",
        "Host's bar   ░ kept for the host   █ VMs have it   · to give",
        "VM's bar     █ needed   ▒ beyond that   ! lacking   | where it is to go",
        "Trend        demand over the last moments, the newest at the right",
        "",
        "Status       ok         demand and buffer are met",
        "             ! warning  demand is met, the buffer is not",
        "             !! low     demand exceeds what it has",
        "             ! word     something is wrong with its guest: see its details",
    ];
    HELP.iter()
        .enumerate()
        .map(|(at, line)| if at == 0 { Line::styled(*line, ink.bold(Color::Reset)) } else { Line::from(*line) })
        .collect()
}
