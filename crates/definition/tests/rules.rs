//! Every rule of a definition, from both sides.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use dynmem_definition::{Boot, Disk, DiskFormat, Network, RuleError, VmDefinition, check_name};

fn plain() -> VmDefinition {
    VmDefinition::from_toml("name = \"web01\"", "web01.toml".as_ref()).expect("a name is enough")
}

/// The refusal of `change` to a plain definition, which must name `field`.
fn refusal(field: &str, change: impl FnOnce(&mut VmDefinition)) -> String {
    let mut definition = plain();
    change(&mut definition);
    let error = definition.check().expect_err(field);
    assert_eq!(error.field(), field);
    assert!(definition.to_toml().is_err(), "what is refused is not written");
    error.to_string()
}

fn allowed(change: impl FnOnce(&mut VmDefinition)) {
    let mut definition = plain();
    change(&mut definition);
    assert_eq!(definition.check(), Ok(()), "{definition:?}");
}

fn disk(path: &str, read_only: bool) -> Disk {
    Disk { path: path.into(), format: DiskFormat::Raw, read_only }
}

fn user(forward: &str) -> Vec<Network> {
    vec![Network::User { forward: vec![forward.to_owned()], mac: None }]
}

fn tap(device: &str, mac: Option<&str>) -> Network {
    Network::Tap { device: device.to_owned(), mac: mac.map(str::to_owned) }
}

#[test]
fn a_name_is_also_a_safe_file_name() {
    for name in ["a", "0", "web01", "Dev-web_01.eu", &"a".repeat(63)] {
        assert_eq!(check_name(name), Ok(()), "{name}");
    }
    for name in ["", ".", "..", ".hidden", "-x", "_x", "a/b", "a b", "a,b", "a\0", "a\n", "ä", "Dev-*", &"a".repeat(64)]
    {
        let told = refusal("name", |vm| name.clone_into(&mut vm.name));
        assert!(told.contains("1 to 63 letters, digits, `-`, `_` and `.`"), "{told}");
    }
}

#[test]
fn a_start_waits_a_day_at_most() {
    for delay in [0, 86_400] {
        allowed(|vm| vm.start_delay = delay);
    }
    for delay in [86_401, u32::MAX] {
        let told = refusal("start_delay", |vm| vm.start_delay = delay);
        assert!(told.ends_with("it must be from 0 to 86400 seconds, which is a day"), "{told}");
    }
    for word in ["nothing", "start-if-running", "start"] {
        let text = format!("name = \"web01\"\nautostart = {word:?}");
        let vm = VmDefinition::from_toml(&text, "web01.toml".as_ref()).expect(word);
        assert_eq!(vm.autostart.as_str(), word);
    }
    let unknown = VmDefinition::from_toml("name = \"web01\"\nautostart = \"maybe\"", "web01.toml".as_ref());
    let told = unknown.expect_err("no such word").to_string();
    assert!(told.contains("line 2") && told.contains("start-if-running"), "{told}");
}

#[test]
fn processors_are_counted_from_1_to_255() {
    for vcpus in [1, 255] {
        allowed(|vm| vm.vcpus = vcpus);
    }
    for vcpus in [0, 256, u32::MAX] {
        refusal("vcpus", |vm| vm.vcpus = vcpus);
    }
}

#[test]
fn a_path_is_absolute_utf_8_and_one_line() {
    allowed(|vm| vm.disks = vec![disk("/srv/a,b c.img", false)]); // commas are QEMU's builder's business
    let long = format!("/{}", "a".repeat(4095));
    for path in ["", "a.img", "./a.img", "/", "/srv/..", "/srv/a\n.img", "/srv/a\0.img", &long] {
        refusal("disk[0].path", |vm| vm.disks = vec![disk(path, false)]);
    }
    refusal("disk[0].path", |vm| {
        vm.disks = vec![Disk { path: OsStr::from_bytes(b"/srv/\xff.img").into(), ..disk("", false) }];
    });
    for (field, boot) in [
        ("boot.firmware", Boot { firmware: Some("ovmf.fd".into()), ..Boot::default() }),
        ("boot.kernel", Boot { kernel: Some("vmlinuz".into()), ..Boot::default() }),
        ("boot.initrd", Boot { kernel: Some("/k".into()), initrd: Some("i".into()), ..Boot::default() }),
    ] {
        refusal(field, |vm| vm.boot = boot);
    }
}

#[test]
fn a_smart_paging_folder_is_an_absolute_path() {
    allowed(|vm| vm.memory.smart_paging_folder = Some("/fast/paging".into()));
    for folder in ["paging", "/", "/a\nb"] {
        refusal("memory.smart_paging_folder", |vm| vm.memory.smart_paging_folder = Some(folder.into()));
    }
}

#[test]
fn what_goes_with_a_kernel_needs_a_kernel() {
    let kernel = || Boot { kernel: Some("/k".into()), ..Boot::default() };
    allowed(|vm| vm.boot = Boot { firmware: Some("/ovmf.fd".into()), ..kernel() });
    allowed(|vm| vm.boot = Boot { cmdline: Some("a".repeat(2047)), ..kernel() });
    refusal("boot.initrd", |vm| vm.boot.initrd = Some("/i".into()));
    refusal("boot.cmdline", |vm| vm.boot.cmdline = Some("quiet".to_owned()));
    for cmdline in ["a\nb", "a\0", &"a".repeat(2048)] {
        refusal("boot.cmdline", |vm| vm.boot = Boot { cmdline: Some(cmdline.to_owned()), ..kernel() });
    }
}

#[test]
fn lists_have_an_end() {
    allowed(|vm| vm.disks = (0..32).map(|n| disk(&format!("/d{n}"), false)).collect());
    let told = refusal("disk", |vm| vm.disks = (0..33).map(|n| disk(&format!("/d{n}"), false)).collect());
    assert_eq!(told, "Setting disk has 33 entries: at most 32 are allowed");
    allowed(|vm| vm.networks = vec![tap("tap0", None); 16]);
    refusal("network", |vm| vm.networks = vec![tap("tap0", None); 17]);
    allowed(|vm| vm.extra_args = vec!["x".to_owned(); 256]);
    refusal("extra_args", |vm| vm.extra_args = vec!["x".to_owned(); 257]);
    refusal("extra_args[0]", |vm| vm.extra_args = vec!["x".repeat(4097)]);
    refusal("network[0].forward", |vm| {
        vm.networks = vec![Network::User { forward: vec!["tcp::1-:1".to_owned(); 65], mac: None }];
    });
}

#[test]
fn one_file_is_not_written_through_two_disks() {
    allowed(|vm| vm.disks = vec![disk("/a", true), disk("/a", true)]);
    refusal("disk[2].path", |vm| vm.disks = vec![disk("/a", true), disk("/b", false), disk("/a", false)]);
}

#[test]
fn an_interface_address_is_six_pairs_and_its_own() {
    for mac in ["52:54:00:12:34:56", "52:54:00:AB:cd:ef"] {
        allowed(|vm| vm.networks = vec![tap("tap0", Some(mac))]);
    }
    for mac in [
        "",
        "52:54:00:12:34",
        "52:54:00:12:34:56:78",
        "52-54-00-12-34-56",
        "52:54:00:12:34:5g",
        "52:54:00:12:34:+5",
        "52:54:00:12:34:5",
        "01:00:5e:00:00:01",
        "00:00:00:00:00:00",
        "52:54:00:12:34:56,x=y",
    ] {
        refusal("network[0].mac", |vm| vm.networks = vec![tap("tap0", Some(mac))]);
    }
    refusal("network[1].mac", |vm| {
        vm.networks = vec![tap("tap0", Some("52:54:00:AB:00:01")), tap("tap1", Some("52:54:00:ab:00:01"))];
    });
}

#[test]
fn an_interface_name_is_one_that_linux_takes() {
    for name in ["tap0", "br-lan", "vm.100", &"a".repeat(15)] {
        allowed(|vm| vm.networks = vec![Network::Bridge { bridge: name.to_owned(), mac: None }]);
    }
    for name in ["", ".", "..", "-x", "a/b", "a b", "tap0,script=/tmp/x", &"a".repeat(16)] {
        refusal("network[0].device", |vm| vm.networks = vec![tap(name, None)]);
        refusal("network[0].bridge", |vm| {
            vm.networks = vec![Network::Bridge { bridge: name.to_owned(), mac: None }];
        });
    }
}

#[test]
fn a_forward_is_nothing_but_a_forward() {
    for forward in ["tcp:127.0.0.1:2222-:22", "udp::53-10.0.2.15:5353", "tcp::1-:65535"] {
        allowed(|vm| vm.networks = user(forward));
    }
    for forward in [
        "",
        "tcp",
        "sctp::1-:2",
        "tcp:2222-:22",
        "tcp::0-:22",
        "tcp::2222-:65536",
        "tcp::2222-:+22",
        "tcp:localhost:1-:2",
        "tcp::2222-:22,guestfwd=tcp:10.0.2.100:1-cmd:sh",
    ] {
        refusal("network[0].forward[0]", |vm| vm.networks = user(forward));
    }
}

#[test]
fn a_display_is_an_address_or_a_socket() {
    for vnc in [":0", "127.0.0.1:5", "[::1]:5", "host-1.lan:59635", "unix:/run/web01.vnc"] {
        allowed(|vm| vm.vnc = Some(vnc.to_owned()));
    }
    for vnc in ["", "5", "127.0.0.1", ":59636", ":-1", ":1,password=on", "none", "unix:web01.vnc", "unix:/a,b"] {
        refusal("vnc", |vm| vm.vnc = Some(vnc.to_owned()));
    }
}

#[test]
fn extra_arguments_do_not_contradict_the_settings() {
    allowed(|vm| vm.extra_args = vec!["-device".to_owned(), "virtio-rng-pci".to_owned(), "-msg".to_owned()]);
    let told = refusal("extra_args[1]", |vm| vm.extra_args = vec!["-S".to_owned(), "-m".to_owned()]);
    assert_eq!(told, "Setting extra_args[1] can't be \"-m\": set memory.startup and memory.maximum instead");
    for arg in ["--m", "-smp", "--daemonize", "-accel", "a\0b"] {
        refusal("extra_args[0]", |vm| vm.extra_args = vec![arg.to_owned()]);
    }
}

#[test]
fn the_memory_rules_are_passed_on_as_they_are() {
    let told = refusal("memory.minimum", |vm| {
        vm.memory.dynamic = true;
        vm.memory.startup = dynmem_units::Bytes::from_mib(256);
    });
    assert!(told.starts_with("Minimum 512MiB is out of range: it must be at least 32MiB"), "{told}");
    let mut definition = plain();
    definition.memory.buffer = dynmem_units::Percent::new(1);
    assert!(matches!(definition.check(), Err(RuleError::Memory(_))));
}
