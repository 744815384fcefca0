//! [`Tokens`]: the file of those who may use the API over TCP, as values.
//!
//! ```text
//!  # who            role     SHA-256 of the secret
//!  monitoring       read     5f2e…
//!  web-console      operate  91ab…
//! ```

use dynmem_api::{TokenDigest, TokenEntry};

/// Tokens at most: each request is compared with all of them.
const TOKENS_MAX: usize = 256;
/// A name, a role, a digest, and room for blanks and a remark.
const LINE_BYTES_MAX: usize = 256;

/// Everybody who may use the API over TCP.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Vec<TokenEntry>);

/// A line that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    /// Counted from 1.
    pub(crate) line: usize,
    /// Which rule, and what to do.
    pub(crate) problem: String,
}

impl Tokens {
    /// All lines, or the first that is wrong. What follows a `#` is a remark.
    pub(crate) fn read(text: &str) -> Result<Self, BadLine> {
        let mut entries: Vec<TokenEntry> = Vec::new();
        for (line, words) in (1..).zip(text.lines()) {
            let bad = |problem| BadLine { line, problem };
            if words.len() > LINE_BYTES_MAX {
                return Err(bad(format!("it is longer than {LINE_BYTES_MAX} bytes")));
            }
            let words = words.split('#').next().unwrap_or_default();
            if words.trim_ascii().is_empty() {
                continue;
            }
            let entry: TokenEntry = words.parse().map_err(bad)?;
            if let Some(other) = entries.iter().find(|other| other.name == entry.name || other.digest == entry.digest) {
                let sentence =
                    format!("{} has the name or the secret of {}: make another token", entry.name, other.name);
                return Err(bad(sentence));
            }
            if entries.len() == TOKENS_MAX {
                return Err(bad(format!("there are at most {TOKENS_MAX} tokens")));
            }
            entries.push(entry);
        }
        Ok(Self(entries))
    }

    /// Whose secret this is. All are compared, whichever it is.
    pub(crate) fn find(&self, secret: &str) -> Option<&TokenEntry> {
        let digest = TokenDigest::of(secret)?;
        self.0.iter().fold(None, |found, entry| if entry.digest == digest { Some(entry) } else { found })
    }

    /// True if nobody has one.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use dynmem_api::{NewToken, TokenRole};

    use super::*;

    fn token(name: &str, role: TokenRole) -> NewToken {
        NewToken::make(name, role).expect("there is randomness")
    }

    #[test]
    fn a_secret_finds_its_line_among_others_and_remarks() {
        let (one, two) = (token("one", TokenRole::Read), token("two", TokenRole::Operate));
        let text = format!("# who may\n\n{} # on the wall\n  {}\n", one.entry, two.entry);
        let tokens = Tokens::read(&text).expect("right");
        assert_eq!(tokens.find(&one.secret), Some(&one.entry));
        assert_eq!(tokens.find(&two.secret), Some(&two.entry));
        assert_eq!(tokens.find(&token("one", TokenRole::Read).secret), None);
        assert_eq!(tokens.find(""), None);
        assert!(Tokens::read("# nobody\n").expect("right").is_empty());
    }

    #[test]
    fn a_line_that_is_wrong_is_named_with_its_rule() {
        let one = token("one", TokenRole::Read).entry;
        let renamed = TokenEntry { name: "two".to_owned(), ..one.clone() };
        for (text, line, rule) in [
            (format!("{one}\n\ntwo read"), 3, "NAME ROLE SHA256"),
            (format!("{one}\n{}", token("one", TokenRole::Read).entry), 2, "one has the name or the secret of one"),
            (format!("{one}\n{renamed}"), 2, "two has the name or the secret of one"),
            ("#".repeat(LINE_BYTES_MAX + 1), 1, "longer than 256 bytes"),
        ] {
            let bad = Tokens::read(&text).expect_err(&text);
            assert!(bad.line == line && bad.problem.contains(rule), "{bad:?}");
        }
    }

    #[test]
    fn there_is_an_end_of_tokens() {
        let lines = |count: usize| {
            let line = |number| format!("{}\n", token(&format!("token{number}"), TokenRole::Read).entry);
            (0..count).map(line).collect::<String>()
        };
        Tokens::read(&lines(TOKENS_MAX)).expect("as many as there can be");
        let bad = Tokens::read(&lines(TOKENS_MAX + 1)).expect_err("one more");
        assert_eq!(bad, BadLine { line: 257, problem: "there are at most 256 tokens".to_owned() });
    }
}
