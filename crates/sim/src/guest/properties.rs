//! Whatever is ordered and needed, the books balance.

use proptest::prelude::*;

use super::*;

/// Something that happens to a guest.
#[derive(Clone, Debug)]
enum Act {
    Order(u64, u64),
    Need(Need),
    Defects(Defects),
    Step(u64),
}

fn bytes(mib: std::ops::Range<u64>) -> impl Strategy<Value = Bytes> {
    // Odd amounts: nothing here may rely on whole pages.
    mib.prop_map(|mib| Bytes::new((mib << 20) | ((mib * 977) & 0xfff)))
}

prop_compose! {
    fn need()(
        anonymous in bytes(0..6_000),
        hot_file in bytes(0..1_000),
        file_read_per_second in bytes(0..500),
        committed_beyond in bytes(0..100),
    ) -> Need {
        Need { anonymous, hot_file, file_read_per_second, committed_beyond }
    }
}

prop_compose! {
    fn defects()(flags in 0_u8..16, unmovable_percent in 0_u8..=255) -> Defects {
        Defects {
            balloon_stuck: flags == 1,
            plug_refused: flags == 2,
            unplug_refused: flags == 3,
            slow: flags == 4,
            unmovable_percent: if flags == 5 { unmovable_percent } else { 0 },
        }
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0_u64..5_000, 0_u64..5_000).prop_map(|(balloon, plugged)| Act::Order(balloon << 20, plugged << 20)),
        3 => need().prop_map(Act::Need),
        1 => defects().prop_map(Act::Defects),
        6 => prop_oneof![4 => 1_u64..20, 4 => 20_u64..1_000, 1 => 1_000_u64..=60_000].prop_map(Act::Step),
    ]
}

prop_compose! {
    fn guest()(
        kernel_bytes in bytes(0..200),
        swap_bytes in prop_oneof![Just(Bytes::ZERO), bytes(0..2_000)],
        swap_per_second in bytes(0..500),
        touch_per_second in bytes(1..5_000),
        boot in bytes(0..4_000),
        plug_max in prop_oneof![Just(Bytes::ZERO), bytes(0..4_000)],
        plug_block in prop_oneof![Just(Bytes::BLOCK), Just(Bytes::from_mib(128))],
    ) -> Guest {
        let config = GuestConfig { kernel_bytes, swap_bytes, swap_per_second, touch_per_second, ..GuestConfig::default() };
        let devices = DeviceFacts { boot, balloon_actual: boot, plug_max, plug_block, ..DeviceFacts::default() };
        Guest::boot(config, devices)
    }
}

/// What must be true of a guest at any time.
fn check(guest: &Guest) -> Result<(), TestCaseError> {
    let (memory, devices, visible) = (&guest.memory, guest.devices(), guest.visible());
    let in_use: u128 = [memory.anonymous, memory.hot, memory.cache].iter().map(|part| u128::from(part.get())).sum();
    let free = memory.free(visible);
    prop_assert_eq!(in_use + u128::from(free.get()), u128::from(visible.get()), "the books balance: {:?}", guest);
    prop_assert!(memory.swapped <= guest.config.swap_bytes);
    prop_assert!(memory.anonymous.saturating_add(memory.swapped) <= guest.need.anonymous);
    prop_assert!(memory.hot.saturating_add(memory.lost) <= guest.need.hot_file);
    prop_assert!(devices.balloon_actual <= devices.boot && devices.plugged <= devices.plug_max);
    prop_assert!(devices.plugged.is_multiple_of(devices.plug_block));

    let report = guest.report();
    prop_assert!(report.available <= report.visible && report.hot_file <= report.available);
    prop_assert!(report.swap_used <= report.swap_total && report.stall <= 10_000);
    prop_assert!(report.reserved.is_some_and(|reserved| reserved.saturating_add(visible) == guest.held()));
    Ok(())
}

proptest! {
    #[test]
    fn the_books_always_balance(mut guest in guest(), acts in prop::collection::vec(act(), 1..60)) {
        let mut need = Need::default();
        for act in acts {
            match act {
                Act::Order(balloon, plugged) => guest.order(Bytes::new(balloon), Bytes::new(plugged)),
                Act::Need(wanted) => need = wanted,
                Act::Defects(defects) => guest.defects = defects,
                Act::Step(millis) => {
                    let before = guest.devices();
                    let step = guest.step(millis, need);
                    prop_assert!(step.stalled_ms <= millis);
                    prop_assert_eq!(step.moved, guest.devices() != before);
                    check(&guest)?;
                }
            }
        }
    }

    #[test]
    fn with_what_is_needed_a_guest_settles_without_a_stall(mut guest in guest(), need in need()) {
        let boot = guest.needed(need);
        guest = Guest::boot(guest.config, DeviceFacts { boot, balloon_actual: boot, ..guest.devices() });
        for _ in 0..50 {
            prop_assert_eq!(guest.step(1_000, need), Step::default());
        }
        check(&guest)?;
        prop_assert_eq!(guest.report().stall, 0);
    }
}
