//! The table `[tcp]`: the API for other machines.
//!
//! It is whole or not at all: there is no way to say "TCP without TLS" or "TLS
//! without tokens".

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// The table `[tcp]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct TcpSection {
    /// Where the API listens; port 0 is any that is free.
    pub listen: SocketAddr,
    /// The daemon's certificate and those between it and its CA, as PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, as PEM, which only its owner may read.
    pub key: PathBuf,
    /// Who may use the API: a `NAME ROLE SHA256` on each line, which only its
    /// owner may read.
    pub tokens: PathBuf,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    listen: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    tokens: Option<PathBuf>,
}

impl TryFrom<Raw> for TcpSection {
    type Error = String;

    fn try_from(Raw { listen, certificate, key, tokens }: Raw) -> Result<Self, String> {
        let listen = listen.ok_or_else(|| missing("listen"))?;
        let path = |name: &str, path: Option<PathBuf>| absolute(name, path.ok_or_else(|| missing(name))?);
        Ok(Self {
            listen: listen.parse().map_err(|_| {
                format!(
                    "setting tcp.listen can't be {listen:?}: it must be an address and a port, such as \"0.0.0.0:7473\" \
                     or \"[::]:7473\""
                )
            })?,
            certificate: path("certificate", certificate)?,
            key: path("key", key)?,
            tokens: path("tokens", tokens)?,
        })
    }
}

fn missing(key: &str) -> String {
    format!(
        "[tcp] has no {key}: the API is served over TCP with TLS and tokens only, which takes listen, certificate, key \
         and tokens. Set tcp.{key}, or leave [tcp] out"
    )
}

fn absolute(key: &str, path: PathBuf) -> Result<PathBuf, String> {
    if Path::new(&path).is_absolute() {
        return Ok(path);
    }
    Err(format!("setting tcp.{key} can't be {:?}: it must be an absolute path", path.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const WHOLE: &str = "[tcp]\nlisten = '0.0.0.0:7473'\ncertificate = '/c.pem'\nkey = '/k.pem'\ntokens = '/t'\n";

    fn read(text: &str) -> Result<Config, String> {
        Config::from_toml(text, Path::new("/x.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn nobody_listens_on_tcp_unless_it_was_asked_for() {
        assert_eq!(Config::default().tcp, None);
        let section = read(WHOLE).expect("it is whole").tcp.expect("it is set");
        assert_eq!((section.listen.port(), section.tokens), (7473, "/t".into()));
    }

    #[test]
    fn half_of_it_is_refused_with_what_is_missing() {
        for key in ["listen", "certificate", "key", "tokens"] {
            let line = WHOLE.lines().find(|line| line.starts_with(key)).expect("it is there");
            let error = read(&WHOLE.replace(line, "")).expect_err(key);
            assert!(error.contains("/x.toml, line 1,"), "{error}");
            assert!(error.contains(&format!("[tcp] has no {key}")), "{error}");
            assert!(error.contains(&format!("Set tcp.{key}, or leave [tcp] out")), "{error}");
        }
    }

    #[test]
    fn what_is_no_address_or_no_path_is_refused() {
        for (from, to, rule) in [
            ("0.0.0.0:7473", "7473", "Setting tcp.listen can't be \"7473\": it must be an address and a port"),
            ("0.0.0.0:7473", "example.org:7473", "it must be an address and a port"),
            ("/k.pem", "k.pem", "Setting tcp.key can't be \"k.pem\": it must be an absolute path"),
            ("tokens", "token", "Unknown field `token`"),
        ] {
            let error = read(&WHOLE.replace(from, to)).expect_err(to);
            assert!(error.contains(rule), "{error}");
        }
    }

    #[test]
    fn the_example_is_right_once_it_is_uncommented() {
        let example = include_str!("../../../../packaging/dynmemd.toml");
        let (_, section) = example.split_once("# [tcp]").expect("it is in the example");
        let section: String = section.lines().map(|line| line.trim_start_matches("# ").to_owned() + "\n").collect();
        let section = read(&format!("[tcp]{section}")).expect("right").tcp.expect("it is set");
        assert_eq!(section.listen.port(), 7473);
    }
}
