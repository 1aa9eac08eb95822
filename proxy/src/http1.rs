//! HTTP/1.1 as bytes, as far as both sides of the proxy speak it alike: where a body ends and where
//! a connection, what a field is, how a message is written. What only requests or only responses
//! have is with the [server](crate::server) and with the [client](crate::upstream).

mod chunks;
pub(crate) mod fields;
mod framing;
mod outgoing;
mod persistence;
pub(crate) mod read;

pub(crate) use chunks::{Chunks, Part, Wrong};
pub(crate) use framing::{Framing, number};
pub(crate) use outgoing::{Outgoing, Stopped};
pub(crate) use persistence::Persistence;

/// The longest head that is read, the first line included.
pub(crate) const HEAD_LIMIT: usize = 64 * 1024;
