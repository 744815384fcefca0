//! [`Top`]: what is on the screen and what keys do to it. Pure.

use std::collections::{BTreeMap, VecDeque};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use dynmem_api::{EventView, ExplanationView, Live, LiveState, MemoryStatus, VmView};
use dynmem_units::Bytes;

use super::link::News;

/// Demands that are remembered of each VM, one for each thing heard of the
/// host: a second apart, mostly.
pub(super) const TRAIL_MAX: usize = 240;
/// Events that are remembered.
const EVENTS_MAX: usize = 200;
/// Characters of a filter.
const FILTER_MAX: usize = 64;
/// How far a page key goes.
const PAGE: usize = 10;

/// What is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Page {
    /// The host and a row for each VM.
    #[default]
    List,
    /// One VM.
    Details,
    /// What keys do.
    Help,
}

/// By what rows are sorted; names decide between equals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Name,
    /// Most first, as are all that follow.
    Assigned,
    Demand,
    Pressure,
    /// The worst first.
    Status,
}

/// What the keyboard wants of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Quit,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct Top {
    pub(super) state: LiveState,
    /// Demands of each VM, the newest last.
    pub(super) trails: BTreeMap<String, VecDeque<Bytes>>,
    /// The newest last.
    pub(super) events: VecDeque<EventView>,
    /// Why nothing new comes, if so.
    pub(super) lost: Option<String>,
    /// The daemon's version, if it is not ours.
    pub(super) other_version: Option<String>,
    pub(super) page: Page,
    pub(super) order: Order,
    pub(super) is_reversed: bool,
    /// Part of names, in lower case.
    pub(super) filter: String,
    /// Keys go into the filter.
    pub(super) is_typing: bool,
    /// Of the selected VM.
    pub(super) explanation: Option<ExplanationView>,
    pub(super) selected: Option<String>,
    /// Where it was in the list, for when it is gone.
    pub(super) selected_at: usize,
    /// Something has changed since the explanation was asked for.
    pub(super) is_asking: bool,
}

impl Top {
    /// Takes in what was heard.
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Lost(sentence) => self.lost = Some(sentence),
            News::Told(Live::Event(event)) => {
                self.events.push_back(event);
                if self.events.len() > EVENTS_MAX {
                    self.events.pop_front();
                }
            }
            News::Told(told) => {
                self.lost = None;
                self.state.apply(told);
                self.remember();
                self.settle();
                self.is_asking = self.page == Page::Details;
            }
        }
    }

    fn remember(&mut self) {
        self.trails.retain(|name, _| self.state.vms.contains_key(name));
        for (name, vm) in &self.state.vms {
            let trail = self.trails.entry(name.clone()).or_default();
            if trail.len() == TRAIL_MAX {
                trail.pop_front();
            }
            trail.push_back(vm.demand_bytes);
        }
    }

    /// The VMs that pass the filter, in their order.
    pub(super) fn rows(&self) -> Vec<&VmView> {
        let passes = |vm: &&VmView| vm.name.to_lowercase().contains(&self.filter);
        let mut rows: Vec<&VmView> = self.state.vms.values().filter(passes).collect();
        match self.order {
            Order::Name => {}
            Order::Assigned => rows.sort_by_key(|vm| std::cmp::Reverse(vm.assigned_bytes)),
            Order::Demand => rows.sort_by_key(|vm| std::cmp::Reverse(vm.demand_bytes)),
            Order::Pressure => rows.sort_by_key(|vm| std::cmp::Reverse(vm.pressure_percent)),
            Order::Status => rows.sort_by_key(|vm| std::cmp::Reverse(badness(vm))),
        }
        if self.is_reversed {
            rows.reverse();
        }
        rows
    }

    /// Which of `rows` is selected.
    pub(super) fn selected_in(&self, rows: &[&VmView]) -> usize {
        let named = self.selected.as_ref().and_then(|name| rows.iter().position(|vm| vm.name == *name));
        named.unwrap_or_else(|| self.selected_at.min(rows.len().saturating_sub(1)))
    }

    /// The selected VM.
    pub(super) fn vm(&self) -> Option<&VmView> {
        let rows = self.rows();
        rows.get(self.selected_in(&rows)).copied()
    }

    /// The name of the VM whose explanation is wanted; once for each change.
    pub(super) fn take_question(&mut self) -> Option<String> {
        std::mem::take(&mut self.is_asking).then(|| self.vm().map(|vm| vm.name.clone())).flatten()
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Wish::Quit } else { Wish::Nothing };
        }
        if self.is_typing {
            self.type_in(key.code);
            return Wish::Nothing;
        }
        match (self.page, key.code) {
            (_, KeyCode::Char('q')) | (Page::List, KeyCode::Esc)
                if self.filter.is_empty() || key.code != KeyCode::Esc =>
            {
                return Wish::Quit;
            }
            (Page::List, KeyCode::Esc) => self.filter.clear(),
            (Page::Details | Page::Help, KeyCode::Esc | KeyCode::Enter | KeyCode::Left | KeyCode::Backspace) => {
                self.page = Page::List;
            }
            (Page::Help, _) => self.page = Page::List,
            (_, KeyCode::Char('?' | 'h') | KeyCode::F(1)) => self.page = Page::Help,
            (Page::List, KeyCode::Enter | KeyCode::Right) if self.vm().is_some() => {
                (self.page, self.explanation) = (Page::Details, None);
            }
            (Page::List, KeyCode::Char('/')) => self.is_typing = true,
            (Page::List, KeyCode::Char(key)) if order_of(key).is_some() => self.sort_by(order_of(key)),
            (_, code) => self.go(code),
        }
        self.settle();
        self.is_asking = self.page == Page::Details;
        Wish::Nothing
    }

    fn type_in(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) if self.filter.len() < FILTER_MAX => self.filter.extend(character.to_lowercase()),
            _ => {}
        }
        self.settle();
    }

    /// The same order again is the other way round.
    fn sort_by(&mut self, order: Option<Order>) {
        let Some(order) = order else { return };
        self.is_reversed = order == self.order && !self.is_reversed;
        self.order = order;
    }

    fn go(&mut self, code: KeyCode) {
        let rows = self.rows();
        let at = self.selected_in(&rows);
        let last = rows.len().saturating_sub(1);
        let to = match code {
            KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => at + 1,
            KeyCode::PageUp => at.saturating_sub(PAGE),
            KeyCode::PageDown => at + PAGE,
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            _ => return,
        };
        let to = to.min(last);
        if to != at {
            self.explanation = None;
        }
        self.selected = self.rows().get(to).map(|vm| vm.name.clone());
    }

    /// Whatever came or went, one row is selected, by its name.
    fn settle(&mut self) {
        let rows = self.rows();
        let at = self.selected_in(&rows);
        let name = rows.get(at).map(|vm| vm.name.clone());
        if name.is_none() || (self.selected.is_some() && name != self.selected) {
            self.explanation = None;
            if self.page == Page::Details {
                self.page = Page::List; // it is gone
            }
        }
        (self.selected, self.selected_at) = (name, at);
    }
}

fn order_of(key: char) -> Option<Order> {
    Some(match key {
        'n' => Order::Name,
        'a' => Order::Assigned,
        'd' => Order::Demand,
        'p' => Order::Pressure,
        's' => Order::Status,
        _ => return None,
    })
}

/// How much attention a VM deserves.
pub(super) fn badness(vm: &VmView) -> (bool, Option<u8>, usize, bool) {
    let status = vm.memory_status.map(|status| match status {
        MemoryStatus::Ok => 0,
        MemoryStatus::Warning => 1,
        MemoryStatus::Low => 2,
    });
    (vm.state == dynmem_api::VmState::Failed, status, vm.troubles.len(), vm.state.is_on())
}
