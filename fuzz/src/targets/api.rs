//! Bodies and queries of the HTTP API, as the daemon's routes read them. The
//! first byte chooses the route.

use std::fmt::Debug;

use dynmem_api::{EventsQuery, MAX_EVENTS, MAX_STOP_TIMEOUT_SECONDS, MemoryPatch, StopRequest};
use dynmem_core::MemorySettings;
use dynmem_units::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::assert_readable;

pub(super) fn run(data: &[u8]) {
    let Some((route, body)) = data.split_first() else { return };
    match route % 3 {
        0 => read(body).iter().for_each(configure),
        1 => read(body).iter().for_each(stop),
        _ => read(body).iter().for_each(events),
    }
}

fn read<T: DeserializeOwned + Serialize + PartialEq + Debug>(body: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(body).ok()?;
    let again = serde_json::to_vec(&value).expect("plain data");
    assert_eq!(serde_json::from_slice::<T>(&again).expect("what we wrote"), value);
    Some(value)
}

fn configure(patch: &MemoryPatch) {
    for dynamic in [false, true] {
        let before = MemorySettings { dynamic, ..MemorySettings::default() };
        let after = patch.apply(&before);
        assert!(!patch.is_empty() || after == before);
        for outcome in [after.check(), before.check_change(&after, Bytes::GIB)] {
            match outcome {
                Ok(()) => assert_allowed(&after),
                Err(error) => assert_readable(&error),
            }
        }
    }
}

fn assert_allowed(settings: &MemorySettings) {
    let MemorySettings { dynamic, startup, minimum, maximum, buffer, weight, .. } = settings;
    assert!(!dynamic || (minimum <= startup && startup <= maximum), "{settings:?}");
    assert!(startup.is_multiple_of(Bytes::BLOCK) && *startup >= Bytes::from_mib(32), "{settings:?}");
    assert!((5..=2000).contains(&buffer.get()) && (1..=10_000).contains(&weight.get()), "{settings:?}");
}

fn stop(request: &StopRequest) {
    match request.check() {
        Ok(()) => assert!((1..=MAX_STOP_TIMEOUT_SECONDS).contains(&request.timeout_seconds)),
        Err(error) => assert_readable(&error),
    }
}

fn events(query: &EventsQuery) {
    match query.checked_limit() {
        Ok(limit) => assert!((1..=MAX_EVENTS).contains(&limit)),
        Err(error) => assert_readable(&error),
    }
}
