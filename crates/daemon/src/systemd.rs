//! Telling the service manager how we are (`sd_notify`).

use std::{
    env,
    ffi::OsStr,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// The daemon serves.
pub(crate) const READY: &str = "READY=1";
/// The daemon is about to end.
pub(crate) const STOPPING: &str = "STOPPING=1";

/// Tells the service manager, if one asked to be told. Nobody fails if that
/// doesn't work: whoever listens notices the silence.
pub(crate) fn notify(state: &str) {
    let Some(address) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Some(address) = address_of(&address)
        && let Ok(socket) = UnixDatagram::unbound()
    {
        let _ = socket.send_to_addr(state.as_bytes(), &address);
    }
}

/// `@name` is in the abstract namespace, anything else a path.
fn address_of(text: &OsStr) -> Option<SocketAddr> {
    match text.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        _ => SocketAddr::from_pathname(text).ok(),
    }
}
