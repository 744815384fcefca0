//! [`SettingsTag`]: a word that stands for a VM's settings, and [`IfMatch`]: a
//! change that is only wanted if the settings are still those that were read.
//!
//! ```text
//!  GET /v1/vms/web01 ──ETag: "9f…"──▶ client ──If-Match: "9f…"──▶ PATCH …/memory
//!                                                 still so? done : 412, read again
//! ```

use std::{fmt, str::FromStr};

use serde::Serialize;

use crate::{SettingsView, VmView};

/// Stands for all that a person set for a VM: memory settings and autostart,
/// and none of the figures that move by themselves. The same settings have the
/// same tag, whichever daemon tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsTag(String);

impl SettingsTag {
    /// The tag of the settings in `vm`.
    pub fn of(vm: &VmView) -> Self {
        #[derive(Serialize)]
        struct Settings<'a>(&'a SettingsView, dynmem_definition::Autostart, u32);
        let settings = Settings(&vm.settings, vm.autostart.action, vm.autostart.delay_seconds);
        let text = serde_json::to_vec(&settings).expect("plain data");
        Self(format!("{:016x}", fnv1a(&text)))
    }

    /// The tag in an `ETag` header, a strong one.
    pub fn from_header(text: &str) -> Option<Self> {
        let tag = text.trim().strip_prefix('"')?.strip_suffix('"')?;
        is_opaque(tag).then(|| Self(tag.to_owned()))
    }
}

/// As a header has it, in quotation marks.
impl fmt::Display for SettingsTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// The value of an `If-Match` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: whatever the settings are.
    Any,
    /// One of these tags. Weak ones match nothing, and are left out.
    OneOf(Vec<SettingsTag>),
}

impl IfMatch {
    /// Whether a change of settings with this tag is wanted.
    pub fn allows(&self, tag: &SettingsTag) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.contains(tag),
        }
    }
}

impl FromStr for IfMatch {
    type Err = String;

    /// Reads RFC 9110's `"*" / #entity-tag`, or says what is wrong with it.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let malformed = || {
            let shown: String = text.chars().take(80).collect();
            format!(
                "If-Match can't be {shown:?}: it must be the ETag of the VM in its quotation marks, several of them with commas between, or *"
            )
        };
        let (mut tags, mut rest, mut any) = (Vec::new(), text.trim(), false);
        while !rest.is_empty() {
            let (weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |quoted| (true, quoted));
            let (tag, after) = quoted.strip_prefix('"').and_then(|tag| tag.split_once('"')).ok_or_else(malformed)?;
            if !is_opaque(tag) {
                return Err(malformed());
            }
            if !weak {
                tags.push(SettingsTag(tag.to_owned()));
            }
            any = true;
            rest = match after.trim_start().strip_prefix(',') {
                Some(next) => next.trim_start(),
                None if after.trim().is_empty() => "",
                None => return Err(malformed()),
            };
        }
        if any { Ok(Self::OneOf(tags)) } else { Err(malformed()) }
    }
}

fn is_opaque(tag: &str) -> bool {
    tag.bytes().all(|byte| byte == b'!' || (b'#'..=b'~').contains(&byte))
}

/// 64-bit FNV-1a: the same in every build and on every machine. Nobody gains by
/// a collision: who may send a tag may change the settings anyway.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use dynmem_units::Bytes;

    use super::*;

    fn vm() -> VmView {
        serde_json::from_value(serde_json::json!({
            "name": "web01", "state": "off", "assigned_bytes": 0, "demand_bytes": 0, "target_bytes": 0,
            "vcpus": 1, "integration": "none", "driver": {"state": "ok"},
            "settings": {"dynamic": true, "startup_bytes": 512 << 20, "minimum_bytes": 256 << 20,
                "maximum_bytes": 1_u64 << 30, "buffer_percent": 20, "weight": 5000, "demand_model": "working-set"}
        }))
        .expect("a view")
    }

    #[test]
    fn the_tag_follows_what_a_person_sets_and_nothing_else() {
        let tag = SettingsTag::of(&vm());
        assert_eq!(tag.to_string(), "\"bacadd76d38a779e\"", "the same in every build: clients keep tags");
        let live = VmView { assigned_bytes: Bytes::MIB, state: crate::VmState::Running, ..vm() };
        assert_eq!(SettingsTag::of(&live), tag);
        let mut counting = vm();
        counting.autostart.starts_in_seconds = Some(5);
        assert_eq!(SettingsTag::of(&counting), tag);
        let (mut memory, mut delayed) = (vm(), vm());
        memory.settings.minimum_bytes = Bytes::from_mib(128);
        delayed.autostart.delay_seconds = 5;
        assert!(SettingsTag::of(&memory) != tag && SettingsTag::of(&delayed) != tag);
    }

    #[test]
    fn a_condition_is_a_list_of_tags_or_anything() {
        let tag = SettingsTag::of(&vm());
        let allows = |text: &str| text.parse::<IfMatch>().map(|condition| condition.allows(&tag));
        assert_eq!(allows(" * "), Ok(true));
        assert_eq!(allows(&tag.to_string()), Ok(true));
        assert_eq!(allows(&format!("\"a,b\" , {tag},")), Ok(true));
        assert_eq!(allows("\"other\""), Ok(false));
        assert_eq!(allows(&format!("W/{tag}")), Ok(false), "a weak tag is never the same");
        assert_eq!(SettingsTag::from_header(&tag.to_string()), Some(tag.clone()));
        assert_eq!(SettingsTag::from_header("W/\"a\""), None);
    }

    #[test]
    fn what_is_no_condition_is_told_with_the_form() {
        for text in ["", " ", "abc", "\"abc", "\"a\" \"b\"", "\"a\", *", "\"a b\"", "W/abc", ","] {
            let error = text.parse::<IfMatch>().expect_err(text);
            assert!(error.contains("must be the ETag of the VM"), "{text}: {error}");
        }
        let long = "x".repeat(10_000);
        assert!(long.parse::<IfMatch>().expect_err("no tag").len() < 300);
    }
}
