//! Sizes and patterns of names, as people type them.

use dynmem_definition::{NamePattern, check_name};
use dynmem_units::Bytes;

use crate::assert_readable;

pub(super) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Bytes>() {
        Ok(size) => {
            let shown = size.to_string();
            assert_eq!(shown.parse(), Ok(size), "{shown} is another size");
            assert_eq!(text.to_ascii_uppercase().parse(), Ok(size), "case matters");
        }
        Err(error) => assert_readable(&error),
    }
    match text.parse::<NamePattern>() {
        Ok(pattern) => {
            assert_eq!(pattern.as_str(), text);
            assert!(pattern.matches(text) || !pattern.is_plain(), "a plain name is itself");
            assert!(pattern.matches(&text.replace(['*', '?'], "x")), "a star may be a letter");
        }
        Err(error) => assert_readable(&error),
    }
    if let Err(error) = check_name(text) {
        assert_readable(&error);
    }
}
