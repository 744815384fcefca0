//! [`QmpError`]: why a call has no answer.

use std::{io, path::PathBuf, time::Duration};

/// Why a call has no answer. Only [`QmpError::Closed`] says that the
/// connection is over; after all others the next call may succeed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The connection is over: QEMU has exited or closed its socket.
    #[error("QEMU has closed its control connection")]
    Closed,
    /// QEMU did not answer in time.
    #[error("QEMU did not answer {command} within {}ms", waited.as_millis())]
    Timeout {
        /// The command, or `greeting` while connecting.
        command: &'static str,
        /// How long the call waited.
        waited: Duration,
    },
    /// QEMU answered that it will not.
    #[error("QEMU refused {command}: {desc}")]
    Refused {
        /// The command.
        command: &'static str,
        /// QEMU's class of errors, such as `GenericError` or `DeviceNotActive`.
        class: String,
        /// QEMU's own sentence.
        desc: String,
    },
    /// QEMU's answer is not what this command's answer should be.
    #[error("QEMU's answer to {command} is not understood: {problem}")]
    Protocol {
        /// The command, or `greeting` while connecting.
        command: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The socket can't be connected.
    #[error("Can't connect to QEMU's control socket {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
