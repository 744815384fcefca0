//! Definitions: files that people write, and bodies that programs send.

use std::path::Path;

use dynmem_definition::{Network, VmDefinition};

use crate::assert_readable;

pub(super) fn toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match VmDefinition::from_toml(text, Path::new("web01.toml")) {
        Ok(definition) => assert_sound(&definition),
        Err(error) => {
            assert_readable(&error);
            let lines = text.matches('\n').count() + 1;
            assert!((1..=lines).contains(&error.line), "line {} of {lines}", error.line);
            assert!((1..=text.chars().count() + 1).contains(&error.column), "column {}", error.column);
        }
    }
}

pub(super) fn json(data: &[u8]) {
    // As the daemon's routes read it: serde's types, then the rules.
    let Ok(definition) = serde_json::from_slice::<VmDefinition>(data) else { return };
    match definition.check() {
        Ok(()) => assert_sound(&definition),
        Err(error) => {
            assert_readable(&error);
            assert_eq!(definition.to_toml().err(), Some(error), "what is refused is not written");
        }
    }
}

/// A checked definition is the same after it was written and read, and holds
/// nothing that would become another argument, file or line.
fn assert_sound(definition: &VmDefinition) {
    let text = definition.to_toml().expect("what passes can be written");
    let read = VmDefinition::from_toml(&text, Path::new("web01.toml")).expect("and read");
    assert_eq!(read, *definition);
    let body = serde_json::to_vec(definition).expect("plain data");
    assert_eq!(serde_json::from_slice::<VmDefinition>(&body).expect("what we wrote"), *definition);

    let name = &definition.name;
    assert!(
        !name.is_empty() && name.len() <= 63 && !name.starts_with('.') && !name.contains(['/', '\0', ',']),
        "{name:?}"
    );
    assert!((1..=255).contains(&definition.vcpus));
    let memory = &definition.memory;
    assert!(!memory.dynamic || (memory.minimum <= memory.startup && memory.startup <= memory.maximum));
    for disk in &definition.disks {
        assert!(disk.path.is_absolute() && !disk.path.as_os_str().as_encoded_bytes().contains(&0));
    }
    let arguments = definition.extra_args.iter().chain(&definition.boot.cmdline);
    assert!(arguments.clone().all(|argument| !argument.contains('\0')));
    let options = definition.networks.iter().flat_map(|network| match network {
        Network::User { forward, mac } => forward.iter().chain(mac).collect::<Vec<_>>(),
        Network::Tap { device: end, mac } | Network::Bridge { bridge: end, mac } => {
            std::iter::once(end).chain(mac).collect()
        }
    });
    for option in options.chain(&definition.vnc) {
        assert!(!option.contains([',', '\0', '\n']), "{option:?} would be two options");
    }
}
