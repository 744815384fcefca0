//! The fuzzer: libFuzzer around the target that `DYNMEM_FUZZ_TARGET` names.
//! Built and run by `cargo xtask fuzz`.

#![no_main]

use std::{env, sync::LazyLock};

use dynmem_fuzz::Target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env::var("DYNMEM_FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).unwrap_or_else(|| panic!("DYNMEM_FUZZ_TARGET is {name:?}: it has to name a target"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET.judge(data));
