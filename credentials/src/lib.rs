//! Where secrets come from, and how they are rendered for the wire.
//!
//! The life of a secret:
//!
//! ```text
//! Locator ─→ Store ─→ Fetched ─→ Injection ─→ Loaded ─→ (the request) ─→ zeroized
//! "env://K"   Source   Secret     "Bearer {}"   header value
//!                ↑                                │
//!                └── again: expiry, change, refusal, reload
//! ```
//!
//! A [`Locator`] says where a secret is; it is configuration and may be shown. A [`Secret`] is
//! what is there; it cannot be printed or serialised, and is overwritten when dropped. An
//! [`Injection`] says where on a request it goes. A [`Credential`] ties the three together for
//! one route and keeps the rendered form ready, so that a request costs no fetch and no format.
//!
//! Secrets are in memory of their own, [`SecretBuf`]: left out of core dumps where the system can,
//! kept from the swap as far as limits allow, and overwritten after use. So are the forms in which
//! they are sent.
//!
//! Not covered is what others copy on the way: the library of the keyring, those of TLS and HTTP/2,
//! JSON while it is read, an interpreter whose program gives a value. A child that is forked has
//! a copy of everything.

#![forbid(unsafe_code)]

mod certificates;
mod credential;
mod environment;
mod error;
mod injection;
mod loaded;
mod locator;
mod memory;
mod pattern;
mod private;
mod schedule;
mod secret;
mod source;
mod store;
mod tls_fault;
mod watch;

pub use certificates::{
    fault_of_roots, open_pem, read_certificates, root_certificates, system_roots,
};
pub use credential::Credential;
pub use environment::{HoldStill, hold_environment_by};
pub use error::{Error, ParseError};
pub use injection::{EscapedSecret, Header, Injection, Rendered};
pub use loaded::Loaded;
pub use locator::{Locator, Options};
pub use memory::SecretBuf;
pub use pattern::Pattern;
pub use private::{NotPrivate, read_private};
pub use schedule::Doubt;
pub use secret::Secret;
pub use source::keyring::{names, store};
pub use source::oauth2::{Grant, OAuth2Config};
pub use source::provided::{Provide, Provided};
pub use source::vault::{VaultConfig, VaultField};
pub use source::{Fault, Fetched, innermost};
pub use store::Store;
pub use tls_fault::TlsFault;
