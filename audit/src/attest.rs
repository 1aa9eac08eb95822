//! Signing what a session's log comes to, and checking that.
//!
//! The signature is ECDSA P-256 with SHA-256 over an in-toto statement, in a DSSE envelope, in a
//! Sigstore bundle (`audit-attestation.bundle` in the session's directory). The statement names the
//! session, its command, begin and end, and what its log comes to. This package's own also have
//! the digest of all that is kept of the session, so that nothing else of it can be changed either.

mod bundle;
mod key;
mod pbes2;
mod sign;
mod statement;
mod verify;

pub use bundle::{BUNDLE_FILENAME, PAYLOAD_TYPE, pae};
pub use key::{KeyFault, PublicKey, SigningKey};
pub use sign::{Signed, sign, sign_into};
pub use statement::PREDICATE_TYPE;
pub use verify::{Attested, verify, verify_in};

#[cfg(test)]
mod tests;
