//! What the guest's agent and the host say to each other.
//!
//! One JSON object per line, both ways, over the virtio-serial port
//! [`PORT_NAME`]. The guest opens with [`Hello`] and pushes [`Report`]s; the
//! host answers with [`Welcome`] and tells the guest what it holds with
//! [`Assigned`].
//!
//! ```text
//!  value ──encode()──▶ line of bytes ──▶ port ──▶ chunks ──LineDecoder──▶ checked value
//! ```
//!
//! The other side is never trusted. A line is at most [`MAX_LINE_BYTES`] long,
//! a size at most [`MAX_SIZE`], a text at most [`MAX_TEXT_BYTES`] printable
//! bytes, and a value that contradicts itself is an error that says so. Peers
//! of other ages are welcome: fields that nobody here knows are skipped, and a
//! message of an unknown type decodes to `Unknown`.
//!
//! ```
//! use dynmem_agent_protocol::{GuestMessage, Hello, LineDecoder, encode};
//!
//! let hello = GuestMessage::Hello(Hello::new("0.1.0", "6.1.0"));
//! let line = encode(&hello)?;
//!
//! let mut decoder = LineDecoder::new();
//! let mut chunk = line.as_slice();
//! assert_eq!(decoder.next(&mut chunk), Some(Ok(hello)));
//! assert_eq!(decoder.next::<GuestMessage>(&mut chunk), None);
//! # Ok::<(), dynmem_agent_protocol::ProtocolError>(())
//! ```

mod line;
mod message;

pub use line::{LineDecoder, encode};
pub use message::{Assigned, GuestMessage, Hello, HostMessage, Message, ProtocolError, Reason, Report, Welcome};

use dynmem_units::Bytes;

/// The version of the protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;

/// The name of the virtio-serial port, the same on both sides.
pub const PORT_NAME: &str = "org.dynmem.agent.0";

/// The longest line, its newline included.
pub const MAX_LINE_BYTES: usize = 4096;

/// The longest text inside a message.
pub const MAX_TEXT_BYTES: usize = 128;

/// The largest size that is believed to be a size: 1 PiB.
pub const MAX_SIZE: Bytes = Bytes::new(1 << 50);
