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
//! Not covered: core dumps. What is in use is in this process's memory, and keeping it out of a
//! dump takes system calls that this crate, which forbids them, does not make; set the dump's
//! size limit to 0 where that matters. Overwritten are the buffers of this crate; what a
//! keyring's library, a TLS library or an interpreter copied on the way is not.

#![forbid(unsafe_code)]

mod credential;
mod error;
mod injection;
mod loaded;
mod locator;
mod memory;
mod pattern;
mod schedule;
mod secret;
mod source;
mod store;
mod watch;

pub use credential::Credential;
pub use error::{Error, ParseError};
pub use injection::{EscapedSecret, Header, Injection, Rendered};
pub use loaded::Loaded;
pub use locator::{Locator, Options};
pub use memory::SecretBuf;
pub use pattern::Pattern;
pub use secret::Secret;
pub use source::keyring::{names, store};
pub use source::oauth2::{Grant, OAuth2Config};
pub use source::provided::{Provide, Provided};
pub use source::vault::{VaultConfig, VaultField};
pub use source::{Fault, Fetched};
pub use store::Store;
