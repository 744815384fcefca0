//! [`Behaviour`]: how an imitated guest behaves, and what goes wrong with it.

use std::time::Duration;

use dynmem_units::Bytes;

/// How an imitated guest behaves. All of it may change at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Memory that its programs use; the kernel's own comes on top.
    pub demand: Bytes,
    /// Memory that its kernel keeps and `visible` does not count.
    pub reserved: Bytes,
    /// From a start or a reset to a working driver and agent.
    pub boot_time: Duration,
    /// What the balloon does.
    pub balloon: DeviceMood,
    /// What virtio-mem does.
    pub plug: DeviceMood,
    /// How fast both move, bytes a second.
    pub rate: Bytes,
    /// What the agent does.
    pub agent: AgentMood,
    /// What QEMU's control socket does.
    pub qmp: QmpMood,
    /// Whether the power button is obeyed.
    pub obeys_power_button: bool,
    /// What comes of writing it to a file.
    pub save: SaveMood,
    /// Whether it can be read from one.
    pub restores: bool,
}

/// What comes of writing a machine to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaveMood {
    /// It is written at once.
    #[default]
    Quick,
    /// It does not come to an end.
    Endless,
    /// There is no room for it.
    DiskFull,
    /// It writes more than it can be.
    Bloated,
}

/// What a memory device does when it is asked to move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceMood {
    /// It moves to its target, and gives no more than the guest can spare.
    #[default]
    Willing,
    /// It does not move.
    Stuck,
    /// It gives memory back only down to this much.
    Partial(Bytes),
}

/// What the agent does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AgentMood {
    /// It reports what is true.
    #[default]
    Healthy,
    /// It says nothing.
    Silent,
    /// It sends this line, byte for byte, instead of reports.
    Line(Vec<u8>),
    /// It sends as much as it can.
    Flood,
}

/// What QEMU's control socket does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QmpMood {
    /// It answers.
    #[default]
    Healthy,
    /// It takes commands and neither answers nor tells events.
    Hung,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            demand: Bytes::from_mib(64),
            reserved: Bytes::from_mib(32),
            boot_time: Duration::from_millis(20),
            balloon: DeviceMood::default(),
            plug: DeviceMood::default(),
            rate: Bytes::from_mib(16 << 10),
            agent: AgentMood::default(),
            qmp: QmpMood::default(),
            obeys_power_button: true,
            save: SaveMood::default(),
            restores: true,
        }
    }
}
