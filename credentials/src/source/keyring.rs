//! The OS keyring: Secret Service on Linux, the platform's own store elsewhere. What Python's
//! `keyring` and `secret-tool` write is read here, and the reverse.
//!
//! Each inquiry opens the store anew: it may have been started, unlocked or restarted since the
//! last one, and one that waits for its user holds up no other.

use std::collections::HashMap;
use std::sync::Arc;

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::{Engine as _, decoded_len_estimate};
use keyring_core::{CredentialStore, Entry, Error};

use super::{Fault, Fetching, Inquiry, Source, innermost};
use crate::locator::KEYRING_SERVICE;
use crate::{Locator, Secret, SecretBuf};

/// See the module.
pub(super) struct Place {
    pub(super) service: String,
    pub(super) account: String,
    pub(super) is_encoded: bool,
}

impl Source for Place {
    fn fetch<'a>(&'a self, inquiry: &'a Inquiry) -> Fetching<'a> {
        let (service, account) = (self.service.clone(), self.account.clone());
        let is_encoded = self.is_encoded;
        Box::pin(inquiry.off_thread(move || {
            let stored = read(&service, &account)?;
            let secret = given(stored, is_encoded)?;
            secret.map(Into::into).ok_or_else(|| missing(&service, &account))
        }))
    }
}

fn read(service: &str, account: &str) -> Result<Secret, Fault> {
    match entry(service, account)?.get_secret() {
        Ok(bytes) => Ok(Secret::new(bytes)),
        Err(Error::NoEntry) => Err(missing(service, account)),
        Err(error) => Err(unavailable(&error)),
    }
}

fn missing(service: &str, account: &str) -> Fault {
    let is_plain = service == KEYRING_SERVICE;
    let name = if is_plain { account } else { &format!("keyring://{service}/{account}") };
    Fault::Missing(format!("store it with: nono-py credential set {name}"))
}

/// The secret in what is stored, if there is one.
fn given(stored: Secret, is_encoded: bool) -> Result<Option<Secret>, Fault> {
    let secret = if is_encoded { decode(&stored)? } else { stored };
    Ok(Some(secret).filter(|secret| !secret.is_empty()))
}

/// What the libraries of Go stored: marked, and in Base64; or as it is, where they found no need.
fn decode(stored: &Secret) -> Result<Secret, Fault> {
    let Some(encoded) = stored.expose().strip_prefix(b"go-keyring-base64:") else {
        return Ok(Secret::copied(stored.expose()));
    };
    let mut decoded = SecretBuf::default();
    decoded
        .write_with(decoded_len_estimate(encoded.len()), |room| BASE64.decode_slice(encoded, room))
        // What is wrong with it would quote it.
        .map_err(|_| Fault::Unavailable("it is not Base64, as marked".into()))?;
    Ok(decoded.into())
}

/// Stores `secret` at `locator`, in place of what is there.
///
/// # Errors
/// The place is not in the keyring, the secret is empty or no text, or the keyring refused.
pub fn store(locator: &Locator, secret: &Secret) -> Result<(), Fault> {
    let Locator::Keyring { service, account, is_encoded: false } = locator else {
        let reason = "only the keyring is written to: give a name, or keyring://service/account";
        return Err(Fault::Unavailable(reason.into()));
    };
    // Some keyrings take only text; and what is pasted with a line ending is no key.
    let Ok(text) = std::str::from_utf8(secret.expose()) else {
        return Err(Fault::Unavailable("the key is not UTF-8".into()));
    };
    if text.is_empty() || text.contains(char::is_control) {
        let reason = "the key is empty, or holds a control character, as a line ending within it";
        return Err(Fault::Unavailable(reason.into()));
    }
    entry(service, account)?.set_password(text).map_err(|error| unavailable(&error))
}

/// The names of what is stored for plain references, in order.
///
/// # Errors
/// The keyring could not be asked.
pub fn names() -> Result<Vec<String>, Fault> {
    let store = open()?;
    let found = || {
        let entries = store.search(&HashMap::from([("service", KEYRING_SERVICE)]))?;
        entries.iter().filter_map(|entry| account(entry).transpose()).collect::<Result<Vec<_>, _>>()
    };
    let mut names = found().map_err(|error| unavailable(&error))?;
    names.sort();
    names.dedup();
    Ok(names)
}

/// Under which name something is stored that was found.
#[cfg(not(target_os = "macos"))]
fn account(found: &Entry) -> Result<Option<String>, Error> {
    found.get_attributes().map(|mut attributes| attributes.remove("username"))
}

/// The same from the keychain, which has no such attributes, and would ask its user for every
/// secret before it says so.
#[cfg(target_os = "macos")]
#[expect(clippy::unnecessary_wraps, reason = "the shape of the other")]
fn account(found: &Entry) -> Result<Option<String>, Error> {
    Ok(found.get_specifiers().map(|(_, account)| account))
}

/// The place of a secret, in a store that was opened for it.
fn entry(service: &str, account: &str) -> Result<Entry, Fault> {
    open()?.build(service, account, None).map_err(|error| unavailable(&error))
}

fn open() -> Result<Arc<CredentialStore>, Fault> {
    #[cfg(all(unix, not(target_os = "macos")))]
    let store = zbus_secret_service_keyring_store::Store::new();
    #[cfg(target_os = "macos")]
    let store = apple_native_keyring_store::keychain::Store::new();
    #[cfg(windows)]
    let store = windows_native_keyring_store::Store::new();
    match store {
        Ok(store) => Ok(store),
        Err(error) => {
            let why = innermost(&error);
            let reason = format!(
                "there is no keyring to ask: {why}; start one, or keep the key in a variable \
                 (env://NAME) or a file (file:///path)"
            );
            Err(Fault::Unavailable(reason))
        }
    }
}

fn unavailable(error: &Error) -> Fault {
    let reason = match error {
        // What is wrong with a secret's bytes would quote them.
        Error::BadEncoding(_) | Error::BadDataFormat(..) => "what is stored cannot be read".into(),
        Error::NoStorageAccess(_) => format!(
            "the keyring is locked: {}; unlock it, in its own dialogue or by logging in",
            innermost(error)
        ),
        _ => format!("the keyring could not be asked: {}", innermost(error)),
    };
    Fault::Unavailable(reason)
}

#[cfg(test)]
mod tests {
    use super::{Fault, decode, given};
    use crate::Secret;

    #[test]
    fn what_is_empty_is_no_secret_however_it_is_encoded() {
        for (stored, is_encoded) in [("", false), ("", true), ("go-keyring-base64:", true)] {
            let given = given(Secret::new(stored.into()), is_encoded).unwrap();
            assert!(given.is_none(), "{stored}");
        }
        let given = given(Secret::new("go-keyring-base64:".into()), false).unwrap();
        assert_eq!(given.unwrap().expose(), b"go-keyring-base64:");
    }

    #[test]
    fn what_programs_in_go_stored_is_decoded() {
        let decode = |stored: &str| decode(&Secret::new(stored.into()));
        assert_eq!(decode("go-keyring-base64:c2stMQ==").unwrap().expose(), b"sk-1");
        assert_eq!(decode("sk-1").unwrap().expose(), b"sk-1");
        let Err(Fault::Unavailable(said)) = decode("go-keyring-base64:sk_1!") else {
            panic!("it was taken");
        };
        assert!(!said.contains("sk_1"), "{said}");
    }
}
