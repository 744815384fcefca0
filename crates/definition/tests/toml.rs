//! Reading and writing definitions, as a person with an editor meets them.

use std::path::{Path, PathBuf};

use dynmem_core::{DemandModel, MemorySettings};
use dynmem_definition::{
    Accelerator, Autostart, Boot, Disk, DiskFormat, Network, START_DELAY_SECONDS_MAX, VmDefinition,
};
use dynmem_units::{Bytes, Percent, Weight};
use proptest::prelude::*;

const WHOLE: &str = r#"# The shop's front end.
name = "web01"
autostart = "start"
start_delay = 30
vcpus = 2
accelerator = "kvm"
vnc = "127.0.0.1:5"
extra_args = ["-device", "virtio-rng-pci"]

[boot]
kernel = "/srv/vmlinuz"
initrd = "/srv/initrd.img"
cmdline = "console=ttyS0 quiet"

[[disk]]
path = "/srv/web01,root.qcow2"

[[disk]]
path = "/srv/data.raw"
format = "raw"
read_only = true

[[network]]
mode = "user"
forward = ["tcp:127.0.0.1:2222-:22"]

[[network]]
mode = "tap"
device = "tap0"
mac = "52:54:00:12:34:56"

[memory]
dynamic = true
startup = "512MB"
minimum = "256MB"
maximum = "2GB"
buffer = 25
weight = 8000
demand_model = "committed"
smart_paging_folder = "/srv/paging"
"#;

fn read(text: &str) -> Result<VmDefinition, String> {
    VmDefinition::from_toml(text, Path::new("/vms/web01.toml")).map_err(|error| error.to_string())
}

#[test]
fn every_setting_is_read() {
    let expected = VmDefinition {
        name: "web01".to_owned(),
        autostart: Autostart::Start,
        start_delay: 30,
        vcpus: 2,
        accelerator: Accelerator::Kvm,
        boot: Boot {
            firmware: None,
            kernel: Some("/srv/vmlinuz".into()),
            initrd: Some("/srv/initrd.img".into()),
            cmdline: Some("console=ttyS0 quiet".to_owned()),
        },
        disks: vec![
            Disk { path: "/srv/web01,root.qcow2".into(), format: DiskFormat::Qcow2, read_only: false },
            Disk { path: "/srv/data.raw".into(), format: DiskFormat::Raw, read_only: true },
        ],
        networks: vec![
            Network::User { forward: vec!["tcp:127.0.0.1:2222-:22".to_owned()], mac: None },
            Network::Tap { device: "tap0".to_owned(), mac: Some("52:54:00:12:34:56".to_owned()) },
        ],
        vnc: Some("127.0.0.1:5".to_owned()),
        extra_args: vec!["-device".to_owned(), "virtio-rng-pci".to_owned()],
        memory: MemorySettings {
            dynamic: true,
            startup: Bytes::from_mib(512),
            minimum: Bytes::from_mib(256),
            maximum: Bytes::from_mib(2048),
            buffer: Percent::new(25),
            weight: Weight::new(8000).expect("in range"),
            demand_model: DemandModel::Committed,
            smart_paging_folder: Some("/srv/paging".into()),
        },
    };
    assert_eq!(read(WHOLE), Ok(expected));
}

#[test]
fn a_name_alone_is_a_static_vm_with_the_defaults() {
    let definition = read("name = \"web01\"").expect("a name is enough");
    assert_eq!(definition.memory, MemorySettings::default());
    assert!(!definition.memory.dynamic);
    assert_eq!((definition.vcpus, definition.accelerator), (1, Accelerator::Auto));
    assert_eq!((definition.autostart, definition.start_delay), (Autostart::StartIfRunning, 0));
    assert_eq!(definition, VmDefinition::new("web01"));
}

#[test]
fn a_static_vm_above_the_default_maximum_or_below_the_default_minimum_is_fine() {
    assert!(read("name = \"big\"\n[memory]\nstartup = \"2TB\"").is_ok());
    assert!(read("name = \"small\"\n[memory]\nstartup = \"64MB\"").is_ok());
}

#[test]
fn a_written_file_looks_as_if_a_person_wrote_it() {
    let written = read(WHOLE).and_then(|definition| definition.to_toml().map_err(|error| error.to_string()));
    let expected = r#"name = "web01"
autostart = "start"
start_delay = 30
vcpus = 2
accelerator = "kvm"
vnc = "127.0.0.1:5"
extra_args = [
    "-device",
    "virtio-rng-pci",
]

[boot]
kernel = "/srv/vmlinuz"
initrd = "/srv/initrd.img"
cmdline = "console=ttyS0 quiet"

[[disk]]
path = "/srv/web01,root.qcow2"
format = "qcow2"

[[disk]]
path = "/srv/data.raw"
format = "raw"
read_only = true

[[network]]
mode = "user"
forward = ["tcp:127.0.0.1:2222-:22"]

[[network]]
mode = "tap"
device = "tap0"
mac = "52:54:00:12:34:56"

[memory]
dynamic = true
startup = "512MiB"
minimum = "256MiB"
maximum = "2GiB"
buffer = 25
weight = 8000
demand_model = "committed"
smart_paging_folder = "/srv/paging"
"#;
    assert_eq!(written.as_deref(), Ok(expected));
}

#[test]
fn a_fault_is_told_with_file_line_column_and_what_is_allowed() {
    for (text, told) in [
        ("", "line 1, column 1: Missing field `name`"),
        ("name = ", "line 1, column 8: String values must be quoted, expected literal string"),
        ("name = \"a\"\nname = \"b\"", "line 2, column 1: Duplicate key"),
        ("name = \"a\"\n[memory\nbuffer = 5", "line 2, column 8: Unclosed table, expected `]`"),
        (
            "name = \"a\"\nvcpus = -1",
            "line 2, column 9: Invalid value: integer `-1`, expected a whole number of 0 or more",
        ),
        (
            "name = \"a\"\nvcpus = 256",
            "line 2, column 9: Setting vcpus can't be 256: it must be a whole number from 1 to 255",
        ),
        (
            "name = \"a\"\naccelerator = \"xen\"",
            "line 2, column 15: Unknown variant `xen`, expected one of `auto`, `kvm`, `tcg`",
        ),
        (
            "name = \"ä\" # é\n[memory]\n  buffr = 3",
            "line 3, column 3: Unknown field `buffr`, expected one of `dynamic`, `startup`,",
        ),
        ("name = \"a\"\nmemory = 3", "line 2, column 10: Invalid type: integer `3`, expected a table: [memory]"),
        (
            "name = \"a\"\n[memory]\nstartup = \"1.5G\"",
            "line 3, column 11: \"1.5G\" is not a size: write a whole number and a unit",
        ),
        (
            "name = \"a\"\n[memory]\nweight = 0",
            "line 3, column 10: Weight 0 is out of range: weight is a whole number from 1 to 10000",
        ),
        (
            "name = \"a\"\n[memory]\nbuffer = 4",
            "line 3, column 10: Buffer 4% is out of range: it must be from 5% to 2000%",
        ),
        ("name = \"a\"\n[memory]\nstartup = \"513MB\"", "line 3, column 11: Startup 513MiB is not a multiple of 2MiB"),
        // The minimum is a default: its table is the nearest place.
        (
            "name = \"a\"\n[memory]\ndynamic = true\nstartup = \"256MB\"",
            "line 2, column 1: Minimum 512MiB is out of range",
        ),
        (
            "name = \"a\"\n[[disk]]\npath = \"/a\"\n[[disk]]\npath = \"b\"",
            "line 5, column 8: Setting disk[1].path can't be \"b\": it must be an absolute path",
        ),
        (
            "name = \"a\"\n[[network]]\nmode = \"nat\"",
            "line 3, column 8: Unknown variant `nat`, expected one of `user`, `tap`, `bridge`",
        ),
        ("name = \"a\"\n[[network]]\nmode = \"tap\"", "line 2, column 1: Missing field `device`"),
        (
            "name = \"a\"\n[[network]]\nmode = \"user\"\nforward = [\n  \"tcp::1-:2\",\n  \"x\",\n]",
            "line 6, column 3: Setting network[0].forward[1] can't be \"x\"",
        ),
    ] {
        let error = read(text).expect_err(text);
        let expected = format!("File /vms/web01.toml, {told}");
        assert!(error.starts_with(&expected), "{text}\n told {error}\n want {expected}");
    }
}

#[test]
fn a_message_stays_short_and_harmless_whatever_the_file_says() {
    let error = read(&format!("\"\\u001b[2J{}\" = 1", "x".repeat(100_000))).expect_err("an unknown key");
    assert!(error.len() < 1000, "{} bytes", error.len());
    assert!(!error.contains('\u{1b}'));
}

#[test]
fn a_file_torn_at_any_byte_is_read_or_refused_but_never_a_panic() {
    let torn = |cut| String::from_utf8_lossy(&WHOLE.as_bytes()[..cut]).into_owned();
    let readable = (0..=WHOLE.len()).filter(|cut| read(&torn(*cut)).is_ok()).count();
    assert!(readable > 0 && readable < WHOLE.len());
}

#[test]
fn nesting_without_end_is_refused() {
    assert!(read(&format!("name = {}", "[".repeat(100_000))).is_err());
}

fn text_of_any_kind() -> impl Strategy<Value = String> {
    "[ -~äß€\"'\\\\]{0,40}"
}

fn path() -> impl Strategy<Value = PathBuf> {
    "/[ -.0-~ä]{0,20}x".prop_map(PathBuf::from)
}

fn network() -> impl Strategy<Value = Network> {
    prop_oneof![
        proptest::collection::vec(Just("udp:10.0.2.2:53-10.0.2.15:5353".to_owned()), 0..3)
            .prop_map(|forward| Network::User { forward, mac: None }),
        "[a-z][a-z0-9_.-]{0,14}".prop_map(|device| Network::Tap { device, mac: None }),
        "[a-z][a-z0-9_.-]{0,14}".prop_map(|bridge| Network::Bridge { bridge, mac: None }),
    ]
}

prop_compose! {
    fn memory()(
        dynamic: bool,
        (minimum, startup, maximum) in (16..512_u64, 0..512_u64, 0..4096_u64).prop_map(|(a, b, c)| (a, a + b, a + b + c)),
        buffer in 5..=2000_u32,
        weight in 1..=10_000_u64,
        committed: bool,
        smart_paging_folder in proptest::option::of(path()),
    ) -> MemorySettings {
        let blocks = |count| Bytes::BLOCK.scale(count, 1);
        MemorySettings {
            dynamic,
            startup: blocks(startup),
            minimum: blocks(minimum),
            maximum: blocks(maximum),
            buffer: Percent::new(buffer),
            weight: Weight::new(weight).expect("in range"),
            demand_model: if committed { DemandModel::Committed } else { DemandModel::WorkingSet },
            smart_paging_folder,
        }
    }
}

fn autostart() -> impl Strategy<Value = Autostart> {
    prop_oneof![Just(Autostart::Nothing), Just(Autostart::StartIfRunning), Just(Autostart::Start)]
}

prop_compose! {
    fn definition()(
        name in "[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}",
        vcpus in 1..=255_u32,
        (autostart, start_delay) in (autostart(), 0..=START_DELAY_SECONDS_MAX),
        (kernel, firmware) in (proptest::option::of((path(), proptest::option::of(path()), proptest::option::of(text_of_any_kind()))), proptest::option::of(path())),
        disks in proptest::collection::btree_map(path(), any::<(bool, bool)>(), 0..4),
        networks in proptest::collection::vec(network(), 0..4),
        vnc in proptest::option::of("(127\\.0\\.0\\.1|\\[::1\\]|):[0-9]{1,4}"),
        extra_args in proptest::collection::vec("[ -,.-~\n\t€]{0,20}", 0..4),
        memory in memory(),
    ) -> VmDefinition {
        let (kernel, initrd, cmdline) = kernel.map_or((None, None, None), |(kernel, initrd, cmdline)| (Some(kernel), initrd, cmdline));
        let disk = |(path, (raw, read_only))| {
            Disk { path, format: if raw { DiskFormat::Raw } else { DiskFormat::Qcow2 }, read_only }
        };
        VmDefinition {
            name,
            autostart,
            start_delay,
            vcpus,
            accelerator: Accelerator::Auto,
            boot: Boot { firmware, kernel, initrd, cmdline },
            disks: disks.into_iter().map(disk).collect(),
            networks,
            vnc,
            extra_args,
            memory,
        }
    }
}

proptest! {
    #[test]
    fn writing_then_reading_gives_the_same(definition in definition()) {
        let text = definition.to_toml().expect("every rule is kept");
        prop_assert_eq!(read(&text), Ok(definition));
    }

    #[test]
    fn json_carries_the_same_definition(definition in definition()) {
        let json = serde_json::to_string(&definition).expect("plain data");
        prop_assert_eq!(serde_json::from_str::<VmDefinition>(&json).ok(), Some(definition));
    }

    #[test]
    fn any_text_is_read_or_refused_but_never_a_panic(text in "(?s).{0,200}") {
        let _ = read(&text);
    }
}
