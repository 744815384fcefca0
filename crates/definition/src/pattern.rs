//! [`NamePattern`]: naming several VMs at once; and [`wildcard`], the same for
//! any text.

use std::{fmt, str::FromStr};

/// The longest pattern, in bytes: names have at most 63.
const PATTERN_BYTES_MAX: usize = 255;

/// A pattern of VM names: `*` stands for any number of characters, `?` for
/// exactly one, everything else for itself. Case matters, unless the pattern
/// begins with `(?i)`, and the whole name has to match, so a plain name matches
/// that VM only.
///
/// ```
/// # use dynmem_definition::NamePattern;
/// let pattern: NamePattern = "Dev-*".parse()?;
/// assert!(pattern.matches("Dev-web01"));
/// assert!(!pattern.matches("dev-web01"));
/// assert!("(?i)Dev-*".parse::<NamePattern>()?.matches("dev-web01"));
/// # Ok::<(), dynmem_definition::NamePatternError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    text: String,
    ignores_case: bool,
}

/// Before a pattern: the case of letters does not matter in it.
const IGNORING_CASE: &str = "(?i)";

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
        let (pattern, name) = (self.text.as_bytes(), name.as_bytes());
        if self.ignores_case {
            return fits(pattern, name, |a, b| a.eq_ignore_ascii_case(&b));
        }
        fits(pattern, name, |a, b| a == b)
    }

    /// True if the pattern is a plain name: no `*`, no `?`.
    pub fn is_plain(&self) -> bool {
        !self.text.contains(['*', '?'])
    }

    /// The pattern as it was written, without what may stand before it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// True if the whole of `text` fits `pattern`, in which `*` stands for any number
/// of characters and `?` for one byte. The case of ASCII letters does not matter.
///
/// ```
/// assert!(dynmem_definition::wildcard("* pressure", "Average Pressure"));
/// assert!(!dynmem_definition::wildcard("pressure", "Average Pressure"));
/// ```
pub fn wildcard(pattern: &str, text: &str) -> bool {
    fits(pattern.as_bytes(), text.as_bytes(), |a, b| a.eq_ignore_ascii_case(&b))
}

fn fits(pattern: &[u8], text: &[u8], same: impl Fn(u8, u8) -> bool) -> bool {
    // Greedy with one way back: on a mismatch, the last star takes one
    // character more. At most pattern × text steps, whatever the input.
    let (mut at, mut seen) = (0, 0);
    let mut last_star = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                last_star = Some((at, seen));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || same(*wanted, text[seen]) => {
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

impl FromStr for NamePattern {
    type Err = NamePatternError;

    fn from_str(text: &str) -> Result<Self, NamePatternError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*?".contains(&byte);
        let (ignores_case, text) = match text.strip_prefix(IGNORING_CASE) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(NamePatternError(text.chars().take(80).collect()));
        }
        Ok(Self { text: text.to_owned(), ignores_case })
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
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
            ("(?i)dev-*", "Dev-1", true),
            ("(?i)DEV?1", "Dev-1", true),
            ("(?i)dev-1", "Dev-2", false),
            ("w.b", "web", false), // a dot is a dot, not a regular expression's
        ] {
            assert_eq!(pattern(text).matches(name), expected, "{text} on {name}");
        }
    }

    #[test]
    fn what_no_name_could_match_is_not_a_pattern() {
        for text in ["", "(?i)", "a(?i)b", "a b", "a/b", "[ab]", "ü*", &"a".repeat(256)] {
            let error = text.parse::<NamePattern>().expect_err(text);
            assert!(error.to_string().contains("is not a pattern of VM names"), "{error}");
        }
        assert!(pattern("web01").is_plain() && !pattern("web?").is_plain());
        assert!(pattern("(?i)web01").is_plain() && pattern("(?i)web01").as_str() == "web01");
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
