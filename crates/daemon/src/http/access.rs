//! [`Access`]: how clients are met over TCP, from the files of `[tcp]`:
//! certificate and key (TLS), and tokens.
//!
//! ```text
//!  files ──Access::read──▶ watch ──▶ each new connection (TLS), each request (tokens)
//!            ▲ again at SIGHUP          └── those that are open end: they were let in by the old one
//! ```
//! Files that are wrong keep a daemon from starting. One that runs goes on with
//! what it had, and says so.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    net::{SocketAddr, TcpListener},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::OFlags;
use tokio::sync::watch;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::tokens::{BadLine, Tokens};
use crate::config::TcpSection;

/// Certificates, keys and tokens are small.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// Modes that let others than the owner at a file.
const OTHERS: u32 = 0o077;

/// Why nobody can be met over TCP.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Nobody can listen there.
    #[error("Could not listen on {address} ([tcp] listen): {source}")]
    Listen {
        /// The address in the settings.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A file can't be read.
    #[error("Could not read {} ([tcp] {key}): {source}", path.display())]
    Unreadable {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A secret that others can read is none.
    #[error("{} ([tcp] {key}) has mode {mode:04o}, so that others than its owner get at it: chmod 600 {}", path.display(), path.display())]
    Open {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What is in the file is not what belongs there.
    #[error("{} ([tcp] {key}) can't be used: {problem}", path.display())]
    Malformed {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A line of the tokens' file breaks a rule.
    #[error("Tokens file {}, line {line}: {problem}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Which rule, and what to do.
        problem: String,
    },
}

/// How clients are met over TCP.
pub(crate) struct Access {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) tokens: Tokens,
}

impl Access {
    /// From the files that the settings name.
    pub(crate) fn read(section: &TcpSection) -> Result<Self, AccessError> {
        let TcpSection { listen: _, certificate, key, tokens: path } = section;
        let text = String::from_utf8_lossy(&read("tokens", path, true)?).into_owned();
        let bad = |BadLine { line, problem }| AccessError::Token { path: path.clone(), line, problem };
        let tokens = Tokens::read(&text).map_err(bad)?;
        if tokens.is_empty() {
            tracing::warn!("{} has no token: nobody can use the API over TCP", path.display());
        }
        Ok(Self { acceptor: acceptor(certificate, key)?, tokens })
    }
}

/// TLS 1.2 or 1.3, with our certificate.
fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, AccessError> {
    let malformed = |key, path: &Path, problem| AccessError::Malformed { key, path: path.to_owned(), problem };
    let chain = CertificateDer::pem_slice_iter(&read("certificate", certificate, false)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed("certificate", certificate, format!("it is not PEM: {error}")))?;
    if chain.is_empty() {
        let none = "there is no certificate in it (-----BEGIN CERTIFICATE-----)";
        return Err(malformed("certificate", certificate, none.to_owned()));
    }
    let private = PrivateKeyDer::from_pem_slice(&read("key", key, true)?)
        .map_err(|error| malformed("key", key, format!("it has no private key as PEM: {error}")))?;
    let unfit = |error: rustls::Error| {
        malformed("certificate", certificate, format!("it and the key {} do not go together: {error}", key.display()))
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unfit)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A file's bytes; of a secret one only if nobody but its owner gets at it.
fn read(key: &'static str, path: &Path, is_secret: bool) -> Result<Vec<u8>, AccessError> {
    let unreadable = |source| AccessError::Unreadable { key, path: path.to_owned(), source };
    // Whatever is there: opening it does not wait for anybody.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err(unreadable(io::Error::other("it is not a file")));
    }
    let mode = found.mode() & 0o7777;
    if is_secret && mode & OTHERS != 0 {
        return Err(AccessError::Open { key, path: path.to_owned(), mode });
    }
    read_bounded(file).map_err(unreadable)
}

fn read_bounded(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 256 KiB"));
    }
    Ok(bytes)
}

/// A place for TCP clients to come to.
pub(crate) struct TcpApi {
    listener: TcpListener,
    pub(crate) access: watch::Receiver<Arc<Access>>,
    reload: Reload,
}

impl TcpApi {
    /// Listens, with everything that it takes read and right.
    pub(crate) fn open(section: &TcpSection) -> Result<Self, AccessError> {
        let (published, access) = watch::channel(Arc::new(Access::read(section)?));
        let failed = |source| AccessError::Listen { address: section.listen, source };
        let listener = TcpListener::bind(section.listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let reload = Reload { section: section.clone(), published: Arc::new(published) };
        Ok(Self { listener, access, reload })
    }

    /// Another handle of the listener, for a runtime.
    pub(crate) fn listener(&self) -> io::Result<TcpListener> {
        self.listener.try_clone()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    pub(crate) fn reload(&self) -> Reload {
        self.reload.clone()
    }
}

/// Reads the files of `[tcp]` again.
#[derive(Clone)]
pub struct Reload {
    section: TcpSection,
    published: Arc<watch::Sender<Arc<Access>>>,
}

impl Reload {
    /// From here on, what the files say now holds, and TCP connections that
    /// were open end. If they can't be used, nothing changes.
    pub fn reload(&self) -> Result<(), AccessError> {
        self.published.send_replace(Arc::new(Access::read(&self.section)?));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt,
    };

    use super::*;

    /// A folder with all three files, and the settings that name them.
    fn files() -> (tempfile::TempDir, TcpSection) {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("ours");
            path
        };
        let section = TcpSection {
            listen: ([127, 0, 0, 1], 0).into(),
            certificate: file("tls.pem", &made.cert.pem()),
            key: file("tls.key", &made.signing_key.serialize_pem()),
            tokens: file("tokens", "# nobody yet\n"),
        };
        (folder, section)
    }

    fn refused(section: &TcpSection) -> String {
        Access::read(section).err().expect("it is wrong").to_string()
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_with_what_to_do() {
        let (_folder, section) = files();
        Access::read(&section).expect("all is right");
        for (path, key) in [(&section.key, "key"), (&section.tokens, "tokens")] {
            for mode in [0o644, 0o640, 0o602, 0o610] {
                fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
                let shown = path.display();
                let expected = format!(
                    "{shown} ([tcp] {key}) has mode {mode:04o}, so that others than its owner get at it: chmod 600 {shown}"
                );
                assert_eq!(refused(&section), expected);
            }
            fs::set_permissions(path, Permissions::from_mode(0o400)).expect("ours");
        }
        fs::set_permissions(&section.certificate, Permissions::from_mode(0o644)).expect("ours");
        Access::read(&section).expect("a certificate is no secret");
    }

    #[test]
    fn what_does_not_belong_into_a_file_is_refused_with_its_name() {
        let (_folder, section) = files();
        let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let large = "x".repeat(300 << 10);
        for (path, text, says) in [
            (&section.tokens, "# one\nweb write 00\n", ", line 2: "),
            (&section.tokens, &large, "it is larger than 256 KiB"),
            (&section.key, "", "it has no private key as PEM"),
            (&section.key, &other, "do not go together"),
            (&section.certificate, "", "there is no certificate in it"),
            (&section.certificate, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "it is not PEM"),
        ] {
            let before = fs::read(path).expect("it is there");
            fs::write(path, text).expect("written");
            let error = refused(&section);
            assert!(error.contains(&path.display().to_string()) && error.contains(says), "{error}");
            fs::write(path, before).expect("written");
        }
        let missing = TcpSection { key: "/nowhere/tls.key".into(), ..section.clone() };
        assert!(refused(&missing).starts_with("Could not read /nowhere/tls.key ([tcp] key): "));
        let folder = TcpSection { tokens: "/".into(), ..section };
        assert!(refused(&folder).ends_with("it is not a file"));
    }
}
