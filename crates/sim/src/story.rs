//! The last things that happened in a world, for people: what a policy was told
//! and what it did about it.

use std::{collections::VecDeque, fmt};

use dynmem_core::{DeviceFacts, Effect, Event, GuestReport, Input};
use dynmem_units::Bytes;

/// The last lines of what happened.
#[derive(Debug)]
pub struct Story {
    lines_max: usize,
    lines: VecDeque<(u64, Line)>,
    /// Ordinary news, told only if something follows from it.
    news: Option<Input>,
}

#[derive(Debug)]
enum Line {
    Told(Input),
    Did(Effect),
}

impl Story {
    /// A story that remembers `lines_max` lines.
    pub fn new(lines_max: usize) -> Self {
        Self { lines_max: lines_max.max(1), lines: VecDeque::new(), news: None }
    }

    pub(crate) fn input(&mut self, now_ms: u64, input: &Input) {
        // What a guest or the host says all the time is worth a line only if
        // something follows from it.
        self.news = None;
        match input {
            Input::Tick => {}
            Input::Host(_) | Input::Vm(_, Event::Report(_) | Event::Devices(_)) => self.news = Some(input.clone()),
            Input::Vm(..) => self.push(now_ms, Line::Told(input.clone())),
        }
    }

    pub(crate) fn effect(&mut self, now_ms: u64, effect: &Effect) {
        if let Some(news) = self.news.take() {
            self.push(now_ms, Line::Told(news));
        }
        self.push(now_ms, Line::Did(effect.clone()));
    }

    fn push(&mut self, now_ms: u64, line: Line) {
        if self.lines.len() == self.lines_max {
            self.lines.pop_front();
        }
        self.lines.push_back((now_ms, line));
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (now_ms, line) in &self.lines {
            write!(f, "{:>10}.{:03}  ", now_ms / 1000, now_ms % 1000)?;
            match line {
                Line::Told(input) => told(f, input)?,
                Line::Did(effect) => did(f, effect)?,
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn told(f: &mut fmt::Formatter<'_>, input: &Input) -> fmt::Result {
    let Input::Vm(id, event) = input else { return write!(f, "{input:?}") };
    write!(f, "vm{:<4} ", id.0)?;
    match event {
        Event::Report(report) => write_report(f, report),
        Event::Devices(devices) => write!(f, "holds {}", Holds(devices)),
        Event::Launched(devices) => write!(f, "was launched with {}", Holds(devices)),
        Event::Adopted { devices, known, .. } => {
            let clearly = if *known { "" } else { ", perhaps" };
            write!(f, "was found running with {}{clearly}", Holds(devices))
        }
        event => write!(f, "{event:?}"),
    }
}

fn write_report(f: &mut fmt::Formatter<'_>, report: &GuestReport) -> fmt::Result {
    let committed = report.committed.map_or(0, Bytes::mib);
    write!(
        f,
        "says: {} of {} MiB available, {committed} committed, swap {}, stalled {}.{:02} %",
        report.available.mib(),
        report.visible.mib(),
        report.swap_used.mib(),
        report.stall / 100,
        report.stall % 100
    )
}

struct Holds<'a>(&'a DeviceFacts);

impl fmt::Display for Holds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices = self.0;
        write!(
            f,
            "{} MiB ({} of {} by balloon, {} plugged)",
            devices.assigned().mib(),
            devices.balloon_actual.mib(),
            devices.boot.mib(),
            devices.plugged.mib()
        )
    }
}

fn did(f: &mut fmt::Formatter<'_>, effect: &Effect) -> fmt::Result {
    match effect {
        Effect::Order { vm, balloon, plugged } => write!(
            f,
            "  ──▶ vm{}: {} MiB ({} by balloon, {} plugged)",
            vm.0,
            balloon.saturating_add(*plugged).mib(),
            balloon.mib(),
            plugged.mib()
        ),
        Effect::Record(notice) => write!(f, "  ──▶ “{}”", notice.message),
        effect => write!(f, "  ──▶ {effect:?}"),
    }
}
