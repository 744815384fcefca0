//! [`NamePattern`]: naming several VMs at once.

use std::{fmt, str::FromStr};

/// The longest pattern, in bytes: names have at most 63.
const PATTERN_BYTES_MAX: usize = 255;

/// A pattern of VM names: `*` stands for any number of characters, `?` for
/// exactly one, everything else for itself. Case matters, and the whole name
/// has to match, so a plain name matches that VM only.
///
/// ```
/// # use dynmem_definition::NamePattern;
/// let pattern: NamePattern = "Dev-*".parse()?;
/// assert!(pattern.matches("Dev-web01"));
/// assert!(!pattern.matches("dev-web01"));
/// # Ok::<(), dynmem_definition::NamePatternError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(String);

/// Why a text is not a pattern of names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a pattern of VM names: write 1 to 255 letters, digits, `-`, `_` and `.`, with `*` for any \
     characters and `?` for exactly one"
)]
pub struct NamePatternError(String);

impl NamePattern {
    /// True if the whole of `name` fits.
    pub fn matches(&self, name: &str) -> bool {
        // Greedy with one way back: on a mismatch, the last star takes one
        // character more. At most pattern × name steps, whatever the input.
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut seen) = (0, 0);
        let mut last_star = None;
        while seen < name.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    last_star = Some((at, seen));
                    at += 1;
                }
                Some(wanted) if *wanted == b'?' || *wanted == name[seen] => {
                    at += 1;
                    seen += 1;
                }
                _ => {
                    let Some((star, taken)) = last_star else { return false };
                    last_star = Some((star, taken + 1));
                    (at, seen) = (star + 1, taken + 1);
                }
            }
        }
        pattern[at..].iter().all(|rest| *rest == b'*')
    }

    /// True if the pattern is a plain name: no `*`, no `?`.
    pub fn is_plain(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NamePattern {
    type Err = NamePatternError;

    fn from_str(text: &str) -> Result<Self, NamePatternError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*?".contains(&byte);
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(NamePatternError(text.chars().take(80).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> NamePattern {
        text.parse().expect("a pattern")
    }

    /// The definition of a match, as short as it can be said.
    fn matches_by_definition(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => (0..=name.len()).any(|taken| matches_by_definition(rest, &name[taken..])),
            [wanted, rest @ ..] => {
                name.first().is_some_and(|byte| *wanted == b'?' || wanted == byte)
                    && matches_by_definition(rest, &name[1..])
            }
        }
    }

    #[test]
    fn a_pattern_takes_the_whole_name_and_minds_case() {
        for (text, name, expected) in [
            ("Dev-*", "Dev-", true),
            ("Dev-*", "Dev-web.01", true),
            ("Dev-*", "dev-web01", false),
            ("Dev-*", "xDev-1", false),
            ("web?1", "web01", true),
            ("web?1", "web1", false),
            ("*", "anything", true),
            ("web01", "web01", true),
            ("web01", "web011", false),
            ("*-db-*", "eu-db-1", true),
            ("w.b", "web", false), // a dot is a dot, not a regular expression's
        ] {
            assert_eq!(pattern(text).matches(name), expected, "{text} on {name}");
        }
    }

    #[test]
    fn what_no_name_could_match_is_not_a_pattern() {
        for text in ["", "a b", "a/b", "[ab]", "ü*", &"a".repeat(256)] {
            let error = text.parse::<NamePattern>().expect_err(text);
            assert!(error.to_string().contains("is not a pattern of VM names"), "{error}");
        }
        assert!(pattern("web01").is_plain() && !pattern("web?").is_plain());
    }

    #[test]
    fn a_hostile_pattern_is_still_quick() {
        // Backtracking without bound would need about 2⁶⁰ steps here.
        let hostile = pattern(&"*a".repeat(60));
        assert!(!hostile.matches(&format!("{}b", "a".repeat(62))));
    }

    proptest! {
        #[test]
        fn matching_agrees_with_its_definition(text in "[ab*?]{1,8}", name in "[ab]{0,8}") {
            prop_assert_eq!(
                pattern(&text).matches(&name),
                matches_by_definition(text.as_bytes(), name.as_bytes())
            );
        }
    }
}
