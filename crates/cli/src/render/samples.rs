//! VMs and a host for the tests of this folder.

use dynmem_api::{EventView, HostView, VmView};
use serde_json::json;

const MIB: u64 = 1 << 20;

/// A dynamic VM under load, with an agent.
pub(super) fn running() -> VmView {
    serde_json::from_value(json!({
        "name": "web01", "state": "running",
        "assigned_bytes": 1536 * MIB, "demand_bytes": 1400 * MIB, "target_bytes": 1680 * MIB,
        "pressure_percent": 91, "memory_status": "warning", "memory_available_percent": 9,
        "buffer_percent_held": 49, "guest_visible_bytes": 2000 * MIB, "guest_available_bytes": 300 * MIB,
        "ballooned_bytes": 0, "plugged_bytes": 1024 * MIB, "overhead_bytes": 70 * MIB,
        "overhead_measured": true, "resident_bytes": 1100 * MIB, "memory_limit_bytes": 1740 * MIB,
        "uptime_seconds": 93_784, "cpu_percent": 87, "vcpus": 2, "accelerator": "kvm",
        "integration": "agent", "driver": {"state": "ok"},
        "settings": {"dynamic": true, "startup_bytes": 512 * MIB, "minimum_bytes": 256 * MIB,
            "maximum_bytes": 4096 * MIB, "buffer_percent": 20, "weight": 5000, "demand_model": "working-set"},
        "autostart": {"action": "start", "delay_seconds": 30},
        "smart_paging": {"path": "/var/lib/dynmem/run/web01/paging", "in_use": false},
        "console_path": "/var/lib/dynmem/run/web01/console.sock", "pid": 4711,
        "counters": {"added_bytes": 1024 * MIB, "removed_bytes": 0, "add_operations": 3, "remove_operations": 0,
            "pressure_minimum_percent": 40, "pressure_average_percent": 77, "pressure_maximum_percent": 104,
            "guest_high_water_bytes": 2000 * MIB},
        "warnings": ["The guest's swap is in use"]
    }))
    .expect("a view")
}

/// A static VM that is off.
pub(super) fn off() -> VmView {
    serde_json::from_value(json!({
        "name": "db", "state": "off", "assigned_bytes": 0, "demand_bytes": 0, "target_bytes": 0, "vcpus": 1,
        "integration": "none", "driver": {"state": "ok"},
        "settings": {"dynamic": false, "startup_bytes": 2048 * MIB, "minimum_bytes": 512 * MIB,
            "maximum_bytes": 1_048_576 * MIB, "buffer_percent": 20, "weight": 5000, "demand_model": "working-set"}
    }))
    .expect("a view")
}

/// A host with 8 GiB that is short of memory.
pub(super) fn host() -> HostView {
    serde_json::from_value(json!({
        "memory_bytes": 8192 * MIB, "reserve_bytes": 624 * MIB, "charged_bytes": 1606 * MIB,
        "lendable_bytes": 4770 * MIB, "floor_bytes": 164 * MIB, "machines_hold_bytes": 1500 * MIB,
        "protection": "2798 MiB less than usual can be lent",
        "available_bytes": 3164 * MIB, "available_for_balancing_bytes": 5962 * MIB,
        "assigned_bytes": 1536 * MIB, "overhead_bytes": 70 * MIB, "vms_running": 1, "vms_total": 2,
        "average_pressure_percent": 91, "system_pressure_percent": 91, "host_available_bytes": 3434 * MIB,
        "stall_percent": 3, "counters": {"added_bytes": 1024 * MIB, "add_operations": 3},
        "accelerator": "kvm", "qemu_version": "7.2.0", "under_pressure": true,
        "memory_limits": {"state": "on", "folder": "/sys/fs/cgroup/dynmem/0123456789abcdef"},
        "smart_paging": {"possible": true, "folder": "/p", "remark": "its files are on the system disk"},
        "damaged_definitions": [{"path": "/var/lib/dynmem/vms/x.toml", "error": "Line 3: what is this"}]
    }))
    .expect("a view")
}

/// A refused start.
pub(super) fn event() -> EventView {
    serde_json::from_value(json!({
        "id": 7, "time_unix_ms": 1_767_225_600_000_u64, "vm": "web01", "kind": "start-refused",
        "message": "Not enough memory", "numbers": {"needed_bytes": 5}
    }))
    .expect("a view")
}
