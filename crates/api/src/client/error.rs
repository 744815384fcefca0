//! Why a call gave no answer: [`ClientError`].

use std::{io, path::PathBuf};

use super::MAX_RESPONSE_BYTES;
use crate::Problem;

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("No daemon listens on {socket}: start dynmemd, or name its socket with --socket or DYNMEM_SOCKET")]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket is not for this user.
    #[error("Permission to use {socket} was denied: be in the group dynmem, or be root")]
    PermissionDenied {
        /// The socket.
        socket: PathBuf,
    },
    /// Anything else that keeps us from connecting.
    #[error("Could not connect to {at}: {source}")]
    Connect {
        /// The socket, or the URL.
        at: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Somebody answers who can't show that he is the daemon.
    #[error(
        "The certificate of {at} is not trusted: {reason}. Name the CA that it is from with --ca or DYNMEM_CA, and a host that it is for"
    )]
    Untrusted {
        /// The URL.
        at: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// The connection ended early or does not speak HTTP.
    #[error("The connection to {at} broke: {source}. The request may have been carried out")]
    Broken {
        /// The socket, or the URL.
        at: String,
        /// What the transport says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{at} gave no answer within {seconds} s. The request may still be carried out")]
    TimedOut {
        /// The socket, or the URL.
        at: String,
        /// How long we waited.
        seconds: u64,
    },
    /// An answer above [`MAX_RESPONSE_BYTES`].
    #[error("{at} answered with more than {MAX_RESPONSE_BYTES} bytes: is it dynmemd?")]
    TooLarge {
        /// The socket, or the URL.
        at: String,
    },
    /// An answer that is not what this call gives.
    #[error("{at} gave an answer that is not understood ({status}): {reason}. Is it dynmemd's, of this version?")]
    Garbage {
        /// The socket, or the URL.
        at: String,
        /// The HTTP status of the answer.
        status: u16,
        /// What is wrong with it.
        reason: String,
    },
    /// The daemon refused, and says why.
    #[error(transparent)]
    Refused(#[from] Problem),
}

impl ClientError {
    /// True if no daemon could be asked at all, so that nothing was done.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::NotRunning { .. } | Self::PermissionDenied { .. } | Self::Connect { .. } | Self::Untrusted { .. }
        )
    }
}
