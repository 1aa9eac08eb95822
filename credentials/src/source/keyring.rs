//! The OS keyring: Secret Service on Linux, the platform's own store elsewhere. What Python's
//! `keyring` and `secret-tool` write is read here, and the reverse.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use keyring::{Entry, Error};

use super::{Fault, Fetching, Inquiry, Source};
use crate::locator::KEYRING_SERVICE;
use crate::{Locator, Secret};

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
            let secret = read(&service, &account)?;
            Ok(if is_encoded { decode(&secret)? } else { secret }.into())
        }))
    }
}

fn read(service: &str, account: &str) -> Result<Secret, Fault> {
    match Entry::new(service, account).and_then(|entry| entry.get_secret()) {
        Ok(bytes) if !bytes.is_empty() => Ok(Secret::new(bytes)),
        Ok(_) | Err(Error::NoEntry) => {
            let is_plain = service == KEYRING_SERVICE;
            let name = if is_plain { account } else { &format!("keyring://{service}/{account}") };
            let hint = format!("store it with: python -m nono_py credential set {name}");
            Err(Fault::Missing(hint))
        }
        Err(error) => Err(unavailable(&error)),
    }
}

/// What the libraries of Go stored: marked, and in Base64; or as it is, where they found no need.
fn decode(stored: &Secret) -> Result<Secret, Fault> {
    let Some(encoded) = stored.expose().strip_prefix(b"go-keyring-base64:") else {
        return Ok(Secret::new(stored.expose().to_vec()));
    };
    let decoded = BASE64.decode(encoded);
    // What is wrong with it would quote it.
    decoded.map(Secret::new).map_err(|_| Fault::Unavailable("it is not Base64, as marked".into()))
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
        return Err(Fault::Unavailable("the key is empty, or holds a control character".into()));
    }
    let stored = Entry::new(service, account).and_then(|entry| entry.set_password(text));
    stored.map_err(|error| unavailable(&error))
}

/// The names of what is stored for plain references, in order.
///
/// # Errors
/// The keyring could not be asked.
pub fn names() -> Result<Vec<String>, Fault> {
    let found = || {
        // Also finds out which keyring there is.
        Entry::new(KEYRING_SERVICE, "any")?;
        let entries = keyring_core::Entry::search(&HashMap::from([("service", KEYRING_SERVICE)]))?;
        entries.iter().map(keyring_core::Entry::get_attributes).collect::<Result<Vec<_>, _>>()
    };
    let found = found().map_err(|error: Error| unavailable(&error))?;
    let names = found.into_iter().filter_map(|mut attributes| attributes.remove("username"));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.dedup();
    Ok(names)
}

fn unavailable(error: &Error) -> Fault {
    let reason = match (error, Entry::store_status()) {
        (Error::NoDefaultStore, Err(why)) => format!("there is no keyring: {why}"),
        // What is wrong with a secret's bytes would quote them.
        (Error::BadEncoding(_), _) => "what is stored is not text".into(),
        _ => format!("the keyring could not be asked: {error}"),
    };
    Fault::Unavailable(reason)
}

#[cfg(test)]
mod tests {
    use super::{Fault, decode};
    use crate::Secret;

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
