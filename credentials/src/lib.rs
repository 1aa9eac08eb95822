//! Where secrets come from, and how they are rendered for the wire.
//!
//! The life of a secret:
//!
//! ```text
//! Locator ─→ Store ─→ Secret ─→ Injection ─→ Rendered ─→ (the request) ─→ zeroized
//! "env://K"   fetch    bytes     "Bearer {}"   header value
//! ```
//!
//! A [`Locator`] says where a secret is; it is configuration and may be shown. A [`Secret`] is
//! what is there; it cannot be printed or serialised, and is overwritten when dropped. An
//! [`Injection`] says where on a request it goes. A [`Credential`] ties the three together for
//! one route and keeps the rendered form ready, so that a request costs no fetch and no format.

#![forbid(unsafe_code)]

mod credential;
mod env;
mod error;
mod file;
mod injection;
mod keyring;
mod locator;
mod pattern;
mod secret;
mod source;
mod store;

pub use credential::{Credential, Loaded};
pub use error::{Error, ParseError};
pub use injection::{EscapedSecret, Injection, Rendered};
pub use locator::Locator;
pub use pattern::Pattern;
pub use secret::Secret;
pub use store::Store;
