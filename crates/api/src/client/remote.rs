//! [`Remote`]: a daemon on another machine, reached by TLS and let in by a token.
//!
//! Everything is read and checked once, when the client is made: the URL, the
//! certificates that are trusted, the token's form. Nothing is connected yet.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper::{
    Uri,
    header::{HeaderValue, InvalidHeaderValue},
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use super::ClientError;
use crate::DEFAULT_PORT;

/// Where distributions keep the certificates that the system trusts; the first
/// that is there is read.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",             // openSUSE
    "/etc/ssl/cert.pem",                  // Alpine
];

/// Why a URL, a token or a CA can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// It is `http://`.
    #[error(
        "{url} can't be used: without TLS, the token would go to whoever listens on the way. Use https://, or --socket on the daemon's own machine"
    )]
    Plain {
        /// What was given.
        url: String,
    },
    /// It is no `https://HOST` or `https://HOST:PORT`.
    #[error("{url:?} can't be used: a daemon's URL is https://HOST or https://HOST:PORT, and nothing else")]
    Url {
        /// What was given.
        url: String,
    },
    /// It can't stand in a request's head.
    #[error("The token can't be used: it is one line of plain characters, dynmem_ and 64 hexadecimal digits")]
    Token(#[from] InvalidHeaderValue),
    /// The trusted certificates can't be read.
    #[error("Could not read the CA's certificate {}: {problem}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is nothing to trust.
    #[error(
        "This system has no file of trusted certificates: name the CA of the daemon's certificate with --ca or DYNMEM_CA"
    )]
    NoRoots,
    /// TLS can't be set up.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A daemon on another machine.
pub(super) struct Remote {
    /// `HOST:PORT`, for people and for the request's head.
    pub(super) authority: String,
    pub(super) authorization: HeaderValue,
    host: String,
    port: u16,
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl Remote {
    pub(super) fn new(url: &str, token: &str, ca: Option<&Path>) -> Result<Self, RemoteError> {
        let (host, port) = host_and_port(url)?;
        let name = ServerName::try_from(host.clone()).map_err(|_| RemoteError::Url { url: url.to_owned() })?;
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.trim_ascii()))?;
        authorization.set_sensitive(true);
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(ca)?)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { authority, authorization, host, port, name, connector })
    }

    pub(super) async fn connect(&self) -> Result<TlsStream<TcpStream>, ClientError> {
        let failed = |source| ClientError::Connect { at: self.to_string(), source };
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        self.connector.connect(self.name.clone(), stream).await.map_err(|error| match certificate_fault(&error) {
            Some(reason) => ClientError::Untrusted { at: self.to_string(), reason },
            None => failed(error),
        })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

/// Of `https://HOST[:PORT]`; an IPv6 address without its brackets.
fn host_and_port(url: &str) -> Result<(String, u16), RemoteError> {
    let bad = || RemoteError::Url { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let authority = uri.authority().ok_or_else(bad)?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") => return Err(RemoteError::Plain { url: url.to_owned() }),
        _ => return Err(bad()),
    }
    let is_bare = uri.path() == "/" && uri.query().is_none() && !authority.as_str().contains('@');
    // Not `authority.port()`: to that, a port out of range is none at all.
    let port = match authority.as_str().strip_prefix(authority.host()) {
        Some("") | None => DEFAULT_PORT,
        Some(rest) => rest.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(bad)?,
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    if is_bare && !host.is_empty() { Ok((host.to_owned(), port)) } else { Err(bad()) }
}

/// What is trusted: this CA, or what the system trusts.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, RemoteError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        let unfit = |problem: String| RemoteError::Ca { path: path.to_owned(), problem };
        for certificate in read(path).map_err(|error| unfit(error.to_string()))? {
            roots.add(certificate).map_err(|error| unfit(error.to_string()))?;
        }
        return if roots.is_empty() { Err(unfit("there is no certificate in it (PEM)".to_owned())) } else { Ok(roots) };
    }
    let bundle = SYSTEM_BUNDLES.iter().find_map(|path| read(Path::new(path)).ok());
    roots.add_parsable_certificates(bundle.unwrap_or_default()); // some of a system's may be too old for us
    if roots.is_empty() { Err(RemoteError::NoRoots) } else { Ok(roots) }
}

fn read(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let bytes = fs::read(path)?;
    CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(io::Error::other)
}

/// Why the daemon's certificate was refused, if that is what went wrong.
fn certificate_fault(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    match inner {
        rustls::Error::InvalidCertificate(reason) => Some(reason.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_perhaps_a_port() {
        let of = |url: &str| host_and_port(url).map_err(|error| error.to_string());
        assert_eq!(of("https://host1"), Ok(("host1".to_owned(), 7473)));
        assert_eq!(of("https://host1.example.org:8443/"), Ok(("host1.example.org".to_owned(), 8443)));
        assert_eq!(of("https://[::1]:9"), Ok(("::1".to_owned(), 9)));
        let refused = of("http://host1:7473").expect_err("no TLS");
        assert!(refused.starts_with("http://host1:7473 can't be used: without TLS, the token would go"), "{refused}");
        for bad in [
            "",
            "host1",
            "host1:7473",
            "ftp://host1",
            "https://",
            "https://host1/v1",
            "https://host1?x",
            "https://a@host1",
            "https://host1:99999",
            "https://host1:",
        ] {
            assert!(of(bad).expect_err(bad).contains("a daemon's URL is https://HOST"), "{bad}");
        }
    }

    #[test]
    fn a_token_or_a_ca_that_can_not_be_used_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let empty = folder.path().join("ca.pem");
        fs::write(&empty, "").expect("written");
        let of = |token: &str, ca: &Path| Remote::new("https://h", token, Some(ca)).expect_err("refused").to_string();
        assert!(of("two\nlines", &empty).starts_with("The token can't be used"));
        assert!(of("x", &empty).ends_with("ca.pem: there is no certificate in it (PEM)"));
        assert!(of("x", Path::new("/nowhere")).starts_with("Could not read the CA's certificate /nowhere: "));
    }
}
