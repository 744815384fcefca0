//! What a QEMU sends that its guest has taken over.

use dynmem_qmp::{
    Lines, Message, Outcome,
    commands::{Balloon, Cpu, GuestStats, Kvm, MemoryDevice, Status, Version},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::chunks;

pub(super) fn run(data: &[u8]) {
    let (whole, parts) = chunks(data);
    let messages = parse(std::iter::once(whole));
    assert_eq!(messages, parse(parts), "it depends on how the bytes arrive");
    let lines = whole.split(|byte| *byte == b'\n').count();
    assert!(messages.len() <= lines, "a line says one thing");
    for message in messages {
        if let Message::Answer { outcome: Outcome::Returned(value), .. } = message {
            read_every_way(&value);
        }
    }
}

fn parse<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Message> {
    let (mut lines, mut messages) = (Lines::default(), Vec::new());
    for chunk in chunks {
        lines.feed(chunk, |line| messages.extend(Message::parse(line)));
    }
    messages
}

/// A call's answer is whatever QEMU likes, not what the call was about.
fn read_every_way(value: &Value) {
    read::<Version>(value);
    read::<Status>(value);
    read::<Balloon>(value);
    read::<Kvm>(value);
    read::<Vec<Cpu>>(value);
    if let Some(devices) = read::<Vec<MemoryDevice>>(value) {
        assert!(devices.iter().filter_map(MemoryDevice::virtio_mem).count() <= devices.len());
    }
    if let Some(stats) = GuestStats::from_value(value) {
        let figures = [stats.total, stats.available, stats.free, stats.disk_caches, stats.swap_in, stats.major_faults];
        assert!(!figures.contains(&Some(u64::MAX)), "unknown is not a figure");
    }
}

fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}
