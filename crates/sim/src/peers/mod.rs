//! The peers: other memory managers, written from their descriptions.
