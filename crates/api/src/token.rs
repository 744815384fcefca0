//! Tokens: who may use the API over TCP, and for what.
//!
//! A client shows a secret; the daemon's file has its SHA-256 only
//! ([`TokenEntry`], a line). Secrets are 32 random bytes ([`NewToken`]) and
//! nothing else is taken for one: a digest without salt or work is enough for
//! what nobody can guess.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

use dynmem_definition::check_name;
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use serde::Serialize;
use subtle::ConstantTimeEq;

/// What every secret begins with, so that people and scanners know one.
const PREFIX: &str = "dynmem_";
/// Random bytes of a secret, and bytes of a digest.
const BYTES: usize = 32;

/// What a token is good for; the greater one includes the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenRole {
    /// Looking: everything that changes nothing.
    Read,
    /// Everything.
    Operate,
}

impl fmt::Display for TokenRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Operate => "operate",
        })
    }
}

impl FromStr for TokenRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "read" => Ok(Self::Read),
            "operate" => Ok(Self::Operate),
            _ => Err(format!("role {text:?} is unknown: it is read or operate")),
        }
    }
}

/// What is kept of a secret: its SHA-256. Two are compared in constant time.
#[derive(Clone, Copy, Debug)]
pub struct TokenDigest([u8; BYTES]);

impl TokenDigest {
    /// Of a secret; none if this can't be one: `dynmem_` and 64 hexadecimal
    /// digits are.
    pub fn of(secret: &str) -> Option<Self> {
        let digits = secret.strip_prefix(PREFIX)?;
        from_hex(digits)?;
        let digest = digest::digest(&digest::SHA256, secret.as_bytes());
        digest.as_ref().try_into().ok().map(Self)
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenDigest {}

/// A line of the daemon's file: `NAME ROLE SHA256`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEntry {
    /// Who has it, for people: 1 to 63 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What it is good for.
    pub role: TokenRole,
    /// What is kept of its secret.
    pub digest: TokenDigest,
}

impl FromStr for TokenEntry {
    type Err = String;

    /// The error says which rule the line breaks, and never what its third
    /// word was: somebody may have put the secret there.
    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [name, role, digest] = words[..] else {
            return Err(format!(
                "a line has three words, NAME ROLE SHA256, and this one has {}: `dynmem token new` writes such a line",
                words.len()
            ));
        };
        check_name(name).map_err(|rule| rule.to_string())?;
        let digest = from_hex(digest).map(TokenDigest).ok_or_else(|| {
            "the third word is not a SHA-256, 64 hexadecimal digits; the secret itself does not belong here: `dynmem \
             token new` writes the line"
                .to_owned()
        })?;
        Ok(Self { name: name.to_owned(), role: role.parse()?, digest })
    }
}

impl fmt::Display for TokenEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.role, hex(&self.digest.0))
    }
}

/// A token that was made just now: the only time that its secret is known.
#[derive(Clone)]
pub struct NewToken {
    /// For the client.
    pub secret: String,
    /// For the daemon's file.
    pub entry: TokenEntry,
}

impl NewToken {
    /// Made of the system's randomness. The error is a sentence: a name that is
    /// none, or a system without randomness.
    pub fn make(name: &str, role: TokenRole) -> Result<Self, String> {
        check_name(name).map_err(|rule| rule.to_string())?;
        let mut bytes = [0; BYTES];
        let none = || "The system gave no random bytes: no token was made".to_owned();
        SystemRandom::new().fill(&mut bytes).map_err(|_| none())?;
        let secret = format!("{PREFIX}{}", hex(&bytes));
        let digest = TokenDigest::of(&secret).ok_or_else(none)?;
        Ok(Self { secret, entry: TokenEntry { name: name.to_owned(), role, digest } })
    }
}

fn hex(bytes: &[u8; BYTES]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}

fn from_hex(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != 2 * BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_found_by_its_line_and_no_other_secret_is() {
        let made = NewToken::make("web-console", TokenRole::Read).expect("there is randomness");
        let other = NewToken::make("web-console", TokenRole::Read).expect("there is randomness");
        let line = made.entry.to_string();
        assert!(!line.contains(&made.secret[PREFIX.len()..]), "the secret is not at rest");
        let entry: TokenEntry = line.parse().expect("our own line");
        assert_eq!(entry, made.entry);
        assert_eq!(TokenDigest::of(&made.secret), Some(entry.digest));
        assert_ne!(TokenDigest::of(&other.secret), Some(entry.digest));
        assert!(NewToken::make("two words", TokenRole::Read).is_err());
    }

    #[test]
    fn a_digest_is_sha_256_of_the_whole_secret() {
        // printf dynmem_000…0 | sha256sum
        let secret = format!("dynmem_{}", "0".repeat(64));
        let digest = TokenDigest::of(&secret).expect("it has the form");
        assert_eq!(hex(&digest.0), "4dcba5210484fdc51fe9b98fb9021196f8e02c743b3d05ea84c659fe2a70e7d1");
    }

    #[test]
    fn what_somebody_could_have_thought_up_is_no_secret() {
        let good = format!("dynmem_{}", "5a".repeat(32));
        assert!(TokenDigest::of(&good).is_some());
        for bad in ["", "dynmem_", "hunter2", &good[1..], &good[..good.len() - 1], &format!("{good}0"), "dynmem_é"] {
            assert!(TokenDigest::of(bad).is_none(), "{bad}");
        }
        assert!(TokenDigest::of(&good.replace('a', "g")).is_none());
    }

    #[test]
    fn a_line_that_is_none_says_why_and_tells_no_secret() {
        let secret = format!("dynmem_{}", "5a".repeat(32));
        let digest = "5a".repeat(32);
        for (line, rule) in [
            ("web read".to_owned(), "and this one has 2"),
            (format!("web read {digest} x"), "and this one has 4"),
            (format!("web write {digest}"), "role \"write\" is unknown: it is read or operate"),
            (format!("-web read {digest}"), "starts with a letter or digit"),
            (format!("web read {secret}"), "the secret itself does not belong here"),
            (format!("web read {}", &digest[1..]), "64 hexadecimal digits"),
        ] {
            let error = line.parse::<TokenEntry>().expect_err(&line);
            assert!(error.contains(rule) && !error.contains(&digest[..32]), "{line}: {error}");
        }
        assert!(format!("web\toperate  {digest}").parse::<TokenEntry>().is_ok());
    }

    #[test]
    fn who_may_operate_may_read() {
        assert!(TokenRole::Operate > TokenRole::Read);
    }
}
